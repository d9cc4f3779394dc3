//! Server-sent events: frames as bytes.
//!
//! Owns the framing (HTML Living Standard, "Server-sent events") and the form of event ids: `<stream>-<number>`, so
//! that an id alone names the stream it belongs to.
//! Traps: a message must not span lines, since one `data:` line holds it. Ours are JSON without line breaks. Readers that
//! split lines as Python's `splitlines` does also break at U+0085, U+2028 and U+2029, so these are escaped.

use std::{io::Write as _, time::Duration};

use bytes::Bytes;

/// A comment, which clients ignore: keeps proxies from closing a quiet stream.
pub(crate) const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// The last frame of a stream that the server ends.
pub(crate) const CLOSING: Bytes = Bytes::from_static(b": closing\n\n");

/// The same, where the stream can be resumed at once, at another replica: when to come back.
pub(crate) fn closing(retry: Duration) -> Bytes {
    format!(": closing\nretry: {}\n\n", retry.as_millis()).into()
}

/// (stream, number)
pub(crate) type EventId = (u32, u64);

pub(crate) fn frame(message: &[u8], id: Option<EventId>) -> Bytes {
    let mut frame = Vec::with_capacity(message.len() + 48);
    if let Some((stream, number)) = id {
        // Writing into a vector does not fail.
        let _ = writeln!(frame, "id: {stream}-{number}");
    }
    frame.extend_from_slice(b"event: message\ndata: ");
    extend_in_one_line(&mut frame, message);
    frame.extend_from_slice(b"\n\n");
    frame.into()
}

/// Appends JSON with every character escaped that some reader takes for a line break. In JSON they stand in strings alone,
/// and those below U+0020 are escaped already.
fn extend_in_one_line(frame: &mut Vec<u8>, message: &[u8]) {
    if message.is_ascii() {
        frame.extend_from_slice(message);
        return;
    }
    let mut rest = message;
    while let [first, after @ ..] = rest {
        let (escaped, after): (&[u8], _) = match rest {
            [0xc2, 0x85, after @ ..] => (b"\\u0085", after),
            [0xe2, 0x80, 0xa8, after @ ..] => (b"\\u2028", after),
            [0xe2, 0x80, 0xa9, after @ ..] => (b"\\u2029", after),
            _ => (std::slice::from_ref(first), after),
        };
        frame.extend_from_slice(escaped);
        rest = after;
    }
}

/// What opens a stream that is resumed after events which are no longer kept: a comment, since MCP has no message for it.
pub(crate) fn gap(missed: u64) -> Bytes {
    format!(": {missed} events are no longer kept\n\n").into()
}

/// An event with an id and no data, from which a client can resume (SEP-1699).
pub(crate) fn priming((stream, number): EventId, retry: Duration) -> Bytes {
    format!("id: {stream}-{number}\nretry: {}\ndata: \n\n", retry.as_millis()).into()
}

/// Reads an id that came back in `Last-Event-ID`.
pub(crate) fn parse_id(text: &str) -> Option<EventId> {
    let (stream, number) = text.split_once('-')?;
    Some((stream.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_comes_back_as_it_went(stream: u32, number: u64) {
            let frame = frame(b"{}", Some((stream, number)));
            let text = std::str::from_utf8(&frame).expect("text");
            let line = text.lines().next().and_then(|line| line.strip_prefix("id: ")).expect("an id");
            prop_assert_eq!(parse_id(line), Some((stream, number)));
        }

        /// What is sent is one line for every reader, and the same JSON.
        #[test]
        fn a_message_stays_in_one_line(text in "([a-zé\\u{85}\\u{2027}-\\u{202a}\\u{1f600}\\n\\u{b}\\u{c}\\u{1c}-\\u{1e}]){0,12}") {
            let message = serde_json::Value::from(&*text).to_string();
            let frame = frame(message.as_bytes(), None);
            let sent = std::str::from_utf8(&frame).expect("text");
            let data = sent.strip_prefix("event: message\ndata: ").and_then(|rest| rest.strip_suffix("\n\n"));
            let data = data.expect("a data line");
            let breaks = |c: char| c < ' ' || ['\u{85}', '\u{2028}', '\u{2029}'].contains(&c);
            prop_assert!(!data.contains(breaks), "{}", data);
            prop_assert_eq!(serde_json::from_str::<String>(data).expect("JSON"), text);
        }

        #[test]
        fn any_last_event_id_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = parse_id(&text);
        }
    }
}
