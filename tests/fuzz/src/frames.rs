//! HTTP/2 for the fuzzer: from any bytes to frames that a parser does not give up at once.
//!
//! Owns the little language in which an input says frames (RFC 9113 §4.1), some of them ready-made, and what every answer
//! in frames must be.
//! Trap: HPACK keeps state; so nothing of a ready-made head is compressed or remembered (RFC 7541 §6.2.2).

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A header: its name and its value.
type Header = (&'static str, &'static str);

/// Method, path and further headers of ready-made requests.
const HEADS: [(&str, &str, &[Header]); 8] = [
    ("POST", "/mcp", &[("content-type", "application/json")]),
    ("GET", "/mcp", &[("accept", "text/event-stream"), ("mcp-session-id", "garbage")]),
    ("DELETE", "/mcp", &[("mcp-session-id", "0216d3d4-c821-8388-9fde-d39b06f54f35")]),
    ("GET", "/livez", &[]),
    ("POST", "/mcp", &[("x-user-id", "alice"), ("x-user-id", "bob"), ("host", "localhost")]),
    ("POST", "/mcp", &[("content-type", "application/json"), ("content-length", "5")]),
    ("OPTIONS", "/mcp", &[("origin", "null"), ("connection", "close")]),
    ("CONNECT", "", &[("te", "trailers")]),
];

const BODIES: [&str; 4] = [
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"message":"x"}}}"#,
    r#"{"jsonrpc":"2.0","id":1e400,"method":"ping"}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"stream_ticks","arguments":{"count":3},"_meta":{"progressToken":123456789012345678901234567890}}}"#,
    "{",
];

/// A connection: each frame is four bytes (type, flags, stream, length) and so many of those that follow.
pub fn connection(input: &[u8]) -> Vec<u8> {
    let mut wire = PREFACE.to_vec();
    frame(&mut wire, SETTINGS, 0, 0, &[]);
    let mut rest = input;
    while let [kind, flags, stream, length, after @ ..] = rest {
        let (free, tail) = after.split_at(usize::from(length % 64).min(after.len()));
        rest = tail;
        match kind % 16 {
            10 | 11 => {
                let flags = END_HEADERS | if kind % 2 == 1 { END_STREAM } else { 0 };
                frame(&mut wire, HEADERS, flags, *stream, &head(*length));
            }
            12 | 13 => {
                let body = BODIES[usize::from(*length) % BODIES.len()].as_bytes();
                frame(&mut wire, DATA, kind % 2, *stream, body);
            }
            14 => frame(&mut wire, RST_STREAM, 0, *stream, &[0, 0, 0, 8]),
            // Nothing may be read for the time being.
            15 => frame(&mut wire, SETTINGS, 0, 0, &[0, 4, 0, 0, 0, *length]),
            kind => frame(&mut wire, kind, *flags, *stream, free),
        }
    }
    wire
}

fn frame(wire: &mut Vec<u8>, kind: u8, flags: u8, stream: u8, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("is short").to_be_bytes();
    wire.extend_from_slice(&length[1..]);
    wire.extend_from_slice(&[kind, flags, 0, 0, 0, stream]);
    wire.extend_from_slice(payload);
}

/// A request head, each field as a literal that is not to be indexed.
fn head(which: u8) -> Vec<u8> {
    let (method, path, more) = HEADS[usize::from(which) % HEADS.len()];
    let pseudo = [
        (":method", method),
        (":scheme", "http"),
        (":authority", "echo-stateful1.localhost"),
        (":path", path),
    ];
    let mut block = Vec::new();
    for (name, value) in pseudo.iter().filter(|(_, value)| !value.is_empty()).chain(more) {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("is short"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// The server begins with its settings, and sends whole frames.
pub fn check(answers: &[u8]) {
    let mut rest = answers;
    let mut first = true;
    while !rest.is_empty() {
        let [a, b, c, kind, _, _, _, _, _, after @ ..] = rest else {
            panic!("a cut frame: {}", rest.escape_ascii());
        };
        assert!(!first || *kind == SETTINGS, "begins with {kind}");
        first = false;
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        assert!(length <= after.len(), "a cut frame: {}", rest.escape_ascii());
        rest = &after[length..];
    }
}
