//! Writes whose answer waits until they are on the store's disk (`store.wait_aof`), many at a time.
//!
//! Owns [`Disk`]: a connection of its own, and a queue. Whatever has come goes out together, with one WAITAOF behind it;
//! what comes meanwhile is the next group.
//! Trap: a server reads nothing more from a connection that waits for its disk. So nothing else may be asked on this one,
//! and of two who wait one behind the other the second would wait twice as long.

use std::{future, sync::Mutex, time::Duration};

use redis::{Cmd, Pipeline, RedisError, Value, aio::MultiplexedConnection, cmd};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use super::{line::Line, lock, trouble::Trouble};

/// How many may wait to be sent; whoever comes then waits to be let in.
const MOST: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Disk {
    line: Line,
    queue: mpsc::Sender<Asked>,
    /// Until the one who sends takes it.
    asked: Mutex<Option<mpsc::Receiver<Asked>>>,
}

#[derive(Debug)]
struct Asked {
    command: Cmd,
    on_disk: Duration,
    until: Instant,
    answer: oneshot::Sender<Result<Value, Trouble>>,
}

impl Disk {
    /// `line` is for nothing else.
    pub(super) fn new(line: Line) -> Self {
        let (queue, asked) = mpsc::channel(MOST);
        Self { line, queue, asked: Mutex::new(Some(asked)) }
    }

    /// As [`Line::ask`]; the store may take `on_disk` to write what has come.
    pub(super) async fn ask(
        &self,
        command: &Cmd,
        on_disk: Duration,
        until: Instant,
    ) -> Result<Value, Trouble> {
        let (answer, answered) = oneshot::channel();
        let asked = Asked { command: command.clone(), on_disk, until, answer };
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
            let on_disk = group.iter().map(|asked| asked.on_disk).max().unwrap_or_default();
            let commands: Vec<_> = group.iter().map(|asked| &asked.command).collect();
            let told = self
                .line
                .send(until, async |connection| written(connection, &commands, on_disk).await);
            match told.await {
                Ok((answers, disk)) => {
                    for (asked, answer) in group.drain(..).zip(answers) {
                        let _ = asked.answer.send(self.line.on_disk(answer, &disk));
                    }
                }
                Err(trouble) => group.drain(..).for_each(|asked| {
                    let _ = asked.answer.send(Err(trouble.clone()));
                }),
            }
        }
    }
}

/// The answers to commands, and what the store says of its disk after them. Nobody comes between.
async fn written(
    connection: &mut MultiplexedConnection,
    commands: &[&Cmd],
    time: Duration,
) -> Result<(Vec<Value>, Value), RedisError> {
    let mut wait = cmd("WAITAOF");
    wait.arg(1).arg(0).arg(time.as_millis().max(1) as u64);
    let mut all = Pipeline::with_capacity(commands.len() + 1);
    for command in commands {
        all.add_command((*command).clone());
    }
    all.add_command(wait);
    let mut answers = connection.send_packed_commands(&all, 0, commands.len() + 1).await?;
    let disk = answers.pop().unwrap_or(Value::Nil);
    Ok((answers, disk))
}
