//! A document for browsers, which runs what it brings and nothing else.
//!
//! Owns how a page is put together from three files, and the headers that go with it.
//! Trap: the policy names style and script by digest, so both must be sent byte for byte as they were hashed.

use axum::response::{IntoResponse, Response};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::header;
use sha2::{Digest, Sha256};

/// A page and its policy.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) html: String,
    policy: String,
}

impl Document {
    /// Puts style and script in their places. `more` is what the policy allows beside them: it begins with nothing.
    pub(crate) fn new(html: &str, style: &str, script: &str, more: &str) -> Self {
        let digest = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
        let policy = format!(
            "default-src 'none'; script-src {}; style-src {}; {more}; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
            digest(script),
            digest(style),
        );
        Self { html: html.replace("{{style}}", style).replace("{{script}}", script), policy }
    }

    /// Sends it, or the same with something filled in.
    pub(crate) fn answer(&self, html: String) -> Response {
        let headers = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CONTENT_SECURITY_POLICY, &self.policy),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CACHE_CONTROL, "no-store"),
        ];
        (headers, html).into_response()
    }
}
