//! Percent-encoding (RFC 3986 §2.1).
//!
//! Owns both directions. What is looked up is read by [`strictly_decoded`]; what a text means, before it is shown, is told
//! by [`decoded`].
//! Trap: the lenient one takes what no URI may hold.

use std::borrow::Cow;

/// The text with every `%` and two hexadecimal digits decoded; other `%` stay. Bytes that are no UTF-8 become U+FFFD.
pub(crate) fn decoded(text: &str) -> Cow<'_, str> {
    let mut bytes = Vec::new();
    let (mut changed, mut rest) = (false, text.as_bytes());
    if !text.contains('%') {
        return text.into();
    }
    while let [first, after @ ..] = rest {
        let escape = escape(rest);
        changed |= escape.is_some();
        bytes.push(escape.unwrap_or(*first));
        rest = if escape.is_some() { &after[2..] } else { after };
    }
    match changed {
        true => String::from_utf8_lossy(&bytes).into_owned().into(),
        false => text.into(),
    }
}

/// The decoded text; `None` if a `%` begins no escape, or if the bytes are no UTF-8.
pub(crate) fn strictly_decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, after @ ..] = rest {
        let is_escape = *first == b'%';
        bytes.push(if is_escape { escape(rest)? } else { *first });
        rest = if is_escape { &after[2..] } else { after };
    }
    String::from_utf8(bytes).ok()
}

/// The byte for which the first three stand, if they are an escape.
fn escape(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some((digit(*high)? * 16 + digit(*low)?) as u8)
}

/// Percent-encodes what may not stand in a path segment (RFC 3986 §3.3).
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_text_survives_its_encoding(text in "\\PC{1,20}") {
            prop_assert_eq!(strictly_decoded(&encoded(&text)), Some(text));
        }

        #[test]
        fn any_text_is_decoded_or_refused(text in "\\PC{0,20}") {
            let _ = strictly_decoded(&text);
        }
    }

    #[test]
    fn what_is_no_escape_stays() {
        for (text, plain) in [
            ("a%2Fb%c3%a9", "a/bé"),
            ("100%", "100%"),
            ("%2", "%2"),
            ("%zz%41", "%zzA"),
            ("%ff", "\u{fffd}"),
            ("é", "é"),
        ] {
            assert_eq!(decoded(text), plain);
        }
    }
}
