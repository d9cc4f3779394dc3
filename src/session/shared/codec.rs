//! What the shared store keeps of a session, as text.
//!
//! Owns the forms of owner, handshake, level and ending, and reads a record from what a script replies.
//! Trap: replicas of another version read the same texts, so a member that is not known is ignored, and one that is missing
//! has a value.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    clock::Moment,
    id::{Caller, EndReason},
    link::{Link, Reply},
    session::{
        record::{Client, Data, Handshake, Head, LastEcho, More, Record, Tally, Want},
        store::Gone,
    },
    wire::{Capabilities, LogLevel},
};

/// `-` for nobody, else 32 hex digits.
pub(crate) fn caller_text(caller: Caller) -> String {
    match caller {
        Caller::Anonymous => "-".to_owned(),
        Caller::Known(digest) => format!("{:032x}", u128::from_be_bytes(digest)),
    }
}

#[derive(Serialize, Deserialize)]
struct Written<'a> {
    #[serde(default)]
    version: Option<&'a str>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    release: Option<String>,
    #[serde(default)]
    label: Option<String>,
    #[serde(default)]
    can: Vec<String>,
}

/// What was agreed, as JSON; without the timeout, which stands by itself.
pub(super) fn handshake_text(handshake: &Handshake) -> String {
    let Capabilities { sampling, elicitation, elicitation_url, roots, tasks } =
        handshake.capabilities;
    let can = [
        (sampling, "sampling"),
        (elicitation, "elicitation"),
        (elicitation_url, "elicitation_url"),
        (roots, "roots"),
        (tasks, "tasks"),
    ];
    let text = |text: &str| Some(text.to_owned());
    let written = Written {
        version: handshake.version.map(|version| version.as_str()),
        name: handshake.client.as_ref().and_then(|client| text(&client.name)),
        release: handshake.client.as_ref().and_then(|client| text(&client.version)),
        label: handshake.label.as_deref().and_then(text),
        can: can.iter().filter(|(can, _)| *can).map(|(_, name)| (*name).to_owned()).collect(),
    };
    serde_json::to_string(&written).unwrap_or_default()
}

pub(super) fn read_handshake(text: &str, timeout_millis: u64) -> Option<Handshake> {
    let written: Written<'_> = serde_json::from_str(text).ok()?;
    let can = |name: &str| written.can.iter().any(|can| can == name);
    let capabilities = Capabilities {
        sampling: can("sampling"),
        elicitation: can("elicitation"),
        elicitation_url: can("elicitation_url"),
        roots: can("roots"),
        tasks: can("tasks"),
    };
    let client = written.name.map(|name| Client {
        name: name.into(),
        version: written.release.unwrap_or_default().into(),
    });
    Some(Handshake {
        version: written.version.and_then(|version| version.parse().ok()),
        client,
        capabilities,
        label: written.label.map(Into::into),
        timeout_millis,
    })
}

pub(super) fn level_text(level: LogLevel) -> String {
    serde_json::to_value(level)
        .ok()
        .and_then(|it| it.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// As it is where nobody has set it.
pub(super) fn read_level(text: &str) -> LogLevel {
    serde_json::from_value(text.into()).unwrap_or(LogLevel::Info)
}

/// Timeout, handshake and creation, as `load` and `list` reply them.
pub(super) fn read_head(link: &Link, reply: &mut Reply) -> Option<(Handshake, Moment)> {
    let timeout = reply.count()?;
    let handshake = read_handshake(&reply.text()?, timeout)?;
    Some((handshake, link.moment(reply.integer()?)))
}

/// A record that has no head yet.
pub(super) struct Read {
    pub(super) touched: Moment,
    pub(super) tally: Tally,
    pub(super) initialized: bool,
    pub(super) data_keys: usize,
    pub(super) data_bytes: usize,
    log_level: LogLevel,
    more: More,
    replaced: bool,
}

impl Read {
    pub(super) fn with(self, head: Arc<Head>) -> Record {
        let Self { touched, tally, initialized, data_keys, data_bytes, log_level, more, replaced } =
            self;
        let hint = Weak::<()>::new();
        Record {
            head,
            touched,
            tally,
            initialized,
            log_level,
            data_keys,
            data_bytes,
            replaced,
            asked: true,
            more,
            hint,
        }
    }
}

/// What all records hold, in the order in which scripts reply it.
pub(super) fn read_facts(link: &Link, reply: &mut Reply) -> Option<Read> {
    let mut moment = || {
        let at = reply.integer()?;
        Some((at > 0).then(|| link.moment(at)))
    };
    let touched = moment()??;
    let requests = reply.count()?;
    let mut moment = || {
        let at = reply.integer()?;
        Some((at > 0).then(|| link.moment(at)))
    };
    let tally = Tally { requests, first: moment()?, last: moment()? };
    let initialized = reply.count()? == 1;
    let log_level = read_level(&reply.text()?);
    let (data_keys, data_bytes) = (size(reply)?, size(reply)?);
    let (more, replaced) = (More::Nothing, false);
    Some(Read { touched, tally, initialized, data_keys, data_bytes, log_level, more, replaced })
}

pub(super) fn read_record(link: &Link, reply: &mut Reply, want: Want) -> Option<Read> {
    let mut read = read_facts(link, reply)?;
    let mut more = reply.list()?;
    read.more = match want {
        Want::Nothing => More::Nothing,
        Want::Data => More::Data(Arc::new(read_data(&mut more)?)),
        Want::Echo => More::Echo(match more.text()?.as_str() {
            "kept" => LastEcho::Kept(more.text()?.into()),
            "large" => LastEcho::TooLarge,
            _ => LastEcho::None,
        }),
    };
    read.replaced = reply.count()? == 1;
    Some(read)
}

fn read_data(pairs: &mut Reply) -> Option<Data> {
    let mut data = Data::default();
    while pairs.len() > 0 {
        let (key, value) = (pairs.text()?, pairs.text()?);
        data.add(key.into(), RawValue::from_string(value).ok()?.into());
    }
    Some(data)
}

fn size(reply: &mut Reply) -> Option<usize> {
    usize::try_from(reply.count()?).ok()
}

/// How a session ended: reason, timeout in milliseconds, owner.
pub(super) struct Ending {
    pub(super) reason: EndReason,
    pub(super) timeout: Duration,
    owner: String,
}

impl Ending {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let (reason, timeout, owner) = (parts.next()?, parts.next()?, parts.next()?);
        let reason = EndReason::ALL.into_iter().find(|known| known.as_str() == reason)?;
        let timeout = Duration::from_millis(timeout.parse().ok()?);
        Some(Self { reason, timeout, owner: owner.to_owned() })
    }

    pub(super) fn told_to(&self, caller: Caller) -> Gone {
        match (caller_text(caller) == self.owner, self.reason) {
            (false, _) => Gone::Unknown,
            (true, EndReason::Expired) => Gone::Expired(self.timeout),
            (true, reason @ (EndReason::Client | EndReason::Admin | EndReason::Shutdown)) => {
                Gone::Terminated(reason)
            }
        }
    }
}
