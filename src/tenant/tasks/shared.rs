//! Tasks in the store that replicas share.
//!
//! Owns the operations on them, each one run of `tasks.lua`; the look at those whose work runs here, and at those
//! that are listened to here; and the lease, by which the others know that the work goes on.
//! Traps: news of a change are hints, so a replica looks once a second without them. A task whose replica died would
//! be worked on for ever: whoever comes after its lease is over, finds that it has failed.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use serde_json::{Map, Value};
use tokio::{
    select,
    sync::Notify,
    time::{Instant, sleep},
};

use super::{NotCreated, Stage, kept::Kept, run::Run};
use crate::{
    budget::Share,
    clock::millis,
    config::TasksConfig,
    failure::Failure,
    id::{Caller, InstanceId, SessionDigest, SessionId},
    link::{Call, Link, Lost, Reply, scripts},
    process::Process,
    session::{Unavailable, caller_text, lock},
    tenant::subscriptions::{Subscriptions, Update},
    wire::Capabilities,
};

scripts! { "../../session/shared/prelude.lua":
    TASK_CREATE: promised, "tasks.lua";
    TASK_GET: repeated, "tasks.lua";
    TASK_OWN: repeated, "tasks.lua";
    TASK_ASK: promised, "tasks.lua";
    TASK_UPDATE: promised, "tasks.lua";
    TASK_CANCEL: promised, "tasks.lua";
    TASK_FINISH: promised, "tasks.lua";
    TASK_LOOK: repeated, "tasks.lua";
    TASK_SWEEP: repeated, "tasks.lua";
}

/// How often is done what is to be done without news: all tasks looked at, and their leases renewed.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is seen whether something is due.
const TICK: Duration = Duration::from_millis(250);
/// How often a store that has nothing to do is asked for its counts.
const AT_REST: Duration = Duration::from_secs(3);
/// How many tasks one script looks at.
const PAGE: usize = 128;

/// One instance's tasks.
#[derive(Debug)]
pub(super) struct SharedTasks {
    instance: InstanceId,
    pub(super) process: Arc<Process>,
    link: Arc<Link>,
    share: Arc<Share>,
    subscriptions: Arc<Subscriptions>,
    /// The key that every script is given.
    key: String,
    limits: Mutex<TasksConfig>,
    /// Those whose work runs here.
    running: Mutex<HashMap<SessionDigest, Weak<Run>>>,
    /// Of which version listeners have been told.
    told: Mutex<HashMap<SessionDigest, String>>,
    /// To be looked at now.
    changed: Mutex<HashSet<SessionDigest>>,
    all_changed: AtomicBool,
    woken: Notify,
    /// As of the last sweep.
    census: Mutex<[u64; Stage::ALL.len()]>,
    /// When a sweep has something to do, on the store's clock.
    next_sweep: AtomicI64,
}

impl SharedTasks {
    pub(super) fn new(
        instance: InstanceId,
        config: &TasksConfig,
        process: &Arc<Process>,
        link: &Arc<Link>,
        share: &Arc<Share>,
        subscriptions: &Arc<Subscriptions>,
    ) -> Self {
        let namespace = link.namespace();
        Self {
            instance,
            process: Arc::clone(process),
            link: Arc::clone(link),
            share: Arc::clone(share),
            subscriptions: Arc::clone(subscriptions),
            key: format!("{namespace}:{{{namespace}:{instance}}}:live"),
            limits: Mutex::new(config.clone()),
            running: Mutex::default(),
            told: Mutex::default(),
            changed: Mutex::default(),
            all_changed: AtomicBool::new(false),
            woken: Notify::new(),
            census: Mutex::default(),
            next_sweep: AtomicI64::new(0),
        }
    }

    pub(super) fn set_limits(&self, limits: &TasksConfig) {
        *lock(&self.limits) = limits.clone();
    }

