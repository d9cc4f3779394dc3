//! HTTP/1.1 as far as a generator needs it: requests as bytes, answers found in a buffer.
//!
//! It refuses what it cannot measure: an answer that is framed by the end of the connection.

use std::borrow::Cow;

use anyhow::{Context, bail};

/// One whole answer, borrowed from the buffer it came in.
pub struct Answer<'a> {
    pub status: u16,
    /// From the status line to the empty line.
    pub head: &'a [u8],
    pub session: Option<&'a str>,
    /// It said that it is an event stream.
    pub events: bool,
    /// Chunks are joined.
    pub body: Cow<'a, [u8]>,
    /// How much of the buffer it took.
    pub length: usize,
}

/// How the body is framed.
enum Framing {
    Length(usize),
    Chunked,
}

/// What a head says.
pub struct Head<'a> {
    pub status: u16,
    pub session: Option<&'a str>,
    pub events: bool,
    pub length: usize,
    framing: Option<Framing>,
}

/// The head at the start of the buffer; `None` until it is complete.
pub fn head(buffer: &[u8]) -> anyhow::Result<Option<Head<'_>>> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut parsed = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = parsed.parse(buffer).context("an answer's head")?
    else {
        return Ok(None);
    };
    let status = parsed.code.context("an answer without a status")?;
    let mut head = Head { status, session: None, events: false, length, framing: None };
    for field in parsed.headers.iter() {
        if field.name.eq_ignore_ascii_case("content-length") {
            let value = str::from_utf8(field.value)?.parse().context("content-length")?;
            head.framing = Some(Framing::Length(value));
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            head.framing = Some(Framing::Chunked);
        } else if field.name.eq_ignore_ascii_case("mcp-session-id") {
            head.session = Some(str::from_utf8(field.value)?);
        } else if field.name.eq_ignore_ascii_case("content-type") {
            head.events = field.value.starts_with(b"text/event-stream");
        }
    }
    Ok(Some(head))
}

/// The answer at the start of the buffer; `None` until it is complete.
pub fn answer(buffer: &[u8]) -> anyhow::Result<Option<Answer<'_>>> {
    let Some(head) = head(buffer)? else { return Ok(None) };
    let rest = &buffer[head.length..];
    let (body, taken) = match head.framing {
        _ if head.status == 204 => (Cow::Borrowed(&rest[..0]), 0),
        Some(Framing::Length(length)) => match rest.get(..length) {
            Some(body) => (Cow::Borrowed(body), length),
            None => return Ok(None),
        },
        Some(Framing::Chunked) => match chunks(rest)? {
            Some((body, taken)) => (Cow::Owned(body), taken),
            None => return Ok(None),
        },
        None => bail!("an answer ({}) that only the end of the connection would end", head.status),
    };
    Ok(Some(Answer {
        status: head.status,
        head: &buffer[..head.length],
        session: head.session,
        events: head.events,
        body,
        length: head.length + taken,
    }))
}

/// The joined chunks and how many bytes they took; `None` until the last one is there. Trailers are not known.
fn chunks(bytes: &[u8]) -> anyhow::Result<Option<(Vec<u8>, usize)>> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let size = httparse::parse_chunk_size(&bytes[at..])
            .map_err(|_| anyhow::anyhow!("a chunk's size"))?;
        let httparse::Status::Complete((line, size)) = size else { return Ok(None) };
        let from = at + line;
        let to = from + usize::try_from(size)?;
        let Some(chunk) = bytes.get(from..to) else { return Ok(None) };
        if bytes.len() < to + 2 {
            return Ok(None);
        }
        at = to + 2;
        if chunk.is_empty() {
            return Ok(Some((body, at)));
        }
        body.extend_from_slice(chunk);
    }
}
