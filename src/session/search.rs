//! Which sessions an operator looks for.
//!
//! Owns [`Search`], read once from what was typed and then matched against every session. There are no patterns: the
//! text is searched for as it is, ignoring case.
//! Trap: a whole session id is a secret, so it is turned into its reference here and not kept.

use super::record::{Handshake, Head, Listed};
use crate::id::{SessionId, SessionRef};

/// The default matches every session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Search {
    /// In lower case.
    text: Box<str>,
    /// Set if a whole session id was typed.
    reference: Option<SessionRef>,
}

#[derive(Debug, Default)]
pub(crate) struct Found {
    /// How many sessions match.
    pub(crate) count: usize,
    /// As many of them as were asked for.
    pub(crate) sessions: Vec<Listed>,
}

impl Search {
    pub(crate) const MAX_BYTES: usize = 256;

    /// Reads a whole session id, the beginning of a reference, or a part of a client's name or of a label. `None` if it
    /// is longer than [`Search::MAX_BYTES`].
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() > Self::MAX_BYTES {
            return None;
        }
        Some(match SessionId::parse(text) {
            Some(id) => Self { text: "".into(), reference: Some(id.reference()) },
            None => Self { text: text.to_lowercase().into(), reference: None },
        })
    }

    /// Whether a session that has ended matches, of which no more than the reference is known. Not without a text: whoever
    /// looks at all sessions looks at those that live.
    pub(crate) fn matches_reference(&self, reference: SessionRef) -> bool {
        match self.reference {
            Some(wanted) => reference == wanted,
            None => !self.text.is_empty() && reference.digits().starts_with(self.text.as_bytes()),
        }
    }

    pub(super) fn matches(&self, session: &Head) -> bool {
        self.fits(session.reference, &session.handshake)
    }

    /// Whether a session of that reference and handshake matches.
    pub(super) fn fits(&self, reference: SessionRef, handshake: &Handshake) -> bool {
        if let Some(wanted) = self.reference {
            return reference == wanted;
        }
        let holds = |text: &str| text.to_lowercase().contains(&*self.text);
        self.text.is_empty()
            || reference.digits().starts_with(self.text.as_bytes())
            || handshake.client.as_ref().is_some_and(|client| holds(&client.name))
            || handshake.label.as_deref().is_some_and(holds)
    }
}
