//! When a part of the store could not be reached from here.
//!
//! Owns [`Away`]: of whoever asks for one part, from when to when the last such time was, on the store's clock. Every
//! script is told, since nobody was idle meanwhile.
//! Trap: a store that is full is not away. Those who are idle must expire there, or it would stay full.

use std::sync::Mutex;

use super::{lock, trouble::Trouble};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Away(Mutex<Span>);

/// Milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    /// When it was last heard before, and when it was heard again.
    pub(super) from: i64,
    pub(super) till: i64,
    heard: i64,
}

impl Span {
    /// It has not been heard again.
    const LASTING: i64 = i64::MAX;
}

impl Away {
    /// It has answered, at that moment.
    pub(super) fn heard(&self, now: i64) {
        let mut span = lock(&self.0);
        if span.till == Span::LASTING {
            span.till = now;
        }
        span.heard = now;
    }

    /// It has not.
    pub(super) fn failed(&self, trouble: &Trouble) {
        if matches!(trouble, Trouble::Full(_)) {
            return;
        }
        let mut span = lock(&self.0);
        if span.till != Span::LASTING {
            (span.from, span.till) = (span.heard, Span::LASTING);
        }
    }

    pub(super) fn span(&self) -> Span {
        *lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_from_the_last_answer_to_the_next() {
        let away = Away::default();
        let span = || (away.span().from, away.span().till);
        assert_eq!(span(), (0, 0));
        away.heard(5);
        away.failed(&Trouble::Full("OOM".to_owned()));
        assert_eq!(span(), (0, 0));
        away.failed(&Trouble::Silent);
        away.failed(&Trouble::Down);
        assert_eq!(span(), (5, Span::LASTING));
        away.heard(9);
        away.heard(12);
        assert_eq!(span(), (5, 9));
        away.failed(&Trouble::Broken);
        assert_eq!(span(), (12, Span::LASTING));
    }
}
