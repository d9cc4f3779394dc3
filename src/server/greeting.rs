//! What the operator is told at the start: where everything is.
//!
//! Owns [`Greeting`]. It goes to standard error, so that standard output holds only the log; where that is JSON, the
//! greeting is one line of JSON.
//! Trap: it shows a token that was made up at the start, so it is no part of the log.

use std::{fmt::Write as _, net::SocketAddr};

use tracing::Level;

use super::Server;
use crate::{
    config::{Config, FrontDoor, HostName, LogFormat},
    observe::json::json_line,
};

/// Where everything is.
#[derive(Debug)]
pub struct Greeting {
    bound: SocketAddr,
    /// Of each instance in order.
    urls: Vec<String>,
    front_door: String,
    picks: String,
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
        let picks = match config.hosts.front_door {
            FrontDoor::Fixed(instance) => format!("instance {instance} answers"),
            FrontDoor::Sticky => "the session's own instance answers".to_owned(),
            FrontDoor::RoundRobin => "each in turn, whatever the session".to_owned(),
            FrontDoor::Random => "any, whatever the session".to_owned(),
        };
        let operators = match admin {
            Some(address) => address.to_string(),
            None => format!("localhost:{port}"),
        };
        let page = format!("http://{operators}/debug");
        let admin = match server.generated_admin_token() {
            Some(token) => Some(format!("{page}#token={}", token.expose())),
            None => server.has_admin().then_some(page),
        };
        let url = |instance: u8| format!("http://echo-stateful{instance}.{base}:{port}/mcp");
        Self {
            bound,
            urls: server.instances().map(|instance| url(instance.id.digit())).collect(),
            front_door: format!("http://localhost:{port}/mcp"),
            picks,
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
            ("front_door", &self.front_door),
        ];
        fields.extend(self.admin.as_deref().map(|admin| ("admin", admin)));
        json_line(Level::INFO, "serving", &fields)
    }

    fn to_text(&self) -> String {
        let Self { bound, urls, front_door, picks, admin } = self;
        let mut text = format!("mcp-echo-stateful {} on {bound}\n", env!("CARGO_PKG_VERSION"));
        for (instance, url) in urls.iter().enumerate() {
            // A string takes whatever is written to it.
            let _ = writeln!(text, "  instance {instance}  {url}");
        }
        let _ = writeln!(text, "  front door  {front_door} ({picks})");
        if let Some(admin) = admin {
            let _ = writeln!(text, "  admin       {admin}");
        }
        let _ = writeln!(
            text,
            "Try it:\n  curl -s {front_door} -H 'Content-Type: application/json' \\\n    -d '{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{{\"name\":\"echo\",\"arguments\":{{\"message\":\"hello\"}}}}}}'"
        );
        text
    }
}
