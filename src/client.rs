//! An HTTP/1 connection to a server, over whatever carries its bytes.
//!
//! Owns the one form that hyper's client has here. It is compiled anew for each kind of stream and of body, some 25 kB of
//! the image each time; so all have one.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    client::conn::http1::{self, SendRequest},
    rt::{Read, Write},
};

/// What carries bytes: TCP, or TLS over it.
pub(crate) trait Carrier: Read + Write + Unpin + Send {}

impl<T: Read + Write + Unpin + Send> Carrier for T {}

/// Sends requests.
pub(crate) type Sender = SendRequest<Full<Bytes>>;

/// Must be polled meanwhile.
pub(crate) type Connection = http1::Connection<Box<dyn Carrier>, Full<Bytes>>;

/// Begins a connection.
pub(crate) async fn handshake(carrier: Box<dyn Carrier>) -> hyper::Result<(Sender, Connection)> {
    http1::handshake(carrier).await
}
