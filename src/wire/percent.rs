//! Percent-encoding (RFC 3986 §2.1), read leniently.
//!
//! Owns [`decoded`], for those who look at what a text means before it is shown.
//! Trap: it takes what no URI may hold. A URI that is looked up is decoded strictly, by whoever owns its form.

use std::borrow::Cow;

/// The text with every `%` and two hexadecimal digits decoded; other `%` stay. Bytes that are no UTF-8 become U+FFFD.
pub(crate) fn decoded(text: &str) -> Cow<'_, str> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut bytes = Vec::new();
    let (mut changed, mut rest) = (false, text.as_bytes());
    if !text.contains('%') {
        return text.into();
    }
    while let [first, after @ ..] = rest {
        let escape = match rest {
            [b'%', high, low, ..] => digit(high).zip(digit(low)),
            _ => None,
        };
        changed |= escape.is_some();
        bytes.push(escape.map_or(*first, |(high, low)| (high * 16 + low) as u8));
        rest = if escape.is_some() { &after[2..] } else { after };
    }
    match changed {
        true => String::from_utf8_lossy(&bytes).into_owned().into(),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
