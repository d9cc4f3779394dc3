//! The session store against a simple model, by random commands and in real time.
//!
//! The clock of a process cannot be held still, so the model does not try: it notes before and after each
//! command what time it is, and so knows of each session a span in which its idle clock was last set back.
//! What is certain from that must be so; what is not (a session that expires during a command, a machine
//! that stalls) may be either way, and the model goes on from what it saw. No margin, so nothing to tune.
//! All cases sleep at the same time, so that many take no longer than one.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use mcp_echo_stateful::{
    config::SessionConfig,
    id::{Boot, Caller, EndReason, InstanceId, MintedBy, ReplicaTag, SessionId, SessionRef},
    session::{
        record::{Change, Handshake, LastEcho, QuotaExceeded, Record, Want},
        store::{Gone, Lease, NotCommitted, NotCreated, SessionStore},
    },
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use serde_json::value::RawValue;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    store::{self, Kind, Place, TIMEOUT, every_kind, handshake},
    support::PATIENCE,
};

/// What `create_session` was told, in some sessions.
const SHORTER: Duration = Duration::from_millis(120);
/// By what a deadline may be missed: the store counts milliseconds, the model does not.
const GRAIN: Duration = Duration::from_millis(2);
/// Sessions that are due within so long are swept together.
const PAGE: Duration = Duration::from_millis(64);
const CAPACITY: u64 = 6;
const CASES: usize = 300;
/// What one session may hold, so little that a few values fill it.
const MOST_BYTES: usize = 100;
const MOST_KEYS: usize = 2;
/// Of several lengths, and one that is more than ASCII.
const KEYS: [&str; 5] = ["a", "b", "longer", "the longest", "ä"];

#[derive(Clone, Debug)]
enum Command {
    Create {
        caller: usize,
        shorter: bool,
    },
    /// Sessions and holds are named by their order, around and around.
    Find {
        session: usize,
        caller: usize,
    },
    FindStrange(Strange),
    Commit {
        session: usize,
    },
    /// A value of so many bytes under one of a few keys, in one of the sessions that were begun last.
    Set {
        session: usize,
        key: usize,
        size: usize,
    },
    Echo {
        session: usize,
        size: usize,
    },
    /// What was stored and echoed, as each replica has it.
    Read {
        session: usize,
    },
    Lease {
        session: usize,
    },
    Release {
        hold: usize,
    },
    End {
        session: usize,
        reason: EndReason,
    },
    EndAll {
        reason: EndReason,
    },
    List,
    Tick,
    /// Time passes, with or without somebody who ticks.
    Pass {
        millis: u64,
        ticking: bool,
    },
}

/// Ids that nobody here was given.
#[derive(Clone, Copy, Debug)]
enum Strange {
    NeverMinted,
    OtherInstance,
    OtherReplica,
    EarlierBoot,
    UpperCase,
    Garbage,
}

fn command() -> impl Strategy<Value = Command> {
    let callers = 0..CALLERS.len();
    let reason = || select(&[EndReason::Client, EndReason::Admin, EndReason::Shutdown][..]);
    let strange = select(
        &[
            Strange::NeverMinted,
            Strange::OtherInstance,
            Strange::OtherReplica,
            Strange::EarlierBoot,
            Strange::UpperCase,
            Strange::Garbage,
        ][..],
    );
    prop_oneof![
        9 => (callers.clone(), proptest::bool::weighted(0.3))
            .prop_map(|(caller, shorter)| Command::Create { caller, shorter }),
        8 => (0usize..12, callers).prop_map(|(session, caller)| Command::Find { session, caller }),
        1 => strange.prop_map(Command::FindStrange),
        2 => (0usize..12).prop_map(|session| Command::Commit { session }),
        14 => (0usize..2, 0usize..KEYS.len(), select(&[2, 3, 9, 40, MOST_BYTES][..]))
            .prop_map(|(session, key, size)| Command::Set { session, key, size }),
        2 => (0usize..2, 0..MOST_BYTES + 10)
            .prop_map(|(session, size)| Command::Echo { session, size }),
        4 => (0usize..2).prop_map(|session| Command::Read { session }),
        2 => (0usize..12).prop_map(|session| Command::Lease { session }),
        2 => (0usize..4).prop_map(|hold| Command::Release { hold }),
        2 => (0usize..12, reason()).prop_map(|(session, reason)| Command::End { session, reason }),
        1 => reason().prop_map(|reason| Command::EndAll { reason }),
        2 => Just(Command::List),
        2 => Just(Command::Tick),
        4 => (select(&[5u64, 40, 90, 140, 200, 320][..]), any::<bool>())
            .prop_map(|(millis, ticking)| Command::Pass { millis, ticking }),
    ]
}

