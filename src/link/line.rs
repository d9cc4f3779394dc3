//! One connection to one server of the store, made again whenever it is lost.
//!
//! Owns [`Line`]. Everyone shares the connection; [`Line::keep`] alone makes it. Whoever has waited too long for an answer says
//! so, and the next connection is made at once: the old one ends when the last who waits on it has given up.
//! Trap: while there is no connection nobody waits longer than for one answer, and after that time nobody waits at all.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, ProtocolVersion, PushInfo, RedisConnectionInfo,
    RedisError, ServerErrorKind, Value, aio::MultiplexedConnection,
};
use tokio::{
    net::TcpStream,
    sync::{Notify, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    address::Address,
    bells::{Bell, Bells},
};

/// How long a connection may take to be made.
const DIALLING: Duration = Duration::from_secs(1);
/// Between two attempts to make one.
const PAUSE: Duration = Duration::from_millis(100);
/// How long an old connection may go on for those who still wait on it.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("there is no connection")]
    Down,
    #[error("no answer in time")]
    Silent,
    #[error("the connection broke")]
    Broken,
    #[error("the script is not known")]
    NoScript,
    /// It ran too late to do anything; what the store's clock showed.
    #[error("it came too late")]
    Late(i64),
    #[error("{0}")]
    Refused(String),
    #[error("the reply makes no sense")]
    Garbled,
}

#[derive(Clone)]
enum Standing {
    Up { connection: MultiplexedConnection, number: u64 },
    Down { since: Instant },
}

/// One connection.
pub(super) struct Line {
    address: Address,
    standing: watch::Sender<Standing>,
    /// Connections that were made.
    made: AtomicU64,
    /// The connection of the standing is of no use.
    given_up: Notify,
    bells: Arc<Bells>,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({})", self.address)
    }
}

impl Line {
    pub(super) fn new(address: Address) -> Self {
        let standing = watch::Sender::new(Standing::Down { since: Instant::now() });
        Self {
            address,
            standing,
            made: AtomicU64::new(0),
            given_up: Notify::new(),
            bells: Arc::default(),
        }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Whether there is a connection.
    pub(super) fn is_up(&self) -> bool {
        matches!(&*self.standing.borrow(), Standing::Up { .. })
    }

    /// How many connections there have been.
    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    pub(super) fn bell(&self, channel: &str) -> Arc<Bell> {
        self.bells.of(channel)
    }

    /// Sends a command and waits for its answer, for at most `patience` in all.
    pub(super) async fn ask(&self, command: &Cmd, patience: Duration) -> Result<Value, Trouble> {
        let until = Instant::now() + patience;
        let (mut connection, number) = self.connection(patience).await?;
        match timeout_at(until, connection.send_packed_command(command)).await {
            Ok(Ok(Value::ServerError(error))) => Err(refused(&error.into())),
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) if error.is_unrecoverable_error() || error.is_io_error() => {
                self.give_up(number);
                Err(Trouble::Broken)
            }
            Ok(Err(error)) => Err(refused(&error)),
            Err(_) => {
                self.give_up(number);
                Err(Trouble::Silent)
            }
        }
    }

    /// The connection there is, or the one that is made before `patience` has passed since there was one.
    async fn connection(
        &self,
        patience: Duration,
    ) -> Result<(MultiplexedConnection, u64), Trouble> {
        let mut standing = self.standing.subscribe();
        let until = match &*standing.borrow() {
            Standing::Up { connection, number } => return Ok((connection.clone(), *number)),
            Standing::Down { since } => *since + patience,
        };
        let up = standing.wait_for(|standing| matches!(standing, Standing::Up { .. }));
        match timeout_at(until, up).await {
            Ok(Ok(standing)) => match &*standing {
                Standing::Up { connection, number } => Ok((connection.clone(), *number)),
                Standing::Down { .. } => Err(Trouble::Down),
            },
            Ok(Err(_)) | Err(_) => Err(Trouble::Down),
        }
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
        }
    }

    /// Makes the connection whenever there is none.
    pub(super) async fn keep(&self, patience: Duration) {
        let mut drivers = JoinSet::new();
        let (mut number, mut told_lost) = (0, false);
        loop {
            number += 1;
            match timeout(DIALLING, self.dial(&mut drivers, number)).await {
                Ok(Ok((connection, driving))) => {
                    if told_lost || number == 1 {
                        tracing::info!(store = %self.address, "the store is reached");
                        told_lost = false;
                    }
                    self.made.fetch_add(1, Ordering::Relaxed);
                    self.standing
                        .send_replace(Standing::Up { connection: connection.clone(), number });
                    self.bells.ring_all();
                    self.watch(&mut drivers, connection, number, patience).await;
                    drivers.spawn(async move {
                        sleep(FAREWELL).await;
                        driving.abort();
                        number
                    });
                }
                failed => {
                    if !told_lost {
                        let why = failed.map_or_else(
                            |_| "no answer in time".to_owned(),
                            |made| made.err().map(|error| error.to_string()).unwrap_or_default(),
                        );
                        tracing::warn!(store = %self.address, why, "the store cannot be reached");
                        told_lost = true;
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Until the connection breaks or is given up. Meanwhile hears channels that have been added.
    async fn watch(
        &self,
        drivers: &mut JoinSet<u64>,
        mut connection: MultiplexedConnection,
        number: u64,
        patience: Duration,
    ) {
        loop {
            tokio::select! {
                Some(ended) = drivers.join_next() => {
                    if ended.map_or(true, |ended| ended == number) {
                        self.give_up(number);
                    }
                }
                () = self.given_up.notified() => return,
                () = self.bells.added.notified() => {
                    let channels = self.bells.channels();
                    let heard = timeout(patience, connection.subscribe(channels)).await;
                    if !matches!(heard, Ok(Ok(()))) {
                        self.give_up(number);
                    }
                    self.bells.ring_all();
                }
            }
        }
    }

    async fn dial(
        &self,
        drivers: &mut JoinSet<u64>,
        number: u64,
    ) -> Result<(MultiplexedConnection, AbortHandle), RedisError> {
        let host = self.address.host.trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, self.address.port)).await?;
        stream.set_nodelay(true)?;
        let mut info = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
        if let Some(user) = &self.address.user {
            info = info.set_username(user);
        }
        if let Some(password) = &self.address.password {
            info = info.set_password(password.expose());
        }
        let bells = Arc::clone(&self.bells);
        let hear = move |pushed: PushInfo| -> Result<(), ()> {
            bells.hear(&pushed);
            Ok(())
        };
        let config = AsyncConnectionConfig::new().set_push_sender(hear).set_response_timeout(None);
        let (mut connection, driver) =
            MultiplexedConnection::new_with_config(&info, stream, config).await?;
        let driving = drivers.spawn(async move {
            driver.await;
            number
        });
        let channels = self.bells.channels();
        if !channels.is_empty() {
            connection.subscribe(channels).await?;
        }
        Ok((connection, driving))
    }
}

/// What the store's refusal means.
fn refused(error: &RedisError) -> Trouble {
    match (error.kind(), error.code()) {
        (ErrorKind::Server(ServerErrorKind::NoScript), _) => Trouble::NoScript,
        (_, Some("LATE")) => {
            let now = error.detail().and_then(|detail| detail.trim().parse().ok());
            now.map_or(Trouble::Garbled, Trouble::Late)
        }
        _ => Trouble::Refused(error.to_string()),
    }
}
