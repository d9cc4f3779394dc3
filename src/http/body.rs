//! The headers of a POST that say how to read its body and how to answer, and the reading.
//!
//! Owns the rules for the type, the codings and the length of a body and for `Accept`, the size limit, and the deadline.
//! Traps: a chunked body has no `Content-Length`, so the limit is also checked while reading. Only what has come takes
//! room: a client may announce a body and never send it.

use std::{pin::pin, task::Poll, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::poll;
use http::{HeaderMap, HeaderValue, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::incoming::Incoming;
use crate::{
    budget::NoRoom,
    failure::Failure,
    wire::{Head, Known, Single},
};

/// Which of `application/json` and `text/event-stream` a client accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AnswerForms {
    pub(crate) json: bool,
    pub(crate) events: bool,
}

/// What nearly every client sends, which needs no parsing.
const USUAL: [(&str, AnswerForms); 4] = [
    ("application/json, text/event-stream", AnswerForms { json: true, events: true }),
    ("text/event-stream, application/json", AnswerForms { json: true, events: true }),
    ("*/*", AnswerForms { json: true, events: true }),
    ("text/event-stream", AnswerForms { json: false, events: true }),
];

impl AnswerForms {
    /// Reads the `Accept` headers. If there is none, or all are empty, both forms are accepted.
    pub(crate) fn of(head: Head<'_>) -> Self {
        if let Single::Value(usual) = head.single(Known::Accept)
            && let Some((_, accepted)) = USUAL.iter().find(|(value, _)| usual == value)
        {
            return *accepted;
        }
        let mut found = Found::default();
        let mut empty = true;
        for value in head.headers.get_all(header::ACCEPT) {
            let text = String::from_utf8_lossy(value.as_bytes());
            for range in text.split(',').map(str::trim).filter(|range| !range.is_empty()) {
                empty = false;
                found.add(range);
            }
        }
        let accepts = |verdict: Verdict| verdict.is_some_and(|(_, accepted)| accepted);
        match empty {
            true => Self { json: true, events: true },
            false => Self { json: accepts(found.json), events: accepts(found.events) },
        }
    }
}

/// How specific a media range is for a form of answer, and whether it accepts it.
type Verdict = Option<(u8, bool)>;

/// The most specific range for each form, which takes precedence (RFC 9110 §12.5.1).
#[derive(Default)]
struct Found {
    json: Verdict,
    events: Verdict,
}

impl Found {
    fn add(&mut self, range: &str) {
        let (media, refused) = read_range(range);
        let closeness = |exact: &str, family: &str| match media {
            media if media.eq_ignore_ascii_case(exact) => Some(3),
            media if media.eq_ignore_ascii_case(family) => Some(2),
            "*/*" => Some(1),
            _ => None,
        };
        self.json =
            self.json.max(closeness("application/json", "application/*").map(|c| (c, !refused)));
        self.events =
            self.events.max(closeness("text/event-stream", "text/*").map(|c| (c, !refused)));
    }
}

/// A media range without its parameters, and whether they refuse it.
fn read_range(range: &str) -> (&str, bool) {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let refused = parts.any(|parameter| {
        let weight = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="));
        weight.is_some_and(|weight| weight.parse() == Ok(0.0f32))
    });
    (media, refused)
}

/// Whether the client names HTML, as browsers do: curl takes anything, and people read text there.
pub(crate) fn wants_html(head: Head<'_>) -> bool {
    head.headers.get_all(header::ACCEPT).iter().any(|value| {
        let text = String::from_utf8_lossy(value.as_bytes());
        let mut ranges = text.split(',').map(read_range);
        ranges.any(|(media, refused)| media.eq_ignore_ascii_case("text/html") && !refused)
    })
}

/// Only `application/json`, in UTF-8 if it names a charset.
pub(crate) fn check_content_type(head: Head<'_>) -> Result<(), Failure> {
    let refusal = || Failure::UnsupportedMediaType { encoded: false };
    let value = head.value(Known::ContentType)?.ok_or_else(refusal)?;
    if value == "application/json" {
        return Ok(());
    }
    let text = value.to_str().map_err(|_| refusal())?;
    let mut parts = text.split(';').map(str::trim);
    let json = parts.next().is_some_and(|media| media.eq_ignore_ascii_case("application/json"));
    let utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, charset)) if name.eq_ignore_ascii_case("charset") => {
            charset.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    (json && utf8).then_some(()).ok_or_else(refusal)
}

