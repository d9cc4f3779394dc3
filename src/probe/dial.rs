//! From an address to an open connection: names, TCP, TLS.
//!
//! Owns that `localhost`, and every name below it, is this machine (RFC 6761, section 6.3), whatever the system's
//! resolver knows; and telling a port that does not speak TLS from one that speaks nothing else.
//! Trap: who listens may do so on 127.0.0.1 alone or on ::1 alone, so both are tried.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use anyhow::Error;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsConnector,
    rustls::{self, pki_types::ServerName},
};

use super::{connection::Fault, tls, verdict::Cause};
use crate::client::Carrier;

/// How long a port may take to show that it speaks TLS.
const TLS_PATIENCE: Duration = Duration::from_secs(2);

/// Where connections lead.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) address: (String, u16),
    /// With the name that the certificate must have; `None` for plain HTTP.
    pub(super) tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Peer {
    pub(super) async fn dial(&self) -> Result<Box<dyn Carrier>, Fault> {
        let tcp = self.connect().await?;
        let Some((tls, name)) = &self.tls else { return Ok(Box::new(TokioIo::new(tcp))) };
        match tls.connect(name.clone(), tcp).await {
            Ok(stream) => Ok(Box::new(TokioIo::new(stream))),
            Err(error) => {
                let cause = if is_no_tls(&error) { Cause::NotTls } else { Cause::Tls };
                Err(Fault::new(cause, Error::from(error)))
            }
        }
    }

    /// Whether a port to which plain HTTP was sent speaks TLS.
    pub(super) async fn speaks_tls(&self) -> bool {
        let Ok(name) = ServerName::try_from(self.address.0.clone()) else { return false };
        let Ok(tls) = tls::connector(None, true) else { return false };
        let handshake = async {
            let tcp = self.connect().await.ok()?;
            match tls.connect(name, tcp).await {
                Ok(_) => Some(()),
                // What is refused in TLS is refused by one who speaks it.
                Err(error) => {
                    matches!(reason(&error), Some(rustls::Error::AlertReceived(_))).then_some(())
                }
            }
        };
        matches!(timeout(TLS_PATIENCE, handshake).await, Ok(Some(())))
    }

    async fn connect(&self) -> Result<TcpStream, Fault> {
        let (host, port) = &self.address;
        let tcp = match is_this_machine(host) {
            true => connect_here(*port).await,
            false => TcpStream::connect((host.as_str(), *port)).await,
        };
        let tcp =
            tcp.map_err(|error| Fault::new(Cause::Connect, format!("{host}:{port}: {error}")))?;
        // Latencies must not include Nagle's delay.
        let _ = tcp.set_nodelay(true);
        Ok(tcp)
    }
}

/// Whether the name is `localhost`, or stands below it.
fn is_this_machine(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
}

async fn connect_here(port: u16) -> io::Result<TcpStream> {
    let [v4, v6] = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    match TcpStream::connect((v4, port)).await {
        Ok(tcp) => Ok(tcp),
        // Where there is no IPv6, that of the second would say nothing.
        Err(first) => TcpStream::connect((v6, port)).await.map_err(|_| first),
    }
}

fn reason(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Whether what came back is not TLS at all.
fn is_no_tls(error: &io::Error) -> bool {
    matches!(reason(error), Some(rustls::Error::InvalidMessage(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_localhost_is_this_machine() {
        for here in ["localhost", "LocalHost.", "echo-stateful3.localhost", "a.b.localhost"] {
            assert!(is_this_machine(here), "{here}");
        }
        for other in ["localhost.example.com", "mylocalhost", "127.0.0.1", "", ".", "local"] {
            assert!(!is_this_machine(other), "{other}");
        }
    }
}
