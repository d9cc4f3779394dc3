//! What is known of one request, collected while it is handled.
//!
//! Owns [`RequestRecord`], its [`RequestId`] and its [`TraceId`]. Facts are names from closed sets, numbers and
//! digests, so that nothing a client chose can grow the log or leak into it; but for a [`Missing`] name, which is bounded.
//! It also holds what the request has booked of its instance's [`Share`], until the last who works for it is done.
//! Trap: the layers and work that goes on after the answer share it. Of two values for one fact, the first counts.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::HeaderValue;

use super::{outcome::RequestOutcome, shown::holds_id};
use crate::{
    budget::{Booking, NoRoom, Share},
    id::{Boot, InstanceId, MintedBy, ReplicaTag, SessionRef},
    wire::{Era, Lines, Method},
};

/// Bytes that have come in HTTP/1 from which on a head is measured.
const LONG: usize = 48 * 1024;

/// Longest id that is taken from a caller. Bytes.
const MAX_ID: usize = 128;

/// The id of a request: the caller's `X-Request-Id` if it can be used, else one of ours.
#[derive(Clone, Debug)]
pub(crate) enum RequestId {
    /// Replica tag, boot and a running number, in hexadecimal.
    Ours(OwnId),
    /// Visible ASCII, at most 128 bytes, and no session id.
    Callers(HeaderValue),
}

/// An id of ours as text; on the stack, since nearly every request has one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnId {
    text: [u8; 22],
    length: u8,
}

impl OwnId {
    /// `<tag><boot>-<number>`; the number counts from 1 in each process.
    pub(crate) fn new(tag: ReplicaTag, boot: Boot, number: u64) -> Self {
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
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }
}

impl RequestId {
    /// As text, all of it ASCII.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Ours(id) => id.as_bytes(),
            Self::Callers(value) => value.as_bytes(),
        }
    }

    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or("-")
    }

    /// The caller's id, if it can be repeated safely.
    pub(crate) fn of_caller(sent: Option<&HeaderValue>) -> Option<Self> {
        let fit = sent.filter(|value| {
            (1..=MAX_ID).contains(&value.len())
                && value.as_bytes().iter().all(u8::is_ascii_graphic)
                && value.to_str().is_ok_and(|text| !holds_id(text))
        });
        // Copied, because the value keeps the whole read buffer of the connection alive.
        fit.and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok().map(Self::Callers))
    }

    /// As `X-Request-Id` repeats it.
    pub(crate) fn to_header(&self) -> HeaderValue {
        let mut value = match self {
            Self::Ours(id) => {
                HeaderValue::from_bytes(id.as_bytes()).unwrap_or(HeaderValue::from_static("-"))
            }
            Self::Callers(value) => value.clone(),
        };
        // Or HTTP/2 remembers each, and searches all that it remembers of one name for each new one.
        value.set_sensitive(true);
        value
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The trace that a request belongs to (W3C Trace Context, `traceparent`): 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceId(u128);

impl TraceId {
    /// Reads the second field of a `traceparent`; an invalid one is ignored, as the standard asks.
    pub(crate) fn parse(traceparent: &str) -> Option<Self> {
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
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Known(method) => method.as_str(),
            Self::Other => "other",
            Self::Batch => "batch",
            Self::Notification => "notification",
            Self::Response => "response",
        }
    }
}

/// What is known so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) instance: Option<InstanceId>,
    /// `None` if the request did not reach MCP.
    pub(crate) era: Option<Era>,
    pub(crate) method: Option<RpcMethod>,
    pub(crate) tool: Option<&'static str>,
    /// Of whatever session id the caller sent, known or not.
    pub(crate) session: Option<SessionRef>,
    /// Who minted that id, or that of a handle or a task, if it was not minted here.
    pub(crate) minted_by: Option<MintedBy>,
    pub(crate) outcome: Option<RequestOutcome>,
    /// From `traceparent`.
    pub(crate) trace: Option<TraceId>,
}

