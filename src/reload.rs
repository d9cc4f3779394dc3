//! Taking over another configuration while serving.
//!
//! Owns how it is asked for ([`Reloads`]), where it is read from ([`Source`]) and why it may not happen
//! ([`NotReloaded`]). A configuration with one bad value changes nothing at all.
//! Trap: the caller waits for the answer, so a server that stops must answer all who wait.

use std::fmt;

use tokio::sync::{mpsc, oneshot};

use crate::{
    config::{ConfigError, Layers, Reloaded},
    observe::LogControl,
};

/// Reloads that may be asked for and not yet done; whoever asks for one more waits to ask.
const WAITING: usize = 4;

/// Where a running server reads its configuration again.
pub struct Source {
    /// What is in force.
    pub layers: Layers,
    /// Reads it again.
    pub read: Box<dyn Fn() -> Result<Layers, ConfigError> + Send + Sync>,
    /// The log, which gets the new level and opens its file anew; `None` where the server has not installed it.
    pub log: Option<LogControl>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The layers hold secrets.
        f.write_str("Source")
    }
}

/// Why the configuration is what it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReloaded {
    /// It cannot be used.
    #[error("{0}")]
    Refused(String),
    /// It came from nowhere that could be read again.
    #[error("this server was given its configuration by a program, which cannot be asked again")]
    NoSource,
    /// The server is on its way out.
    #[error("the server is shutting down")]
    Stopping,
}

/// What was asked, and who waits for the answer.
pub(crate) type Asked = oneshot::Sender<Result<Reloaded, NotReloaded>>;

/// Asks the server to read its configuration again. A clone asks the same server.
#[derive(Clone, Debug)]
pub struct Reloads(mpsc::Sender<Asked>);

impl Reloads {
    /// A way to ask, and where the questions arrive.
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Asked>) {
        let (ask, asked) = mpsc::channel(WAITING);
        (Self(ask), asked)
    }

    /// Waits until it is done, and says what has changed.
    pub async fn ask(&self) -> Result<Reloaded, NotReloaded> {
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).await.map_err(|_| NotReloaded::Stopping)?;
        answered.await.unwrap_or(Err(NotReloaded::Stopping))
    }
}
