//! What operators can see: the log, metrics, recent requests, events.
//!
//! Owns the record of each request, the closed sets of words for how it went, and everything that is written or
//! counted of it. Trap: what is recorded here is read by people who must not learn a token or a whole session id.

pub mod access;
pub mod events;
pub mod exposition;
pub mod lines;
pub mod log;
pub mod metrics;
pub mod outcome;
pub mod recent;
pub mod record;
pub mod usage;
