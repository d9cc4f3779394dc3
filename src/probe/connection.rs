//! HTTP/1.1 connections over TCP or TLS, new or kept alive, with one deadline for each request.
//!
//! Owns the way from a request to a complete [`Answer`]. Refuses answers that are longer than any of ours. Redirects are
//! not followed, since a proxy that redirects is something to report.
//! Traps: hyper needs a connection to be polled, which happens only during a request. A kept connection may have been
//! closed by the peer in between; then the request is sent on another.

use std::{
    fmt::Display,
    future::Future,
    pin::pin,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Error;
use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Either, Fuse, select},
};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use super::verdict::Cause;
use crate::client::{self, Carrier, Sender};

/// Longest answer. Bytes.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Where connections lead.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) address: (String, u16),
    /// With the name that the certificate must have; `None` for plain HTTP.
    pub(super) tls: Option<(TlsConnector, ServerName<'static>)>,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// From the request to the last byte, without connecting.
    pub(super) took: Duration,
}

/// Why there is no answer.
pub(super) struct Fault {
    pub(super) cause: Cause,
    pub(super) detail: String,
}

impl Fault {
    /// `detail` may be an [`anyhow::Error`], of which all causes are shown.
    fn new(cause: Cause, detail: impl Display) -> Self {
        Self { cause, detail: format!("{detail:#}") }
    }
}

/// One session's connections to its peer.
pub(super) struct Line<'a> {
    peer: &'a Peer,
    patience: Duration,
    /// Idle connections; `None` if every request has a connection of its own.
    kept: Option<Mutex<Vec<Connection>>>,
}

/// Polls a connection until it ends, and may be polled after that.
type Driver = Fuse<BoxFuture<'static, ()>>;

struct Connection {
    sender: Sender,
    driver: Driver,
}

impl<'a> Line<'a> {
    pub(super) fn new(peer: &'a Peer, patience: Duration, keep: bool) -> Self {
        Self { peer, patience, kept: keep.then(Mutex::default) }
    }

    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, Fault> {
        match timeout(self.patience, self.exchange(request)).await {
            Ok(done) => done,
            Err(_) => {
                let seconds = self.patience.as_secs_f64();
                Err(Fault::new(Cause::Timeout, format!("no whole answer in {seconds} seconds")))
            }
        }
    }

    async fn exchange(&self, mut request: Request<Full<Bytes>>) -> Result<Answer, Fault> {
        loop {
            let kept = self.take();
            let was_kept = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            if alongside(&mut connection.driver, connection.sender.ready()).await.is_err() {
                if was_kept {
                    continue;
                }
                return Err(Fault::new(Cause::Broken, "closed before it was used"));
            }
            let began = Instant::now();
            let sent = connection.sender.try_send_request(request);
            match alongside(&mut connection.driver, sent).await {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    let body = Limited::new(body, MAX_ANSWER).collect();
                    let body = alongside(&mut connection.driver, body).await.map_err(|error| {
                        match error.downcast::<LengthLimitError>() {
                            Ok(_) => Fault::new(
                                Cause::Protocol,
                                format!("the answer is longer than {MAX_ANSWER} bytes"),
                            ),
                            Err(error) => Fault::new(Cause::Broken, error.to_string()),
                        }
                    })?;
                    let took = began.elapsed();
                    self.keep(connection);
                    let (status, headers) = (head.status, head.headers);
                    return Ok(Answer { status, headers, body: body.to_bytes(), took });
                }
                Err(mut failed) => match failed.take_message() {
                    // The peer closed it before any of the request was sent.
                    Some(unsent) if was_kept => request = unsent,
                    _ => return Err(Fault::new(Cause::Broken, Error::from(failed.into_error()))),
                },
            }
        }
    }

    fn take(&self) -> Option<Connection> {
        let mut kept = self.kept.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        kept.pop()
    }

    fn keep(&self, connection: Connection) {
        if let Some(kept) = &self.kept {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }

    async fn connect(&self) -> Result<Connection, Fault> {
        let (host, port) = &self.peer.address;
        let tcp = TcpStream::connect((host.as_str(), *port)).await;
        let tcp =
            tcp.map_err(|error| Fault::new(Cause::Connect, format!("{host}:{port}: {error}")))?;
        // Latencies must not include Nagle's delay.
        let _ = tcp.set_nodelay(true);
        match &self.peer.tls {
            None => handshake(Box::new(TokioIo::new(tcp))).await,
            Some((tls, name)) => {
                let tls = tls.connect(name.clone(), tcp).await;
                let tls = tls.map_err(|error| Fault::new(Cause::Tls, Error::from(error)))?;
                handshake(Box::new(TokioIo::new(tls))).await
            }
        }
    }
}

async fn handshake(carrier: Box<dyn Carrier>) -> Result<Connection, Fault> {
    let opened = client::handshake(carrier).await;
    let (sender, connection) =
        opened.map_err(|error| Fault::new(Cause::Connect, Error::from(error)))?;
    // Whoever waits for an answer gets the error as well.
    let driver = async move { drop(connection.await) }.boxed().fuse();
    Ok(Connection { sender, driver })
}

/// Waits for `work`, and polls the connection meanwhile.
async fn alongside<T>(driver: &mut Driver, work: impl Future<Output = T>) -> T {
    match select(pin!(work), driver).await {
        Either::Left((done, _)) => done,
        // The connection has ended, so `work` needs no more polling of it.
        Either::Right(((), work)) => work.await,
    }
}
