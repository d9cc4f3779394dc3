//! `mcp-echo-stateful healthcheck`: asks a running server whether it is ready.
//!
//! Owns one GET over plain HTTP, so that an image without a shell or curl can check itself.
//! https is refused: a container asks itself, without TLS.
//! Trap: a server may close its connection with its answer, and both are seen at once. The answer counts.

use std::{net::IpAddr, pin::pin, time::Duration};

use anyhow::{Context, bail, ensure};
use http::{Request, Uri, header};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use crate::{client, config::ServerConfig};

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The URL of the server with this configuration, at a loopback address if it binds all.
pub fn own_url(server: &ServerConfig) -> String {
    let host = match server.host.0 {
        IpAddr::V4(address) if address.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(address) if address.is_unspecified() => "[::1]".to_owned(),
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    format!("http://{host}:{}/readyz", server.port)
}

/// Succeeds if the server answers with 2xx in time.
pub async fn check(url: &str) -> anyhow::Result<()> {
    timeout(PATIENCE, get(url)).await.unwrap_or_else(|_| bail!("{url}: no answer in 2 seconds"))
}

async fn get(url: &str) -> anyhow::Result<()> {
    let uri: Uri = url.parse().with_context(|| format!("{url}: not a URL"))?;
    ensure!(uri.scheme_str() == Some("http"), "{url}: must begin with http://");
    let authority = uri.authority().with_context(|| format!("{url}: names no host"))?;
    let address = (authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(80));
    let stream =
        TcpStream::connect(address).await.with_context(|| format!("{url}: cannot connect"))?;
    let (mut sender, connection) = client::handshake(Box::new(TokioIo::new(stream))).await?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request =
        Request::get(path).header(header::HOST, authority.as_str()).body(Full::default())?;
    let mut answer = pin!(sender.send_request(request));
    let response = tokio::select! {
        response = &mut answer => response,
        // What it has answered before that is there by now.
        closed = connection => match (answer.await, closed) {
            (Err(_), Ok(())) => bail!("{url}: the connection was closed"),
            (Err(_), Err(error)) => return Err(error.into()),
            (answered, _) => answered,
        },
    };
    let response = response?;
    ensure!(response.status().is_success(), "{url}: answered {}", response.status());
    Ok(())
}
