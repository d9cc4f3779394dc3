//! What is known of one request, collected while it is worked on.
//!
//! Owns [`RequestRecord`], its [`RequestId`] and its [`TraceId`]. Refuses free text: what is noted are
//! names from closed sets, numbers and digests, so that nothing a client chose can grow the log or leak in it.
//! Trap: it is shared by the layers and by work that goes on after the answer, so each fact is noted once.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::HeaderValue;

use super::outcome::RequestOutcome;
use crate::{
    id::{Boot, InstanceId, ReplicaTag, SessionRef},
    wire::version::{Era, Method},
};

/// Longest id that is taken from a caller. Bytes.
const MAX_ID: usize = 128;

/// A name for one request: the caller's if it sent a fit one, else ours.
#[derive(Clone, Debug)]
pub enum RequestId {
    /// ReplicaTag, boot and a running number in hexadecimal.
    Ours(OwnId),
    /// Visible ASCII, at most 128 bytes.
    Callers(HeaderValue),
}

/// An id of ours as text, on the stack: every request has one.
#[derive(Clone, Copy, Debug)]
pub struct OwnId {
    text: [u8; 22],
    length: u8,
}

impl OwnId {
    /// `<tag><boot>-<number>`; the number counts from 1 in each process.
    pub fn new(tag: ReplicaTag, boot: Boot, number: u64) -> Self {
        let mut text = [b'-'; 22];
        let digit = |number: u64| b"0123456789abcdef"[(number & 0xf) as usize];
        let head = u64::from(tag.0) << 12 | u64::from(boot.0);
        for (place, shift) in (0..5).zip([16, 12, 8, 4, 0]) {
            text[place] = digit(head >> shift);
        }
        let digits = (16 - number.leading_zeros() / 4).max(1) as u8;
        for place in 0..digits {
            text[usize::from(6 + place)] = digit(number >> (4 * (digits - 1 - place)));
        }
        Self { text, length: 6 + digits }
    }

    /// As text, all of it ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }
}

impl RequestId {
    /// As text, all of it ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Ours(id) => id.as_bytes(),
            Self::Callers(value) => value.as_bytes(),
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or("-")
    }

    /// The caller's id, if it is fit to be repeated.
    pub fn of_caller(sent: Option<&HeaderValue>) -> Option<Self> {
        let fit = sent.filter(|value| {
            (1..=MAX_ID).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
        });
        // A copy: what came is a part of a whole buffer, which a long answer would keep.
        fit.and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok().map(Self::Callers))
    }

    /// As `X-Request-Id` repeats it.
    pub fn to_header(&self) -> HeaderValue {
        match self {
            Self::Ours(id) => {
                HeaderValue::from_bytes(id.as_bytes()).unwrap_or(HeaderValue::from_static("-"))
            }
            Self::Callers(value) => value.clone(),
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The trace that a request belongs to (W3C Trace Context, `traceparent`): 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(u128);

impl TraceId {
    /// Reads the second field of a `traceparent`; an invalid one is ignored, as the standard asks.
    pub fn parse(traceparent: &str) -> Option<Self> {
        let mut fields = traceparent.split('-');
        let (version, trace) = (fields.next()?, fields.next()?);
        let hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let fits = hex(version, 2) && hex(trace, 32) && hex(fields.next()?, 16);
        let number = u128::from_str_radix(trace, 16).ok().filter(|number| *number != 0);
        number.filter(|_| fits).map(Self)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What the body of a POST asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RpcMethod {
    /// A request of a method that some revision has.
    Known(Method),
    /// A request of a method that none has.
    Other,
    /// Several messages.
    Batch,
    /// A notification.
    Notification,
    /// An answer to a question of ours.
    Response,
}

impl RpcMethod {
    /// What the log calls it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Known(method) => method.as_str(),
            Self::Other => "other",
            Self::Batch => "batch",
            Self::Notification => "notification",
            Self::Response => "response",
        }
    }
}

/// The facts about one request, each of them noted by whoever learns it first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// The instance that answers.
    pub instance: Option<InstanceId>,
    /// The era that answers it, if it came to MCP.
    pub era: Option<Era>,
    /// What its body asks for.
    pub method: Option<RpcMethod>,
    /// The tool that is called.
    pub tool: Option<&'static str>,
    /// The session, or what the caller takes for one.
    pub session: Option<SessionRef>,
    /// How it went.
    pub outcome: Option<RequestOutcome>,
    /// The trace that the caller says the request belongs to.
    pub trace: Option<TraceId>,
}

/// What is known of one request, filled in where it becomes known.
#[derive(Debug)]
pub struct RequestRecord {
    /// Its name.
    pub id: RequestId,
    /// The other end of the connection.
    pub peer: IpAddr,
    /// When its head had been read.
    pub received: Instant,
    facts: Mutex<Facts>,
    bytes: AtomicU64,
}

impl RequestRecord {
    /// A record that begins now.
    pub fn begin(id: RequestId, peer: IpAddr) -> Self {
        Self {
            id,
            peer,
            received: Instant::now(),
            facts: Mutex::default(),
            bytes: AtomicU64::new(0),
        }
    }

    fn noted(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has been noted.
    pub fn facts(&self) -> Facts {
        *self.noted()
    }

    /// The instance, once it is known.
    pub fn instance(&self) -> Option<InstanceId> {
        self.noted().instance
    }

    /// Notes the instance. The first word counts, here and below.
    pub fn set_instance(&self, instance: InstanceId) {
        self.noted().instance.get_or_insert(instance);
    }

    /// Notes the era.
    pub fn set_era(&self, era: Era) {
        self.noted().era.get_or_insert(era);
    }

    /// Notes what the body asks for.
    pub fn set_method(&self, method: RpcMethod) {
        self.noted().method.get_or_insert(method);
    }

    /// Notes the tool.
    pub fn set_tool(&self, tool: &'static str) {
        self.noted().tool.get_or_insert(tool);
    }

    /// Notes the session.
    pub fn set_session(&self, session: SessionRef) {
        self.noted().session.get_or_insert(session);
    }

    /// Notes how it went.
    pub fn set_outcome(&self, outcome: RequestOutcome) {
        self.noted().outcome.get_or_insert(outcome);
    }

    /// Notes the trace, if `traceparent` is one.
    pub fn set_trace(&self, traceparent: &str) {
        if let Some(trace) = TraceId::parse(traceparent) {
            self.noted().trace.get_or_insert(trace);
        }
    }

    /// More bytes of the answer's body are on their way.
    pub fn add_bytes(&self, count: usize) {
        self.bytes.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Bytes of the answer's body so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Time since the head had been read.
    pub fn elapsed(&self) -> Duration {
        self.received.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn our_ids_are_what_they_say(tag: u8, boot in 0u16..0x1000, number: u64) {
            let (tag, boot) = (ReplicaTag(tag), Boot(boot));
            let id = RequestId::Ours(OwnId::new(tag, boot, number));
            prop_assert_eq!(id.to_string(), format!("{tag}{boot}-{number:x}"));
        }
    }
}
