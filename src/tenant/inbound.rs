//! A request that has come to a tenant: who calls, and what came.
//!
//! Owns [`Inbound`], which holds what arrived and not what it means.
//! Trap: only the forwarding headers of a trusted peer count.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Uri, request::Parts};

use crate::{id::Caller, observe::record::RequestRecord};

/// The HTTP request that a call came in; shared by the calls of a batch.
#[derive(Debug)]
pub struct Inbound {
    /// Method, URI, HTTP version, headers.
    pub parts: Parts,
    /// Whether its forwarding headers count.
    pub trusted_peer: bool,
    /// The identity behind it.
    pub caller: Caller,
    /// The body.
    pub body: Bytes,
    /// Facts for its log line.
    pub record: Arc<RequestRecord>,
}

impl Inbound {
    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// A header as text, if it stands there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    /// The request target.
    pub fn uri(&self) -> &Uri {
        &self.parts.uri
    }
}
