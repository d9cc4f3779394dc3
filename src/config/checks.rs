//! What must hold of values beyond their type.
//!
//! Owns the rules, each in one row with the text for the operator. They are looked at in this order, and the first that
//! is broken ends the start.

use super::{AuthModeName, Config, PolicyConfig, is_host_name, is_token, split_pair};
use crate::wire::{Era, ProtocolVersion};

/// A key, whether its value can work, and what is wrong if it cannot.
pub(super) type Rule = (&'static str, bool, &'static str);

/// The rules for what the ten instances share.
pub(super) fn of_process(config: &Config) -> Vec<Rule> {
    let Config { server, hosts, replica, http, memory, admin, .. } = config;
    let host_names = |names: &[String]| names.iter().all(|name| is_host_name(name));
    let token = admin.token.expose();
    let tag = replica.tag().err();
    vec![
        ("server.name", !server.name.is_empty(), "must not be empty"),
        ("hosts.base_domains", !hosts.base_domains.is_empty(), "must not be empty"),
        ("hosts.base_domains", host_names(&hosts.base_domains), HOST_NAMES),
        ("hosts.front_door_names", host_names(&hosts.front_door_names), HOST_NAMES),
        (
            "admin.token",
            token.is_empty() || is_token(token),
            "cannot be sent as a bearer token: use letters, digits and -._~+/",
        ),
        (
            "admin.token_file",
            token.is_empty() || admin.token_file.as_os_str().is_empty(),
            "stands beside admin.token: set one of them",
        ),
        ("admin.recent_requests", admin.recent_requests <= 100_000, "must be at most 100000"),
        ("replica.tag", tag.is_none(), tag.unwrap_or_default()),
        (
            "replica.name",
            replica.name.bytes().all(|byte| byte.is_ascii_graphic()),
            "must be visible ASCII, since it is sent as a header",
        ),
        (
            "memory.max_instance_bytes",
            memory.max_instance_bytes >= 16 << 20,
            "must be at least 16777216 (16 MiB)",
        ),
        (
            "memory.max_bytes",
            memory.max_bytes >= memory.max_instance_bytes,
            "must be at least memory.max_instance_bytes",
        ),
        ("http.max_connections", http.max_connections >= 1, "must be at least 1"),
        ("http.max_body_bytes", http.max_body_bytes >= 1024, "must be at least 1024"),
        ("http.header_timeout_seconds", !http.header_timeout_seconds.get().is_zero(), MORE_THAN_0),
        ("http.body_timeout_seconds", !http.body_timeout_seconds.get().is_zero(), MORE_THAN_0),
        ("http.write_timeout_seconds", !http.write_timeout_seconds.get().is_zero(), MORE_THAN_0),
    ]
}

const HOST_NAMES: &str = "must be host names without scheme, port or path";
const MORE_THAN_0: &str = "must be more than 0";

/// The rules for one instance.
pub(super) fn of_policy(policy: &PolicyConfig) -> Vec<Rule> {
    let PolicyConfig { protocol, session, stream, auth, origin, tools: _, tasks: _ } = policy;
    // The default answers an initialize, so it matters where there are revisions that have one.
    let sessioned = |version: &ProtocolVersion| version.era() == Era::Sessioned;
    let listed = protocol.versions.contains(&protocol.version) && sessioned(&protocol.version);
    let origins = |text: &String| matches!(text.as_str(), "*" | "null") || text.contains("://");
    let has_tokens = !auth.tokens.is_empty() || !auth.tokens_file.as_os_str().is_empty();
    vec![
        ("protocol.versions", !protocol.versions.is_empty(), "must name at least one version"),
        (
            "protocol.version",
            listed || !protocol.versions.iter().any(sessioned),
            "must be one of protocol.versions that has initialize (up to 2025-11-25)",
        ),
        ("protocol.page_size", protocol.page_size >= 1, "must be at least 1"),
        (
            "session.timeout_seconds",
            session.timeout_seconds.get().as_millis() >= 100,
            "must be at least 0.1",
        ),
        ("session.capacity", session.capacity >= 1, "must be at least 1"),
        ("session.max_streams", session.max_streams >= 1, "must be at least 1"),
        (
            "origin.allowed",
            origin.allowed.iter().all(origins),
            "must be origins such as https://app.example.com, or *",
        ),
        (
            "stream.keep_alive_seconds",
            stream.keep_alive_seconds.get().as_millis() >= 100,
            "must be at least 0.1",
        ),
        (
            "auth.tokens",
            auth.tokens.iter().all(|pair| split_pair(pair.expose()).is_some()),
            "must be name=token pairs, both parts not empty",
        ),
        (
            "auth.mode",
            auth.mode != AuthModeName::Tokens || has_tokens,
            "needs auth.tokens or auth.tokens_file",
        ),
    ]
}
