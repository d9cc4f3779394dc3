//! What is looked at whenever a connection to a server of the store has been made.
//!
//! Owns [`Demands`], which the configuration makes, [`Found`], and [`Fault`]: whether a server is not there, which passes, or
//! is one that cannot be used as it is, which an operator must change.
//! Trap: what a user of an ACL may do is not told by INFO. So a script asks the store itself, for each command and key.

use std::{collections::BTreeMap, time::Duration};

use redis::{ErrorKind, RedisError, ServerErrorKind, Value, aio::MultiplexedConnection, cmd};
use tokio::time::timeout;

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It may be there soon.
    #[error("{0}")]
    Unreached(String),
    /// Somebody has to change a setting, here or there.
    #[error("{0}")]
    Wrong(String),
}

/// What the configuration asks of a server.
#[derive(Debug)]
pub(super) struct Demands {
    pub(super) namespace: String,
    pub(super) allow_eviction: bool,
    pub(super) wait_aof: bool,
    /// How long an answer may take.
    pub(super) patience: Duration,
    pub(super) cluster: bool,
}

/// What a server has said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// What it is, as `Valkey 9.0.1`.
    pub(super) server: String,
    /// Nothing is on its disk.
    pub(super) forgets: bool,
}

/// How a server is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Writing,
    /// Asked for the shards, and listened to.
    Guiding,
}

/// Every command that scripts run, tried on a key.
const RIGHTS: &str = include_str!("rights.lua");

/// With this much, a write is on the disk in time although the store writes once a second only, and those before it are
/// waited for as well.
const EVERY_SECOND: Duration = Duration::from_secs(3);

impl Demands {
    pub(super) async fn check(
        &self,
        connection: &mut MultiplexedConnection,
        way: Use,
    ) -> Result<Found, Fault> {
        let told: String = ask(connection, &["INFO"]).await?;
        let info: BTreeMap<_, _> = told.lines().filter_map(|line| line.split_once(':')).collect();
        let info = |name| info.get(name).map_or("", |value| value.trim());
        let server = server(info)?;
        self.check_mode(info)?;
        if info("loading") == "1" {
            return Err(Fault::Unreached("it is loading its data".to_owned()));
        }
        if way == Use::Writing {
            if info("role") != "master" {
                return Err(Fault::Unreached("it is a replica, which takes no writes".to_owned()));
            }
            self.check_rights(connection).await?;
        }
        let appends = info("aof_enabled") == "1";
        if self.wait_aof {
            self.check_disk(connection, &server, appends).await?;
        }
        let forgets = !appends && setting(connection, "save").await.is_some_and(|it| it.is_empty());
        Ok(Found { server, forgets })
    }