/// Two identities, and nobody.
const CALLERS: [fn() -> Caller; 3] =
    [|| Caller::Anonymous, || Caller::known("user", "a"), || Caller::known("user", "b")];

/// From before a command to after it.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: Instant,
    to: Instant,
}

#[derive(Debug)]
struct Known {
    session: Record,
    /// Calls that have been counted.
    counted: u64,
    /// What was stored: by key, as JSON.
    data: BTreeMap<&'static str, Arc<RawValue>>,
    echoed: LastEcho<String>,
    caller: usize,
    timeout: Duration,
    /// When its idle clock was last set back.
    kept: Span,
    /// Calls and streams under way, which keep it if it was there when the first of them began.
    holds: usize,
    held_live: bool,
    /// How it ended, once that has been seen.
    ended: Option<EndReason>,
}

impl Known {
    fn reference(&self) -> SessionRef {
        SessionRef::of(&self.session.head.id.to_string())
    }

    /// Keys and values together.
    fn bytes(&self) -> usize {
        self.data.iter().map(|(key, value)| key.len() + value.get().len()).sum()
    }

    fn echo_bytes(&self) -> usize {
        match &self.echoed {
            LastEcho::Kept(text) => text.len(),
            LastEcho::None | LastEcho::TooLarge => 0,
        }
    }

    /// Whether a value does not fit.
    fn refuses(&self, key: &str, value: &RawValue) -> Option<QuotaExceeded> {
        let old = self.data.get(key);
        if old.is_none() && self.data.len() >= MOST_KEYS {
            return Some(QuotaExceeded::Keys { limit: MOST_KEYS });
        }
        let before = old.map_or(0, |old| key.len() + old.get().len());
        let needed = self.bytes() - before + key.len() + value.get().len();
        (needed > MOST_BYTES).then_some(QuotaExceeded::Bytes { needed, limit: MOST_BYTES })
    }

    fn surely_live(&self, now: Span) -> bool {
        self.ended.is_none() && (self.held_live || now.to + GRAIN < self.kept.from + self.timeout)
    }

    fn surely_expired(&self, now: Span) -> bool {
        self.ended.is_none() && self.surely_idle(now, GRAIN)
    }

    /// Whether nobody need ask for it to be gone.
    fn surely_swept(&self, now: Span) -> bool {
        self.ended.is_some() || self.surely_idle(now, GRAIN + PAGE)
    }

    fn surely_idle(&self, now: Span, late: Duration) -> bool {
        self.holds == 0 && now.from > self.kept.to + self.timeout + late
    }
}

/// How often the model was certain; a model that never is tests nothing.
#[derive(Debug, Default)]
struct Certain {
    found: usize,
    expired: usize,
    full: usize,
    strangers: usize,
    read: usize,
    too_many: usize,
    too_large: usize,
}

struct Model<'a> {
    store: &'a Kind,
    known: Vec<Known>,
    holds: Vec<(usize, Lease)>,
    refused: u64,
    quota: SessionConfig,
    texts: usize,
    certain: Certain,
}

impl<'a> Model<'a> {
    fn new(store: &'a Kind) -> Self {
        let quota = store::quota(MOST_BYTES, MOST_KEYS);
        let certain = Certain::default();
        Self { store, known: vec![], holds: vec![], refused: 0, quota, texts: 0, certain }
    }

