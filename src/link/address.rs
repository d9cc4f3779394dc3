//! Where the shared store is: `store.url`.
//!
//! Owns [`Address`], read from its text. Refuses, with a sentence that says what to write, whatever else stands there.
//! Trap: the text holds a password, so it is never repeated in an error, and an [`Address`] shows none.

use std::{fmt, str::FromStr};

use crate::config::Secret;

/// `redis://[user:password@]host[:port]`.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "must be like redis://host:6379 or redis://user:password@host:6379";
        let rest = text.strip_prefix("redis://").ok_or(FORM)?;
        let (account, place) = match rest.rsplit_once('@') {
            Some((account, place)) => (Some(account), place),
            None => (None, rest),
        };
        let place = place.trim_end_matches('/');
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| FORM)?),
            _ => (place, 6379),
        };
        if host.is_empty() || host.contains('/') {
            return Err(FORM);
        }
        let (user, password) =
            match account.map(|account| account.split_once(':').unwrap_or((account, ""))) {
                Some((user, password)) => {
                    let user = (!user.is_empty()).then(|| user.to_owned());
                    (user, Some(Secret::new(password)))
                }
                None => (None, None),
            };
        Ok(Self { host: host.to_owned(), port, user, password })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}
