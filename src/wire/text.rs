//! A text that outlives its request without being copied out of the body.
//!
//! Owns [`Text`]. A body of a megabyte with one long string in it is there once, however many keep the string.
//! Trap: it keeps the whole body alive, so only what lives as long as its call may be one; what a session keeps is copied.

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;
use serde::{Serialize, Serializer};

/// A part of a request's body, or a text of its own.
#[derive(Clone, Debug)]
pub(crate) enum Text {
    Own(String),
    Part(ByteString),
}

impl Text {
    /// A text that was read from `body`, or from elsewhere if it had to be decoded.
    pub(crate) fn of(body: &Bytes, text: Cow<'_, str>) -> Self {
        let start = text.as_ptr().addr().wrapping_sub(body.as_ptr().addr());
        let within = start.checked_add(text.len()).is_some_and(|end| end <= body.len());
        match text {
            Cow::Borrowed(text) if within => {
                match ByteString::try_from(body.slice(start..start + text.len())) {
                    Ok(part) => Self::Part(part),
                    Err(_) => Self::Own(text.to_owned()),
                }
            }
            text => Self::Own(text.into_owned()),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Own(text) => text,
            Self::Part(part) => part,
        }
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::Own(text)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::Own(text.to_owned())
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_body_is_not_copied() {
        let body = Bytes::from("a part: é");
        let whole = std::str::from_utf8(&body).expect("is text");
        let part = Text::of(&body, whole[2..].into());
        assert_eq!(part.as_str(), &whole[2..]);
        assert_eq!(part.as_str().as_ptr(), body[2..].as_ptr());
        for other in [Cow::Borrowed("elsewhere"), Cow::Owned("decoded".to_owned()), "".into()] {
            assert_eq!(Text::of(&body, other.clone()).as_str(), other);
        }
    }
}
