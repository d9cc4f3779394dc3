//! Server-sent events: frames as bytes.
//!
//! Owns the framing (HTML Living Standard, "Server-sent events"). Refuses messages that span lines:
//! ours are compact JSON, so one `data:` line holds one.

use bytes::Bytes;

/// A comment line, which clients skip: keeps a quiet stream from being cut by something between.
pub const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// The last thing on a stream that the server ends.
pub const CLOSING: Bytes = Bytes::from_static(b": closing\n\n");

/// One JSON-RPC message as an event.
pub fn frame(message: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(message.len() + 24);
    push(&mut frame, message);
    frame.into()
}

/// Appends one JSON-RPC message as an event.
pub fn push(frames: &mut Vec<u8>, message: &[u8]) {
    frames.extend_from_slice(b"event: message\ndata: ");
    frames.extend_from_slice(message);
    frames.extend_from_slice(b"\n\n");
}
