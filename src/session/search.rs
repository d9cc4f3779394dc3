//! Which sessions an operator looks for.
//!
//! Owns [`Search`], read once from what was typed and then held against every session. Refuses patterns: a
//! text is found as it stands, without case. Trap: a whole id is a secret, so it is turned into its
//! reference here, and kept nowhere.

use super::record::{Head, Record};
use crate::id::{SessionId, SessionRef};

/// What to look for; the default fits every session.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Lower case.
    text: Box<str>,
    /// Of a whole id.
    reference: Option<SessionRef>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// All that fit.
    pub count: usize,
    /// As many of them as were asked for.
    pub sessions: Vec<Record>,
}

impl Search {
    /// What an operator may type. Bytes.
    pub const MAX_BYTES: usize = 256;

    /// Reads what was typed: a whole session id, the beginning of a reference, or a part of a client's name or
    /// of a label. `None` if it is too long.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() > Self::MAX_BYTES {
            return None;
        }
        Some(match SessionId::parse(text) {
            Some(id) => Self { text: "".into(), reference: Some(id.reference()) },
            None => Self { text: text.to_lowercase().into(), reference: None },
        })
    }

    /// Whether a session is one of those.
    pub fn fits(&self, session: &Head) -> bool {
        if let Some(reference) = self.reference {
            return session.reference == reference;
        }
        let holds = |text: &str| text.to_lowercase().contains(&*self.text);
        let handshake = &session.handshake;
        self.text.is_empty()
            || session.reference.digits().starts_with(self.text.as_bytes())
            || handshake.client.as_ref().is_some_and(|client| holds(&client.name))
            || handshake.label.as_deref().is_some_and(holds)
    }
}
