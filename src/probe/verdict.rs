//! What a probe can say of one session.
//!
//! Owns the closed lists [`Defect`], [`Reason`] and [`Cause`], and [`Place`]: which instance of which process created a
//! session, and which one answered. Places are read from answers, not from ids, since proxies may hand out their own ids.
//! Trap: two places can be told apart only by what is known of both.

use std::fmt;

use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};

use crate::wire::{BOOT_HEADER, INSTANCE_HEADER, REPLICA_HEADER};

/// A process, by whatever is known of it. Shown as `pod-7 (tag a1, boot 3fd)`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Process {
    /// `Mcp-Echo-Replica`.
    pub(super) replica: Option<Box<str>>,
    /// Digits 1-2 of its ids.
    pub(super) replica_tag: Option<Box<str>>,
    /// Digits 3-5 of its ids, which change with each start.
    pub(super) boot: Option<Box<str>>,
}

/// An instance in a process, as far as is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Place {
    pub(super) instance: Option<u8>,
    #[serde(flatten)]
    pub(super) process: Process,
}

fn differ<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one != other)
}

impl Process {
    pub(super) fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// Whether nothing that is known of both differs.
    pub(super) fn may_be(&self, other: &Self) -> bool {
        !differ(self.replica.as_ref(), other.replica.as_ref())
            && !differ(self.replica_tag.as_ref(), other.replica_tag.as_ref())
            && !differ(self.boot.as_ref(), other.boot.as_ref())
    }

    /// Adds what is known of the other one and not of this.
    pub(super) fn learn(&mut self, other: &Self) {
        for (known, said) in [
            (&mut self.replica, &other.replica),
            (&mut self.replica_tag, &other.replica_tag),
            (&mut self.boot, &other.boot),
        ] {
            if known.is_none() {
                known.clone_from(said);
            }
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.replica.as_deref().unwrap_or("a replica"))?;
        match (&self.replica_tag, &self.boot) {
            (Some(tag), Some(boot)) => write!(f, " (tag {tag}, boot {boot})"),
            (Some(tag), None) => write!(f, " (tag {tag})"),
            (None, Some(boot)) => write!(f, " (boot {boot})"),
            (None, None) if self.replica.is_none() => f.write_str(" that does not say which"),
            (None, None) => Ok(()),
        }
    }
}

/// Longest name in an answer. Bytes. Longer ones are ignored.
const MAX_NAME: usize = 100;

impl Place {
    /// Who sent an answer, according to its headers.
    pub(super) fn of_headers(headers: &HeaderMap) -> Self {
        let text = |name: &HeaderName| {
            let value = headers.get(name)?.to_str().ok()?;
            (!value.is_empty() && value.len() <= MAX_NAME).then(|| Box::from(value))
        };
        Self {
            instance: text(&INSTANCE_HEADER).and_then(|number: Box<str>| number.parse().ok()),
            process: Process {
                replica: text(&REPLICA_HEADER),
                replica_tag: None,
                boot: text(&BOOT_HEADER),
            },
        }
    }

    pub(super) fn may_be(&self, other: &Self) -> bool {
        self.may_be_instance(other) && self.process.may_be(&other.process)
    }

    /// The same instance, of whichever process.
    pub(super) fn may_be_instance(&self, other: &Self) -> bool {
        !differ(self.instance.as_ref(), other.instance.as_ref())
    }

    pub(super) fn learn(&mut self, other: &Self) {
        self.instance = self.instance.or(other.instance);
        self.process.learn(&other.process);
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.instance {
            Some(instance) if self.process.is_unknown() => write!(f, "instance {instance}"),
            Some(instance) => write!(f, "instance {instance} of {}", self.process),
            None => self.process.fmt(f),
        }
    }
}

/// Why a session is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    Expired,
    /// Someone else ended it.
    Terminated,
    /// Its server was restarted.
    EarlierBoot,
    /// The server says no more than that it is not found.
    Unknown,
    /// The id did not arrive, so the server answered in a new session, or in none.
    Replaced,
}

impl Reason {
    /// Whether it was ended, and is not missing.
    const fn is_end(self) -> bool {
        match self {
            Self::Expired | Self::Terminated => true,
            Self::EarlierBoot | Self::Unknown | Self::Replaced => false,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Terminated => "terminated",
            Self::EarlierBoot => "earlier_boot",
            Self::Unknown => "unknown",
            Self::Replaced => "replaced",
        }
    }
}