    async fn run(mut self, commands: &[Command]) -> Result<Certain, String> {
        // All cases connect at the same time.
        let start = Instant::now();
        for replica in &self.store.replicas {
            while replica.count().await.is_err() {
                must(start.elapsed() < 3 * PATIENCE, "the store is never reached")?;
                sleep(Duration::from_millis(20)).await;
            }
        }
        for (number, command) in commands.iter().enumerate() {
            let from = Instant::now();
            let told = match self.step(command).await {
                Ok(()) => self.check(from).await,
                Err(problem) => Err(problem),
            };
            told.map_err(|problem| format!("{problem}, at command {number}: {command:?}"))?;
        }
        Ok(self.certain)
    }

    fn pick(&self, session: usize) -> Option<usize> {
        (!self.known.is_empty()).then(|| session % self.known.len())
    }

    /// The same from the last on, so that a few sessions are filled.
    fn pick_late(&self, session: usize) -> Option<usize> {
        self.pick(session).map(|index| self.known.len() - 1 - index)
    }

    async fn step(&mut self, command: &Command) -> Result<(), String> {
        let from = Instant::now();
        match *command {
            Command::Create { caller, shorter } => {
                let timeout = if shorter { SHORTER } else { TIMEOUT };
                let timeout_millis = timeout.as_millis() as u64;
                let handshake = Handshake { timeout_millis, ..handshake() };
                let created = self.store.create(handshake, CALLERS[caller]()).await;
                let now = Span { from, to: Instant::now() };
                let surely_live = self.known.iter().filter(|known| known.surely_live(now)).count();
                let perhaps = self.known.iter().filter(|known| !known.surely_swept(now)).count();
                match created {
                    Ok(session) => {
                        must(surely_live < CAPACITY as usize, "room for one too many")?;
                        must(session.head.owner == CALLERS[caller](), "another owner")?;
                        self.known.push(Known {
                            session,
                            counted: 0,
                            data: BTreeMap::new(),
                            echoed: LastEcho::None,
                            caller,
                            timeout,
                            kept: now,
                            holds: 0,
                            held_live: false,
                            ended: None,
                        });
                    }
                    Err(NotCreated::Full { capacity: CAPACITY, .. }) => {
                        must(perhaps >= CAPACITY as usize, "full, with room")?;
                        self.refused += 1;
                        self.certain.full += 1;
                    }
                    Err(other) => return Err(format!("refused: {other:?}")),
                }
            }
            Command::Find { session, caller } => {
                let Some(index) = self.pick(session) else { return Ok(()) };
                let known = &mut self.known[index];
                let found =
                    store::load(self.store, &known.session.head.id.to_string(), CALLERS[caller]())
                        .await;
                let now = Span { from, to: Instant::now() };
                if caller != known.caller {
                    // Whatever became of it; and its idle clock goes on.
                    self.certain.strangers += 1;
                    return must(matches!(found, Err(Gone::Unknown)), "a stranger learned of it");
                }
                match (found, known.ended) {
                    (Ok(session), None) => {
                        must(session.head.id == known.session.head.id, "another session")?;
                        must(session.tally.requests == known.counted, "another count")?;
                        must(!known.surely_expired(now), "found after its time")?;
                        self.certain.found += usize::from(known.surely_live(now));
                        known.kept = now;
                    }
                    (Err(Gone::Expired(after)), None) => {
                        must(!known.surely_live(now), "expired before its time")?;
                        must(after == known.timeout, "expired after another time")?;
                        self.certain.expired += usize::from(known.surely_expired(now));
                        known.ended = Some(EndReason::Expired);
                    }
                    (Err(Gone::Expired(_)), Some(EndReason::Expired)) => {}
                    (Err(Gone::Terminated(reason)), Some(ended)) if reason == ended => {}
                    (found, ended) => return Err(format!("{found:?} where {ended:?} was due")),
                }
            }
            Command::FindStrange(strange) => self.find_strange(strange).await?,
            Command::Commit { session } => {
                let Some(index) = self.pick(session) else { return Ok(()) };
                self.commit(index, Change::COUNT, from).await?;
            }
            Command::Set { session, key, size } => {
                let Some(index) = self.pick_late(session) else { return Ok(()) };
                self.set(index, KEYS[key], size, from).await?;
            }
            Command::Echo { session, size } => {
                let Some(index) = self.pick_late(session) else { return Ok(()) };
                let text = self.text(size);
                let change = Change { echo: Some(&text), ..Change::COUNT };
                if self.commit(index, change, from).await?.is_some() {
                    self.known[index].echoed = match size > MOST_BYTES {
                        true => LastEcho::TooLarge,
                        false => LastEcho::Kept(text),
                    };
                }
            }
            Command::Read { session } => {
                let Some(index) = self.pick_late(session) else { return Ok(()) };
                self.read(index, from).await?;
            }
            Command::Lease { session } => {
                let Some(index) = self.pick(session) else { return Ok(()) };
                if self.holds.len() < 4 {
                    self.holds.push((index, self.store.hold(self.known[index].session.head.id)));
                    self.tell().await;
                    let known = &mut self.known[index];
                    known.holds += 1;
                    known.held_live = known.surely_live(Span { from, to: Instant::now() });
                }
            }
            Command::Release { hold } => {
                if self.holds.is_empty() {
                    return Ok(());
                }
                let (index, hold) = self.holds.swap_remove(hold % self.holds.len());
                drop(hold);
                self.tell().await;
                self.keep(index, Span { from, to: Instant::now() });
                let known = &mut self.known[index];
                known.holds -= 1;
                known.held_live &= known.holds > 0;
            }
            Command::End { session, reason } => {
                let Some(index) = self.pick(session) else { return Ok(()) };
                let known = &mut self.known[index];
                let ended = store::end(self.store, known.session.head.id, reason).await;
                let now = Span { from, to: Instant::now() };
                match (ended, known.ended) {
                    (true, None) => {
                        must(!known.surely_expired(now), "ended after it had expired")?;
                        known.ended = Some(reason);
                    }
                    (false, None) => {
                        must(!known.surely_live(now), "gone before its time")?;
                        known.ended = Some(EndReason::Expired);
                    }
                    (false, Some(_)) => {}
                    (true, Some(_)) => return Err("ended twice".to_owned()),
                }
            }
            Command::EndAll { reason } => {
                self.store.end_all(reason).await.map_err(|error| error.to_string())?;
                let now = Span { from, to: Instant::now() };
                for known in self.known.iter_mut().filter(|known| known.ended.is_none()) {
                    // What may have been either way says itself which it was.
                    let owner = CALLERS[known.caller]();
                    known.ended =
                        match store::load(self.store, &known.session.head.id.to_string(), owner)
                            .await
                        {
                            Err(Gone::Expired(_)) if !known.surely_live(now) => {
                                Some(EndReason::Expired)
                            }
                            Err(Gone::Terminated(by)) if by == reason => Some(by),
                            other => return Err(format!("{other:?} after all were ended")),
                        };
                }
                must(self.store.counts().await.live == 0, "some outlived the end of all")?;
            }
            Command::List => {
                let listed = self.store.list().await.map_err(|error| error.to_string())?;
                let now = Span { from, to: Instant::now() };
                let ids: HashSet<_> = listed.iter().map(|session| session.reference).collect();
                must(ids.len() == listed.len(), "listed twice")?;
                let by_id: HashMap<_, _> =
                    self.known.iter().map(|known| (known.reference(), known)).collect();
                for id in &ids {
                    let known = by_id.get(id).ok_or("listed, but never begun")?;
                    must(known.ended.is_none(), "listed after its end")?;
                }
                let missing = self
                    .known
                    .iter()
                    .find(|known| known.surely_live(now) && !ids.contains(&known.reference()));
                must(missing.is_none(), "live and not listed")?;
            }
            Command::Tick => self.tick().await?,
            Command::Pass { millis, ticking: false } => sleep(Duration::from_millis(millis)).await,
            Command::Pass { millis, ticking: true } => {
                while from.elapsed() < Duration::from_millis(millis) {
                    sleep(Duration::from_millis(20)).await;
                    self.tick().await?;
                }
            }
        }
        Ok(())
    }

