//! Where the shared store is: `store.url`.
//!
//! Owns [`Address`], read from its text: one server, a master that sentinels know, or a cluster. Whatever else stands there
//! is refused with a sentence that says what to write.
//! Trap: the text holds a password, so it is never repeated in an error, and an [`Address`] shows none.

use std::{fmt, str::FromStr};

use crate::config::Secret;

/// What `store.url` says.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) way: Way,
    /// Whether it is spoken to over TLS.
    pub(super) tls: bool,
    pub(super) account: Account,
}

/// How the server that has a key is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Single(Place),
    /// Any of these says where the master of that name is.
    Sentinel {
        sentinels: Vec<Place>,
        master: String,
    },
    /// Any of these knows all shards.
    Cluster(Vec<Place>),
}

/// Who asks, and in which of a server's databases.
#[derive(Clone, Default)]
pub(super) struct Account {
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) database: u16,
}

/// A host, an IPv6 address without its brackets, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
}

const FORM: &str = "must be like redis://host:6379, rediss://user:password@host:6380 (TLS), \
    redis+sentinel://host:26379,host:26379/master or redis+cluster://host:6379,host:6379";
const PLACE: &str =
    "has a host or port that cannot be: write host:6379, 192.0.2.1:6379 or [2001:db8::1]:6379";
const ACCOUNT: &str = "has an account that cannot be read: write user:password@ or :password@, \
    and @ : / % in a password as %40 %3A %2F %25";
const SEVERAL: &str = "names several servers: write redis+sentinel://…/master or redis+cluster://…";
const MASTER: &str = "names no master: write redis+sentinel://host:26379,host:26379/master";
const DATABASE: &str =
    "has a database that cannot be: write a number from 0 to 65535 after the last /";
const CLUSTER: &str = "has a / after the hosts, but a cluster has one database: leave it away";
const OPTIONS: &str = "takes no options: leave away what begins with ? or #";

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
        let (account, rest) = match rest.rsplit_once('@') {
            Some((account, rest)) => (Account::read(account)?, rest),
            None => (Account::default(), rest),
        };
        if rest.contains(['?', '#']) {
            return Err(OPTIONS);
        }
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let places = |port| -> Result<Vec<_>, _> {
            hosts.split(',').map(|host| Place::read(host, port)).collect()
        };
        let (tls, kind) = match scheme.strip_prefix("rediss") {
            Some(kind) => (true, kind),
            None => (false, scheme.strip_prefix("redis").ok_or(FORM)?),
        };
        let mut address = Self { way: Way::Cluster(Vec::new()), tls, account };
        address.way = match kind {
            "" if hosts.contains(',') => return Err(SEVERAL),
            "" => {
                address.account.database = match path {
                    "" => 0,
                    number => number.parse().map_err(|_| DATABASE)?,
                };
                Way::Single(Place::read(hosts, 6379)?)
            }
            "+sentinel" => {
                let master = decoded(path).filter(|master| !master.is_empty()).ok_or(MASTER)?;
                Way::Sentinel { sentinels: places(26379)?, master }
            }
            "+cluster" if path.is_empty() => Way::Cluster(places(6379)?),
            "+cluster" => return Err(CLUSTER),
            _ => return Err(FORM),
        };
        Ok(address)
    }
}

impl Account {
    fn read(text: &str) -> Result<Self, &'static str> {
        let (user, password) = text.split_once(':').ok_or(ACCOUNT)?;
        let (user, password) = (decoded(user).ok_or(ACCOUNT)?, decoded(password).ok_or(ACCOUNT)?);
        if password.is_empty() {
            return Err(ACCOUNT);
        }
        let user = Some(user).filter(|user| !user.is_empty());
        Ok(Self { user, password: Some(Secret::new(&password)), database: 0 })
    }
}

