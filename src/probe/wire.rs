//! HTTP/1.1 as a probe speaks it: connections that are new or kept, one deadline for each request.
//!
//! Owns the way from a request to a whole [`Answer`], over TCP or TLS. Refuses answers beyond what any
//! of ours is, and follows no redirect: a proxy that sends one is what the probe is to find.
//! Trap: a connection makes progress only while somebody polls it, so it is polled with each exchange; one
//! that its peer has closed in the meantime is not the request's fault, and another is opened.

use std::{
    future::Future,
    pin::pin,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Either, Fuse, select},
};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use super::verdict::Cause;

/// Longest answer that is read. Bytes.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Where connections lead.
#[derive(Clone)]
pub struct Peer {
    /// Host and port to connect to.
    pub address: (String, u16),
    /// How, and under which name, its certificate is checked; `None` for plain HTTP.
    pub tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// A whole answer.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// From the request to the last byte; connecting is not in it.
    pub took: Duration,
}

/// Why there is no answer.
pub struct Fault {
    /// In a word of the closed list.
    pub cause: Cause,
    /// In the words of whoever found it.
    pub detail: String,
}

impl Fault {
    fn new(cause: Cause, error: impl Into<anyhow::Error>) -> Self {
        Self { cause, detail: format!("{:#}", error.into()) }
    }
}

/// One session's connections to its peer.
pub struct Line<'a> {
    peer: &'a Peer,
    patience: Duration,
    /// Free ones; `None` if every request has a connection of its own.
    kept: Option<Mutex<Vec<Connection>>>,
}

/// Drives a connection; ends with it, and may be polled after that.
type Driver = Fuse<BoxFuture<'static, ()>>;

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
}

impl<'a> Line<'a> {
    /// No connection yet.
    pub fn new(peer: &'a Peer, patience: Duration, keep: bool) -> Self {
        Self { peer, patience, kept: keep.then(Mutex::default) }
    }

    /// Sends a request and reads its answer, all in the time that there is for it.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, Fault> {
        match timeout(self.patience, self.exchange(request)).await {
            Ok(done) => done,
            Err(_) => Err(Fault {
                cause: Cause::Timeout,
                detail: format!("no whole answer in {} seconds", self.patience.as_secs_f64()),
            }),
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
                let detail = "closed before it was used".to_owned();
                return Err(Fault { cause: Cause::Broken, detail });
            }
            let began = Instant::now();
            let sent = connection.sender.try_send_request(request);
            match alongside(&mut connection.driver, sent).await {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    let body = Limited::new(body, MAX_ANSWER).collect();
                    let body = alongside(&mut connection.driver, body).await;
                    let body =
                        body.map_err(|error| match error.downcast::<LengthLimitError>() {
                            Ok(_) => Fault {
                                cause: Cause::Protocol,
                                detail: format!("the answer is longer than {MAX_ANSWER} bytes"),
                            },
                            Err(error) => Fault { cause: Cause::Broken, detail: error.to_string() },
                        })?;
                    let took = began.elapsed();
                    self.keep(connection);
                    let (status, headers) = (head.status, head.headers);
                    return Ok(Answer { status, headers, body: body.to_bytes(), took });
                }
                Err(mut failed) => match failed.take_message() {
                    // It was closed before any of the request went out.
                    Some(unsent) if was_kept => request = unsent,
                    _ => return Err(Fault::new(Cause::Broken, failed.into_error())),
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
        let tcp = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| Fault {
            cause: Cause::Connect,
            detail: format!("{host}:{port}: {error}"),
        })?;
        // What is measured is the server, not the wait for a fuller packet.
        let _ = tcp.set_nodelay(true);
        match &self.peer.tls {
            None => handshake(TokioIo::new(tcp)).await,
            Some((tls, name)) => {
                let tls = tls.connect(name.clone(), tcp).await;
                handshake(TokioIo::new(tls.map_err(|error| Fault::new(Cause::Tls, error))?)).await
            }
        }
    }
}

async fn handshake<T>(io: T) -> Result<Connection, Fault>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let opened = http1::handshake(io).await;
    let (sender, connection) = opened.map_err(|error| Fault::new(Cause::Connect, error))?;
    // How it ends is told to whoever waits for an answer.
    let driver = async move { drop(connection.await) }.boxed().fuse();
    Ok(Connection { sender, driver })
}

/// Waits for `work` and drives the connection meanwhile.
async fn alongside<T>(driver: &mut Driver, work: impl Future<Output = T>) -> T {
    match select(pin!(work), driver).await {
        Either::Left((done, _)) => done,
        // Over, so it has given what it had.
        Either::Right(((), work)) => work.await,
    }
}