    /// So many characters, other ones each time.
    fn text(&mut self, size: usize) -> String {
        self.texts += 1;
        let letter = char::from(b'a' + u8::try_from(self.texts % 26).unwrap_or_default());
        letter.to_string().repeat(size)
    }

    /// Commits a change that is no larger than may be; nothing if the session has ended.
    async fn commit(
        &mut self,
        index: usize,
        change: Change<'_>,
        from: Instant,
    ) -> Result<Option<Record>, String> {
        let store = self.store;
        self.commit_to(store, index, change, from).await?.map_err(|quota| quota.to_string())
    }

    /// The same at one replica, for a change that may be too large.
    async fn commit_to(
        &mut self,
        store: &SessionStore,
        index: usize,
        change: Change<'_>,
        from: Instant,
    ) -> Result<Result<Option<Record>, QuotaExceeded>, String> {
        let (known, counts) = (&mut self.known[index], u64::from(change.count));
        // A session counts whatever is committed before its end has been noticed; its idle clock goes on.
        match store.commit(&known.session, change, &self.quota).await {
            Ok(after) => {
                must(known.ended.is_none(), "changed after its end")?;
                known.counted += counts;
                must(after.tally.requests == known.counted, "another count")?;
                Ok(Ok(Some(after)))
            }
            Err(NotCommitted::Quota(quota)) if known.ended.is_none() => Ok(Err(quota)),
            Err(NotCommitted::Gone(Gone::Expired(_))) if known.ended.is_none() => {
                let now = Span { from, to: Instant::now() };
                must(!known.surely_live(now), "gone before its time")?;
                known.ended = Some(EndReason::Expired);
                Ok(Ok(None))
            }
            Err(NotCommitted::Gone(_)) if known.ended.is_some() => Ok(Ok(None)),
            other => Err(format!("{other:?} where {:?} was due", known.ended)),
        }
    }

