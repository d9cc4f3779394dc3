//! One server, one conversation.
//!
//! Owns the server that is fuzzed, its log and its time. Tokio's clock is paused: it jumps ahead whenever
//! nothing is left to do, so that a minute of waiting costs nothing, and a hang is seen at once, as the end
//! of all patience. Traps: the sessions' own clock is the real one, so nothing expires here; building a
//! server takes longer than most conversations, so one that is as good as new is used again.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    io::{self, Write},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::Duration,
};

use axum::body::Body;
use bytes::{Buf as _, Bytes};
use futures_util::{FutureExt, stream};
use http::Request;
use http_body_util::BodyExt;
use mcp_echo_stateful::{
    config::{Config, Flags, Layers, LogFormat},
    id::EndReason,
    observe::access::AccessLog,
    server::{Server, stack::Stack},
};
use tokio::{
    runtime::{self, Runtime},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::ServiceExt;
use tracing::level_filters::LevelFilter;

use crate::{
    input::{Ask, Conversation, Delivery, Reading, Step},
    oracle::{Events, Question, is_events},
    render::{Knowledge, Memory, Renderer, Sent},
    wire,
};

/// Longer than anything takes that ends at all.
const PATIENCE: Duration = Duration::from_secs(600);

/// Ten instances, each with a policy of its own, so that the host decides what is tried.
const VARIABLES: &[(&str, &str)] = &[
    ("ADMIN_TOKEN", "admin-s3cret"),
    ("MCP_ECHO_HOSTS__FRONT_DOOR", "sticky"),
    ("MCP_ECHO_HTTP__TRUSTED_PROXIES", "10.0.0.0/8"),
    ("MCP_ECHO_HTTP__MAX_BODY_BYTES", "65536"),
    ("MCP_ECHO_TOOLS__SETS", "session,diagnostics,streaming,conformance"),
    ("MCP_ECHO_TOOLS__MAX_RESPONSE_BYTES", "65536"),
    ("MCP_ECHO_INSTANCES__1__PROTOCOL__RESPONSE", "sse"),
    ("MCP_ECHO_INSTANCES__2__PROTOCOL__RESPONSE", "json"),
    ("MCP_ECHO_INSTANCES__3__AUTH__MODE", "tokens"),
    ("MCP_ECHO_INSTANCES__3__AUTH__TOKENS", "alice=tok-alice-s3cret,bob=tok-bob-s3cret"),
    ("MCP_ECHO_INSTANCES__4__AUTH__MODE", "passthrough"),
    ("MCP_ECHO_INSTANCES__4__AUTH__AUTHORIZATION_SERVERS", "https://issuer.example.com"),
    ("MCP_ECHO_INSTANCES__5__SESSION__CAPACITY", "2"),
    ("MCP_ECHO_INSTANCES__5__SESSION__MAX_STREAMS", "1"),
    ("MCP_ECHO_INSTANCES__5__SESSION__MAX_DATA_KEYS", "2"),
    ("MCP_ECHO_INSTANCES__5__SESSION__MAX_DATA_BYTES", "64"),
    ("MCP_ECHO_INSTANCES__5__PROTOCOL__PAGE_SIZE", "3"),
    ("MCP_ECHO_INSTANCES__5__TASKS__CAPACITY", "1"),
    ("MCP_ECHO_INSTANCES__5__STREAM__MAX_SUBSCRIPTIONS", "1"),
    ("MCP_ECHO_INSTANCES__6__SESSION__IMPLICIT", "false"),
    ("MCP_ECHO_INSTANCES__7__PROTOCOL__VERSIONS", "2026-07-28"),
    ("MCP_ECHO_INSTANCES__8__PROTOCOL__VERSIONS", "2025-11-25,2025-06-18,2025-03-26,2024-11-05"),
    ("MCP_ECHO_INSTANCES__9__TOOLS__SETS", "session,diagnostics,streaming"),
    ("MCP_ECHO_INSTANCES__9__ORIGIN__ALLOWED", "*"),
];

/// What must never be read in a log.
const SECRETS: [&str; 3] = ["admin-s3cret", "tok-alice-s3cret", "tok-bob-s3cret"];

/// What is made once for all conversations.
struct Stage {
    config: Config,
    knowledge: Knowledge,
}

fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        let variables: Vec<_> =
            VARIABLES.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let config = Layers::merge(&Flags::default(), &variables)
            .and_then(|layers| layers.check())
            .expect("the configuration fits");
        let log = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_ansi(false);
        // Whoever drives may have a log already.
        let _ = tracing::subscriber::set_global_default(log.with_writer(|| Log).finish());
        let knowledge = Knowledge::of(&config.instances[0].tools);
        Stage { config, knowledge }
    })
}

