//! The page at `/`: what runs here, and how to reach it.
//!
//! Owns the page for a browser, the text for everything else, and the icon. All is put together when the configuration is
//! read; a request fills in only how its client calls this server.
//! Traps: an instance's own host must tell of no other. The replica's name is anyone's text, so it is escaped; a host that
//! has been served is a host name, in which there is nothing to escape.

use std::{fmt::Write as _, sync::Arc};

use axum::{
    Extension, Router,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderValue, StatusCode, header};

use crate::{
    admin::Admin,
    config::Config,
    http::{body::wants_html, document::Document, external_base, problem},
    id::InstanceId,
    observe::RequestRecord,
    paths::{DEBUG, HOME, ICON, MCP, endpoint_of},
    process::Process,
    tenant::{AuthMode, HostTable, Instance, hosts::without_port},
    wire::ProtocolVersion,
};

const DOCUMENT: &str = include_str!("home/home.html");
const STYLE: &str = include_str!("home/home.css");
const SCRIPT: &str = include_str!("home/home.js");
const ICON_SVG: &str = include_str!("home/icon.svg");

/// What a request fills in: scheme, host and port as its client wrote them; the scheme alone; and the base domain with
/// that port.
const FILLED: [&str; 3] = ["{{here}}", "{{scheme}}", "{{domain}}"];

/// The page and the text, but for what a request fills in.
#[derive(Debug)]
struct Home {
    page: Document,
    text: String,
    /// Of the front door alone: where the hosts of the instances are.
    hosts: Option<Arc<HostTable>>,
    /// For what all ten share: which peers are trusted.
    instance: Arc<Instance>,
}

/// Where something is.
struct Place {
    name: String,
    url: String,
    /// Its URL by host, or else a remark.
    more: Result<String, String>,
}

/// What there is to show.
struct Shown<'a> {
    process: &'a Process,
    what: &'static str,
    places: Vec<Place>,
    facts: Vec<(String, Facts)>,
    has_debug: bool,
}

/// What the front door shows: all ten.
pub(crate) fn of_process(
    config: &Config,
    hosts: Arc<HostTable>,
    instances: &[Arc<Instance>],
    admin: &Admin,
) -> Router {
    let Some(first) = instances.first() else { return Router::new() };
    let mut places = vec![Place {
        name: "Front door".to_owned(),
        url: format!("{{{{here}}}}{MCP}"),
        more: Err(config.hosts.front_door.picks()),
    }];
    places.extend(instances.iter().map(|instance| instance.id).map(|id| Place {
        name: format!("Instance {id}"),
        url: format!("{{{{here}}}}{}", endpoint_of(id)),
        more: Ok(format!("{{{{scheme}}}}://{}{id}.{{{{domain}}}}{MCP}", InstanceId::LABEL)),
    }));
    let shown = Shown {
        process: &first.process,
        what: "Ten isolated stateful MCP servers, for people who write MCP clients, proxies and gateways. Each keeps its own sessions. By path any client reaches them, by host where the name resolves.",
        places,
        facts: facts(instances),
        has_debug: matches!(admin, Admin::Token(_)),
    };
    shown.router(first, Some(hosts))
}

/// What one instance's host shows: itself.
pub(crate) fn of_instance(instance: &Arc<Instance>, admin: &Admin) -> Router {
    let shown = Shown {
        process: &instance.process,
        what: "A stateful MCP server, for people who write MCP clients, proxies and gateways.",
        places: vec![Place {
            name: format!("Instance {}", instance.id),
            url: format!("{{{{here}}}}{MCP}"),
            more: Err(String::new()),
        }],
        facts: facts(std::slice::from_ref(instance)),
        has_debug: matches!(admin, Admin::Token(_)),
    };
    shown.router(instance, None)
}

impl Shown<'_> {
    fn router(&self, instance: &Arc<Instance>, hosts: Option<Arc<HostTable>>) -> Router {
        let (page, text) = (self.page(), self.text());
        let home = Home { page, text, hosts, instance: Arc::clone(instance) };
        Router::new().route(HOME, get(show)).with_state(Arc::new(home)).route(ICON, get(icon))
    }

    fn page(&self) -> Document {
        let choice = |url: &str| {
            format!(
                "<label><input type=\"radio\" name=\"at\" value=\"{url}\"><code>{url}</code></label>"
            )
        };
        let (mut rows, mut facts) = (String::new(), String::new());
        // A string takes whatever is written to it.
        for Place { name, url, more } in &self.places {
            let more = more.as_ref().map_or_else(String::clone, |url| choice(url));
            let _ = writeln!(
                rows,
                "<tr><th scope=\"row\">{name}</th><td>{}</td><td>{more}</td></tr>",
                choice(url)
            );
        }
        for (of, Facts { revisions, bearer, limits }) in &self.facts {
            let _ = writeln!(
                facts,
                "<tr><th scope=\"row\">{of}</th><td>{revisions}</td><td>{bearer}</td><td>{limits}</td></tr>"
            );
        }
        let debug = match self.has_debug {
            true => format!("<a href=\"{DEBUG}\">For operators: {DEBUG}</a>"),
            false => String::new(),
        };
        let html = DOCUMENT
            .replace("{{what}}", self.what)
            .replace("{{debug}}", &debug)
            .replace("{{rows}}", &rows)
            .replace("{{facts}}", &facts)
            .replace("{{icon}}", ICON_SVG.trim_end())
            .replace("{{curl}}", &curl(&format!("<b>{{{{here}}}}{MCP}</b>")))
            .replace("{{running}}", &escaped(&running(self.process)));
        Document::new(&html, STYLE, SCRIPT, "img-src 'self'")
    }

    fn text(&self) -> String {
        let mut text = format!("mcp-echo-stateful {}\n{}\n\n", running(self.process), self.what);
        for Place { name, url, more } in &self.places {
            let more = more.as_ref().unwrap_or_else(|remark| remark);
            let _ = writeln!(text, "{}", format!("{name:<12}{url}  {more}").trim_end());
        }
        for (of, Facts { revisions, bearer, limits }) in &self.facts {
            let _ = write!(text, "\nInstance {of}: {revisions}\n  {bearer}\n  {limits}\n");
        }
        let _ = writeln!(text, "\n{}\n", curl(&format!("{{{{here}}}}{MCP}")));
        text += "More, for a browser: {{here}}/\n";
        if self.has_debug {
            let _ = writeln!(text, "For operators: {{{{here}}}}{DEBUG}");
        }
        text
    }
}

