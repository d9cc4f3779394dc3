//! What must hold of values beyond their type.
//!
//! Owns the rules, each in one row with the text for the operator. They are looked at in this order, and the first that
//! is broken ends the start. The question behind them: which value could be accepted and never do anything?

use super::{
    AuthConfig, AuthModeName, Config, HostName, Listen, PolicyConfig, Secret, StoreName,
    address::is_issuer, is_token, split_pair, value::is_scope,
};
use crate::wire::{Era, ProtocolVersion};

/// A key, whether its value can work, and what is wrong if it cannot.
pub(super) type Rule = (&'static str, bool, &'static str);

/// The rules for what the ten instances share.
pub(super) fn of_process(config: &Config) -> Vec<Rule> {
    let Config { server, hosts, replica, http, admin, .. } = config;
    // What stands before a base domain is part of a name of at most 253 characters.
    let is_base = |name: &HostName| {
        !name.is_address() && name.as_str().len() + "echo-stateful0.".len() <= 253
    };
    let (host, port) = (server.host.0, server.port);
    let is_taken = |Listen(own): &Listen| {
        own.is_some_and(|own| {
            let any = host.is_unspecified() || own.ip().is_unspecified();
            let same = host == own.ip() || any && host.is_ipv4() == own.is_ipv4();
            same && own.port() == port && port != 0
        })
    };
    let token = admin.token.expose();
    let tag = replica.tag().err();
    let mut rules = vec![
        ("server.name", !server.name.is_empty(), "must not be empty"),
        ("hosts.base_domains", !hosts.base_domains.is_empty(), "must not be empty"),
        (
            "hosts.base_domains",
            hosts.base_domains.iter().all(is_base),
            "must be domains below which the ten names can stand: no addresses, at most 238 characters",
        ),
        ("hosts.base_domains", each_once(&hosts.base_domains), TWICE),
        ("hosts.front_door_names", each_once(&hosts.front_door_names), TWICE),
        ("http.trusted_proxies", each_once(&http.trusted_proxies), TWICE),
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
        (
            "admin.listen",
            !is_taken(&admin.listen),
            "is where server.host and server.port are: take another port",
        ),
        ("admin.recent_requests", admin.recent_requests <= 100_000, "must be at most 100000"),
        ("replica.tag", tag.is_none(), tag.unwrap_or_default()),
        (
            "replica.name",
            replica.name.bytes().all(|byte| byte.is_ascii_graphic()),
            "must be visible ASCII, since it is sent as a header",
        ),
    ];
    rules.extend(of_sizes(config));
    rules.extend(of_store(config));
    rules
}

/// The rules for the shared store. What its URL says is read where the connection is built.
fn of_store(Config { store, instances, .. }: &Config) -> [Rule; 9] {
    let has_file = !store.url_file.as_os_str().is_empty();
    let has_url = !store.url.expose().trim().is_empty();
    let exists = has_url || has_file;
    let seconds = store.timeout_seconds.get().as_secs_f64();
    let is_used = instances.iter().any(|policy| policy.session.store == StoreName::Shared);
    let in_keys = |c: char| c.is_ascii_graphic() && !"{}:".contains(c);
    [
        ("store.url_file", !(has_url && has_file), "stands beside store.url: set one of them"),
        (
            if has_file { "store.url_file" } else { "store.url" },
            !exists || is_used,
            "is of no use: every instance has its sessions in memory (session.store)",
        ),
        (
            "store.namespace",
            !store.namespace.is_empty() && store.namespace.chars().all(in_keys),
            "must be visible ASCII without { } and :, since it is a part of keys that they set off",
        ),
        ("store.namespace", store.namespace.len() <= 100, "must be at most 100 characters"),
        ("store.timeout_seconds", (0.01..=10.0).contains(&seconds), "must be from 0.01 to 10"),
        ("store.ca_file", store.ca_file.as_os_str().is_empty() || exists, NO_STORE),
        ("store.wait_aof", !store.wait_aof || exists, NO_STORE),
        ("store.allow_eviction", !store.allow_eviction || exists, NO_STORE),
        ("store.unready_when_lost", !store.unready_when_lost || exists, NO_STORE),
    ]
}

/// The rules for sizes and times that the ten instances share.
fn of_sizes(Config { http, memory, .. }: &Config) -> [Rule; 7] {
    [
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

const NO_STORE: &str = "does nothing without a store: set store.url or store.url_file";
const TWICE: &str = "holds an entry twice";
const MORE_THAN_0: &str = "must be more than 0";

/// The rules for one instance.
pub(super) fn of_policy(policy: &PolicyConfig) -> Vec<Rule> {
    let PolicyConfig { protocol, session, stream, auth, origin, tools, tasks } = policy;
    // The default answers an initialize, so it matters where there are revisions that have one.
    let sessioned = |version: &ProtocolVersion| version.era() == Era::Sessioned;
    let listed = protocol.versions.contains(&protocol.version) && sessioned(&protocol.version);
    let mut rules = vec![
        ("protocol.versions", !protocol.versions.is_empty(), "must name at least one version"),
        ("protocol.versions", each_once(&protocol.versions), TWICE),
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
            "session.answer_timeout_seconds",
            !session.answer_timeout_seconds.get().is_zero(),
            MORE_THAN_0,
        ),
        ("origin.allowed", each_once(&origin.allowed), TWICE),
        ("tools.sets", each_once(&tools.sets), TWICE),
        ("tasks.ttl_seconds", !tasks.ttl_seconds.get().is_zero(), MORE_THAN_0),
        (
            "stream.keep_alive_seconds",
            stream.keep_alive_seconds.get().as_millis() >= 100,
            "must be at least 0.1",
        ),
    ];
    rules.extend(of_auth(auth));
    rules
}

fn of_auth(auth: &AuthConfig) -> Vec<Rule> {
    let has_tokens = !auth.tokens.is_empty() || !auth.tokens_file.as_os_str().is_empty();
    let tokens: Vec<_> = auth.tokens.iter().filter_map(token_of).collect();
    vec![
        (
            "auth.tokens",
            auth.tokens.iter().all(|pair| split_pair(pair.expose()).is_some()),
            "must be name=token pairs, both parts not empty",
        ),
        (
            "auth.tokens",
            each_once(&tokens),
            "holds a token twice: only one of its names could ever be meant",
        ),
        (
            "auth.authorization_servers",
            auth.authorization_servers.iter().all(|text| is_issuer(text)),
            "must be issuers such as https://id.example.com, without ? and #",
        ),
        ("auth.authorization_servers", each_once(&auth.authorization_servers), TWICE),
        (
            "auth.scopes",
            auth.scopes.iter().all(|text| is_scope(text)),
            "must be scopes without spaces, quotes and backslashes, one an entry",
        ),
        ("auth.scopes", each_once(&auth.scopes), TWICE),
        (
            "auth.scopes",
            !auth.scopes.iter().any(|scope| *scope == "offline_access"),
            "must not hold offline_access, which a client asks for and no server (2026-07-28, authorization)",
        ),
        (
            "auth.mode",
            auth.mode != AuthModeName::Tokens || has_tokens,
            "needs auth.tokens or auth.tokens_file",
        ),
    ]
}

fn each_once<T: PartialEq>(entries: &[T]) -> bool {
    entries.iter().enumerate().all(|(place, entry)| !entries[..place].contains(entry))
}

fn token_of(pair: &Secret) -> Option<&str> {
    split_pair(pair.expose()).map(|(_, token)| token)
}
