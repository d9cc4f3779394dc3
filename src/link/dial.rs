//! From what `store.url` says to a connection that has been looked at.
//!
//! Owns [`Dialler`]: TCP, TLS, who asks, and where a master or a node of a cluster is found.
//! Traps: a connection is driven by a task of its own, which would outlive an attempt that fails: it ends with its
//! [`Driving`]. And a sentinel that was cut off names a master of the past, so the master is asked whether it is one.

use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::{self, Either, select_ok};
use redis::{
    AsyncConnectionConfig, ProtocolVersion, PushInfo, RedisConnectionInfo, Value,
    aio::MultiplexedConnection, cmd,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::{AbortHandle, Id, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{self, pki_types::ServerName},
};

use super::{
    address::{Account, Place},
    bells::Bells,
    check::{Demands, Fault, Found, Use},
    lock,
};

/// How long a connection may take to be made.
const DIALLING: Duration = Duration::from_secs(1);
/// How long after it was named a master is asked for again.
const OFTEN: Duration = Duration::from_secs(1);

impl fmt::Debug for Dialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialler").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

/// How connections are made.
pub(super) struct Dialler {
    pub(super) account: Account,
    pub(super) tls: Option<TlsConnector>,
    pub(super) demands: Demands,
    /// Connections that were made, and how many of them in the place of another.
    pub(super) made: AtomicU64,
    pub(super) made_again: AtomicU64,
}

/// Which server is meant.
#[derive(Debug)]
pub(super) enum Target {
    Server(Place),
    /// The master of that name, which these sentinels know.
    Master {
        sentinels: Vec<Place>,
        name: String,
    },
    /// Any node of the cluster; the first is tried first.
    Node(Mutex<Vec<Place>>),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(place) => place.fmt(f),
            Self::Master { name, .. } => write!(f, "master {name}"),
            Self::Node(_) => f.write_str("cluster"),
        }
    }
}

/// A connection that has been looked at.
pub(super) struct Dialled {
    pub(super) connection: MultiplexedConnection,
    pub(super) driving: Driving,
    pub(super) place: Place,
    pub(super) found: Found,
}

/// Drives a connection as long as it is kept.
pub(super) struct Driving(AbortHandle);

