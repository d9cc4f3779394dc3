//! What operators see: the log, metrics, recent requests, events.
//!
//! Owns the record of each request, the closed sets of outcomes and labels, and everything that is logged or counted.
//! Trap: operators read what is recorded here, and must not learn a token or a whole session id.

pub mod access;
pub mod events;
pub mod exposition;
pub mod fields;
pub mod json;
pub mod lines;
pub mod log;
pub mod metrics;
pub mod outcome;
pub mod recent;
pub mod record;
pub(crate) mod shown;
pub mod usage;

pub(crate) use self::{
    access::{AccessLog, Ending, FRONT_DOOR_NAMES, MAX_HOST, Weight},
    events::{Event, EventKind, Events, Subject, Unread},
    exposition::{CONTENT_TYPE, Page, Type},
    log::LogControl,
    metrics::{Counters, ERAS, Gauge, Kind, Open, ProcessCounters, STATUSES, StreamKind},
    outcome::RequestOutcome,
    recent::{CompletedRequest, FailedRequest, FailureLog, RequestLog, Totals},
    record::{Facts, Missing, OwnId, RequestId, RequestRecord, RpcMethod},
    usage::Usage,
};