/// What failed about a request, apart from its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    Connect,
    Tls,
    /// TLS was begun at a port that does not speak it.
    NotTls,
    /// Plain HTTP was sent to a port that speaks TLS.
    OnlyTls,
    Timeout,
    Broken,
    /// An HTTP status.
    Status(u16),
    /// A JSON-RPC error code.
    Rpc(i64),
    /// A tool's error result.
    Tool,
    /// The server lacks a tool that the probe needs.
    NoTool,
    /// Several tools may be the one that the probe needs.
    AmbiguousTool,
    /// The server offers a revision that was not insisted on, or that the probe cannot speak.
    Revision,
    /// The session still answers after its end.
    LivesOn,
    /// A new session answers for the id of one that has ended.
    Reborn,
    /// The answer does not conform to MCP.
    Protocol,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("connect"),
            Self::Tls => f.write_str("tls"),
            Self::NotTls => f.write_str("no tls"),
            Self::OnlyTls => f.write_str("only tls"),
            Self::Timeout => f.write_str("timeout"),
            Self::Broken => f.write_str("connection broken"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Rpc(code) => write!(f, "JSON-RPC error {code}"),
            Self::Tool => f.write_str("tool error"),
            Self::NoTool => f.write_str("no such tool"),
            Self::AmbiguousTool => f.write_str("ambiguous tool"),
            Self::Revision => f.write_str("revision"),
            Self::LivesOn => f.write_str("lives on"),
            Self::Reborn => f.write_str("answered anew"),
            Self::Protocol => f.write_str("protocol"),
        }
    }
}

/// What is wrong with a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Defect {
    /// It is gone from the place that created it.
    Lost(Reason),
    /// The request reached another place than the one that created the session. `minted_by` is the place that was asked
    /// for, if the session does not exist yet.
    Misrouted { minted_by: Place, served_by: Place },
    /// An answer held the data of another session.
    Crossed(String),
    /// A request failed.
    Failed(Cause, String),
}

impl Defect {
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Lost(_) => "lost",
            Self::Misrouted { .. } => "misrouted",
            Self::Crossed(_) => "crossed",
            Self::Failed(..) => "failed",
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(reason) => f.write_str(reason.as_str()),
            Self::Misrouted { minted_by, served_by } => {
                write!(f, "minted by {minted_by}, served by {served_by}")
            }
            Self::Crossed(what) => f.write_str(what),
            Self::Failed(cause, detail) => write!(f, "{cause}: {detail}"),
        }
    }
}

/// What the server says of a session that it does not find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Another instance or replica created it.
    Elsewhere,
    Gone(Reason),
}

impl Said {
    /// Reads `error.data.reason` of a 404.
    pub(super) fn of_reason(reason: &str) -> Self {
        match reason {
            "other_instance" | "other_replica" => Self::Elsewhere,
            "expired" => Self::Gone(Reason::Expired),
            "terminated" => Self::Gone(Reason::Terminated),
            "earlier_boot" => Self::Gone(Reason::EarlierBoot),
            _ => Self::Gone(Reason::Unknown),
        }
    }

    /// Reads the error text of a tool that did not find the session of a handle; `None` if the error is another one.
    pub(super) fn of_text(text: &str) -> Option<Self> {
        let said = text.strip_prefix("session not found")?;
        Some(if said.contains("minted this id") {
            Self::Elsewhere
        } else if said.contains("it expired") {
            Self::Gone(Reason::Expired)
        } else if said.contains("it was ended") {
            Self::Gone(Reason::Terminated)
        } else if said.contains("it began before") {
            Self::Gone(Reason::EarlierBoot)
        } else {
            Self::Gone(Reason::Unknown)
        })
    }

