//! A text that outlives its request without being copied out of the body.
//!
//! Owns [`Text`]. A body of a megabyte with one long string in it is there once, however many keep the string. A short one
//! is copied, which costs less than to keep the body.
//! Trap: it keeps the whole body alive, so only what lives as long as its call may be one; what a session keeps is copied.

use std::borrow::Cow;

use bytes::Bytes;

/// A part of a request's body, or a text of its own.
#[derive(Clone, Debug)]
pub(crate) enum Text {
    Own(Box<str>),
    /// UTF-8.
    Part(Bytes),
}

/// What is copied. Bytes.
const SHORT: usize = 1024;

impl Text {
    /// A text that was read from `body`, or from elsewhere if it had to be decoded.
    pub(crate) fn of(body: &Bytes, text: Cow<'_, str>) -> Self {
        let start = text.as_ptr().addr().wrapping_sub(body.as_ptr().addr());
        let within = start.checked_add(text.len()).is_some_and(|end| end <= body.len());
        match text {
            Cow::Borrowed(text) if text.len() > SHORT && within => {
                Self::Part(body.slice(start..start + text.len()))
            }
            text => Self::Own(text.into()),
        }
    }

    /// Not copied again if it was.
    pub(crate) fn into_string(self) -> String {
        match self {
            Self::Own(text) => text.into(),
            Self::Part(_) => self.as_str().to_owned(),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Own(text) => text,
            // It was a `str`.
            Self::Part(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_part_of_the_body_is_not_copied() {
        let body = Bytes::from(format!("a long {}", "é".repeat(SHORT)));
        let whole = std::str::from_utf8(&body).expect("is text");
        let part = Text::of(&body, whole[2..].into());
        assert_eq!(part.as_str(), &whole[2..]);
        assert_eq!(part.as_str().as_ptr(), body[2..].as_ptr());
        let elsewhere = "x".repeat(SHORT + 1);
        for other in [Cow::Borrowed(&*elsewhere), Cow::Owned("decoded".to_owned()), "".into()] {
            assert_eq!(Text::of(&body, other.clone()).as_str(), other);
        }
    }
}
