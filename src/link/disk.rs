//! Writes whose answer waits until they are on the store's disk (`store.wait_aof`), many at a time.
//!
//! Owns [`Disk`]: a connection of its own, and a queue. Whatever has come goes out together, with one WAITAOF behind it;
//! what comes meanwhile is the next group.
//! Trap: a server reads nothing more from a connection that waits for its disk. So nothing else may be asked on this one,
//! and of two who wait one behind the other the second would wait twice as long.

use std::{future, sync::Mutex, time::Duration};

use redis::{Cmd, Pipeline, Value, cmd};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use super::{line::Line, lock, trouble::Trouble};

/// How late the store may notice that a time is over: it looks at its clock ten times a second.
const STEP: Duration = Duration::from_millis(120);

/// How many may wait to be sent; whoever comes then waits to be let in.
const MOST: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Disk {
    line: Line,
    /// How long the store may take to write what has come.
    time: Duration,
    queue: mpsc::Sender<Asked>,
    /// Until the one who sends takes it.
    asked: Mutex<Option<mpsc::Receiver<Asked>>>,
}

#[derive(Debug)]
struct Asked {
    command: Cmd,
    until: Instant,
    answer: oneshot::Sender<Result<Value, Trouble>>,
}

impl Disk {
    /// `line` is for nothing else. `patience` is how long an answer is waited for.
    pub(super) fn new(line: Line, patience: Duration) -> Self {
        let (queue, asked) = mpsc::channel(MOST);
        // The store gives up first, so that its answer is in time.
        let time = patience.saturating_sub(STEP).max(patience / 2);
        Self { line, time, queue, asked: Mutex::new(Some(asked)) }
    }

    /// Sends a command and waits until then for its answer, and for its write to be on the disk.
    pub(super) async fn ask(&self, command: &Cmd, until: Instant) -> Result<Value, Trouble> {
        let (answer, answered) = oneshot::channel();
        let asked = Asked { command: command.clone(), until, answer };
        let come = async {
            self.queue.send(asked).await.ok()?;
            answered.await.ok()
        };
        timeout_at(until, come).await.ok().flatten().unwrap_or(Err(Trouble::Silent))
    }

    /// Makes the connection, and sends what is asked. To be run once, as long as it is used.
    pub(super) async fn keep(&self) {
        tokio::join!(self.line.keep_connection(), self.send());
    }

    async fn send(&self) {
        let Some(mut queue) = lock(&self.asked).take() else { return future::pending().await };
        let mut group = Vec::new();
        while queue.recv_many(&mut group, MOST).await > 0 {
            // Who has stopped waiting asks again.
            group.retain(|asked| !asked.answer.is_closed());
            let Some(until) = group.iter().map(|asked| asked.until).max() else { continue };
            let mut all = Pipeline::with_capacity(group.len() + 1);
            let mut waiting = Vec::with_capacity(group.len());
            for Asked { command, answer, .. } in group.drain(..) {
                all.add_command(command);
                waiting.push(answer);
            }
            all.add_command(self.wait());
            let told = self.line.send(until, async |connection| {
                connection.send_packed_commands(&all, 0, waiting.len() + 1).await
            });
            match told.await {
                Ok(mut answers) => {
                    let disk = answers.pop().unwrap_or(Value::Nil);
                    for (who, answer) in waiting.into_iter().zip(answers) {
                        let _ = who.send(self.line.on_disk(answer, &disk));
                    }
                }
                Err(trouble) => {
                    for who in waiting {
                        let _ = who.send(Err(trouble.clone()));
                    }
                }
            }
        }
    }

    /// Asks whether all that was written before is on the disk.
    fn wait(&self) -> Cmd {
        let mut wait = cmd("WAITAOF");
        wait.arg(1).arg(0).arg(self.time.as_millis().max(1) as u64);
        wait
    }
}