    /// The defect of a session that was created at the one place and not found at the other. Where processes share their
    /// sessions, as one does that has `roamed`, each of them speaks for all.
    pub(super) fn judge(self, minted_by: Place, served_by: Place, roamed: bool) -> Defect {
        let renamed =
            differ(minted_by.process.replica.as_ref(), served_by.process.replica.as_ref());
        match self {
            // Who can tell how it ended has had it.
            Self::Gone(reason)
                if minted_by.may_be_instance(&served_by) && (roamed || reason.is_end()) =>
            {
                Defect::Lost(reason)
            }
            // A restart changes the boot but not the name.
            Self::Gone(Reason::EarlierBoot) if !renamed => Defect::Lost(Reason::EarlierBoot),
            Self::Gone(reason) if minted_by.may_be(&served_by) => Defect::Lost(reason),
            Self::Elsewhere | Self::Gone(_) => Defect::Misrouted { minted_by, served_by },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        failure::NoSession,
        id::{Boot, EndReason, InstanceId, MintedBy, ReplicaTag},
        session::store::Gone,
    };

    #[test]
    fn what_the_server_says_of_a_session_is_understood() {
        let minted_by = |tag, boot| MintedBy {
            instance: InstanceId::wrapping(0),
            tag: ReplicaTag(tag),
            boot: Boot(boot),
        };
        let here = minted_by(0xa1, 0x0b2);
        for gone in [
            Gone::OtherInstance(InstanceId::wrapping(3)),
            Gone::OtherReplica(minted_by(0xb2, 1)),
            Gone::EarlierBoot(minted_by(0xa1, 1)),
            Gone::Expired(Duration::from_secs(1)),
            Gone::Terminated(EndReason::Client),
            Gone::Unknown,
        ] {
            let text = NoSession { gone, minted_by: None, served_by: here }.what_happened();
            assert_eq!(Said::of_text(&text), Some(Said::of_reason(gone.reason())), "{text}");
        }
        assert_eq!(Said::of_text("this tool needs a session"), None);
    }

    fn place(instance: u8, replica: &str, boot: &str) -> Place {
        let process =
            Process { replica: Some(replica.into()), replica_tag: None, boot: Some(boot.into()) };
        Place { instance: Some(instance), process }
    }

    #[test]
    fn a_404_is_judged_by_who_gives_it() {
        let home = || place(0, "a", "001");
        let lost = Defect::Lost;
        let gone = Said::Gone;
        // The same place: it is gone.
        assert_eq!(gone(Reason::Unknown).judge(home(), home(), false), lost(Reason::Unknown));
        let nobody = gone(Reason::Unknown).judge(home(), Place::default(), false);
        assert_eq!(nobody, lost(Reason::Unknown));
        // Another place that does not know it: it was the wrong one to ask.
        for other in [place(1, "a", "001"), place(0, "b", "001"), place(0, "a", "002")] {
            let judged = gone(Reason::Unknown).judge(home(), other.clone(), false);
            assert_eq!(judged, Defect::Misrouted { minted_by: home(), served_by: other });
        }
        // A restart, unless the name says that it is another one.
        let restarted = gone(Reason::EarlierBoot).judge(home(), place(0, "a", "002"), false);
        assert_eq!(restarted, lost(Reason::EarlierBoot));
        let other = gone(Reason::EarlierBoot).judge(home(), place(0, "b", "002"), false);
        assert_eq!(other.as_str(), "misrouted");
        assert_eq!(Said::Elsewhere.judge(home(), Place::default(), false).as_str(), "misrouted");
    }

    #[test]
    fn who_shares_a_session_can_say_that_it_is_gone() {
        let [home, other] = [|| place(0, "a", "001"), || place(0, "b", "001")];
        for (reason, roamed, verdict) in [
            (Reason::Expired, false, "lost"),
            (Reason::Terminated, false, "lost"),
            (Reason::Unknown, true, "lost"),
            (Reason::Unknown, false, "misrouted"),
        ] {
            let judged = Said::Gone(reason).judge(home(), other(), roamed);
            assert_eq!(judged.as_str(), verdict, "{reason:?}");
            // No instance speaks for another.
            let judged = Said::Gone(reason).judge(home(), place(1, "a", "001"), roamed);
            assert_eq!(judged.as_str(), "misrouted", "{reason:?}");
        }
        assert_eq!(Said::Elsewhere.judge(home(), other(), true).as_str(), "misrouted");
    }

    #[test]
    fn a_process_is_known_better_with_time() {
        let mut seen = place(0, "pod-1", "001").process;
        seen.learn(&Process {
            replica_tag: Some("a1".into()),
            boot: Some("002".into()),
            ..seen.clone()
        });
        assert_eq!(seen.to_string(), "pod-1 (tag a1, boot 001)");
        assert_eq!(Process::default().to_string(), "a replica that does not say which");
        assert!(Process::default().is_unknown() && Process::default().may_be(&seen));
    }
}