    async fn set(
        &mut self,
        index: usize,
        key: &'static str,
        size: usize,
        from: Instant,
    ) -> Result<(), String> {
        let text = format!("\"{}\"", self.text(size - 2));
        let value: Arc<RawValue> = RawValue::from_string(text).map_err(|it| it.to_string())?.into();
        let due = self.known[index].refuses(key, &value);
        let change = Change { set: Some((key, &value)), ..Change::COUNT };
        let store = self.store;
        match (self.commit_to(store, index, change, from).await?, due) {
            (Ok(None), _) => Ok(()),
            (Err(quota), Some(due)) => {
                match due {
                    QuotaExceeded::Keys { .. } => self.certain.too_many += 1,
                    QuotaExceeded::Bytes { .. } => self.certain.too_large += 1,
                }
                must(quota == due, &format!("{quota:?} where {due:?} was due"))
            }
            (Ok(Some(after)), None) => {
                let known = &mut self.known[index];
                let replaced = known.data.insert(key, value).is_some();
                must(after.replaced == replaced, "another one was replaced")?;
                must(after.data_bytes == known.bytes(), "another sum")
            }
            (told, due) => Err(format!("{told:?} where {due:?} was due")),
        }
    }

    /// Reads at every replica what one session holds.
    async fn read(&mut self, index: usize, from: Instant) -> Result<(), String> {
        let store = self.store;
        for replica in &store.replicas {
            for want in [Want::Data, Want::Echo] {
                let change = Change { want, ..Change::default() };
                let read = self.commit_to(replica, index, change, from).await?;
                let Some(read) = read.map_err(|quota| quota.to_string())? else { return Ok(()) };
                let known = &self.known[index];
                must(read.data_bytes == known.bytes(), "another sum of bytes")?;
                match want {
                    Want::Echo => {
                        let due = match &known.echoed {
                            LastEcho::Kept(text) => LastEcho::Kept(&**text),
                            LastEcho::None => LastEcho::None,
                            LastEcho::TooLarge => LastEcho::TooLarge,
                        };
                        must(read.last_echo() == due, "another echo")?;
                    }
                    Want::Data | Want::Nothing => {
                        let told = read.data().values().iter();
                        let told = told.map(|(key, value)| (&**key, value.get()));
                        let due = known.data.iter().map(|(key, value)| (*key, value.get()));
                        must(told.eq(due), &format!("{:?} of {known:?}", read.data()))?;
                    }
                }
                self.certain.read += usize::from(!known.data.is_empty());
            }
        }
        Ok(())
    }

    /// Has a store that is shared told what is held.
    async fn tell(&self) {
        if self.store.is_shared() {
            self.store.tick().await;
        }
    }

