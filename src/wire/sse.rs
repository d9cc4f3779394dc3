//! Server-sent events: frames as bytes.
//!
//! Owns the framing (HTML Living Standard, "Server-sent events") and the form of event ids: `<stream>-<number>`, so
//! that an id alone names the stream it belongs to.
//! Trap: a message must not span lines, since one `data:` line holds it. Ours are compact JSON.

use std::{io::Write as _, time::Duration};

use bytes::Bytes;

/// A comment, which clients ignore: keeps proxies from closing a quiet stream.
pub(crate) const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// The last frame of a stream that the server ends.
pub(crate) const CLOSING: Bytes = Bytes::from_static(b": closing\n\n");

/// (stream, number)
pub(crate) type EventId = (u32, u64);

pub(crate) fn frame(message: &[u8], id: Option<EventId>) -> Bytes {
    let mut frame = Vec::with_capacity(message.len() + 48);
    if let Some((stream, number)) = id {
        // Writing into a vector does not fail.
        let _ = writeln!(frame, "id: {stream}-{number}");
    }
    frame.extend_from_slice(b"event: message\ndata: ");
    frame.extend_from_slice(message);
    frame.extend_from_slice(b"\n\n");
    frame.into()
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

        #[test]
        fn any_last_event_id_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = parse_id(&text);
        }
    }
}
