//! What a run means, and what to do about it: the table.
//!
//! Owns one row for each finding: its name, whether it is a fault or only worth knowing, what it says, what to do, and when
//! it holds. docs/probe.md has the same table.
//! Trap: where one row explains another, only the one that explains may hold.

use std::fmt;

use serde::Serialize;

use super::{
    tally::{Route, Tally},
    ticks::{Arrival, Ticks},
    verdict::{Cause, Reason},
};

/// Something that was found.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    pub(super) name: &'static str,
    /// Otherwise it is worth knowing, and allowed.
    pub(super) fault: bool,
    pub(super) says: &'static str,
    /// How often, or which.
    pub(super) detail: String,
    pub(super) advice: &'static str,
    /// What it is a finding of.
    #[serde(skip)]
    pub(super) about: About,
}

/// What findings are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Sessions,
    Progress,
    Leftovers,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { says, detail, advice, fault, .. } = self;
        let kind = if *fault { "fault" } else { "note" };
        write!(f, "{kind}: {says}{}{detail}. {advice}", if detail.is_empty() { "" } else { ": " })
    }
}

/// All that was found, in the order of the table.
pub(super) fn of(tally: &Tally) -> Vec<Finding> {
    let found = ROWS.iter().filter_map(|row| {
        let detail = (row.found)(tally)?;
        let Row { name, fault, says, advice, about, .. } = *row;
        Some(Finding { name, fault, says, detail, advice, about })
    });
    found.collect()
}

/// All that can be found: its name, whether it is a fault, what it says.
pub fn table() -> impl Iterator<Item = (&'static str, bool, &'static str)> {
    ROWS.iter().map(|row| (row.name, row.fault, row.says))
}

struct Row {
    name: &'static str,
    fault: bool,
    says: &'static str,
    advice: &'static str,
    about: About,
    /// The detail, if it holds.
    found: fn(&Tally) -> Option<String>,
}

const ROW: Row =
    Row { name: "", fault: true, says: "", advice: "", about: About::Sessions, found: |_| None };