    /// Keeps what is held; what has been swept is gone.
    async fn tick(&mut self) -> Result<(), String> {
        let from = Instant::now();
        self.store.tick().await;
        let now = Span { from, to: Instant::now() };
        let perhaps = self.known.iter().filter(|known| !known.surely_swept(now)).count();
        must(self.store.counts().await.live <= perhaps as u64, "a tick left what was over")?;
        for index in 0..self.known.len() {
            if self.known[index].holds > 0 {
                self.keep(index, now);
            }
        }
        Ok(())
    }

    /// The idle clock of a held session was set back, if it was still there.
    fn keep(&mut self, index: usize, now: Span) {
        let known = &mut self.known[index];
        if known.surely_live(now) {
            known.kept = now;
        } else {
            // Or it was not.
            known.kept.to = now.to;
        }
    }

    async fn find_strange(&self, strange: Strange) -> Result<(), String> {
        let there = InstanceId::new(7).ok_or("exists")?;
        let Some(known) = self.known.first() else { return Ok(()) };
        let here = known.session.head.id.minted_by().ok_or("minted here")?;
        let MintedBy { tag: ReplicaTag(tag), boot: Boot(boot), .. } = here;
        let instance = MintedBy { instance: there, ..here };
        let replica = MintedBy { tag: ReplicaTag(tag ^ 1), ..here };
        let before = MintedBy { boot: Boot(boot ^ 1), ..here };
        let shared = self.store.is_shared();
        let mint = |by| SessionId::mint(by).map_err(|error| error.to_string());
        let (id, due) = match strange {
            Strange::NeverMinted => (mint(here)?.to_string(), Gone::Unknown),
            Strange::OtherInstance => (mint(instance)?.to_string(), Gone::OtherInstance(there)),
            // Where replicas share a store it does not matter who minted an id.
            Strange::OtherReplica if shared => (mint(replica)?.to_string(), Gone::Unknown),
            Strange::EarlierBoot if shared => (mint(before)?.to_string(), Gone::Unknown),
            Strange::OtherReplica => (mint(replica)?.to_string(), Gone::OtherReplica(replica)),
            Strange::EarlierBoot => (mint(before)?.to_string(), Gone::EarlierBoot(before)),
            Strange::UpperCase => {
                (known.session.head.id.to_string().replace('-', "").to_uppercase(), Gone::Unknown)
            }
            Strange::Garbage => ("so-called id".to_owned(), Gone::Unknown),
        };
        match store::load(self.store, &id, CALLERS[known.caller]()).await {
            Err(gone) if gone == due => Ok(()),
            other => Err(format!("{other:?} where {due:?} was due")),
        }
    }

    /// What holds after every command.
    async fn check(&self, from: Instant) -> Result<(), String> {
        let counts = self.store.counts().await;
        let now = Span { from, to: Instant::now() };
        let ended = |reason| self.known.iter().filter(|known| known.ended == Some(reason)).count();
        must(counts.created == self.known.len() as u64, "created")?;
        must(counts.refused == self.refused, "refused")?;
        must(counts.live == counts.created - counts.ended.iter().sum::<u64>(), "live")?;
        must(counts.live <= CAPACITY, "more than may be")?;
        for reason in [EndReason::Client, EndReason::Admin, EndReason::Shutdown] {
            must(counts.ended[reason.index()] == ended(reason) as u64, reason.as_str())?;
        }
        let seen = ended(EndReason::Expired) as u64;
        must(counts.ended[EndReason::Expired.index()] >= seen, "fewer expired than were seen")?;
        let surely = self.known.iter().filter(|known| known.surely_live(now)).count();
        must(counts.live >= surely as u64, "a live session was thrown away")?;
        let held = |known: &Known| (known.bytes() + known.echo_bytes()) as u64;
        let surely: u64 = self.known.iter().filter(|it| it.surely_live(now)).map(held).sum();
        let perhaps: u64 = self.known.iter().filter(|it| it.ended.is_none()).map(held).sum();
        let bytes = counts.data_bytes;
        must((surely..=perhaps).contains(&bytes), &format!("{bytes} are not {surely}..={perhaps}"))
    }
}

fn must(fine: bool, problem: &str) -> Result<(), String> {
    fine.then_some(()).ok_or_else(|| problem.to_owned())
}

