//! What the operator is told at the start: where everything is.
//!
//! Owns [`Greeting`]. It goes to standard error, so that standard output holds only the log; where that is JSON, the
//! greeting is one line of JSON.
//! Traps: it may show a token, which must not reach the log. And few programs can resolve names below `localhost`, so the
//! URLs are by address and path.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use tracing::Level;

use super::Server;
use crate::{
    config::{Config, HostName, LogFormat},
    home::curl,
    id::InstanceId,
    observe::json::json_line,
    paths::{MCP, endpoint_of},
    tenant::HostTable,
};

/// Where everything is.
#[derive(Debug)]
pub struct Greeting {
    bound: SocketAddr,
    profile: Option<&'static str>,
    /// Of each instance in order.
    urls: Vec<String>,
    /// The same by host, for programs that resolve it.
    by_host: String,
    front_door: String,
    picks: String,
    /// Where they live.
    sessions: String,
    /// With the token after the #, which browsers do not send, if it was made up at the start.
    admin: Option<String>,
}

impl Greeting {
    /// That of a server which has bound these addresses.
    pub fn of(
        config: &Config,
        server: &Server,
        bound: SocketAddr,
        admin: Option<SocketAddr>,
    ) -> Self {
        let port = bound.port();
        let base = config.hosts.base_domains.first().map_or("localhost", HostName::as_str);
        let here = format!("{}:{port}", name_here(config, server, bound.ip()));
        let operators = admin.map_or_else(|| here.clone(), |address| address.to_string());
        let page = format!("http://{operators}/debug");
        let admin = match server.generated_admin_token() {
            Some(token) => Some(format!("{page}#token={}", token.expose())),
            None => server.has_admin().then_some(page),
        };
        Self {
            bound,
            profile: config.profile.map(|profile| profile.name),
            urls: InstanceId::all().map(|id| format!("http://{here}{}", endpoint_of(id))).collect(),
            by_host: format!("http://{}{{0-9}}.{base}:{port}{MCP}", InstanceId::LABEL),
            front_door: format!("http://{here}{MCP}"),
            picks: config.hosts.front_door.picks(),
            sessions: sessions(server),
            admin,
        }
    }

    /// In the form that fits the log's.
    pub fn render(&self, format: LogFormat) -> Vec<u8> {
        match format {
            LogFormat::Json => self.to_json(),
            LogFormat::Pretty | LogFormat::Compact => self.to_text().into_bytes(),
        }
    }

    fn to_json(&self) -> Vec<u8> {
        let (address, urls) = (self.bound.to_string(), self.urls.join(" "));
        let mut fields = vec![
            ("address", address.as_str()),
            ("release", env!("CARGO_PKG_VERSION")),
            ("urls", &urls),
            ("by_host", &self.by_host),
            ("front_door", &self.front_door),
            ("front_door_picks", &self.picks),
            ("sessions", &self.sessions),
        ];
        fields.extend(self.profile.map(|profile| ("profile", profile)));
        fields.extend(self.admin.as_deref().map(|admin| ("admin", admin)));
        json_line(Level::INFO, "serving", &fields)
    }

    fn to_text(&self) -> String {
        let Self { bound, profile, urls, by_host, front_door, picks, sessions, admin } = self;
        let mut text = format!("mcp-echo-stateful {} on {bound}\n", env!("CARGO_PKG_VERSION"));
        // A string takes whatever is written to it.
        if let Some(profile) = profile {
            let _ = writeln!(text, "  profile     {profile}");
        }
        for (instance, url) in urls.iter().enumerate() {
            let _ = writeln!(text, "  instance {instance}  {url}");
        }
        let _ = writeln!(text, "  or by host  {by_host}");
        let _ = writeln!(text, "  front door  {front_door} ({picks})");
        let _ = writeln!(text, "  sessions    {sessions}");
        if let Some(admin) = admin {
            let _ = writeln!(text, "  admin       {admin}");
        }
        let _ = writeln!(text, "Try it:\n  {}", curl(front_door).replace('\n', "\n  "));
        text
    }
}

/// Where sessions live: in memory, or in the store, and which instances keep their own all the same.
fn sessions(server: &Server) -> String {
    let Some(link) = &server.process.link else { return "in memory".to_owned() };
    let own = server.instances().filter(|instance| !instance.state.sessions.is_shared());
    let own: Vec<_> = own.map(|instance| instance.id.to_string()).collect();
    let shared =
        format!("shared, in the store at {}, namespace {}", link.address(), link.namespace());
    match own.is_empty() {
        true => shared,
        false => format!("{shared}; of instance {} in memory", own.join(", ")),
    }
}

/// What any program on this machine can call the front door: the address itself, where that is served as a host.
fn name_here(config: &Config, server: &Server, bound: IpAddr) -> String {
    let address = match bound.is_unspecified() {
        true => Ipv4Addr::LOCALHOST.into(),
        false => bound,
    };
    let name = match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let own_names = server.instances().next().map_or(&[][..], |one| &one.process.own_names);
    let served = HostTable::build(&config.hosts, own_names).select(&name).is_some();
    let base = config.hosts.base_domains.first().filter(|_| !served);
    base.map_or(name, |base| format!("{}.{}", InstanceId::LABEL, base.as_str()))
}
