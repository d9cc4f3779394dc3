//! Taking a port to listen on.
//!
//! Owns [`bind`], and what the operator is told where that fails: the address, the reason, and which key to change.
//! Trap: the kernel's own words name neither the port nor the key that chose it.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
};

use anyhow::anyhow;
use tokio::net::TcpListener;

/// How an operator chooses an address.
#[derive(Clone, Copy, Debug)]
pub struct ChosenBy {
    /// The whole of it, or its host.
    pub host: &'static str,
    /// Its port.
    pub port: &'static str,
}

impl ChosenBy {
    /// Where everyone comes in.
    pub const MAIN: Self = Self { host: "--host or HOST", port: "--port or PORT" };
    /// Where operators come in.
    pub const ADMIN: Self = Self {
        host: "admin.listen (MCP_ECHO_ADMIN__LISTEN)",
        port: "admin.listen (MCP_ECHO_ADMIN__LISTEN)",
    };
}

/// Listens there, or says what to do.
pub async fn bind(address: SocketAddr, by: ChosenBy) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| anyhow!("cannot bind {address}: {}", why(&error, address, by)))
}

fn why(error: &io::Error, address: SocketAddr, ChosenBy { host, port }: ChosenBy) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => {
            format!("another program has port {}; choose another with {port}", address.port())
        }
        ErrorKind::PermissionDenied => format!(
            "port {} needs a privilege, as those below 1024 do; choose another with {port}",
            address.port()
        ),
        ErrorKind::AddrNotAvailable => {
            format!("this machine has no address {}; choose another with {host}", address.ip())
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_common_reason_says_what_to_write() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        for (kind, parts) in [
            (ErrorKind::AddrInUse, ["port 80", "--port or PORT"]),
            (ErrorKind::PermissionDenied, ["below 1024", "--port or PORT"]),
            (ErrorKind::AddrNotAvailable, ["127.0.0.1", "--host or HOST"]),
        ] {
            let text = why(&kind.into(), address, ChosenBy::MAIN);
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
    }
}
