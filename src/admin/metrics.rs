//! `/metrics`, for Prometheus.
//!
//! Owns the names of all families and their help texts, but for those of the store. The front door shows all ten instances and the process,
//! the host of an instance that instance alone.
//! Traps: Prometheus itself sets the label `instance` on whatever it scrapes, so here it is `mcp_instance`. And `rate`
//! does not see the first event of a counter that begins with it, so every series is there from the start, except for
//! requests by method, era and status: most of those combinations never come up.

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use http::header;

use super::{Scope, overview, store};
use crate::{
    id::{EndReason, InstanceId},
    observe::{CONTENT_TYPE, Counters, ERAS, Page, RequestOutcome, STATUSES, Type, Usage},
    paths::METRICS,
    process::Process,
    session::Counts,
    tenant::{Instance, Stage},
};

pub(super) fn router() -> Router<Scope> {
    Router::new().route(METRICS, get(show))
}

/// `GET /metrics`: the text format 0.0.4.
async fn show(State(scope): State<Scope>) -> impl IntoResponse {
    overview::refresh(&scope).await;
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], page(&scope))
}

/// The label that tells instances apart.
pub(super) const INSTANCE: &str = "mcp_instance";

/// Its values, by number.
const NAMES: [&str; InstanceId::COUNT] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// Its value for what came to no instance.
const NOWHERE: &str = "none";

fn page(scope: &Scope) -> String {
    let mut page = Page::default();
    let named = || scope.iter().map(|own| (NAMES[own.id.index()], &**own));
    let instances: Vec<_> = named().collect();
    let whole = scope.first().filter(|_| scope.len() == InstanceId::COUNT);
    if let Some(first) = whole {
        process(&mut page, &first.process);
        if let Some(link) = &first.process.link {
            store::families(&mut page, link, &instances);
        }
    }
    sessions(&mut page, &instances);
    held(&mut page, &instances);
    let mut counters: Vec<_> = named().map(|(name, own)| (name, &own.state.counters)).collect();
    streams(&mut page, &counters);
    if let Some(first) = whole {
        counters.push((NOWHERE, &first.process.counters.nowhere));
    }
    requests(&mut page, &counters);
    page.into_text()
}

fn process(page: &mut Page, process: &Process) {
    use Type::{Counter, Gauge};
    page.family("mcp_echo_build_info", Gauge, "Always 1; the label says which version runs.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    let help = "1 while the server is stopping and takes no new session, else 0.";
    page.single("mcp_echo_draining", Gauge, help, u8::from(process.lifecycle.is_draining()));
    let open = process.counters.connections.count();
    page.single("mcp_echo_connections_open", Gauge, "Open connections.", open);
    let help = "Log lines that were dropped because the writer could not keep up.";
    page.single("mcp_echo_log_lines_dropped_total", Counter, help, process.log.dropped_lines());
    let help = "What all clients make the process hold, in bytes.";
    page.single("mcp_echo_process_memory_booked_bytes", Gauge, help, process.budget.booked());
    let help = "The most that they may make it hold (memory.max_bytes).";
    page.single("mcp_echo_process_memory_limit_bytes", Gauge, help, process.budget.limit());
    let help = "When the process started, in seconds since 1970.";
    let started =
        process.clock.time_of_day().time(process.clock.started()).as_duration().as_secs_f64();
    page.single("process_start_time_seconds", Gauge, help, started);
    let Usage { cpu, resident_bytes, virtual_bytes, threads, open_fds, max_fds } = Usage::read();
    if let Some(cpu) = cpu {
        let help = "Processor time spent, user and system, in seconds.";
        page.single("process_cpu_seconds_total", Counter, help, cpu.as_secs_f64());
    }
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Memory in use, in bytes.", resident_bytes),
        ("process_virtual_memory_bytes", "Address space in use, in bytes.", virtual_bytes),
        ("process_threads", "Threads.", threads),
        ("process_open_fds", "Open file descriptors.", open_fds),
        ("process_max_fds", "File descriptors that may be open.", max_fds),
    ] {
        if let Some(value) = value {
            page.single(name, Gauge, help, value);
        }
    }
}

