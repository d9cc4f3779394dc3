//! `requestState`: state that the client carries for the server between two rounds of a request.
//!
//! Owns sealing and opening (2026-07-28, basic/patterns/mrtr, "Server Requirements"). An HMAC-SHA-256 covers the state,
//! the caller, the request and an expiry time. Refuses a state that was changed, has expired, or belongs to another
//! caller or request.
//! Trap: a lenient decoder that ignores trailing bits would accept a changed text; this one is strict.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;

use crate::id::digest_of;

/// How long a client may take to answer, in milliseconds.
const LIFE: u64 = 600_000;

/// Seals with a key. Which clock counts is up to whoever has the key: all who have it must go by the same.
#[derive(Clone, Copy)]
pub(crate) struct Sealer {
    key: [u8; 32],
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

/// A digest of the caller and the request that a state belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Binding([u8; 32]);

impl Binding {
    pub(crate) fn of(parts: &[&[u8]]) -> Self {
        Self(digest_of(parts))
    }
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    /// Milliseconds on the clock that goes with the key.
    until: u64,
    state: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadState {
    #[error("requestState is not one that this server sent for this request")]
    Foreign,
    #[error("requestState has lapsed; begin again")]
    Lapsed,
}

impl Sealer {
    /// With a random key.
    pub(crate) fn draw() -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self { key })
    }

    /// With a key that is written as 64 hex digits.
    pub(crate) fn parse(digits: &str) -> Option<Self> {
        if digits.len() != 64 || !digits.is_ascii() {
            return None;
        }
        let mut key = [0; 32];
        for (at, byte) in key.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Self { key })
    }

    /// The key as [`Sealer::parse`] reads it: a secret.
    pub(crate) fn digits(&self) -> String {
        self.key.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn mac(&self, binding: &Binding, payload: &[u8]) -> Hmac<Sha256> {
        // HMAC takes a key of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key)
            .unwrap_or_else(|_| Hmac::<Sha256>::new(&Default::default()));
        mac.update(&binding.0);
        mac.update(payload);
        mac
    }

    pub(crate) fn seal(&self, state: Value, binding: &Binding, now: u64) -> String {
        let until = now.saturating_add(LIFE);
        // A number and a `Value` always serialise.
        let payload = serde_json::to_vec(&Sealed { until, state }).unwrap_or_default();
        let tag = self.mac(binding, &payload).finalize().into_bytes();
        format!("{}.{}", URL_SAFE_NO_PAD.encode(&payload), URL_SAFE_NO_PAD.encode(tag))
    }

    /// The state, if it was sealed under the same binding and has not expired.
    pub(crate) fn open(&self, text: &str, binding: &Binding, now: u64) -> Result<Value, BadState> {
        let (payload, tag) = text.split_once('.').ok_or(BadState::Foreign)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| BadState::Foreign);
        let (payload, tag) = (decode(payload)?, decode(tag)?);
        self.mac(binding, &payload).verify_slice(&tag).map_err(|_| BadState::Foreign)?;
        let Sealed { until, state } =
            serde_json::from_slice(&payload).map_err(|_| BadState::Foreign)?;
        if now <= until { Ok(state) } else { Err(BadState::Lapsed) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_same_request_of_the_same_caller_opens_it() {
        let sealer = Sealer::draw().expect("random bytes");
        let sealed = sealer.seal(json!({"n": 1}), &Binding::of(&[b"alice", b"tool"]), 0);
        assert_eq!(
            sealer.open(&sealed, &Binding::of(&[b"alice", b"tool"]), 0),
            Ok(json!({"n": 1}))
        );
        for binding in [[&b"bob"[..], b"tool"], [b"alice", b"other"], [b"alicet", b"ool"]] {
            assert_eq!(sealer.open(&sealed, &Binding::of(&binding), 0), Err(BadState::Foreign));
        }
        let other = Sealer::draw().expect("random bytes");
        assert_eq!(
            other.open(&sealed, &Binding::of(&[b"alice", b"tool"]), 0),
            Err(BadState::Foreign)
        );
    }

    #[test]
    fn a_lapsed_state_is_refused_as_such() {
        let sealer = Sealer::draw().expect("random bytes");
        let sealed = sealer.seal(json!(1), &Binding::of(&[]), 7);
        assert_eq!(sealer.open(&sealed, &Binding::of(&[]), 7 + LIFE), Ok(json!(1)));
        assert_eq!(sealer.open(&sealed, &Binding::of(&[]), 8 + LIFE), Err(BadState::Lapsed));
    }

    #[test]
    fn a_key_is_read_as_it_is_written() {
        let sealer = Sealer::draw().expect("random bytes");
        let digits = sealer.digits();
        assert_eq!(Sealer::parse(&digits).map(|read| read.key), Some(sealer.key));
        for wrong in ["", "00", &digits[1..], &format!("{}xy", &digits[2..]), &"é".repeat(32)] {
            assert!(Sealer::parse(wrong).is_none(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_change_goes_unseen(position in 0usize..60, with in "[A-Za-z0-9_.-]") {
            let sealer = Sealer::draw().expect("random bytes");
            let sealed = sealer.seal(json!({"n": 1}), &Binding::of(&[]), 0);
            let mut changed = sealed.clone();
            let position = position % sealed.len();
            changed.replace_range(position..=position, &with);
            prop_assume!(changed != sealed);
            prop_assert_eq!(sealer.open(&changed, &Binding::of(&[]), 0), Err(BadState::Foreign));
            prop_assert_eq!(sealer.open(&format!("{sealed}{with}"), &Binding::of(&[]), 0), Err(BadState::Foreign));
        }
    }
}