    fn check_mode<'a>(&self, info: impl Fn(&'static str) -> &'a str) -> Result<(), Fault> {
        let wrong = |problem: &str| Err(Fault::Wrong(problem.to_owned()));
        match (info("redis_mode"), info("cluster_enabled"), self.cluster) {
            ("sentinel", _, _) => {
                return wrong("it is a sentinel: write redis+sentinel://…/master in store.url");
            }
            (_, "1", false) => {
                return wrong("it is part of a cluster: write redis+cluster://… in store.url");
            }
            (_, "0", true) => {
                return wrong("it is not part of a cluster: write redis://… in store.url");
            }
            (_, _, true | false) => {}
        }
        self.check_eviction(info("maxmemory_policy"))
    }

    /// Whether it has come to throw things away since it was looked at.
    pub(super) async fn check_again(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), Fault> {
        let told: String = ask(connection, &["INFO", "memory"]).await?;
        let policy = told.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"));
        self.check_eviction(policy.unwrap_or_default().trim())
    }

    fn check_eviction(&self, policy: &str) -> Result<(), Fault> {
        let problem = match policy {
            "noeviction" => return Ok(()),
            _ if self.allow_eviction => return Ok(()),
            "" => "it does not tell its maxmemory-policy: set store.allow_eviction if it throws nothing away".to_owned(),
            policy => format!(
                "its maxmemory-policy is {policy}, so it may throw sessions away: set it to noeviction, \
                 or store.allow_eviction here"
            ),
        };
        Err(Fault::Wrong(problem))
    }

    /// Whether the user may do what the scripts do: with what all instances share, and with those of one instance at the
    /// least, since some may be none of its business.
    async fn check_rights(&self, connection: &mut MultiplexedConnection) -> Result<(), Fault> {
        let name = &self.namespace;
        self.check_rights_on(connection, &[format!("{name}:{{{name}}}:")]).await?;
        let instances = (0..10).map(|instance| format!("{name}:{{{name}:{instance}}}:"));
        self.check_rights_on(connection, &instances.collect::<Vec<_>>()).await
    }

    /// Whether it may run every command on keys that begin in one of these ways, as far as they are on this server.
    async fn check_rights_on(
        &self,
        connection: &mut MultiplexedConnection,
        beginnings: &[String],
    ) -> Result<(), Fault> {
        let (mut refused, mut elsewhere) = (None, false);
        for beginning in beginnings {
            let [key, channel] = ["live", "bell"].map(|name| format!("{beginning}{name}"));
            let script = ["EVAL", RIGHTS, "1", &key, &channel];
            // A store that takes longer, or runs no scripts for a while, would be of no use.
            let Ok(answer) = timeout(self.patience, ask::<String>(connection, &script)).await
            else {
                return Err(Fault::Unreached("no answer in time".to_owned()));
            };
            match answer {
                Ok(missing) if missing.is_empty() => return Ok(()),
                Ok(missing) => refused = Some(format!("may not run {missing} on {beginning}*")),
                Err(Asked::Refused(error)) if is(&error, "NOPERM") => {
                    refused = Some(format!("{beginning}*: {}", told(&error)));
                }
                Err(Asked::Refused(error)) if is(&error, "MOVED") => elsewhere = true,
                Err(error) => return Err(error.into()),
            }
        }
        match refused {
            Some(refused) if !elsewhere => {
                Err(Fault::Wrong(format!("the user of store.url lacks a right: {refused}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether it can say that a write is on its disk, and soon enough.
    async fn check_disk(
        &self,
        connection: &mut MultiplexedConnection,
        server: &str,
        appends: bool,
    ) -> Result<(), Fault> {
        match ask::<Value>(connection, &["WAITAOF", "0", "0", "1"]).await {
            Ok(_) => {}
            Err(Asked::Refused(error)) if told(&error).contains("unknown command") => {
                return Err(Fault::Wrong(format!(
                    "store.wait_aof needs Redis 7.2 or later, or Valkey, and this is {server}"
                )));
            }
            Err(error) => return Err(error.into()),
        }
        if !appends {
            let problem = "store.wait_aof needs a store that writes: set appendonly yes there";
            return Err(Fault::Wrong(problem.to_owned()));
        }
        let often = setting(connection, "appendfsync").await;
        let often = often.as_deref().unwrap_or_default();
        if often == "no" || often == "everysec" && self.patience < EVERY_SECOND {
            return Err(Fault::Wrong(format!(
                "store.wait_aof would wait in vain, since appendfsync is {often}: set it to always, \
                 or to everysec with a store.timeout_seconds of at least 3"
            )));
        }
        Ok(())
    }
}

/// What it is, if it is new enough.
fn server<'a>(info: impl Fn(&'static str) -> &'a str) -> Result<String, Fault> {
    let (redis, valkey) = (info("redis_version"), info("valkey_version"));
    let name = match valkey {
        "" => format!("Redis {redis}"),
        version => format!("Valkey {version}"),
    };
    let major = redis.split('.').next().and_then(|major| major.parse::<u32>().ok());
    match major {
        Some(7..) => Ok(name),
        Some(_) | None => {
            Err(Fault::Wrong(format!("it is {name}, and 7.0 is the oldest that can be used")))
        }
    }
}

/// A setting of the server; `None` where it is not told, as by many providers.
async fn setting(connection: &mut MultiplexedConnection, name: &str) -> Option<String> {
    let told = ask::<BTreeMap<String, String>>(connection, &["CONFIG", "GET", name]).await;
    told.ok()?.remove(name)
}

enum Asked {
    Refused(RedisError),
    Failed(Fault),
}

impl From<Asked> for Fault {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Refused(error) => Self::of(&error),
            Asked::Failed(fault) => fault,
        }
    }
}

async fn ask<T: redis::FromRedisValue>(
    connection: &mut MultiplexedConnection,
    words: &[&str],
) -> Result<T, Asked> {
    let mut command = cmd(words[0]);
    command.arg(&words[1..]);
    let answered = connection.send_packed_command(&command).await;
    let value = match answered {
        Ok(Value::ServerError(error)) => return Err(Asked::Refused(error.into())),
        Ok(value) => value,
        Err(error) => return Err(Asked::Refused(error)),
    };
    let nonsense = |_| Asked::Failed(Fault::Unreached("its answer makes no sense".to_owned()));
    redis::from_redis_value(value).map_err(nonsense)
}

fn is(error: &RedisError, code: &str) -> bool {
    error.code() == Some(code)
}

/// What a server has said, as it said it.
pub(super) fn told(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some("ERR") | None, Some(detail)) => detail.to_owned(),
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        (None, None) => error.to_string(),
    }
}

impl Fault {
    /// What a server's refusal means for the connection.
    pub(super) fn of(error: &RedisError) -> Self {
        let wrong = match (error.kind(), error.code()) {
            (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS")) => {
                "it refuses the user or password of store.url".to_owned()
            }
            (_, Some("NOAUTH")) => "it asks for a password: write one in store.url".to_owned(),
            (_, Some("NOPERM")) => format!("the user of store.url lacks a right: {}", told(error)),
            (ErrorKind::RESP3NotSupported, _) => {
                "it is too old: 7.0 is the oldest that can be used".to_owned()
            }
            (ErrorKind::Parse, _) => "what it says is not of Redis: does it speak TLS?".to_owned(),
            (ErrorKind::Server(ServerErrorKind::ResponseError), _)
                if error.to_string().contains("refused to switch database") =>
            {
                "it does not have the database of store.url".to_owned()
            }
            _ => return Self::Unreached(told(error)),
        };
        Self::Wrong(wrong)
    }
}
