//! What of a request and of the environment may be shown.
//!
//! Owns the rule: a value is shown if its name is known to be harmless, or else if neither the name nor the value looks
//! like a credential's. A list of secret names alone would always be one short. Of what is not shown, the length is told.
//! Trap: a URL is harmless and its query may not be, so queries are looked at name by name.

use std::borrow::Cow;

use crate::wire::percent::decoded;

/// Headers that let nobody act as someone else, whatever they hold. An identity is no credential: it counts only from a
/// trusted proxy.
const HARMLESS: [&str; 62] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "access-control-request-headers",
    "access-control-request-method",
    "cache-control",
    "cdn-loop",
    "cf-connecting-ip",
    "cf-ipcountry",
    "cf-ray",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "dnt",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "origin",
    "pragma",
    "priority",
    "range",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "te",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "user-agent",
    "via",
    "x-amzn-trace-id",
    "x-client-id",
    "x-correlation-id",
    "x-forwarded-email",
    "x-forwarded-for",
    "x-forwarded-groups",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-preferred-username",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-forwarded-user",
    "x-oauth-client",
    "x-real-ip",
    "x-request-id",
    "x-user-id",
    "x-user-name",
];

/// Arguments that a client repeats in headers, the handle among them.
const MIRRORED: &str = "mcp-param-";

/// Headers that hold a URL or a part of one.
const URLS: [&str; 8] = [
    "content-location",
    "location",
    "referer",
    "x-envoy-original-path",
    "x-forwarded-uri",
    "x-original-uri",
    "x-original-url",
    "x-rewrite-url",
];

/// What names of secrets have in them.
const SECRET_NAMES: [&str; 19] = [
    "apikey",
    "assertion",
    "auth",
    "bearer",
    "cert",
    "cookie",
    "credential",
    "csrf",
    "jwt",
    "key",
    "oidc",
    "pass",
    "pwd",
    "saml",
    "secret",
    "session",
    "signature",
    "token",
    "websocket",
];

/// Authentication schemes (RFC 9110 §11.1, IANA's registry, and those of well-known services).
const SCHEMES: [&str; 16] = [
    "apikey",
    "aws4-hmac-sha256",
    "basic",
    "bearer",
    "digest",
    "dpop",
    "gnap",
    "hoba",
    "key",
    "mutual",
    "negotiate",
    "ntlm",
    "oauth",
    "privatetoken",
    "token",
    "vapid",
];

/// From this length on, letters and digits mixed look random.
const MIXED: usize = 12;
/// From this length on, anything without a space does.
const LONG: usize = 24;

/// A header's value as it may be shown; of a credential its scheme and its length.
pub(super) fn header(name: &str, value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    if HARMLESS.contains(&name) || name.starts_with(MIRRORED) {
        return text.into_owned();
    }
    if URLS.contains(&name) {
        return url(&text);
    }
    match scheme(&text) {
        Some((scheme, credential)) => format!("{scheme} {}", hidden(credential)),
        None if names_a_secret(name) || looks_secret(&text) => hidden(&text),
        None => text.into_owned(),
    }
}

/// A query as it may be shown: every name, and each value that looks like no credential.
pub(super) fn query(text: &str) -> String {
    let member = |member: &str| match member.split_once('=') {
        Some((name, value)) if names_a_secret(&decoded(name)) || looks_secret(&decoded(value)) => {
            format!("{}={}", part(name), hidden(value))
        }
        Some((name, value)) => format!("{}={value}", part(name)),
        None => part(member).into_owned(),
    };
    let shown: Vec<_> = text.split('&').map(member).collect();
    shown.join("&")
}

/// A variable of the environment as it may be shown. Of a secret nothing is, not even its length.
pub(super) fn variable(name: &str, value: &str) -> String {
    const REDACTED: &str = "[redacted]";
    // In whatever case, since a key of ours may be written in any. A file of secrets is named, not read.
    let name = name.to_ascii_uppercase();
    let secret = !name.ends_with("_FILE")
        && ["CREDENTIAL", "KEY", "PASS", "SECRET", "TOKEN"].iter().any(|word| name.contains(word));
    match secret && !value.is_empty() {
        true => REDACTED.to_owned(),
        // Lists are separated by commas.
        false => value.split(',').map(without_user).collect::<Vec<_>>().join(","),
    }
}

/// A URL whose user, and what looks like a credential in its query or fragment, is hidden.
fn url(text: &str) -> String {
    let Some(at) = text.find(['?', '#']) else { return without_user(text).into_owned() };
    let (path, rest) = text.split_at(at);
    let (mark, rest) = rest.split_at(1);
    let parts: Vec<_> = rest.split('#').map(query).collect();
    format!("{}{mark}{}", without_user(path), parts.join("#"))
}

/// A URL without the user and password that may stand before its host.
fn without_user(url: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = url.split_once("//") else { return url.into() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}//[redacted]{}", &rest[at..]).into(),
        None => url.into(),
    }
}

fn hidden(secret: &str) -> String {
    format!("[redacted, {} characters]", secret.chars().count())
}