    pub(super) async fn create(
        self: &Arc<Self>,
        owner: Caller,
        client: Capabilities,
    ) -> Result<Arc<Run>, NotCreated> {
        let id = SessionId::mint(self.process.minted_by(self.instance));
        let id = id.map_err(|_| NotCreated::NoEntropy)?;
        let (digest, begun) = (id.digest(), Instant::now());
        let TasksConfig { ttl_seconds, capacity } = lock(&self.limits).clone();
        let ttl = ttl_seconds.get();
        let digits = digest.digits();
        let call = Call::new(&TASK_CREATE, &self.key)
            .text("create")
            .text(digits.as_str())
            .bytes(caller_text(owner).into_bytes())
            .number(millis(ttl))
            .number(capacity as u64);
        let mut reply = self.link.run(&call).await.map_err(|Lost| NotCreated::Unavailable)?;
        match reply.text().as_deref() {
            Some("ok") => {}
            Some("full") => return Err(NotCreated::Full),
            _ => return Err(NotCreated::Unavailable),
        }
        let over = reply.now.saturating_add_unsigned(millis(ttl));
        self.next_sweep.fetch_min(over, Ordering::Relaxed);
        let run = Run::new(id, client, self, &self.share, (reply.now, ttl), begun + ttl);
        let run = Arc::new(run);
        lock(&self.running).insert(digest, Arc::downgrade(&run));
        Ok(run)
    }

    pub(super) async fn get(&self, id: &str, caller: Caller) -> Result<Option<Kept>, Unavailable> {
        let Some(id) = SessionId::parse(id) else { return Ok(None) };
        let digits = id.digest().digits();
        let call = Call::new(&TASK_GET, &self.key)
            .text("get")
            .text(digits.as_str())
            .bytes(caller_text(caller).into_bytes());
        let mut reply = self.link.run(&call).await?;
        if !is_there(&mut reply)? {
            return Ok(None);
        }
        reply.list().and_then(Kept::read).map(Some).ok_or(Unavailable)
    }

    /// Those of the ids that are of this caller's tasks, of which changes are told from now on.
    pub(super) async fn own(
        &self,
        ids: Vec<String>,
        caller: Caller,
    ) -> Result<Vec<String>, Unavailable> {
        let mut own = Vec::new();
        for page in ids.chunks(PAGE) {
            let mut call = Call::new(&TASK_OWN, &self.key).text("own");
            call = call.bytes(caller_text(caller).into_bytes());
            for id in page {
                let digits = SessionDigest::of(id).digits();
                call = call.bytes(digits.as_str().as_bytes().to_vec());
            }
            let mut versions = self.link.run(&call).await?.list().ok_or(Unavailable)?;
            for id in page {
                let version = versions.text().ok_or(Unavailable)?;
                if !version.is_empty() {
                    // Those who listen already may not have been told of this one.
                    lock(&self.told).entry(SessionDigest::of(id)).or_insert(version);
                    own.push(id.clone());
                }
            }
        }
        Ok(own)
    }

    pub(super) async fn update(
        &self,
        id: &str,
        caller: Caller,
        answers: &Map<String, Value>,
    ) -> Result<bool, Failure> {
        let Some(kept) = self.get(id, caller).await? else { return Ok(false) };
        let digest = SessionDigest::of(id);
        let digits = digest.digits();
        let mut call = Call::new(&TASK_UPDATE, &self.key)
            .text("update")
            .text(digits.as_str())
            .bytes(caller_text(caller).into_bytes());
        let mut answered = false;
        // A key is of one question alone, so what fits it now does so whatever happens meanwhile.
        for (key, question) in kept.open.iter().filter(|_| kept.stage() == Stage::InputRequired) {
            if let Some(answer) = answers.get(key).filter(|answer| answer.is_object()) {
                question.check(answer).map_err(|problem| Failure::unfit(key, &problem))?;
                call = call.text(key).bytes(answer.to_string().into_bytes());
                answered = true;
            }
        }
        match answered {
            true => self.change(&call, digest).await.map_err(Failure::from),
            false => Ok(true),
        }
    }