impl Driving {
    pub(super) fn id(&self) -> Id {
        self.0.id()
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Dialler {
    /// Counts a connection, the `number`th of its line.
    pub(super) fn count(&self, number: u64) {
        self.made.fetch_add(1, Ordering::Relaxed);
        if number > 1 {
            self.made_again.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    pub(super) fn made_again(&self) -> u64 {
        self.made_again.load(Ordering::Relaxed)
    }

    /// Makes a connection, whose task is one of the `drivers`.
    pub(super) async fn dial(
        &self,
        target: &Target,
        bells: &Arc<Bells>,
        drivers: &mut JoinSet<()>,
    ) -> Result<Dialled, Fault> {
        match target {
            Target::Server(place) => self.reach(place, Use::Writing, bells, drivers).await,
            Target::Master { sentinels, name } => {
                let place = in_time(self.master(sentinels, name)).await?;
                self.reach(&place, Use::Writing, bells, drivers).await.map_err(
                    |fault| match fault {
                        Fault::Unreached(why) => Fault::Unreached(format!("{place}: {why}")),
                        Fault::Wrong(why) => Fault::Wrong(format!("{place}: {why}")),
                    },
                )
            }
            Target::Node(places) => {
                let mut failed = Fault::Unreached("no node is known".to_owned());
                let known = lock(places).clone();
                for place in known {
                    match self.reach(&place, Use::Guiding, bells, drivers).await {
                        Ok(dialled) => return Ok(dialled),
                        Err(fault) => failed = fault,
                    }
                    // Another one is the first next time.
                    lock(places).rotate_left(1);
                }
                Err(failed)
            }
        }
    }

    /// Until a sentinel names another master, which is one. The old one may not have heard of it, and refuses what is asked
    /// or, worse, does it.
    pub(super) async fn replaced(&self, target: &Target, place: &Place) {
        let Target::Master { sentinels, name } = target else { return future::pending().await };
        let (mut drivers, nobody) = (JoinSet::new(), Arc::default());
        loop {
            sleep(OFTEN).await;
            let Ok(named) = in_time(self.master(sentinels, name)).await else { continue };
            let is_other = named != *place;
            if is_other && self.reach(&named, Use::Writing, &nobody, &mut drivers).await.is_ok() {
                return;
            }
            while drivers.try_join_next().is_some() {}
        }
    }

    async fn reach(
        &self,
        place: &Place,
        way: Use,
        bells: &Arc<Bells>,
        drivers: &mut JoinSet<()>,
    ) -> Result<Dialled, Fault> {
        in_time(async {
            let (mut connection, driver) = self.open(place, &self.account, Some(bells)).await?;
            let driving = Driving(drivers.spawn(driver));
            let found = self.demands.check(&mut connection, way).await?;
            let channels = bells.channels();
            if !channels.is_empty() {
                connection.subscribe(channels).await.map_err(|error| Fault::of(&error))?;
            }
            Ok(Dialled { connection, driving, place: place.clone(), found })
        })
        .await
    }

    /// Where the master is, as the first sentinel says that answers.
    async fn master(&self, sentinels: &[Place], name: &str) -> Result<Place, Fault> {
        let asked = sentinels.iter().map(|place| Box::pin(self.ask_sentinel(place, name)));
        let (place, _) = select_ok(asked).await?;
        Ok(place)
    }

    async fn ask_sentinel(&self, place: &Place, name: &str) -> Result<Place, Fault> {
        // Many have no password, and say that they need none by refusing one.
        let account = Account { database: 0, ..self.account.clone() };
        let answer = match self.ask_once(place, &Account::default(), name).await {
            Err(Fault::Wrong(_)) if account.password.is_some() => {
                self.ask_once(place, &account, name).await
            }
            answer => answer,
        };
        let told = |why| format!("the sentinel {place}: {why}");
        match answer.map_err(|fault| match fault {
            Fault::Unreached(why) => Fault::Unreached(told(why)),
            Fault::Wrong(why) => Fault::Wrong(told(why)),
        })? {
            Value::Nil => Err(Fault::Wrong(told(format!("it knows no master {name}")))),
            value => redis::from_redis_value(value)
                .map(|(host, port)| Place { host, port })
                .map_err(|_| Fault::Wrong(told("it is none".to_owned()))),
        }
    }

    async fn ask_once(&self, place: &Place, account: &Account, name: &str) -> Result<Value, Fault> {
        let (mut connection, driver) = self.open(place, account, None).await?;
        let mut command = cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        let answered = match future::select(
            driver,
            Box::pin(connection.send_packed_command(&command)),
        )
        .await
        {
            Either::Left(((), answer)) => answer.await,
            Either::Right((answered, _)) => answered,
        };
        match answered {
            Ok(Value::ServerError(error)) => {
                let error = error.into();
                Err(match Fault::of(&error) {
                    Fault::Unreached(why) if why.contains("unknown command") => {
                        Fault::Wrong("it is no sentinel".to_owned())
                    }
                    fault => fault,
                })
            }
            Ok(value) => Ok(value),
            Err(error) => Err(Fault::of(&error)),
        }
    }

    /// A connection that has said who asks, and what drives it.
    async fn open(
        &self,
        place: &Place,
        account: &Account,
        bells: Option<&Arc<Bells>>,
    ) -> Result<(MultiplexedConnection, Driver), Fault> {
        let unreached = |error: io::Error| Fault::Unreached(error.to_string());
        let stream = TcpStream::connect((&*place.host, place.port)).await.map_err(unreached)?;
        stream.set_nodelay(true).map_err(unreached)?;
        let Some(tls) = &self.tls else { return greet(Box::new(stream), account, bells).await };
        let name = ServerName::try_from(place.host.clone())
            .map_err(|_| Fault::Wrong("no certificate can be for that name".to_owned()))?;
        let stream = tls.connect(name, stream).await.map_err(|error| distrusted(&error))?;
        greet(Box::new(stream), account, bells).await
    }
}

/// With TLS or without: one type, so that what speaks over it is compiled once.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

async fn greet(
    stream: Box<dyn Stream>,
    account: &Account,
    bells: Option<&Arc<Bells>>,
) -> Result<(MultiplexedConnection, Driver), Fault> {
    let mut info = RedisConnectionInfo::default()
        .set_db(account.database.into())
        // The crate would tell its own name, for which a user of an ACL would need one more right.
        .set_skip_set_lib_name()
        .set_protocol(ProtocolVersion::RESP2);
    let mut config = AsyncConnectionConfig::new().set_response_timeout(None);
    if let Some(bells) = bells {
        let bells = Arc::clone(bells);
        info = info.set_protocol(ProtocolVersion::RESP3);
        config = config.set_push_sender(move |pushed: PushInfo| -> Result<(), ()> {
            bells.hear(&pushed);
            Ok(())
        });
    }
    if let Some(user) = &account.user {
        info = info.set_username(user);
    }
    if let Some(password) = &account.password {
        info = info.set_password(password.expose());
    }
    let made = MultiplexedConnection::new_with_config(&info, stream, config).await;
    let (connection, driver) = made.map_err(|error| Fault::of(&error))?;
    Ok((connection, Box::pin(driver)))
}

/// Why there is no TLS.
fn distrusted(error: &io::Error) -> Fault {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(problem)) => {
            Fault::Wrong(format!("its certificate is not trusted (store.ca_file): {problem}"))
        }
        Some(rustls::Error::InvalidMessage(_)) => {
            Fault::Wrong("it does not speak TLS: write redis in place of rediss".to_owned())
        }
        Some(_) | None => Fault::Unreached(error.to_string()),
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let late = |_| Err(Fault::Unreached("no answer in time".to_owned()));
    timeout(DIALLING, work).await.unwrap_or_else(late)
}