impl Place {
    /// A host with or without a port.
    pub(super) fn read(text: &str, port: u16) -> Result<Self, &'static str> {
        let (host, written) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or(PLACE)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| PLACE)?;
                (host, after.strip_prefix(':').or(after.is_empty().then_some("")).ok_or(PLACE)?)
            }
            None => text.split_once(':').unwrap_or((text, "")),
        };
        let is_bracketed = text.starts_with('[');
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if !is_bracketed && (host.is_empty() || !host.bytes().all(is_host)) {
            return Err(PLACE);
        }
        let port = match written {
            "" if text.ends_with(':') => return Err(PLACE),
            "" => port,
            written => written.parse().ok().filter(|&port| port > 0).ok_or(PLACE)?,
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

/// What `%40` and the like stand for. `None` where no UTF-8 comes of it.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Address, &'static str> {
        text.parse()
    }

    fn place(host: &str, port: u16) -> Place {
        Place { host: host.to_owned(), port }
    }

    fn account(text: &str) -> (Option<String>, Option<String>, u16) {
        let Account { user, password, database } = read(text).expect("fits").account;
        (user, password.map(|password| password.expose().to_owned()), database)
    }

    #[test]
    fn each_way_is_read() {
        for (text, tls, way) in [
            ("redis://store", false, Way::Single(place("store", 6379))),
            ("redis://store:1/", false, Way::Single(place("store", 1))),
            ("rediss://[2001:db8::1]", true, Way::Single(place("2001:db8::1", 6379))),
            ("rediss://:x@[::1]:7", true, Way::Single(place("::1", 7))),
            (
                "redis+sentinel://a,b:2/my%20master",
                false,
                Way::Sentinel {
                    sentinels: vec![place("a", 26379), place("b", 2)],
                    master: "my master".to_owned(),
                },
            ),
            (
                "rediss+cluster://u:p@a_1:1,[::1]:2/",
                true,
                Way::Cluster(vec![place("a_1", 1), place("::1", 2)]),
            ),
        ] {
            let address = read(text).expect(text);
            assert_eq!((address.tls, address.way), (tls, way), "{text}");
        }
        assert_eq!(place("::1", 2).to_string(), "[::1]:2");
    }

    #[test]
    fn an_account_is_read_in_both_forms() {
        assert_eq!(account("redis://a"), (None, None, 0));
        assert_eq!(account("redis://:p%40%3A/x@a/3"), (None, Some("p@:/x".to_owned()), 3));
        let named = (Some("u:1".to_owned()), Some("a:b@c".to_owned()), 0);
        assert_eq!(account("redis://u%3a1:a:b@c@a"), named);
    }

    #[test]
    fn what_is_refused_is_told_without_the_password() {
        for (text, said) in [
            ("store:6379", FORM),
            ("http://store", FORM),
            ("redis+tls://store", FORM),
            ("redissentinel://store/x", FORM),
            ("redis://", PLACE),
            ("redis://:6379", PLACE),
            ("redis://store:", PLACE),
            ("redis://store:0", PLACE),
            ("redis://store:65536", PLACE),
            ("redis://2001:db8::1", PLACE),
            ("redis://[store]:1", PLACE),
            ("redis://[::1]1", PLACE),
            ("redis://a b", PLACE),
            ("redis+cluster://a,,b", PLACE),
            ("redis://a,b", SEVERAL),
            ("redis://a/b", DATABASE),
            ("redis+sentinel://a:1,b:1", MASTER),
            ("redis+sentinel://a:1/", MASTER),
            ("redis+cluster://a/1", CLUSTER),
            ("redis://hidden@a", ACCOUNT),
            ("redis://user:@a", ACCOUNT),
            ("redis://user:hidden%4@a", ACCOUNT),
            ("redis://user:hidden%FF@a", ACCOUNT),
            ("redis://user:hidden@a?db=1", OPTIONS),
        ] {
            assert_eq!(read(text).map(|address| address.way), Err(said), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_password_can_be_written(password in ".{1,20}", user in ".{0,20}") {
            let encoded = |text: &str| -> String {
                text.bytes().map(|byte| format!("%{byte:02x}")).collect()
            };
            let text = format!("redis://{}:{}@store", encoded(&user), encoded(&password));
            let user = Some(user).filter(|user| !user.is_empty());
            assert_eq!(account(&text), (user, Some(password), 0));
        }

        #[test]
        fn no_text_makes_it_panic(text in "(rediss?(\\+[a-z]{0,8})?://)?.{0,40}") {
            let _ = read(&text);
        }
    }
}