    pub(super) async fn cancel(&self, id: &str, caller: Caller) -> Result<bool, Unavailable> {
        let Some(id) = SessionId::parse(id) else { return Ok(false) };
        let digits = id.digest().digits();
        let call = Call::new(&TASK_CANCEL, &self.key)
            .text("cancel")
            .text(digits.as_str())
            .bytes(caller_text(caller).into_bytes());
        self.change(&call, id.digest()).await
    }

    /// Runs a script that changes a task. False if there is no such task.
    async fn change(&self, call: &Call<'_>, digest: SessionDigest) -> Result<bool, Unavailable> {
        let mut reply = self.link.run(call).await?;
        self.look_soon(digest);
        is_there(&mut reply)
    }

    /// Asks the client what it is asked by a task's work, each question under its key.
    pub(super) async fn ask(
        &self,
        digest: SessionDigest,
        round: usize,
        questions: &[(String, String)],
    ) -> Result<bool, Unavailable> {
        let digits = digest.digits();
        let mut call = Call::new(&TASK_ASK, &self.key).text("ask").text(digits.as_str());
        call = call.number(round as u64);
        for (key, question) in questions {
            call = call.text(key).text(question);
        }
        self.change(&call, digest).await
    }

    /// Ends a task with a result or an error, which is that name's.
    pub(super) async fn finish(
        &self,
        digest: SessionDigest,
        stage: Stage,
        name: &str,
        value: &str,
    ) -> Result<bool, Unavailable> {
        let digits = digest.digits();
        let call = Call::new(&TASK_FINISH, &self.key)
            .text("finish")
            .text(digits.as_str())
            .text(stage.as_str())
            .text(name)
            .text(value);
        self.change(&call, digest).await
    }

    pub(super) fn len(&self) -> usize {
        usize::try_from(lock(&self.census).iter().sum::<u64>()).unwrap_or(usize::MAX)
    }

    pub(super) fn census(&self) -> [u64; Stage::ALL.len()] {
        *lock(&self.census)
    }

    /// A task may have been changed. Whether that is of any interest here, the look says.
    pub(super) fn look_soon(&self, digest: SessionDigest) {
        let is_ours = lock(&self.running).contains_key(&digest);
        if is_ours || self.subscriptions.task(digest).is_some() {
            lock(&self.changed).insert(digest);
            self.woken.notify_one();
        }
    }

    pub(super) fn look_at_all_soon(&self) {
        self.all_changed.store(true, Ordering::Relaxed);
        self.woken.notify_one();
    }

    /// See [`Tasks::keep`](super::Tasks::keep).
    pub(super) async fn keep(&self) {
        let mut looked = Instant::now();
        loop {
            select! {
                () = self.woken.notified() => {}
                () = sleep(TICK) => {}
            }
            // What fails is done in a while.
            let all = self.all_changed.swap(false, Ordering::Relaxed) || looked.elapsed() >= LOOK;
            let changed = std::mem::take(&mut *lock(&self.changed));
            if all {
                looked = Instant::now();
                lock(&self.running).retain(|_, run| run.strong_count() > 0);
                let _ = self.look(None).await;
            } else if self.look(Some(&changed)).await.is_err() {
                lock(&self.changed).extend(changed);
            }
            if self.link.store_now() >= self.next_sweep.load(Ordering::Relaxed) {
                let _ = self.sweep().await;
            }
        }
    }

