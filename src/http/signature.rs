//! The identity headers: which request, replica, boot and instance an answer is of.
//!
//! Owns [`Signature`], which adds them to any answer, and [`Heads`], the heads of an instance's usual answers. Those are
//! composed once, signature and all, since to write a head line by line hashes each name again; only what differs from
//! one request to the next is filled in.
//! Trap: the request id is the first line of a signed head, by which one is told from another; the session id, where there
//! is one, is the second.

use http::{HeaderMap, HeaderValue, header};

use crate::{
    id::InstanceId,
    observe::{RequestId, RequestRecord},
    process::Process,
    wire::{
        ACCEL_BUFFERING_HEADER, BOOT_HEADER, INSTANCE_HEADER, REPLICA_HEADER, REQUEST_ID_HEADER,
        SESSION_HEADER,
    },
};

/// What a body says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// There is none.
    Empty,
    Json,
    Events,
}

impl Form {
    const ALL: [Self; 3] = [Self::Empty, Self::Json, Self::Events];
}

/// The identity headers of this process.
#[derive(Debug)]
pub(super) struct Signature {
    replica: HeaderValue,
    boot: HeaderValue,
    instances: [HeaderValue; InstanceId::COUNT],
}

impl Signature {
    pub(super) fn of(process: &Process) -> Self {
        Self {
            // The configuration check allows only names that fit a header.
            replica: HeaderValue::from_str(&process.replica)
                .unwrap_or(HeaderValue::from_static("local")),
            boot: HeaderValue::from_str(&process.boot.to_string())
                .unwrap_or(HeaderValue::from_static("000")),
            instances: std::array::from_fn(HeaderValue::from),
        }
    }

    /// Adds them, unless the head has been composed with them.
    pub(super) fn sign(&self, record: &RequestRecord, headers: &mut HeaderMap) {
        if headers.keys().next() == Some(&REQUEST_ID_HEADER) {
            return;
        }
        headers.insert(REQUEST_ID_HEADER, record.id.to_header());
        self.add(record.instance(), headers);
    }

    fn add(&self, instance: Option<InstanceId>, headers: &mut HeaderMap) {
        headers.insert(REPLICA_HEADER, self.replica.clone());
        headers.insert(BOOT_HEADER, self.boot.clone());
        if let Some(instance) = instance {
            headers.insert(INSTANCE_HEADER, self.instances[instance.index()].clone());
        }
    }
}

/// The heads of one instance's answers from MCP.
#[derive(Debug)]
pub(crate) struct Heads {
    /// Without and with a session, for each [`Form`].
    composed: [[HeaderMap; 2]; Form::ALL.len()],
}

impl Heads {
    pub(crate) fn of(process: &Process, instance: InstanceId) -> Self {
        let signature = Signature::of(process);
        let compose = |form, session| {
            let mut headers = HeaderMap::with_capacity(12);
            headers.insert(REQUEST_ID_HEADER, HeaderValue::from_static(""));
            if session {
                headers.insert(SESSION_HEADER, HeaderValue::from_static(""));
            }
            let content_type = match form {
                Form::Empty => None,
                Form::Json => Some("application/json"),
                Form::Events => Some("text/event-stream"),
            };
            if let Some(content_type) = content_type {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
            }
            if form == Form::Events {
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                // A proxy may hold events back until the stream ends.
                headers.insert(ACCEL_BUFFERING_HEADER, HeaderValue::from_static("no"));
            }
            signature.add(Some(instance), &mut headers);
            headers
        };
        let composed = Form::ALL.map(|form| [false, true].map(|session| compose(form, session)));
        Self { composed }
    }

    /// The head of an answer to a request with such an id, with the id of the session that it belongs to.
    pub(crate) fn head(
        &self,
        form: Form,
        request: &RequestId,
        session: Option<HeaderValue>,
    ) -> HeaderMap {
        let mut head = self.composed[form as usize][usize::from(session.is_some())].clone();
        let mut values = head.values_mut();
        if let Some(value) = values.next() {
            *value = request.to_header();
        }
        if let (Some(mut id), Some(value)) = (session, values.next()) {
            // A secret, and many share a connection of a gateway's: HTTP/2 need not remember it (RFC 7541 §7.1.3).
            id.set_sensitive(true);
            *value = id;
        }
        head
    }
}
