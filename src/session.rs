//! Sessions: a record that the store owns, and a conversation that this process has open.
//!
//! Owns both and the door to the store. A [`record::Record`] is a value: what a session is, wherever it is kept. A
//! [`conversation::Conversation`] is what is open for it here: streams, running calls, questions to its client.
//! Trap: nothing outside this room holds an entry of the store. Who wants something changed says so in a
//! [`record::Change`].

pub mod conversation;
mod expiry;
mod memory;
pub mod record;
pub mod search;
pub mod store;
pub mod stream;
