//! The HTTP request that an MCP message came in.
//!
//! Owns [`Inbound`]: what arrived and who sent it, as the layers around the endpoint found out. The calls of a batch
//! share it.
//! Trap: `Forwarded` and its like count only where the peer is a trusted proxy.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Uri, request::Parts};

use crate::{id::Caller, observe::RequestRecord, wire::Head};

#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) parts: Parts,
    /// Whether the peer is one of `http.trusted_proxies`.
    pub(crate) trusted_peer: bool,
    pub(crate) caller: Caller,
    /// As it came; empty if it has not been read.
    pub(crate) body: Bytes,
    pub(crate) record: Arc<RequestRecord>,
}

impl Inbound {
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// As far as its headers decide something.
    pub(crate) fn head(&self) -> Head<'_> {
        self.record.lines.head(&self.parts.headers)
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.parts.uri
    }
}
