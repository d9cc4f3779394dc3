//! One connection to one server of the store, made again whenever it is lost.
//!
//! Owns [`Line`]. Everyone shares the connection; [`Line::keep`] alone makes it. Whoever has waited too long for an answer says
//! so, and the next connection is made at once: the old one goes on for a while for those who still wait on it.
//! Trap: while there is no connection nobody waits longer than for one answer, and after that time nobody waits at all.

use std::{convert::Infallible, fmt, future, sync::Arc, time::Duration};

use redis::{Cmd, RedisError, Value, aio::MultiplexedConnection, cmd};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    address::Place,
    bells::Bells,
    check::{Fault, Found},
    dial::{Dialled, Dialler, Driving, Target},
    disk::Disk,
    trouble::Trouble,
};

/// Between two attempts to make a connection.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two signs of life.
const PULSE: Duration = Duration::from_secs(3);
/// How long an old connection may go on for those who still wait on it.
const FAREWELL: Duration = Duration::from_secs(5);

#[derive(Clone)]
enum Standing {
    Up { connection: MultiplexedConnection, number: u64, place: Place },
    Down { since: Instant },
}

/// One connection.
pub(super) struct Line {
    target: Target,
    dialler: Arc<Dialler>,
    standing: watch::Sender<Standing>,
    /// The connection of the standing is of no use.
    given_up: Notify,
    bells: Arc<Bells>,
    /// Told whenever a connection is made, is lost, or cannot be made.
    changed: Arc<Notify>,
    /// Whether the log and the metrics are told of it.
    told: bool,
    /// Where those wait whose writes are to be on the disk, if there are any.
    disk: Option<Box<Disk>>,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({})", self.target)
    }
}

impl Line {
    pub(super) fn new(
        target: Target,
        dialler: &Arc<Dialler>,
        bells: &Arc<Bells>,
        changed: &Arc<Notify>,
    ) -> Self {
        let standing = watch::Sender::new(Standing::Down { since: Instant::now() });
        Self {
            target,
            dialler: Arc::clone(dialler),
            standing,
            given_up: Notify::new(),
            bells: Arc::clone(bells),
            changed: Arc::clone(changed),
            told: true,
            disk: None,
        }
    }

    /// With another one to that server for writes that wait for its disk, if they are to (`store.wait_aof`).
    pub(super) fn with_disk(self, other: Target) -> Self {
        let disk = self.dialler.demands.wait_aof.then(|| {
            let line = Self::new(other, &self.dialler, &Arc::default(), &self.changed).untold();
            Box::new(Disk::new(line, self.dialler.demands.patience))
        });
        Self { disk, ..self }
    }

    /// The same beside another line to that server, of which it is told what there is to tell.
    pub(super) fn untold(self) -> Self {
        Self { told: false, ..self }
    }

