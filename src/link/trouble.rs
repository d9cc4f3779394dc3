//! Why a server of the store gave no answer that can be used.
//!
//! Owns [`Trouble`], and what a refusal means. What may be asked once more is [`Link::run`](super::Link::run)'s to say.
//! Trap: a script that a replica refuses (READONLY) or a node sends elsewhere (MOVED) has done nothing; one whose answer
//! did not come may have.

use redis::RedisError;

use super::{address::Place, check::told};

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("there is no connection")]
    Down,
    #[error("no answer in time")]
    Silent,
    #[error("the connection broke")]
    Broken,
    #[error("the script is not known")]
    NoScript,
    /// It ran too late to do anything; what the store's clock showed.
    #[error("it came too late")]
    Late(i64),
    #[error("it is a replica")]
    ReadOnly,
    /// The slot is another node's. The host may be left open: it is the one that was asked.
    #[error("the slot is at {0}")]
    Moved(Place),
    /// It ran, and may be lost with the store.
    #[error("it is not on the store's disk yet")]
    NotOnDisk,
    /// It has no memory left.
    #[error("{0}")]
    Full(String),
    #[error("{0}")]
    Refused(String),
    #[error("the reply makes no sense")]
    Garbled,
}

impl Trouble {
    /// What a refusal means.
    pub(super) fn of(error: &RedisError) -> Self {
        match error.code() {
            Some("NOSCRIPT") => Self::NoScript,
            Some("READONLY") => Self::ReadOnly,
            Some("MOVED") => {
                let place = error.redirect_node().and_then(|(place, _)| place.rsplit_once(':'));
                let place = place.and_then(|(host, port)| {
                    let host = host.trim_matches(['[', ']']).to_owned();
                    Some(Place { host, port: port.parse().ok()? })
                });
                place.map_or(Self::Garbled, Self::Moved)
            }
            Some("LATE") => {
                let now = error.detail().and_then(|detail| detail.trim().parse().ok());
                now.map_or(Self::Garbled, Self::Late)
            }
            Some("OOM") => Self::Full(told(error)),
            Some(_) | None => Self::Refused(told(error)),
        }
    }
}