/// A name, unless it is a credential itself.
fn part(text: &str) -> Cow<'_, str> {
    if looks_secret(&decoded(text)) { hidden(text).into() } else { text.into() }
}

/// An authentication scheme and what follows it.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.trim_start().split_once([' ', '\t'])?;
    let known = SCHEMES.contains(&&*scheme.to_ascii_lowercase());
    known.then_some((scheme, rest))
}

fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    name == "code"
        || words.any(|word| ["sid", "sig"].contains(&word))
        || SECRET_NAMES.iter().any(|word| name.contains(word))
}

/// Whether a text has a scheme, or a run of characters in it that looks random.
fn looks_secret(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-._~+/%".contains(c);
    let looks_random = |run: &str| {
        let (letters, digits) = (|c: char| c.is_ascii_alphabetic(), |c: char| c.is_ascii_digit());
        run.len() >= LONG || run.len() >= MIXED && run.contains(letters) && run.contains(digits)
    };
    let pairs = text.contains('=') && text.contains(';');
    pairs || scheme(text).is_some() || text.split(|c| !is_part(c)).any(looks_random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_shown_if_it_is_known_or_looks_harmless() {
        let jwt = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.c2ln";
        for (name, value, shown) in [
            ("accept", "application/json, text/event-stream;q=0.9", None),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01", None),
            ("mcp-session-id", "0216d3d4-c821-8388-9fde-d39b06f54f35", None),
            ("mcp-param-session", "0216d3d4-c821-8388-9fde-d39b06f54f35", None),
            ("x-twice", "one", None),
            ("x-test", "a short text, of words", None),
            ("x-version", "1.2.3", None),
            ("x-user-name", "José", None),
            ("authorization", "Bearer abcd", Some("Bearer [redacted, 4 characters]")),
            ("authorization", "abcd efgh", Some("[redacted, 9 characters]")),
            ("proxy-authorization", "Negotiate abcd", Some("Negotiate [redacted, 4 characters]")),
            ("x-custom", "Basic YTpi", Some("Basic [redacted, 4 characters]")),
            ("cookie", "a=b c=d", Some("[redacted, 7 characters]")),
            ("x-anything", "a=b; c=d", Some("[redacted, 8 characters]")),
            ("api-key", "short", Some("[redacted, 5 characters]")),
            ("x-forwarded-access-token", "short", Some("[redacted, 5 characters]")),
            ("x-amzn-oidc-data", "short", Some("[redacted, 5 characters]")),
            ("x-goog-iap-jwt-assertion", "short", Some("[redacted, 5 characters]")),
            ("sec-websocket-protocol", "mcp, abcd", Some("[redacted, 9 characters]")),
            ("x-blob", jwt, Some("[redacted, 45 characters]")),
            ("x-blob", "0216d3d4-c821-8388-9fde-d39b06f54f35", Some("[redacted, 36 characters]")),
        ] {
            assert_eq!(header(name, value.as_bytes()), shown.unwrap_or(value), "{name}: {value}");
        }
    }

    #[test]
    fn a_query_shows_its_names() {
        for (text, shown) in [
            ("a=1&b=two%20words", "a=1&b=two%20words"),
            ("access_token=abc&x=1", "access_token=[redacted, 3 characters]&x=1"),
            ("t%6Fken=abc", "t%6Fken=[redacted, 3 characters]"),
            ("x=AKIA1234567890AB", "x=[redacted, 16 characters]"),
            ("debug", "debug"),
            ("AKIA1234567890AB", "[redacted, 16 characters]"),
            ("", ""),
        ] {
            assert_eq!(query(text), shown);
        }
        for (text, shown) in [
            (
                "https://me:pw@host/a?sid=1#code=2",
                "https://[redacted]@host/a?sid=[redacted, 1 characters]#code=[redacted, 1 characters]",
            ),
            ("https://host/a@b", "https://host/a@b"),
            ("/a?b=c", "/a?b=c"),
        ] {
            assert_eq!(header("referer", text.as_bytes()), shown);
        }
    }

    #[test]
    fn nothing_of_a_secret_variable_is_shown() {
        let long = "abcdefghijklmnopqrstuvwxyz";
        for (name, value, shown) in [
            ("ADMIN_TOKEN", long, "[redacted]"),
            ("ADMIN_TOKEN", "", ""),
            ("MCP_ECHO_ADMIN__token", "abc", "[redacted]"),
            ("MCP_ECHO_INSTANCES__3__AUTH__TOKENS", "bob=t0ken", "[redacted]"),
            ("ADMIN_TOKEN_FILE", "/run/secrets/admin", "/run/secrets/admin"),
            ("PORT", "3000", "3000"),
            (
                "MCP_ECHO_AUTH__AUTHORIZATION_SERVERS",
                "https://a.example,https://u:p@b.example/x",
                "https://a.example,https://[redacted]@b.example/x",
            ),
        ] {
            assert_eq!(variable(name, value), shown, "{name}");
        }
    }
}