async fn holds(commands: &[Command], place: &Arc<Place>) -> Result<Certain, String> {
    Model::new(&Kind::build(CAPACITY, TIMEOUT, place)).run(commands).await
}

#[tokio::test]
async fn the_store_does_as_its_model() {
    let mut total = Certain::default();
    for place in &Place::all() {
        let mut runner = TestRunner::new(Config::default());
        // Each case has two connections to a store that is shared.
        let count = if place.is_shared() { CASES / 3 } else { CASES };
        let cases =
            (0..count).map(|_| vec(command(), 1..60).new_tree(&mut runner).expect("a case"));
        let mut cases: Vec<_> = cases.collect();
        let told = join_all(cases.iter().map(|case| {
            let commands = case.current();
            async move { holds(&commands, place).await }
        }))
        .await;
        for (case, told) in cases.iter_mut().zip(told) {
            match told {
                Ok(Certain { found, expired, full, strangers, read, too_many, too_large }) => {
                    total.read += read;
                    total.too_many += too_many;
                    total.too_large += too_large;
                    total.found += found;
                    total.expired += expired;
                    total.full += full;
                    total.strangers += strangers;
                }
                Err(problem) => {
                    let (commands, problem) = smallest(case, problem, place).await;
                    panic!("{problem}\n{commands:?}\nshared: {}", place.is_shared());
                }
            }
        }
    }
    let Certain { found, expired, full, strangers, read, too_many, too_large } = total;
    let least = [found, expired, full, strangers, read, too_many, too_large].into_iter().min();
    println!("{total:?}");
    assert!(least > Some(10), "the model knew little: {total:?}");
}

/// The fewest commands that still fail.
async fn smallest(
    case: &mut impl ValueTree<Value = Vec<Command>>,
    problem: String,
    place: &Arc<Place>,
) -> (Vec<Command>, String) {
    let mut worst = (case.current(), problem);
    let mut more = case.simplify();
    for _ in 0..200 {
        if !more {
            break;
        }
        let commands = case.current();
        more = match holds(&commands, place).await {
            Err(problem) => {
                worst = (commands, problem);
                case.simplify()
            }
            Ok(_) => case.complicate(),
        };
    }
    worst
}

/// Several threads at once: at no moment is a count wrong, and none is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn counts_add_up_at_every_moment() {
    for store in every_kind(CAPACITY, TIMEOUT) {
        let store = Arc::new(store);
        let rounds = if store.is_shared() { 400u32 } else { 2000 };
        let mut workers = JoinSet::new();
        for worker in 0..4u32 {
            let store = Arc::clone(&store);
            workers.spawn(async move {
                let owner = CALLERS[worker as usize % CALLERS.len()]();
                let mut mine = Vec::new();
                for round in 0..rounds {
                    let timeout_millis = u64::from(round % 3);
                    match (round * 7 + worker) % 5 {
                        0 | 1 => {
                            let handshake = Handshake { timeout_millis, ..handshake() };
                            mine.extend(store.create(handshake, owner).await.ok());
                        }
                        2 => store.tick().await,
                        3 => {
                            let Some(session) = mine.pop() else { continue };
                            let _ = store.end(session.head.id, EndReason::Client).await;
                        }
                        _ => {
                            let Some(session) = mine.last() else { continue };
                            let hold = store.hold(session.head.id);
                            let id = session.head.id.to_string();
                            let _ = store::load(&store, &id, owner).await;
                            drop(hold);
                        }
                    }
                    let counts = SessionStore::counts(&store);
                    assert_eq!(counts.live, counts.created - counts.ended.iter().sum::<u64>());
                    assert!(counts.live <= CAPACITY, "{counts:?}");
                }
            });
        }
        while let Some(worker) = workers.join_next().await {
            worker.expect("does not panic");
        }
        store.end_all(EndReason::Shutdown).await.expect("asked");
        let counts = store.counts().await;
        assert_eq!((counts.live, counts.ended.iter().sum::<u64>()), (0, counts.created));
        assert!(store.list().await.is_ok_and(|listed| listed.is_empty()));
        assert!(counts.created > 100, "{counts:?}");
    }
}