    /// Asks every few seconds for a sign of life, on a line on which nobody asks for anything else.
    pub(super) async fn pulse(&self) {
        loop {
            sleep(PULSE).await;
            let until = Instant::now() + self.dialler.demands.patience;
            // Who does not answer is given up, and dialled anew.
            let _ = self.ask(&cmd("PING"), false, until).await;
        }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Sends a command and waits for its answer until then. That of a promised one waits until the write is on the
    /// store's disk, where this is asked for (`store.wait_aof`).
    pub(super) async fn ask(
        &self,
        command: &Cmd,
        promised: bool,
        until: Instant,
    ) -> Result<Value, Trouble> {
        if let (true, Some(disk)) = (promised, &self.disk) {
            return disk.ask(command, until).await;
        }
        let send = async |connection: &mut MultiplexedConnection| {
            connection.send_packed_command(command).await
        };
        self.answer(self.send(until, send).await?)
    }

    /// What the store has answered, be it that it refuses.
    fn answer(&self, value: Value) -> Result<Value, Trouble> {
        match value {
            Value::ServerError(error) => Err(self.refused(&error.into())),
            value => Ok(value),
        }
    }

    /// The same for a write, after which it has said this of its disk.
    pub(super) fn on_disk(&self, value: Value, disk: &Value) -> Result<Value, Trouble> {
        let value = self.answer(value)?;
        match disk {
            Value::Array(servers) if matches!(**servers, [Value::Int(1..), ..]) => Ok(value),
            Value::ServerError(error) => Err(self.refused(&error.clone().into())),
            _ => Err(Trouble::NotOnDisk),
        }
    }

    /// Sends something on the connection and waits for what comes until then.
    pub(super) async fn send<T>(
        &self,
        until: Instant,
        send: impl AsyncFnOnce(&mut MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, Trouble> {
        let (mut connection, number) = self.connection(until).await?;
        match timeout_at(until, send(&mut connection)).await {
            Ok(Ok(came)) => Ok(came),
            Ok(Err(error)) if error.is_unrecoverable_error() || error.is_io_error() => {
                self.give_up(number);
                Err(Trouble::Broken)
            }
            Ok(Err(error)) => Err(self.refused(&error)),
            Err(_) => {
                self.give_up(number);
                Err(Trouble::Silent)
            }
        }
    }

    fn refused(&self, error: &RedisError) -> Trouble {
        let trouble = Trouble::of(error);
        // The master is another one now.
        if matches!(trouble, Trouble::ReadOnly) {
            self.give_up_this();
        }
        trouble
    }

    /// The connection there is, or the one that is made soon: nobody waits for it longer than once for an answer.
    async fn connection(&self, until: Instant) -> Result<(MultiplexedConnection, u64), Trouble> {
        let mut standing = self.standing.subscribe();
        let until = match &*standing.borrow() {
            Standing::Up { connection, number, .. } => return Ok((connection.clone(), *number)),
            Standing::Down { since } => until.min(*since + self.dialler.demands.patience),
        };
        let up = standing.wait_for(|standing| matches!(standing, Standing::Up { .. }));
        match timeout_at(until, up).await {
            Ok(Ok(standing)) => match &*standing {
                Standing::Up { connection, number, .. } => Ok((connection.clone(), *number)),
                Standing::Down { .. } => Err(Trouble::Down),
            },
            Ok(Err(_)) | Err(_) => Err(Trouble::Down),
        }
    }

    /// Whether there is a connection.
    pub(super) fn is_up(&self) -> bool {
        matches!(&*self.standing.borrow(), Standing::Up { .. })
    }

    /// Where the connection leads, if there is one.
    pub(super) fn place(&self) -> Option<Place> {
        match &*self.standing.borrow() {
            Standing::Up { place, .. } => Some(place.clone()),
            Standing::Down { .. } => None,
        }
    }

    /// Whichever connection there is, another one shall be made.
    pub(super) fn give_up_this(&self) {
        let number = match &*self.standing.borrow() {
            Standing::Up { number, .. } => *number,
            Standing::Down { .. } => return,
        };
        self.give_up(number);
    }

    /// The connection of that number is of no use any more.
    fn give_up(&self, number: u64) {
        let gone = self.standing.send_if_modified(|standing| match standing {
            Standing::Up { number: current, .. } if *current == number => {
                *standing = Standing::Down { since: Instant::now() };
                true
            }
            Standing::Up { .. } | Standing::Down { .. } => false,
        });
        if gone {
            self.given_up.notify_one();
            self.changed.notify_one();
        }
    }

    /// Makes the connection whenever there is none. To be run once, as long as the line is used.
    pub(super) async fn keep(&self) {
        match &self.disk {
            None => self.keep_connection().await,
            Some(disk) => {
                tokio::join!(self.keep_connection(), disk.keep());
            }
        }
    }

    pub(super) async fn keep_connection(&self) {
        let mut drivers = JoinSet::new();
        let (mut number, mut diary) = (0, self.told.then(Diary::default));
        loop {
            match self.dialler.dial(&self.target, &self.bells, &mut drivers).await {
                Ok(Dialled { connection, driving, place, found }) => {
                    number += 1;
                    if let Some(diary) = &mut diary {
                        self.dialler.count(number);
                        diary.reached(&self.target, &place, &found);
                    }
                    let made = Instant::now();
                    self.standing.send_replace(Standing::Up {
                        connection: connection.clone(),
                        number,
                        place: place.clone(),
                    });
                    self.changed.notify_one();
                    self.bells.ring_all();
                    tokio::select! {
                        () = self.watch(&mut drivers, connection, &driving, number) => {}
                        never = self.follow(&place, number) => match never {},
                    }
                    drivers.spawn(async move {
                        sleep(FAREWELL).await;
                        drop(driving);
                    });
                    diary.iter_mut().for_each(Diary::lost);
                    // Who accepts and hangs up is not asked without end.
                    if made.elapsed() < PAUSE {
                        sleep(PAUSE).await;
                    }
                }
                Err(fault) => {
                    if let Some(diary) = &mut diary {
                        diary.not_reached(&self.target, &fault);
                    }
                    self.changed.notify_one();
                    sleep(PAUSE).await;
                }
            }
            while drivers.try_join_next().is_some() {}
        }
    }

    /// Gives the connection up when another server is the master.
    async fn follow(&self, place: &Place, number: u64) -> Infallible {
        self.dialler.replaced(&self.target, place).await;
        self.give_up(number);
        future::pending().await
    }

    /// Until the connection breaks, or is given up, be it because the server has come to evict.
    /// Meanwhile hears channels that have been added.
    async fn watch(
        &self,
        drivers: &mut JoinSet<()>,
        mut connection: MultiplexedConnection,
        driving: &Driving,
        number: u64,
    ) {
        loop {
            tokio::select! {
                () = self.given_up.notified() => return,
                Some(ended) = drivers.join_next_with_id() => {
                    let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                    if id == driving.id() {
                        self.give_up(number);
                    }
                }
                () = sleep(PULSE), if self.told => {
                    let checked = self.dialler.demands.check_again(&mut connection);
                    // Whether it answers is for those to find out who ask for something.
                    let checked = timeout(self.dialler.demands.patience, checked).await;
                    if matches!(checked, Ok(Err(Fault::Wrong(_)))) {
                        self.give_up(number);
                    }
                }
                () = self.bells.added.notified() => {
                    let channels = self.bells.channels();
                    let heard = connection.subscribe(channels);
                    let heard = timeout(self.dialler.demands.patience, heard).await;
                    if !matches!(heard, Ok(Ok(()))) {
                        self.give_up(number);
                    }
                    self.bells.ring_all();
                }
            }
        }
    }
}

/// What the log is told of a line: that it is lost, and that it is there again, once each.
#[derive(Default)]
struct Diary {
    lost: Option<Instant>,
    told: Option<Fault>,
    /// It is told once in the life of a line that a store forgets.
    warned: bool,
}

impl Diary {
    fn reached(&mut self, target: &Target, place: &Place, found: &Found) {
        let server = found.server.as_str();
        match (self.lost.take(), self.told.take()) {
            (Some(lost), Some(_)) => {
                let seconds = lost.elapsed().as_secs_f64();
                tracing::info!(store = %target, %place, server, seconds, "the store is reached again");
            }
            (Some(_), None) => {
                tracing::info!(store = %target, %place, server, "the connection to the store was lost and made again");
            }
            (None, _) => tracing::info!(store = %target, %place, server, "the store is reached"),
        }
        if found.forgets && !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(
                store = %target,
                "the store keeps nothing on its disk (appendonly no, no save): whatever ends it ends all sessions"
            );
        }
    }

    fn lost(&mut self) {
        self.lost = Some(Instant::now());
    }

    fn not_reached(&mut self, target: &Target, fault: &Fault) {
        self.lost.get_or_insert_with(Instant::now);
        let told = self.told.replace(fault.clone());
        match (fault, told) {
            // Why it cannot be reached may change; that it cannot has been told.
            (Fault::Unreached(_), Some(Fault::Unreached(_))) => {}
            (Fault::Wrong(_), Some(Fault::Wrong(_))) => {}
            (Fault::Unreached(why), _) => {
                tracing::warn!(store = %target, why, "the store cannot be reached");
            }
            (Fault::Wrong(why), _) => {
                tracing::error!(store = %target, why, "the store cannot be used");
            }
        }
    }
}
