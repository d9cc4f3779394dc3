//! The work of a shared task, at the replica where it was created.
//!
//! Owns [`Run`]: how the work asks and hears the answers, and how it is told that its task was cancelled or is over.
//! Trap: the store may be away when there is something to tell it. A question or a result waits for it until the time
//! of the task is over; nothing is lost of it that way.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::Value;
use tokio::{
    select,
    sync::oneshot,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{Stage, VALUE_TIMES, kept::question_text, shared::SharedTasks, summary, unique};
use crate::{
    budget::{Booking, NoRoom, Share},
    clock::millis,
    failure::Failure,
    id::SessionId,
    link::Reply,
    session::lock,
    wire::{Capabilities, Era, Questions, inputs},
};

/// How long to wait before the store is told again what it could not be told.
const AGAIN: Duration = Duration::from_millis(250);

/// The work of one task.
#[derive(Debug)]
pub(crate) struct Run {
    pub(super) cancelled: CancellationToken,
    id: SessionId,
    client: Capabilities,
    tasks: Arc<SharedTasks>,
    /// When it was created, by the store's clock, and its time to live.
    created: i64,
    ttl: Duration,
    over: Instant,
    /// The client's answers and the result, for as long as the work is here.
    booking: Booking,
    asking: Mutex<Asking>,
}

#[derive(Debug, Default)]
struct Asking {
    /// How often the client was asked.
    rounds: usize,
    waiter: Option<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    /// The key that the client sees and the tool's own key.
    keys: Vec<(String, &'static str)>,
    answers: oneshot::Sender<BTreeMap<String, Value>>,
}

/// What the store is to be told.
enum News<'a> {
    /// The work asks its client.
    Asks { round: usize, questions: &'a [(String, String)] },
    /// The work has come to something, which is that name's.
    Ended { stage: Stage, name: &'a str, value: &'a str },
}

impl Run {
    pub(super) fn new(
        id: SessionId,
        client: Capabilities,
        tasks: &Arc<SharedTasks>,
        share: &Arc<Share>,
        (created, ttl): (i64, Duration),
        over: Instant,
    ) -> Self {
        Self {
            cancelled: CancellationToken::new(),
            id,
            client,
            tasks: Arc::clone(tasks),
            created,
            ttl,
            over,
            booking: Booking::of(share),
            asking: Mutex::default(),
        }
    }

    pub(super) fn summary(&self) -> Value {
        let created = Timestamp::from_millisecond(self.created).unwrap_or(Timestamp::MAX);
        summary(&self.id.to_string(), Stage::Working, created, created, millis(self.ttl))
    }

    pub(super) async fn complete(&self, result: &Value, bytes: usize) -> Result<(), NoRoom> {
        self.booking.keep(bytes)?;
        self.finish(Stage::Completed, "result", &result.to_string()).await;
        Ok(())
    }

    pub(super) async fn fail(&self, error: &Value) {
        self.finish(Stage::Failed, "error", &error.to_string()).await;
    }

    async fn finish(&self, stage: Stage, name: &str, value: &str) {
        self.tell(&News::Ended { stage, name, value }).await;
    }

    /// Tells the store, again and again until it has heard, or until nobody needs to know any more. False if there is
    /// no such task, or the store was not told.
    async fn tell(&self, news: &News<'_>) -> bool {
        let cutting = self.tasks.process.lifecycle.cutting();
        let digest = self.id.digest();
        while Instant::now() < self.over {
            let told = match *news {
                News::Asks { round, questions } => self.tasks.ask(digest, round, questions).await,
                News::Ended { stage, name, value } => {
                    self.tasks.finish(digest, stage, name, value).await
                }
            };
            if let Ok(found) = told {
                return found;
            }
            select! {
                () = self.cancelled.cancelled() => return false,
                () = cutting.cancelled() => return false,
                () = sleep(AGAIN) => {}
            }
        }
        false
    }

    pub(super) async fn ask(&self, questions: Questions) -> BTreeMap<String, Value> {
        if let Some(required) = inputs::missing(&questions, self.client) {
            let failure = Failure::MissingCapability(required);
            let error = serde_json::to_value(failure.to_object(Era::Stateless));
            self.fail(&error.unwrap_or_default()).await;
            self.cancelled.cancel();
            return BTreeMap::new();
        }
        let (sender, answers) = oneshot::channel();
        let (round, texts) = {
            let mut asking = lock(&self.asking);
            asking.rounds += 1;
            let round = asking.rounds;
            let keys = questions.iter().map(|(key, _)| (unique(key, round), *key)).collect();
            asking.waiter = Some(Waiter { keys, answers: sender });
            let text = |(key, question): &(&str, _)| (unique(key, round), question_text(question));
            (round, questions.iter().map(text).collect::<Vec<_>>())
        };
        if !self.tell(&News::Asks { round, questions: &texts }).await {
            self.cancelled.cancel();
        }
        // Fails if nobody waits for the work any more.
        answers.await.unwrap_or_default()
    }

    /// The round whose answers are awaited; empty if none is.
    pub(super) fn awaited(&self) -> String {
        let asking = lock(&self.asking);
        asking.waiter.as_ref().map(|_| asking.rounds.to_string()).unwrap_or_default()
    }

    /// The task as it was found in the store: its state, and the members that hold the answers to the awaited round.
    pub(super) fn found(&self, task: &mut Reply) {
        match task.text().as_deref().and_then(Stage::parse) {
            Some(Stage::Working) => {
                if let Some(members) = task.list().filter(|members| members.len() > 0) {
                    self.answered(members);
                }
            }
            Some(Stage::InputRequired) => {}
            // Cancelled, or over.
            Some(Stage::Completed | Stage::Failed | Stage::Cancelled) | None => {
                self.cancelled.cancel();
            }
        }
    }

    fn answered(&self, mut members: Reply) {
        let mut given = BTreeMap::new();
        while members.len() > 0 {
            let (Some(name), Some(value)) = (members.text(), members.text()) else { return };
            if let Some(key) = name.strip_prefix("a:") {
                self.booking.add_anyway(value.len() * VALUE_TIMES);
                given.insert(key.to_owned(), serde_json::from_str(&value).unwrap_or_default());
            }
        }
        let Some(Waiter { keys, answers }) = lock(&self.asking).waiter.take() else { return };
        let own = |(key, own): (String, &str)| Some((own.to_owned(), given.remove(&key)?));
        let _ = answers.send(keys.into_iter().filter_map(own).collect());
    }
}