/// What an instance is.
#[derive(PartialEq)]
struct Facts {
    revisions: String,
    bearer: &'static str,
    limits: String,
}

impl Facts {
    fn of(instance: &Instance) -> Self {
        let policy = &instance.policy;
        let session = &policy.config.session;
        let bearer = match policy.auth {
            AuthMode::Off => "no token",
            AuthMode::Passthrough => "any well-formed token",
            AuthMode::Tokens(_) => "a configured token",
        };
        let limits = format!(
            "{} idle seconds, {} sessions, {} of data each, {} a request",
            session.timeout_seconds.get().as_secs_f64(),
            session.capacity,
            bytes(session.max_data_bytes),
            bytes(policy.max_body_bytes),
        );
        Self { revisions: revisions(&policy.config.protocol.versions), bearer, limits }
    }
}

/// The facts, each once, with the instances of which they are true, such as `0-2, 4-9`.
fn facts(instances: &[Arc<Instance>]) -> Vec<(String, Facts)> {
    let mut found: Vec<(Vec<u8>, Facts)> = Vec::new();
    for instance in instances {
        let (facts, digit) = (Facts::of(instance), instance.id.digit());
        match found.iter_mut().find(|(_, known)| *known == facts) {
            Some((of, _)) => of.push(digit),
            None => found.push((vec![digit], facts)),
        }
    }
    let runs = |digits: Vec<u8>| {
        let runs = digits.chunk_by(|one, next| one + 1 == *next).map(|run| match run {
            [one] => one.to_string(),
            [first, .., last] => format!("{first}-{last}"),
            [] => String::new(),
        });
        runs.collect::<Vec<_>>().join(", ")
    };
    found.into_iter().map(|(of, facts)| (runs(of), facts)).collect()
}

/// `2024-11-05 to 2025-11-25`, or a list where some between are missing.
fn revisions(served: &[ProtocolVersion]) -> String {
    let mut served = served.to_vec();
    served.sort_unstable();
    let gapless = served.windows(2).all(|pair| pair[0].index() + 1 == pair[1].index());
    match &*served {
        [first, _, .., last] if gapless => format!("{first} to {last}"),
        all => all.iter().map(|version| version.as_str()).collect::<Vec<_>>().join(", "),
    }
}

fn bytes(count: usize) -> String {
    match count {
        count if count >= 1 << 20 && count % (1 << 20) == 0 => format!("{} MiB", count >> 20),
        count if count >= 1 << 10 && count % (1 << 10) == 0 => format!("{} KiB", count >> 10),
        count => format!("{count} bytes"),
    }
}

/// `0.1.0, replica local, profile sessioned`
fn running(process: &Process) -> String {
    let profile = process.profile.map_or_else(String::new, |name| format!(", profile {name}"));
    format!("{}, replica {}{profile}", env!("CARGO_PKG_VERSION"), process.replica)
}

/// A first call, for a shell; nothing in it means something to HTML.
pub(crate) fn curl(url: &str) -> String {
    format!(
        "curl -s {url} -H 'Content-Type: application/json' \\\n  -d '{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{{\"name\":\"echo\",\"arguments\":{{\"message\":\"hello\"}}}}}}'"
    )
}

/// For HTML; a brace might be taken for a place to fill in.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut html, c| {
        match c {
            '&' | '<' | '>' | '"' | '\'' | '{' | '}' => {
                let _ = write!(html, "&#{};", u32::from(c));
            }
            c => html.push(c),
        }
        html
    })
}

/// `GET /`
async fn show(
    State(home): State<Arc<Home>>,
    Extension(record): Extension<Arc<RequestRecord>>,
    request: Request,
) -> Response {
    let head = record.lines.head(request.headers());
    let here = match external_base(&home.instance, record.peer, request.uri(), head) {
        Ok(here) => here,
        Err(bad) => return problem(StatusCode::BAD_REQUEST, &bad.to_string()),
    };
    let (scheme, authority) = here.split_once("://").unwrap_or_default();
    let host = without_port(authority).unwrap_or(authority);
    let domain = home.hosts.as_ref().and_then(|hosts| hosts.base_of(host)).unwrap_or(host);
    let domain = format!("{domain}{}", authority.strip_prefix(host).unwrap_or_default());
    let fill = |text: &str| {
        let values = FILLED.iter().zip([&*here, scheme, &domain]);
        values.fold(text.to_owned(), |text, (place, value)| text.replace(place, value))
    };
    let mut response = match wants_html(head) {
        true => home.page.answer(fill(&home.page.html)),
        false => ([(header::CACHE_CONTROL, "no-store")], fill(&home.text)).into_response(),
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

/// `GET /favicon.ico`
async fn icon() -> Response {
    let headers =
        [(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "max-age=86400")];
    (headers, ICON_SVG).into_response()
}