/// A body is read as it came: any coding but `identity` is refused (RFC 9110 §8.4.1, §15.5.16).
pub(crate) fn check_content_encoding(head: Head<'_>) -> Result<(), Failure> {
    let Some(value) = head.value(Known::ContentEncoding)? else { return Ok(()) };
    let mut codings = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let plain = codings.all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity"));
    plain.then_some(()).ok_or(Failure::UnsupportedMediaType { encoded: true })
}

/// A body may be chunked, and no more: HTTP/1 has undone that, and nothing else (RFC 9112 §6.1).
fn check_transfer_coding(headers: &HeaderMap) -> Result<(), Failure> {
    let mut named = headers.get_all(header::TRANSFER_ENCODING).iter();
    let chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    match (named.next().is_none_or(chunked), named.next()) {
        (true, None) => Ok(()),
        (false, _) | (_, Some(_)) => Err(Failure::UnknownTransferCoding),
    }
}

/// A body of so many bytes has room in what its request takes anyway.
const SMALL: usize = 1024;

/// Reads at most `limit` bytes within `deadline`, unless the server ends requests before. `book` is asked for room for
/// what has come.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Incoming,
    limit: usize,
    deadline: Duration,
    book: impl Fn(usize) -> Result<(), NoRoom>,
    cutting: &CancellationToken,
) -> Result<Bytes, Failure> {
    let declared = body.size_hint();
    if declared.lower() > limit as u64 {
        return Err(Failure::BodyTooLarge { limit });
    }
    // HTTP/1 has dropped the length of a body that names a transfer coding.
    if declared.exact().is_none() {
        check_transfer_coding(headers)?;
    }
    let mut reading = pin!(gather(body, limit, book));
    // Most bodies have arrived with their head, and need no timer.
    if let Poll::Ready(read) = poll!(reading.as_mut()) {
        return read;
    }
    tokio::select! {
        read = timeout(deadline, reading) => read.unwrap_or(Err(Failure::BodyTimeout)),
        () = cutting.cancelled() => Err(Failure::CutOff),
    }
}

/// The whole body. It is copied only if it arrived in several frames.
async fn gather(
    mut body: Incoming,
    limit: usize,
    book: impl Fn(usize) -> Result<(), NoRoom>,
) -> Result<Bytes, Failure> {
    let (mut first, mut joined) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        // Trailers are ignored.
        let Ok(data) = frame.map_err(|_| Failure::BodyBroken)?.into_data() else { continue };
        if first.len().max(joined.len()) + data.len() > limit {
            return Err(Failure::BodyTooLarge { limit });
        }
        if data.len() > SMALL || !first.is_empty() {
            book(data.len())?;
        }
        if first.is_empty() {
            first = data;
        } else {
            if joined.is_empty() {
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&data);
        }
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::Lines;

    fn forms(headers: &HeaderMap) -> AnswerForms {
        AnswerForms::of(Lines::of(headers).head(headers))
    }

    fn accepted(value: &str) -> AnswerForms {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(value).expect("is a header value"));
        forms(&headers)
    }

    proptest! {
        #[test]
        fn any_accept_header_is_read(value in "[ -~]{0,60}") {
            accepted(&value);
        }

        /// A range that says nothing about either form changes nothing.
        #[test]
        fn foreign_ranges_change_nothing(value in "[a-z/*;=0-9,. ]{1,40}") {
            prop_assert_eq!(accepted(&format!("{value}, image/png")), {
                let mut headers = HeaderMap::new();
                headers.append(header::ACCEPT, HeaderValue::from_static("image/png"));
                headers.append(header::ACCEPT, HeaderValue::from_str(&value).expect("is a value"));
                forms(&headers)
            });
        }
    }
}
