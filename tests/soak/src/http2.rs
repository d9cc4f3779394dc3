//! As much of HTTP/2 as it takes to be a bad client: frames as bytes.
//!
//! Owns the opening of a connection and a POST. Nothing is read; whoever wants to read needs a library.

/// The preface and SETTINGS with that initial window: 0 lets the server send nothing of a body.
pub fn opening(window: u32) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let mut settings = vec![0, 4];
    settings.extend(window.to_be_bytes());
    bytes.extend(frame(4, 0, 0, &settings));
    bytes
}

/// A POST to `/mcp`, whole.
pub fn post(stream: u32, authority: &str, body: &[u8]) -> Vec<u8> {
    // `:method POST` and `:scheme http` are in the static table (RFC 7541, appendix A).
    let mut head = vec![0x83, 0x86];
    for (name, value) in [
        (":authority", authority),
        (":path", "/mcp"),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
    ] {
        // A literal without indexing, neither name nor value compressed.
        head.push(0);
        for text in [name, value] {
            head.push(u8::try_from(text.len()).unwrap_or(u8::MAX).min(126));
            head.extend(text.bytes().take(126));
        }
    }
    let mut bytes = frame(1, 4, stream, &head);
    bytes.extend(frame(0, 1, stream, body));
    bytes
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}
