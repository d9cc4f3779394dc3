//! What a client wrote, as it stands in a line of the log.
//!
//! Owns the rules. [`quote`]: characters that a terminal would act on or not show are escaped as a class (control, format,
//! direction, separators, unassigned), so that no line can look like another. [`masked`]: a session id is never whole,
//! however it is spelt or percent-encoded.
//! Trap: an id is found by its form, since it may be one of another replica or of a session that has ended.

use std::borrow::Cow;

use crate::wire::{model::write_string, percent::decoded};

/// Stands for an id.
const ID: &str = "{id}";

/// Hexadecimal digits of an id, without its hyphens.
const ID_DIGITS: usize = 32;

/// How often a text is decoded at most: a proxy may have encoded it again.
const DECODINGS: usize = 4;

/// Appends a text in quotes, as a JSON string in which nothing is hidden.
pub(crate) fn quote(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return write_string(out, text);
    }
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend([b'\\', c as u8]),
            c if is_hidden(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                }
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// At most `max` characters of a text, in which no id is whole. It is still to be quoted.
pub(crate) fn shown(text: &str, max: usize) -> String {
    let text = masked(text);
    let mut shown = String::with_capacity(text.len().min(max));
    for (place, c) in text.chars().enumerate() {
        if place == max {
            shown.push('…');
            break;
        }
        shown.push(c);
    }
    shown
}

/// Whether a character is none to be seen by itself. What `Debug` escapes is that class.
fn is_hidden(c: char) -> bool {
    !matches!(c, ' '..='~') && c.escape_debug().len() > 1
}

/// The text with each session id in it replaced. If one is encoded, the text is decoded.
pub(crate) fn masked(text: &str) -> Cow<'_, str> {
    // Nearly every text is too short for an id.
    if text.len() < ID_DIGITS {
        return text.into();
    }
    let mut plain = Cow::Borrowed(text);
    for _ in 0..DECODINGS {
        if let Some(masked) = replaced(&plain) {
            return masked.into();
        }
        let Cow::Owned(decoded) = decoded(&plain) else { break };
        plain = decoded.into();
    }
    text.into()
}

/// Whether there is a session id in a text.
pub(crate) fn holds_id(text: &str) -> bool {
    replaced(text).is_some()
}

/// The text without its ids; `None` if it has none.
fn replaced(text: &str) -> Option<String> {
    let is_part = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b'-';
    let mut shown = String::new();
    let (mut found, mut rest) = (false, text);
    while let Some(start) = rest.bytes().position(|byte| is_part(&byte)) {
        let length = rest[start..].bytes().take_while(is_part).count();
        let (before, run) = (&rest[..start], &rest[start..start + length]);
        let is_id = has_id(run);
        shown.push_str(before);
        shown.push_str(if is_id { ID } else { run });
        found |= is_id;
        rest = &rest[start + length..];
    }
    shown.push_str(rest);
    found.then_some(shown)
}

/// Whether a run of hexadecimal digits and hyphens has one of our ids in it: a UUID of version 8.
fn has_id(run: &str) -> bool {
    let digits: Vec<u8> = run.bytes().filter(|byte| *byte != b'-').collect();
    digits.windows(ID_DIGITS).any(|id| {
        id[12] == b'8' && matches!(id[16].to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b')
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SESSION: &str = "0216d3d4-c821-8388-9fde-d39b06f54f35";

    #[test]
    fn an_id_is_never_whole() {
        let encoded: String = SESSION.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let twice = encoded.replace('%', "%25");
        for (text, shown) in [
            (format!("//debug/sessions/{SESSION}"), "//debug/sessions/{id}"),
            (format!("/x/{}/y", SESSION.to_uppercase()), "/x/{id}/y"),
            (format!("/x{SESSION}"), "/x{id}"),
            (format!("/debug%2Fsessions/{encoded}"), "/debug/sessions/{id}"),
            (format!("/{twice}"), "/{id}"),
            (SESSION.replace('-', ""), "{id}"),
            (SESSION.replace('-', "%2d"), "{id}"),
            ("/a%20path".to_owned(), "/a%20path"),
            ("/05059bccc243".to_owned(), "/05059bccc243"),
            // A UUID of another version is none of ours.
            (
                "1b4e28ba-2fa1-41d2-883f-0016d3cca427".to_owned(),
                "1b4e28ba-2fa1-41d2-883f-0016d3cca427",
            ),
        ] {
            assert_eq!(masked(&text), shown);
        }
    }

    #[test]
    fn what_is_hidden_is_escaped_and_the_rest_is_not() {
        let quoted = |text: &str| {
            let mut out = Vec::new();
            quote(&mut out, text);
            String::from_utf8(out).expect("text")
        };
        for (text, shown) in [
            ("/café/日本", "\"/café/日本\""),
            ("\u{9b}31m", "\"\\u009b31m\""),
            ("\u{202e}\u{2066}\u{200b}\u{feff}\u{ad}", "\"\\u202e\\u2066\\u200b\\ufeff\\u00ad\""),
            ("a\u{2028}b\u{7f}\n", "\"a\\u2028b\\u007f\\u000a\""),
            ("\u{e0041}", "\"\\udb40\\udc41\""),
            ("é\"\\", "\"é\\\"\\\\\""),
        ] {
            assert_eq!(quoted(text), shown);
        }
    }

    #[test]
    fn what_is_shown_is_cut_and_has_no_id() {
        for (text, max, expected) in [
            ("tools/call", 64, "tools/call"),
            ("zoë 名", 64, "zoë 名"),
            ("abcdef", 3, "abc…"),
            ("abc", 3, "abc"),
            ("", 3, ""),
            ("0216d3d4-c821-8388-9fde-d39b06f54f35!", 64, "{id}!"),
        ] {
            assert_eq!(shown(text, max), expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_quoted_reads_back(text: String) {
            let mut out = Vec::new();
            quote(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).expect("JSON"), text);
        }
    }
}