const ROWS: &[Row] = &[
    Row {
        name: "one_upstream_session",
        says: "one upstream session for all clients",
        advice: "Clients read and change each other's data. Give each client session an upstream session of its own, or the gateway to one client alone.",
        found: |tally| {
            let given = sessions(tally.evidence.reused)?;
            tally.evidence.one_upstream().then(|| format!("{given} had what another had before"))
        },
        ..ROW
    },
    Row {
        name: "shared_upstream_session",
        says: "clients are given the upstream sessions of others",
        advice: "They read and change each other's data. Give each client session an upstream session of its own, and end it with the client's.",
        found: |tally| sessions(tally.evidence.reused).filter(|_| !tally.evidence.one_upstream()),
        ..ROW
    },
    Row {
        name: "upstream_session_per_request",
        says: "a new upstream session for every request",
        advice: "What a client stores is gone with its next request. A gateway must keep an upstream session for as long as the client's (FastMCP: StatefulProxyClient); a plain proxy must pass Mcp-Session-Id on.",
        found: |tally| sessions(tally.evidence.anew_each_time),
        ..ROW
    },
    Row {
        name: "replaced",
        says: "requests were answered in new sessions",
        advice: "The proxy must pass Mcp-Session-Id on, and Mcp-Param-Session in 2026-07-28.",
        found: |tally| {
            let replaced = tally.reasons.get(&Reason::Replaced).copied().unwrap_or_default();
            sessions(replaced.saturating_sub(tally.evidence.anew_each_time))
        },
        ..ROW
    },
    Row {
        name: "crossed",
        says: "answers held what belongs to others",
        advice: "No cache may answer a POST, and no two clients may share a session.",
        found: |tally| sessions(tally.verdicts.crossed).filter(|_| tally.evidence.reused == 0),
        ..ROW
    },
    Row {
        name: "other_replica",
        says: "another replica was asked than the one that minted the session",
        advice: "A hash of the request's session header does this, since initialize carries no id yet: route by digits 1-2 of the id, let the proxy learn it from the answer (docs/operating.md), or let the replicas share their sessions (docs/store.md).",
        found: |tally| routes(tally, |route| route.minted_by.1 != route.served_by.1),
        ..ROW
    },
    Row {
        name: "other_instance",
        says: "another of the ten instances answered",
        advice: "The proxy must pass the Host header on as it came, and a front door that is round_robin or random mixes instances on purpose.",
        found: |tally| routes(tally, |route| route.minted_by.1 == route.served_by.1),
        ..ROW
    },
    Row {
        name: "lives_on",
        says: "the session lives on after its end",
        advice: "An id that was ended with success must get 404, and its upstream session must end too.",
        found: |tally| of_cause(tally, Cause::LivesOn),
        ..ROW
    },
    Row {
        name: "answered_anew",
        says: "a new session answers for the id of one that has ended",
        advice: "The id must get 404, by which its client learns that its state is gone and that it must initialize again.",
        found: |tally| of_cause(tally, Cause::Reborn),
        ..ROW
    },
    Row {
        name: "left_behind",
        says: "upstream sessions are left behind",
        advice: "Whoever ends a session gets a 404 for it, but the server keeps it until it has been idle too long. The gateway must send DELETE upstream when a client does.",
        about: About::Leftovers,
        found: |tally| {
            let of_one = tally.evidence.one_upstream();
            let left = tally.evidence.leftovers.filter(|them| them.left > 0 && !of_one)?;
            Some(format!("{} of the {} that were looked for", left.left, left.looked_for))
        },
        ..ROW
    },
    Row {
        name: "progress_lost",
        says: "progress does not arrive",
        advice: "The gateway must pass notifications/progress on, with the client's own progressToken, in the stream that answers the call.",
        about: About::Progress,
        found: |tally| {
            let worst = progress(tally, Arrival::Lost).min_by_key(|ticks| ticks.arrived)?;
            Some(format!("{} of {} events came", worst.arrived, worst.sent))
        },
        ..ROW
    },
    Row {
        name: "progress_held_back",
        says: "progress is held back",
        advice: "Something on the way buffers: switch it off for text/event-stream (nginx: proxy_buffering off), and do not compress it.",
        about: About::Progress,
        found: |tally| {
            let ticks = progress(tally, Arrival::HeldBack).next()?;
            let [sent, came] = [ticks.sent_over, ticks.arrived_over].map(|time| time.as_millis());
            Some(format!(
                "{} events of {sent} ms came within {came} ms, all at the end",
                ticks.sent
            ))
        },
        ..ROW
    },
    Row {
        name: "unauthorized",
        says: "401: a token is wanted",
        advice: "Send a token with --bearer, or in MCP_PROBE_BEARER.",
        found: |tally| of_cause(tally, Cause::Status(401)),
        ..ROW
    },
    Row {
        name: "unknown_host",
        says: "421: the server has no such host",
        advice: "See BASE_DOMAIN and hosts.front_door_names, and whether the proxy passes the Host header on.",
        found: |tally| of_cause(tally, Cause::Status(421)),
        ..ROW
    },
    Row {
        name: "unavailable",
        says: "503: no room, or no server",
        advice: "There is no server for the session, or one that is full (session.capacity) or stopping.",
        found: |tally| of_cause(tally, Cause::Status(503)),
        ..ROW
    },
    Row {
        name: "no_such_tool",
        says: "the server lacks a tool that the probe needs",
        advice: "It is not mcp-echo-stateful, or tools.sets leaves out \"session\", or a gateway hides or renames it in a way that is not known: see --tool-prefix.",
        found: |tally| of_cause(tally, Cause::NoTool),
        ..ROW
    },
    Row {
        name: "ambiguous_tool",
        says: "the tools are offered under several prefixes",
        advice: "Choose one of them with --tool-prefix.",
        found: |tally| of_cause(tally, Cause::AmbiguousTool),
        ..ROW
    },
    Row {
        name: "revision",
        says: "the revision is not spoken there",
        advice: "Without --revision the probe goes on with what is offered; --era chooses between revisions with sessions and without.",
        found: |tally| of_cause(tally, Cause::Revision),
        ..ROW
    },
    Row {
        name: "untrusted",
        says: "the certificate is not trusted",
        advice: "--cacert FILE names its issuer, --insecure trusts anyone.",
        found: |tally| of_cause(tally, Cause::Tls),
        ..ROW
    },
    Row {
        name: "no_tls",
        says: "the port does not speak TLS",
        advice: "Begin the URL with http://, or name the port that speaks TLS.",
        found: |tally| of_cause(tally, Cause::NotTls),
        ..ROW
    },
    Row {
        name: "only_tls",
        says: "the port speaks TLS",
        advice: "Begin the URL with https://.",
        found: |tally| of_cause(tally, Cause::OnlyTls),
        ..ROW
    },
    Row {
        name: "roaming",
        fault: false,
        says: "sessions were served by several replicas and stayed whole",
        advice: "They share their sessions, so the proxy need not send a session to the same one each time.",
        found: |tally| sessions(tally.evidence.roamed),
        ..ROW
    },
    Row {
        name: "no_delete",
        fault: false,
        says: "DELETE is answered with 405",
        advice: "The specification allows it. Sessions then end when they are idle, so nothing after their end was tested.",
        found: |tally| sessions(tally.evidence.undeletable),
        ..ROW
    },
    Row {
        name: "no_session_id",
        fault: false,
        says: "initialize is answered without Mcp-Session-Id",
        advice: "Its clients have no sessions that they could end or lose; what it does upstream is tested all the same.",
        found: |tally| sessions(tally.evidence.nameless),
        ..ROW
    },
    Row {
        name: "older_revision",
        fault: false,
        says: "another revision is offered than was asked for",
        advice: "The probe went on with it, as clients do. --revision insists on one.",
        found: |tally| tally.evidence.offered.map(|offered| offered.to_string()),
        ..ROW
    },
    Row {
        name: "renamed_tools",
        fault: false,
        says: "tools have other names",
        advice: "They were found by tools/list.",
        found: |tally| {
            tally.evidence.renamed.as_ref().map(|(tool, name)| format!("{tool} is {name}"))
        },
        ..ROW
    },
    Row {
        name: "progress_aside",
        fault: false,
        says: "progress comes on the session's own stream (GET) instead of with the answer",
        advice: "Clients that open no such stream miss it; it belongs to the answer of the call.",
        about: About::Progress,
        found: |tally| progress(tally, Arrival::Aside).next().map(|_| String::new()),
    },
    Row {
        name: "progress_unseen",
        fault: false,
        says: "progress was not looked at",
        advice: "Either the tool stream_ticks is not offered (tools.sets leaves out \"streaming\"), or the server was not let stream: protocol.response is json, or the gateway's Accept header names no events.",
        about: About::Progress,
        found: |tally| {
            let unstreamed = progress(tally, Arrival::Unstreamed).next().is_some();
            (tally.evidence.without_ticks || unstreamed).then(String::new)
        },
    },
];

fn counted(count: u64) -> Option<String> {
    match count {
        0 => None,
        1 => Some("1 session".to_owned()),
        more => Some(format!("{more} sessions")),
    }
}

fn sessions(count: u32) -> Option<String> {
    counted(u64::from(count))
}

fn of_cause(tally: &Tally, cause: Cause) -> Option<String> {
    counted(tally.causes.get(&cause)?.0)
}

fn routes(tally: &Tally, which: fn(&Route) -> bool) -> Option<String> {
    sessions(tally.routes.iter().filter(|(route, _)| which(route)).map(|(_, count)| count).sum())
}

fn progress(tally: &Tally, arrival: Arrival) -> impl Iterator<Item = &Ticks> {
    tally.evidence.progress.iter().filter(move |ticks| ticks.arrival() == arrival)
}
