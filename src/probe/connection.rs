//! HTTP/1.1 connections, new or kept alive, with one deadline for each request.
//!
//! Owns the way from a request to a complete [`Answer`], and when each piece of it came. Refuses answers that are longer
//! than any of ours. Redirects are not followed, since a proxy that redirects is something to report.
//! Traps: hyper needs a connection to be polled, which happens only during a request. A kept connection may have been
//! closed by the peer in between; then the request is sent on another.

use std::{
    fmt::Display,
    future::{Future, pending},
    pin::{Pin, pin},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Error;
use bytes::{Bytes, BytesMut};
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Either, Fuse, select},
};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::{dial::Peer, verdict::Cause};
use crate::client::{self, Sender};

/// Longest answer. Bytes.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// When the body had which length.
    pub(super) growth: Vec<(usize, Instant)>,
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
    pub(super) fn new(cause: Cause, detail: impl Display) -> Self {
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
        match timeout(self.patience, self.exchange(request, pending())).await {
            Ok(done) => done,
            Err(_) => {
                let seconds = self.patience.as_secs_f64();
                Err(Fault::new(Cause::Timeout, format!("no whole answer in {seconds} seconds")))
            }
        }
    }

    /// What came of an answer `until` something else is done, or it ended.
    pub(super) async fn listen(
        &self,
        request: Request<Full<Bytes>>,
        until: impl Future<Output = ()>,
    ) -> Result<Answer, Fault> {
        self.exchange(request, until).await
    }

    async fn exchange(
        &self,
        mut request: Request<Full<Bytes>>,
        until: impl Future<Output = ()>,
    ) -> Result<Answer, Fault> {
        let mut until = pin!(until);
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
            let sent = pin!(connection.sender.try_send_request(request));
            let answered = alongside(&mut connection.driver, select(sent, until.as_mut())).await;
            let Either::Left((answered, _)) = answered else {
                return Err(Fault::new(Cause::Broken, "not awaited"));
            };
            match answered {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    let received = collect(body, until.as_mut());
                    let received = alongside(&mut connection.driver, received).await?;
                    if received.whole {
                        self.keep(connection);
                    }
                    let (status, headers) = (head.status, head.headers);
                    let Received { body, growth, .. } = received;
                    return Ok(Answer { status, headers, body, growth, took: began.elapsed() });
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
        let opened = client::handshake(self.peer.dial().await?).await;
        let (sender, connection) =
            opened.map_err(|error| Fault::new(Cause::Connect, Error::from(error)))?;
        // Whoever waits for an answer gets the error as well.
        let driver = async move { drop(connection.await) }.boxed().fuse();
        Ok(Connection { sender, driver })
    }
}

struct Received {
    body: Bytes,
    growth: Vec<(usize, Instant)>,
    whole: bool,
}

/// Receives a body to its end, or `until` something else is done.
async fn collect(
    mut body: Incoming,
    mut until: Pin<&mut impl Future<Output = ()>>,
) -> Result<Received, Fault> {
    let (mut all, mut growth) = (BytesMut::new(), Vec::new());
    let whole = loop {
        let frame = match select(body.frame(), until.as_mut()).await {
            Either::Left((Some(frame), _)) => frame,
            Either::Left((None, _)) => break true,
            Either::Right(((), _)) => break false,
        };
        let frame = frame.map_err(|error| Fault::new(Cause::Broken, Error::from(error)))?;
        let Ok(data) = frame.into_data() else { continue };
        all.extend_from_slice(&data);
        growth.push((all.len(), Instant::now()));
        if all.len() > MAX_ANSWER {
            let detail = format!("the answer is longer than {MAX_ANSWER} bytes");
            return Err(Fault::new(Cause::Protocol, detail));
        }
    };
    Ok(Received { body: all.freeze(), growth, whole })
}

/// Waits for `work`, and polls the connection meanwhile.
async fn alongside<T>(driver: &mut Driver, work: impl Future<Output = T>) -> T {
    match select(pin!(work), driver).await {
        Either::Left((done, _)) => done,
        // The connection has ended, so `work` needs no more polling of it.
        Either::Right(((), work)) => work.await,
    }
}