thread_local! {
    static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
    static REACHED: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
    static TRANSCRIPT: RefCell<String> = const { RefCell::new(String::new()) };
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The log of this thread, on which all of a conversation happens.
struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| log.extend_from_slice(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn paused() -> Runtime {
    runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
}

/// What was said in this thread's last conversation, for a person to read.
pub fn transcript() -> String {
    TRANSCRIPT.with_borrow(String::clone)
}

/// What this thread's conversations have come to, by the access log: each tool and each method with each
/// outcome, and each outcome.
pub fn reached() -> BTreeSet<String> {
    REACHED.with_borrow(BTreeSet::clone)
}

fn note_reached(line: &str) {
    let field = |name: &str| {
        let (_, rest) = line.split_once(&format!(" {name}=\""))?;
        Some(rest.split_once('"')?.0)
    };
    let Some(outcome) = field("outcome") else { return };
    REACHED.with_borrow_mut(|reached| {
        reached.insert(outcome.to_owned());
        for name in [field("tool"), field("method")].into_iter().flatten() {
            reached.insert(format!("{name} {outcome}"));
        }
    });
}

fn note(line: impl std::fmt::Display) {
    TRANSCRIPT.with_borrow_mut(|lines| {
        lines.push_str(&line.to_string());
        lines.push('\n');
    });
}

/// Holds a whole conversation; panics where an answer, the state or the log is not as it must be.
pub fn converse(conversation: &Conversation) {
    let memory = Arc::new(Mutex::new(Memory::default()));
    on_stage(async |server| run(conversation, server, &stage().knowledge, &memory).await);
    let memory = lock(&memory);
    let log = log();
    for (id, _) in &memory.sessions {
        let line = log.lines().find(|line| line.contains(id));
        assert!(line.is_none(), "a session's id in the log: {line:?}");
    }
}

/// Sends any bytes over a connection of HTTP/1.1; panics as [`converse`] does.
pub fn connect(bytes: &[u8]) {
    note(format_args!(">> {}", bytes.escape_ascii()));
    on_stage(async |server| wire::connect(server.stack(), bytes).await);
}

/// Plays on a server of this thread, and looks at what that leaves.
fn on_stage(play: impl AsyncFnOnce(&Server)) {
    let config = &stage().config;
    LOG.with_borrow_mut(Vec::clear);
    TRANSCRIPT.with_borrow_mut(String::clear);
    let access = || {
        let out = |line: &[u8]| LOG.with_borrow_mut(|log| log.extend_from_slice(line));
        AccessLog::new(out, LogFormat::Compact, false)
    };
    let server = SERVER.take().unwrap_or_else(|| Server::build(config, access()).expect("builds"));
    let runtime = paused();
    runtime.block_on(async {
        play(&server).await;
        check_state(&server).await;
    });
    drop(runtime);
    // Sessions have been ended; a task lives on.
    if server.instances().all(|instance| instance.state.tasks.is_empty()) {
        SERVER.set(Some(server));
    }
    let log = log();
    log.lines().for_each(note_reached);
    for word in [" ERROR "].into_iter().chain(SECRETS) {
        let line = log.lines().find(|line| line.contains(word));
        assert!(line.is_none(), "{word} in the log: {line:?}");
    }
}

fn log() -> String {
    LOG.with_borrow(|log| String::from_utf8_lossy(log).into_owned())
}

fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().expect("nobody panicked")
}

async fn run(
    conversation: &Conversation,
    server: &Server,
    knowledge: &Knowledge,
    memory: &Arc<Mutex<Memory>>,
) {
    let mut meanwhile = JoinSet::new();
    let mut last: Option<Step> = None;
    for step in &conversation.steps {
        let step = &*last.insert(step.after(last.as_ref()));
        if let Ask::Pass(millis) = step.ask {
            sleep(Duration::from_millis(millis.into())).await;
            for instance in server.instances() {
                instance.state.sessions.tick().await;
                instance.state.tasks.sweep();
            }
        }
        let sent = Renderer { knowledge, memory: &lock(memory) }.request(step);
        let Some(sent) = sent else { continue };
        let peer: IpAddr = match step.proxied {
            true => [10, 0, 0, 1].into(),
            false => [192, 0, 2, 1].into(),
        };
        let exchange = Exchange {
            stack: server.stack().of_connection(peer, None),
            memory: Arc::clone(memory),
            delivery: step.delivery,
            reading: step.reading,
        };
        match step.reading {
            Reading::Meanwhile => {
                meanwhile.spawn(exchange.run(sent));
            }
            Reading::Whole | Reading::Some(_) | Reading::None => exchange.run(sent).await,
        }
        // Lets everything go on that can.
        sleep(Duration::from_millis(1)).await;
    }
    while let Some(ended) = meanwhile.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// What must hold when all is said and done.
async fn check_state(server: &Server) {
    // Calls that nobody waits for any more end as well.
    sleep(PATIENCE).await;
    for instance in server.instances() {
        let counts = instance.state.sessions.counts();
        let sessions = instance.state.sessions.list().await.expect("the store can be asked");
        let ended: u64 = counts.ended.iter().sum();
        assert_eq!(counts.live, counts.created - ended, "{counts:?}");
        assert_eq!(counts.live, sessions.len() as u64, "{counts:?}");
        assert_eq!(instance.state.subscriptions.open(), 0, "a subscription outlives its stream");
        let ids = sessions.iter().filter_map(|session| session.id);
        for conversation in ids.filter_map(|id| instance.state.sessions.conversation_of(id)) {
            assert_eq!(conversation.open_streams(), 0, "a stream is counted that is closed");
            assert_eq!(conversation.open_questions(), 0, "a question outlives its call");
        }
        let all = instance.state.sessions.end_all(EndReason::Shutdown).await;
        all.expect("the store can be asked");
        let counts = instance.state.sessions.counts();
        assert_eq!((counts.live, counts.ended.iter().sum()), (0, counts.created), "{counts:?}");
    }
}

/// One request and the reading of its answer.
struct Exchange {
    stack: Stack,
    memory: Arc<Mutex<Memory>>,
    delivery: Delivery,
    reading: Reading,
}

impl Exchange {
    async fn run(self, sent: Sent) {
        let mut question = Question::new(&sent, self.delivery, &lock(&self.memory));
        let loose = lock(&self.memory).note(&sent);
        note(format_args!(">> {sent}   {:?} {:?}", self.delivery, self.reading));
        let mut request = Request::new(delivered(sent.body, self.delivery));
        *request.method_mut() = sent.method;
        *request.uri_mut() = sent.target;
        *request.headers_mut() = sent.headers;
        let answer = self.stack.oneshot(request);
        let answer = match self.reading {
            Reading::None => match answer.now_or_never() {
                Some(answer) => answer,
                None => return,
            },
            Reading::Whole | Reading::Meanwhile | Reading::Some(_) => {
                timeout(PATIENCE, answer).await.expect("an answer in time")
            }
        };
        let Ok(answer) = answer;
        let (head, mut body) = answer.into_parts();
        note(format_args!("<< {} {:?}", head.status, head.headers));
        question.check_head(&head);
        let session = head.headers.get("mcp-session-id").and_then(|id| id.to_str().ok());
        if let Some(id) = session {
            lock(&self.memory).add_session(id, Some(question.revision().to_owned()));
        }
        if !is_events(&head.headers) {
            let whole = timeout(PATIENCE, body.collect()).await.expect("a body in time");
            let bytes = whole.expect("a whole body").to_bytes();
            note(format_args!("<< {}", String::from_utf8_lossy(&bytes)));
            question.check_body(&head, &bytes, &mut lock(&self.memory));
            return;
        }
        let mut left = match self.reading {
            Reading::Some(frames) => usize::from(frames),
            Reading::Whole | Reading::Meanwhile => usize::MAX,
            Reading::None => 0,
        };
        let mut events = Events::default();
        // A stream that ends by itself does; of others, two signs of life without news are enough.
        while left > 0 && (events.quiet < 2 || question.is_call() && !loose.listens) {
            left -= 1;
            let Some(frame) = timeout(PATIENCE, body.frame()).await.expect("a frame in time")
            else {
                events.check_end();
                let cut_off = loose.hangs_up || lock(&self.memory).unsettled;
                return question.check_end(cut_off);
            };
            if let Ok(slice) = frame.expect("a whole body").into_data() {
                let bytes = slice.chunk();
                note(format_args!("<< {}", String::from_utf8_lossy(bytes)));
                events.read(bytes, &mut question, &mut lock(&self.memory));
                assert!(events.quiet < 40, "ten minutes, and the call has not ended");
            }
        }
    }
}

/// A body as it arrives.
fn delivered(body: Vec<u8>, delivery: Delivery) -> Body {
    let body = Bytes::from(body);
    let until = |at: u16| body.slice(..usize::from(at).min(body.len()));
    match delivery {
        Delivery::Whole => Body::from(body),
        Delivery::Chunks(size) => {
            let size = usize::from(size) + 1;
            let chunks: Vec<_> = body.chunks(size).map(Bytes::copy_from_slice).collect();
            Body::from_stream(stream::iter(chunks.into_iter().map(Ok::<_, io::Error>)))
        }
        Delivery::Stalls(at) => {
            let first = stream::iter([Ok::<_, io::Error>(until(at))]);
            Body::from_stream(stream::StreamExt::chain(first, stream::pending()))
        }
        Delivery::Breaks(at) => {
            let broken = io::Error::from(io::ErrorKind::ConnectionReset);
            Body::from_stream(stream::iter([Ok(until(at)), Err(broken)]))
        }
    }
}
