//! The arguments of `probe`, and what they mean.
//!
//! Owns the command line and the [`Plan`] made of it. Refuses, before anything is sent, what cannot work: a malformed
//! URL, a token that is not a valid header value.
//! Trap: anyone who may list processes can read a token among the arguments; an environment variable is safer.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};
use http::HeaderValue;
use tokio_rustls::rustls::pki_types::ServerName;

use super::{
    target::{Target, address, targets},
    tls,
};
use crate::{
    tls::BadTrust,
    wire::{Era, ProtocolVersion},
};

/// Environment variable of the bearer token. Not `MCP_ECHO_…`, which are the server's.
pub const BEARER_VARIABLE: &str = "MCP_PROBE_BEARER";

/// The command line. (The comments on its fields and values are shown by `--help`.)
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// MCP endpoint; {0-9} in it stands for each of the ten, as in https://echo-stateful{0-9}.example.com/mcp
    pub url: String,
    /// Connect here, whatever the host name says: neither DNS nor /etc/hosts is asked
    #[arg(long, value_name = "HOST:PORT")]
    pub connect: Option<String>,
    /// Sessions to open in all
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub sessions: u32,
    /// Times that each session calls echo
    #[arg(long, value_name = "M", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub requests: u32,
    /// Sessions that are open at a time
    #[arg(long, value_name = "C", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: u32,
    /// Calls of echo that one session has under way at a time
    #[arg(long, value_name = "P", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub in_flight: u32,
    /// Whether requests share connections
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Connections::Kept)]
    pub connections: Connections,
    /// How sessions are named [default: as the revision has it that is insisted on, or sessioned]
    #[arg(long, value_name = "ERA", value_enum)]
    pub era: Option<Eras>,
    /// Speak this revision, and no other that is offered instead
    #[arg(long, value_name = "REVISION")]
    pub revision: Option<ProtocolVersion>,
    /// What a gateway put before the tools' names, if it offers them under several prefixes
    #[arg(long, value_name = "PREFIX")]
    pub tool_prefix: Option<String>,
    /// Bearer token to send
    #[arg(long, value_name = "TOKEN", env = BEARER_VARIABLE, hide_env_values = true)]
    pub bearer: Option<String>,
    /// Seconds that a request may take
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub timeout: f64,
    /// Trust the certificates of this PEM file as well
    #[arg(long, value_name = "FILE")]
    pub cacert: Option<PathBuf>,
    /// Trust any certificate
    #[arg(long, conflicts_with = "cacert")]
    pub insecure: bool,
    /// Report as one JSON document
    #[arg(long)]
    pub json: bool,
    /// Write the result into this file as well, as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Add a summary in Markdown to the end of this file, such as the one that $GITHUB_STEP_SUMMARY names
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
}

/// How many requests share a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Connections {
    /// Each request has one of its own
    New,
    /// A session's requests share one, or as many as are in flight
    Kept,
}

/// How requests name their session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Eras {
    /// By Mcp-Session-Id, in revision 2025-11-25 or an older one that is offered
    Sessioned,
    /// By handle, in revision 2026-07-28
    Stateless,
    /// The one and the other in turn
    Both,
}

impl Eras {
    const fn turns(self) -> &'static [Era] {
        match self {
            Self::Sessioned => &[Era::Sessioned],
            Self::Stateless => &[Era::Stateless],
            Self::Both => &[Era::Sessioned, Era::Stateless],
        }
    }
}

/// What is to be done.
pub struct Plan {
    /// The arguments.
    pub asked: Arguments,
    /// The eras that take turns. Never empty.
    pub(super) turns: &'static [Era],
    /// One, or one for each number of `{0-9}`. Never empty.
    pub(super) targets: Vec<Target>,
    /// The `Authorization` header.
    pub(super) bearer: Option<HeaderValue>,
    /// How long a request may take.
    pub(super) patience: Duration,
    pub(super) junit: Option<File>,
    pub(super) markdown: Option<File>,
}

