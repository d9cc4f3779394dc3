//! Sessions: the record of one, which the store owns, and its conversation, which this process has open.
//!
//! Owns both, and the store. A [`record::Record`] is a value: what a session is, wherever it is kept. A
//! [`conversation::Conversation`] is what this process has open for it: event streams, running calls, and requests to
//! its client that have no response yet.
//! Trap: the store's own entries never leave this room. Other rooms read a record, and change the session by passing
//! a [`record::Change`] to the store.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub mod conversation;
mod entry;
mod event_stream;
mod expiry;
mod id_hasher;
mod ledger;
mod memory;
pub mod news;
pub mod record;
pub(crate) mod search;
mod shared;
pub mod store;
pub mod stream;

pub(crate) use self::{
    conversation::{Conversation, Followed, MAX_SUBSCRIPTIONS},
    event_stream::EventStream,
    ledger::{EndedSession, SESSION_BYTES},
    news::{Audience, Changed, Outbox},
    record::{Change, Client, Handshake, Head, LastEcho, Listed, Record, Tally, Want},
    search::Search,
    shared::caller_text,
    store::{Counts, Gone, Lease, NotCommitted, NotCreated, NotLoaded, SessionStore, Unavailable},
    stream::{EventLog, ReplayBudget},
};

/// Locks a mutex although a thread may have panicked while it held it. Only for values that are whole between any two
/// statements: one that is half changed would be used as it is.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