/// A name that a request asks for and that does not exist, as the log shows it. Metrics keep to closed sets.
#[derive(Clone, Debug)]
pub(crate) enum Missing {
    Method(String),
    Tool(String),
}

impl Missing {
    /// Longest name that is shown. Characters.
    pub(crate) const MAX: usize = 64;
}

/// One request, from its head to the end of its answer.
#[derive(Debug)]
pub struct RequestRecord {
    pub(crate) id: RequestId,
    /// The peer of the connection, which may be a proxy.
    pub(crate) peer: IpAddr,
    /// Where its headers stand.
    pub(crate) lines: Lines,
    /// When its head had been read.
    pub(crate) received: Instant,
    facts: Mutex<Facts>,
    missing: OnceLock<Missing>,
    bytes: AtomicU64,
    booking: Mutex<Option<Booking>>,
    /// Bytes of its connection that had come when its head had been read and that nobody had read before; 0 in HTTP/2.
    pub(crate) come: usize,
    /// Whether nobody has read its body to the end.
    left_unread: AtomicBool,
}

impl RequestRecord {
    pub(crate) fn begin(id: RequestId, peer: IpAddr, lines: Lines, come: usize) -> Self {
        Self {
            id,
            peer,
            lines,
            received: Instant::now(),
            facts: Mutex::default(),
            missing: OnceLock::new(),
            bytes: AtomicU64::new(0),
            booking: Mutex::new(None),
            come,
            left_unread: AtomicBool::new(false),
        }
    }

    fn noted(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn facts(&self) -> Facts {
        *self.noted()
    }

    pub(crate) fn instance(&self) -> Option<InstanceId> {
        self.noted().instance
    }

    pub(crate) fn set_instance(&self, instance: InstanceId) {
        self.noted().instance.get_or_insert(instance);
    }

    pub(crate) fn set_era(&self, era: Era) {
        self.noted().era.get_or_insert(era);
    }

    pub(crate) fn set_method(&self, method: RpcMethod) {
        self.noted().method.get_or_insert(method);
    }

    pub(crate) fn set_tool(&self, tool: &'static str) {
        self.noted().tool.get_or_insert(tool);
    }

    pub(crate) fn set_session(&self, session: SessionRef) {
        self.noted().session.get_or_insert(session);
    }

    pub(crate) fn set_minted_by(&self, minted_by: MintedBy) {
        self.noted().minted_by.get_or_insert(minted_by);
    }

    pub(crate) fn set_missing(&self, missing: Missing) {
        // Of several in a batch, the first counts.
        let _ = self.missing.set(missing);
    }

    pub(crate) fn missing(&self) -> Option<&Missing> {
        self.missing.get()
    }

    pub(crate) fn set_outcome(&self, outcome: RequestOutcome) {
        self.noted().outcome.get_or_insert(outcome);
    }

    /// Notes the trace, if `traceparent` is one.
    pub(crate) fn set_trace(&self, traceparent: &str) {
        if let Some(trace) = TraceId::parse(traceparent) {
            self.noted().trace.get_or_insert(trace);
        }
    }

    /// Books so many bytes of a share for as long as anyone works for this request.
    pub(crate) fn book(&self, share: &Arc<Share>, bytes: usize) -> Result<(), NoRoom> {
        let mut booking = self.booking.lock().unwrap_or_else(PoisonError::into_inner);
        booking.get_or_insert_with(|| Booking::of(share)).add(bytes)
    }

    /// Notes that nobody will read the rest of its body.
    pub(crate) fn leave_unread(&self) {
        self.left_unread.store(true, Ordering::Relaxed);
    }

    /// Whether its head is worth measuring: where few bytes have come, it is within its limit.
    pub(crate) fn may_be_long(&self) -> bool {
        self.come == 0 || self.come > LONG
    }

    pub(crate) fn is_left_unread(&self) -> bool {
        self.left_unread.load(Ordering::Relaxed)
    }

    /// How many bytes the answer's body had, as far as they were sent.
    pub(crate) fn set_bytes(&self, count: u64) {
        self.bytes.store(count, Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn elapsed(&self) -> Duration {
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