/// Why arguments make no plan.
#[derive(Debug, thiserror::Error)]
pub enum BadPlan {
    /// The URL and what is wrong with it.
    #[error("{0:?}: {1}")]
    Url(String, String),
    /// `--connect` names no address.
    #[error("--connect {0:?}: must be HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080")]
    Connect(String),
    /// `--timeout` is out of bounds.
    #[error("--timeout: must be more than 0 and at most 3600 seconds")]
    Timeout,
    /// `--bearer` is not a valid header value.
    #[error("--bearer ({BEARER_VARIABLE}): the token must be visible ASCII")]
    Bearer,
    /// `--era` has no such revision.
    #[error("--revision {0}: is none of the era that --era names")]
    Revision(ProtocolVersion),
    /// A file for the result cannot be written.
    #[error("{path}: {error}", path = .0.display(), error = .1)]
    File(PathBuf, io::Error),
    /// https is not possible.
    #[error(transparent)]
    Trust(#[from] BadTrust),
}

impl Plan {
    /// Makes a plan of arguments.
    pub fn read(asked: Arguments) -> Result<Self, BadPlan> {
        if !(asked.timeout > 0.0 && asked.timeout <= 3600.0) {
            return Err(BadPlan::Timeout);
        }
        let connect = asked.connect.as_deref().map(address).transpose()?;
        let mut targets = targets(&asked.url, connect.as_ref())?;
        let turns = turns(asked.era, asked.revision)?;
        if asked.url.starts_with("https:") {
            let connector = tls::connector(asked.cacert.as_deref(), asked.insecure)?;
            for target in &mut targets {
                let name = ServerName::try_from(target.name.clone())
                    .map_err(|error| BadPlan::Url(asked.url.clone(), error.to_string()))?;
                target.peer.tls = Some((connector.clone(), name));
            }
        }
        let bearer = asked.bearer.as_deref().map(bearer).transpose()?;
        let patience = Duration::from_secs_f64(asked.timeout);
        let mut file = OpenOptions::new();
        let junit = open(file.write(true).create(true).truncate(true), asked.junit.as_deref())?;
        let mut file = OpenOptions::new();
        let markdown = open(file.append(true).create(true), asked.markdown.as_deref())?;
        Ok(Self { asked, turns, targets, bearer, patience, junit, markdown })
    }

    /// Targets and eras that are combined.
    pub(super) fn ways(&self) -> usize {
        self.targets.len() * self.turns.len()
    }

    /// The revision to ask for in that era.
    pub(super) fn revision(&self, era: Era) -> ProtocolVersion {
        match (self.asked.revision, era) {
            (Some(revision), era) if revision.era() == era => revision,
            (_, Era::Sessioned) => ProtocolVersion::V2025_11_25,
            (_, Era::Stateless) => ProtocolVersion::V2026_07_28,
        }
    }
}

fn turns(eras: Option<Eras>, revision: Option<ProtocolVersion>) -> Result<&'static [Era], BadPlan> {
    let eras = eras.unwrap_or(match revision.map(ProtocolVersion::era) {
        None | Some(Era::Sessioned) => Eras::Sessioned,
        Some(Era::Stateless) => Eras::Stateless,
    });
    match revision {
        Some(revision) if !eras.turns().contains(&revision.era()) => {
            Err(BadPlan::Revision(revision))
        }
        _ => Ok(eras.turns()),
    }
}

/// Opens a file now, so that it is known before the run whether it can be written.
fn open(options: &OpenOptions, path: Option<&Path>) -> Result<Option<File>, BadPlan> {
    let open =
        |path: &Path| options.open(path).map_err(|error| BadPlan::File(path.to_owned(), error));
    path.map(open).transpose()
}

fn bearer(token: &str) -> Result<HeaderValue, BadPlan> {
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(BadPlan::Bearer);
    }
    let mut value =
        HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| BadPlan::Bearer)?;
    value.set_sensitive(true);
    Ok(value)
}
