//! The page at `/debug`.
//!
//! Owns the document that a browser gets, put together from its files, and the headers that let it run these and
//! nothing else. It holds no data: what it shows it fetches with the token.
//! Trap: the policy names style and script by digest, so both must be sent byte for byte as they were hashed.

use axum::{
    Router,
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::header;
use sha2::{Digest, Sha256};

const DOCUMENT: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = concat!(
    include_str!("page/elements.js"),
    include_str!("page/failures.js"),
    include_str!("page/page.js"),
);

pub(super) fn router() -> Router {
    Router::new().route("/debug", get(show)).route("/debug/", get(show))
}

/// Composed for each request, which is rare and takes a fraction of a millisecond.
async fn show() -> Response {
    let document = DOCUMENT.replace("{{style}}", STYLE).replace("{{script}}", SCRIPT);
    let digest = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        digest(SCRIPT),
        digest(STYLE),
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, &policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, document).into_response()
}