    /// Looks at tasks that are worked on or listened to here: those that have changed, or all.
    async fn look(&self, changed: Option<&HashSet<SessionDigest>>) -> Result<(), Unavailable> {
        for page in self.running(changed).chunks(PAGE) {
            let tasks = page.iter().map(|(digest, run)| (*digest, run.awaited()));
            let (mut own, _) = self.look_at(tasks, changed.is_none(), page.len()).await?;
            let by_digest: HashMap<_, _> = page.iter().cloned().collect();
            while let Some(mut task) = own.list() {
                let digest = task.bytes().and_then(|digits| SessionDigest::parse(&digits));
                if let Some(run) = digest.and_then(|digest| by_digest.get(&digest)) {
                    run.found(&mut task);
                }
            }
        }
        let id = |digest: &SessionDigest| Some((*digest, self.subscriptions.task(*digest)?));
        let listened: HashMap<_, _> = match changed {
            Some(changed) => changed.iter().filter_map(id).collect(),
            None => self.subscriptions.tasks().into_iter().collect(),
        };
        if changed.is_none() {
            lock(&self.told).retain(|digest, _| listened.contains_key(digest));
        }
        let digests: Vec<_> = listened.keys().copied().collect();
        for page in digests.chunks(PAGE) {
            let told = |digest| lock(&self.told).get(digest).cloned().unwrap_or_default();
            let tasks = page.iter().map(|digest| (*digest, told(digest)));
            let (_, mut others) = self.look_at(tasks, false, 0).await?;
            while let Some(mut task) = others.list() {
                self.notify(&mut task, &listened);
            }
        }
        Ok(())
    }

    /// The work that is done here: of tasks that have changed, or all.
    fn running(&self, changed: Option<&HashSet<SessionDigest>>) -> Vec<(SessionDigest, Arc<Run>)> {
        let running = lock(&self.running);
        let upgrade = |(digest, run): (&SessionDigest, &Weak<Run>)| Some((*digest, run.upgrade()?));
        match changed {
            Some(changed) => {
                let known = changed.iter().filter_map(|digest| running.get_key_value(digest));
                known.filter_map(upgrade).collect()
            }
            None => running.iter().filter_map(upgrade).collect(),
        }
    }

    /// One look, of which the first so many are at tasks that are worked on here.
    async fn look_at(
        &self,
        tasks: impl Iterator<Item = (SessionDigest, String)>,
        renew: bool,
        own: usize,
    ) -> Result<(Reply, Reply), Unavailable> {
        let mut call = Call::new(&TASK_LOOK, &self.key).text("look").flag(renew).number(own as u64);
        for (digest, known) in tasks {
            call = call.bytes(digest.digits().as_str().as_bytes().to_vec());
            call = call.bytes(known.into_bytes());
        }
        let mut reply = self.link.run(&call).await?;
        Ok((reply.list().ok_or(Unavailable)?, reply.list().ok_or(Unavailable)?))
    }

    /// Tells those who listen to a task of its state.
    fn notify(&self, task: &mut Reply, listened: &HashMap<SessionDigest, String>) {
        let digest = task.bytes().and_then(|digits| SessionDigest::parse(&digits));
        let (Some(digest), Some(kept)) = (digest, task.list().and_then(Kept::read)) else { return };
        let Some(id) = listened.get(&digest) else { return };
        lock(&self.told).insert(digest, kept.version.clone());
        let state = kept.describe(id);
        self.subscriptions.notify(&Update::Task { id: id.clone(), state });
    }

    /// Has the store forget what is over, and counts.
    async fn sweep(&self) -> Result<(), Unavailable> {
        loop {
            let call = Call::new(&TASK_SWEEP, &self.key).text("sweep");
            let mut reply = self.link.run(&call).await?;
            let (swept, next) =
                (reply.count().ok_or(Unavailable)?, reply.integer().ok_or(Unavailable)?);
            let mut counts = reply.list().ok_or(Unavailable)?;
            let mut census = [0; Stage::ALL.len()];
            for count in &mut census {
                *count = counts.count().ok_or(Unavailable)?;
            }
            *lock(&self.census) = census;
            let rested = reply.now.saturating_add_unsigned(millis(AT_REST));
            let next = if next > 0 { next.min(rested) } else { rested };
            self.next_sweep.store(next, Ordering::Relaxed);
            if swept == 0 {
                return Ok(());
            }
        }
    }
}

/// Whether a script has found the task.
fn is_there(reply: &mut Reply) -> Result<bool, Unavailable> {
    match reply.text().as_deref() {
        Some("ok") => Ok(true),
        Some("gone") => Ok(false),
        _ => Err(Unavailable),
    }
}