/// Sessions, and what else an instance holds.
fn sessions(page: &mut Page, instances: &[(&'static str, &Instance)]) {
    use Type::{Counter, Gauge};
    // Read once, so that live is created less ended on every page.
    let counts: Vec<(_, Counts)> =
        instances.iter().map(|(name, own)| (*name, own.state.sessions.counts())).collect();

    for (name, kind, help, read) in SESSIONS {
        each(page, (name, kind, help), counts.iter().map(|(name, counts)| (*name, read(counts))));
    }
    let help = "Sessions ended, by reason; live is created less these.";
    let mut family = page.family("mcp_echo_sessions_ended_total", Counter, help);
    for (name, counts) in &counts {
        for reason in EndReason::ALL {
            let labels = [(INSTANCE, *name), ("reason", reason.as_str())];
            family.sample(&labels, counts.ended[reason.index()]);
        }
    }
    let help = "Tasks, by the status that their clients see.";
    let mut family = page.family("mcp_echo_tasks", Gauge, help);
    for (name, own) in instances {
        let census = own.state.tasks.census();
        for stage in Stage::ALL {
            let labels = [(INSTANCE, *name), ("status", stage.as_str())];
            family.sample(&labels, census[stage.index()]);
        }
    }
}

/// A family with one number an instance, read from that.
type Family<T> = (&'static str, Type, &'static str, fn(&T) -> u64);

/// What is counted of sessions, beside how they ended.
const SESSIONS: [Family<Counts>; 4] = [
    ("mcp_echo_sessions_live", Type::Gauge, "Live sessions.", |counts| counts.live),
    ("mcp_echo_sessions_created_total", Type::Counter, "Sessions begun.", |counts| counts.created),
    (
        "mcp_echo_sessions_refused_total",
        Type::Counter,
        "Sessions not begun because the instance was full or stopping.",
        |counts| counts.refused,
    ),
    (
        "mcp_echo_session_data_bytes",
        Type::Gauge,
        "What live sessions hold, keys, values and last echoes, in bytes.",
        |counts| counts.data_bytes,
    ),
];

/// What clients make an instance hold, beside what has a family with more labels.
const HELD: [Family<Instance>; 12] = [
    (
        "mcp_echo_sessions_capacity",
        Type::Gauge,
        "Live sessions at the most (session.capacity).",
        |own| own.policy.config.session.capacity,
    ),
    (
        "mcp_echo_sessions_shared",
        Type::Gauge,
        "1 where sessions live in the shared store, of which each replica tells the same; 0 where in this process.",
        |own| u64::from(own.state.sessions.is_shared()),
    ),
    (
        "mcp_echo_replay_bytes",
        Type::Gauge,
        "Events that are unread or kept to be resumed, in bytes.",
        |own| own.state.replay.kept() as u64,
    ),
    (
        "mcp_echo_memory_booked_bytes",
        Type::Gauge,
        "What the clients of the instance make it hold, in bytes.",
        |own| own.state.share.booked() as u64,
    ),
    (
        "mcp_echo_memory_limit_bytes",
        Type::Gauge,
        "The most that they may make it hold (memory.max_instance_bytes).",
        |own| own.state.share.limit() as u64,
    ),
    (
        "mcp_echo_memory_refused_total",
        Type::Counter,
        "How often there was no room for what a client wanted.",
        |own| own.state.share.refused(),
    ),
    ("mcp_echo_calls_open", Type::Gauge, "Calls under way that take time.", |own| {
        own.state.calls.count()
    }),
    ("mcp_echo_questions_open", Type::Gauge, "Requests to clients that await a response.", |own| {
        own.state.sessions.open_questions()
    }),
    ("mcp_echo_subscriptions_open", Type::Gauge, "Open subscriptions/listen.", |own| {
        own.state.subscriptions.open()
    }),
    (
        "mcp_echo_resource_subscriptions",
        Type::Gauge,
        "Resources that sessions have subscribed to, each counted for each session.",
        |own| own.state.subscriptions.followed() as u64,
    ),
    (
        "mcp_echo_ended_sessions_remembered",
        Type::Gauge,
        "Ended sessions of which it is remembered how they ended.",
        |own| own.state.sessions.remembered() as u64,
    ),
    ("mcp_echo_recent_requests", Type::Gauge, "Requests that /debug remembers.", |own| {
        own.state.requests.remembered() as u64
    }),
];

fn held(page: &mut Page, instances: &[(&'static str, &Instance)]) {
    for (name, kind, help, read) in HELD {
        each(page, (name, kind, help), instances.iter().map(|(name, own)| (*name, read(own))));
    }
}

fn each(
    page: &mut Page,
    (name, kind, help): (&'static str, Type, &str),
    numbers: impl Iterator<Item = (&'static str, u64)>,
) {
    let mut family = page.family(name, kind, help);
    for (instance, number) in numbers {
        family.sample(&[(INSTANCE, instance)], number);
    }
}

fn streams(page: &mut Page, counters: &[(&'static str, &Counters)]) {
    let help = "Open event streams: standalone (GET), of a call, or a subscription.";
    let mut family = page.family("mcp_echo_streams_open", Type::Gauge, help);
    for (name, own) in counters {
        for (kind, count) in own.streams() {
            family.sample(&[(INSTANCE, name), ("kind", kind.as_str())], count);
        }
    }
}

/// A request is counted when its answer has ended.
fn requests(page: &mut Page, counters: &[(&'static str, &Counters)]) {
    let help = "Requests that have ended, by what was asked, era and class of the HTTP status.";
    let mut family = page.family("mcp_echo_requests_total", Type::Counter, help);
    for (name, own) in counters {
        for (kind, era, status, count) in own.requests().filter(|(.., count)| *count > 0) {
            let labels = [
                (INSTANCE, *name),
                ("method", kind.as_str()),
                ("era", ERAS[era]),
                ("status", STATUSES[status]),
            ];
            family.sample(&labels, count);
        }
    }
    let help = "Requests that have ended, by how they went; refusals are told by reason below.";
    let mut family = page.family("mcp_echo_outcomes_total", Type::Counter, help);
    for (name, own) in counters {
        let mut refused = 0;
        for (outcome, count) in own.outcomes() {
            match outcome.is_refusal() {
                true => refused += count,
                false => {
                    family.sample(&[(INSTANCE, name), ("outcome", outcome.as_str())], count);
                }
            }
        }
        let outcome = RequestOutcome::Refused.as_str();
        family.sample(&[(INSTANCE, name), ("outcome", outcome)], refused);
    }
    let help = "Requests that were refused, by the name that the log gives.";
    let mut family = page.family("mcp_echo_refusals_total", Type::Counter, help);
    for (name, own) in counters {
        for (reason, count) in own.outcomes().filter(|(outcome, _)| outcome.is_refusal()) {
            family.sample(&[(INSTANCE, name), ("reason", reason.as_str())], count);
        }
    }
    let help = "From a request's head to the end of its answer, in seconds; GET streams and subscriptions left out.";
    let mut family = page.family("mcp_echo_request_duration_seconds", Type::Histogram, help);
    for (name, own) in counters.iter().filter(|(name, _)| *name != NOWHERE) {
        for (era, histogram) in own.durations() {
            family.histogram(&[(INSTANCE, *name), ("era", era)], histogram);
        }
    }
}
