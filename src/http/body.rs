//! What a POST must look like before its body is read, and the reading.
//!
//! Owns the rules for `Content-Type`, `Accept` and `Content-Length`, the size limit and the deadline.
//! Refuses with the failures of `mcp::failure`; knows nothing of what the body says.
//! Trap: a chunked body has no length to check beforehand, so the limit holds while reading too.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::mcp::failure::Failure;

/// Which forms of answer a client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// `application/json`
    pub json: bool,
    /// `text/event-stream`
    pub events: bool,
}

impl Accepted {
    /// Reads the `Accept` headers. Neither header nor anything in it means that anything goes.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut accepted = Self { json: false, events: false };
        let mut empty = true;
        for value in headers.get_all(header::ACCEPT) {
            let text = String::from_utf8_lossy(value.as_bytes());
            for range in text.split(',').map(str::trim).filter(|range| !range.is_empty()) {
                empty = false;
                accepted.add(range);
            }
        }
        if empty { Self { json: true, events: true } } else { accepted }
    }

    fn add(&mut self, range: &str) {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let refused = parts.any(|parameter| {
            let weight = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="));
            weight.is_some_and(|weight| weight.parse() == Ok(0.0f32))
        });
        if refused {
            return;
        }
        let is = |name: &str| media.eq_ignore_ascii_case(name);
        self.json |= is("application/json") || is("application/*") || is("*/*");
        self.events |= is("text/event-stream") || is("text/*") || is("*/*");
    }
}

/// `application/json`, in UTF-8 if it says.
pub fn check_content_type(headers: &HeaderMap) -> Result<(), Failure> {
    let value = headers.get(header::CONTENT_TYPE).ok_or(Failure::UnsupportedMediaType)?;
    if value == "application/json" {
        return Ok(());
    }
    let text = value.to_str().map_err(|_| Failure::UnsupportedMediaType)?;
    let mut parts = text.split(';').map(str::trim);
    let json = parts.next().is_some_and(|media| media.eq_ignore_ascii_case("application/json"));
    let utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, charset)) if name.eq_ignore_ascii_case("charset") => {
            charset.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    (json && utf8).then_some(()).ok_or(Failure::UnsupportedMediaType)
}

/// Reads at most `limit` bytes within `deadline`.
pub async fn read(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    deadline: Duration,
) -> Result<Bytes, Failure> {
    let declared =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: u64| length > limit as u64) {
        return Err(Failure::BodyTooLarge { limit });
    }
    match tokio::time::timeout(deadline, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Failure::BodyTooLarge { limit }),
        Ok(Err(_)) => Err(Failure::BodyBroken),
        Err(_) => Err(Failure::BodyTimeout),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn accepted(value: &str) -> Accepted {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(value).expect("is a header value"));
        Accepted::of(&headers)
    }

    #[test]
    fn weights_and_wildcards_count() {
        assert_eq!(accepted(""), Accepted { json: true, events: true });
        assert_eq!(
            accepted("text/*, application/json;q=0"),
            Accepted { json: false, events: true }
        );
        assert_eq!(accepted("Application/JSON; q=0.1"), Accepted { json: true, events: false });
        assert_eq!(accepted("text/html"), Accepted { json: false, events: false });
    }

    proptest! {
        #[test]
        fn any_accept_header_is_read(value in "[ -~]{0,60}") {
            accepted(&value);
        }

        /// A range that is added never takes away what was accepted before.
        #[test]
        fn more_ranges_accept_more(value in "[a-z/*;=,. ]{1,40}") {
            let everything = Accepted { json: true, events: true };
            prop_assert_eq!(accepted(&format!("{value}, */*")), everything);
        }
    }
}
