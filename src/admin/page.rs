//! The page at `/debug`.
//!
//! Owns the document that a browser gets, put together from its files. It holds no data: what it shows it fetches with
//! the token.
//! Trap: no token is asked for it, so nothing may be filled in here.

use axum::{Router, response::Response, routing::get};

use crate::http::document::Document;

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
    let page = Document::new(DOCUMENT, STYLE, SCRIPT, "connect-src 'self'; img-src data:");
    page.answer(page.html.clone())
}
