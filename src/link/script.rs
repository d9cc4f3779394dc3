//! Scripts that run in the store, calls of them, and what they reply.
//!
//! Owns [`Script`], [`Call`] and [`Reply`]. A script touches keys of one slot, names the first of them as its key, and replies
//! with an array that begins with the store's clock. Its last five arguments are the id of the operation and [`Moments`].
//! Trap: a script is known to the store by its digest until the store is started anew; it is sent whole where it is not.

use std::{borrow::Cow, sync::LazyLock};

use redis::{Cmd, Value};

use super::away::Span;

/// A script.
#[derive(Debug)]
pub(crate) struct Script {
    /// For the log and for metrics.
    pub(crate) name: &'static str,
    /// Whether its caller tells others that it was done: so it must not have its effect twice, and is waited for where
    /// writes are to be on the disk.
    pub(crate) promised: bool,
    /// What it has in common with others, and its own: put together only when it is sent, so that the program has the
    /// common part once.
    pub(crate) text: [&'static str; 2],
    pub(crate) digest: LazyLock<String>,
}

impl Script {
    /// By what the store knows a script.
    pub(crate) fn digest_of(text: [&str; 2]) -> String {
        redis::Script::new(&text.concat()).get_hash().to_owned()
    }
}

/// Declares scripts: `NAME: promised or repeated, "file.lua";`, each with the same beginning.
macro_rules! scripts {
    ($prelude:literal: $($name:ident: $kind:ident, $file:literal;)+) => {$(
        static $name: $crate::link::Script = {
            const TEXT: [&str; 2] = [include_str!($prelude), include_str!($file)];
            $crate::link::Script {
                name: stringify!($name),
                promised: scripts!(@ $kind),
                text: TEXT,
                digest: std::sync::LazyLock::new(|| $crate::link::Script::digest_of(TEXT)),
            }
        };
    )+};
    (@ promised) => { true };
    (@ repeated) => { false };
}

pub(crate) use scripts;

/// What every script is told beside the id of the operation, in milliseconds on the store's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moments {
    pub(super) sent: i64,
    /// When nobody waits for its answer any more, so that it must do nothing.
    pub(super) not_after: i64,
    pub(super) away: Span,
}

/// A script with its arguments.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) script: &'static Script,
    key: &'a str,
    arguments: Vec<Cow<'a, [u8]>>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(script: &'static Script, key: &'a str) -> Self {
        Self { script, key, arguments: Vec::with_capacity(16) }
    }

    pub(crate) fn bytes(mut self, argument: impl Into<Cow<'a, [u8]>>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub(crate) fn text(self, argument: &'a str) -> Self {
        self.bytes(argument.as_bytes())
    }

    pub(crate) fn number(self, argument: u64) -> Self {
        self.bytes(itoa::Buffer::new().format(argument).as_bytes().to_vec())
    }

    pub(crate) fn flag(self, argument: bool) -> Self {
        self.bytes(if argument { &b"1"[..] } else { b"" })
    }

    /// Of all keys that it touches, this one says where they are.
    pub(super) fn key(&self) -> &str {
        self.key
    }

    /// With the digest of the script.
    pub(super) fn short(&self, operation: &str, moments: Moments) -> Cmd {
        self.command("EVALSHA", &self.script.digest, operation, moments)
    }

    /// With its text.
    pub(super) fn whole(&self, operation: &str, moments: Moments) -> Cmd {
        self.command("EVAL", &self.script.text.concat(), operation, moments)
    }

    fn command(&self, name: &str, script: &str, operation: &str, moments: Moments) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(1).arg(self.key);
        for argument in &self.arguments {
            command.arg(&**argument);
        }
        let Moments { sent, not_after, away } = moments;
        command.arg(operation).arg(sent).arg(not_after).arg(away.from).arg(away.till);
        command
    }
}

/// What a script has replied, to be taken value by value.
#[derive(Debug)]
pub(crate) struct Reply {
    /// What the store's clock showed, in milliseconds since 1970.
    pub(crate) now: i64,
    values: std::vec::IntoIter<Value>,
}

impl Reply {
    pub(super) fn read(value: Value) -> Option<Self> {
        let Value::Array(values) = value else { return None };
        let mut reply = Self { now: 0, values: values.into_iter() };
        reply.now = reply.integer()?;
        Some(reply)
    }

    /// The next value as a number; `None` if there is none, or it is no number.
    pub(crate) fn integer(&mut self) -> Option<i64> {
        match self.values.next()? {
            Value::Int(number) => Some(number),
            Value::BulkString(digits) => std::str::from_utf8(&digits).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// The next value as a count.
    pub(crate) fn count(&mut self) -> Option<u64> {
        u64::try_from(self.integer()?).ok()
    }

    pub(crate) fn bytes(&mut self) -> Option<Vec<u8>> {
        match self.values.next()? {
            Value::BulkString(bytes) => Some(bytes),
            Value::SimpleString(text) => Some(text.into_bytes()),
            Value::Int(number) => Some(number.to_string().into_bytes()),
            _ => None,
        }
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?).ok()
    }

    /// The values of an array.
    pub(crate) fn list(&mut self) -> Option<Self> {
        match self.values.next()? {
            Value::Array(values) => Some(Self { now: self.now, values: values.into_iter() }),
            _ => None,
        }
    }

    /// How many values are left.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}
