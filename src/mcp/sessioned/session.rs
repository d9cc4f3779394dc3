//! The session of a request.
//!
//! Owns finding it by `Mcp-Session-Id`, creating it by `initialize` or implicitly, and ending it by DELETE.
//! Trap: only a request that is known to be valid may create a session.

use std::sync::Arc;

use serde_json::json;

use super::{ERA, Sessioned, Started, done};
use crate::{
    failure::Failure,
    http::answer::Answer,
    id::{EndReason, SessionRef},
    mcp::{
        call::commit_if_live,
        dispatch::{invalid, no_session, require},
        exchange::{Exchange, Reply},
    },
    session::{Change, Client, Conversation, Handshake, NotLoaded, Record, Unavailable},
    wire::{
        Capabilities, Feature, Id, InitializeParams, Known, Nested, ProtocolVersion, Raw, version,
    },
};

/// Longest text in `clientInfo`, which is kept as long as the session. Bytes.
const MAX_CLIENT_TEXT: usize = 256;

/// Answers a DELETE.
pub(in crate::mcp) async fn terminate(exchange: Exchange<'_>) -> Result<Answer, Failure> {
    let mut request = Sessioned::new(exchange);
    let id = request.existing().await?.head.id;
    // It does not matter if the session has ended since.
    exchange.sessions().end(id, EndReason::Client).await?;
    Ok(Reply::NoContent.into_response(&exchange, None))
}

impl<'a> Sessioned<'a> {
    /// Reads the revision from the headers, and finds the session if they name one.
    pub(super) async fn open(&mut self) -> Result<(), Failure> {
        let served = &self.exchange.policy().protocol.versions;
        if let Some(text) = self.header(Known::Version)? {
            let named = text.parse().ok().filter(|version| served.contains(version));
            let unsupported =
                || Failure::UnsupportedVersion { served: version::newest_first(served) };
            self.version = named.ok_or_else(unsupported)?;
        }
        let Some(sent) = self.exchange.inbound.head().value(Known::Session)? else { return Ok(()) };
        let id = Known::Session.text(sent)?;
        let (sessions, caller) = (self.exchange.sessions(), self.exchange.inbound.caller);
        let problem = match sessions.find(id, caller).await {
            Ok(session) => {
                self.version = session.head.handshake.version.unwrap_or(self.version);
                self.exchange.record().set_session(session.head.reference);
                (self.session, self.named) = (Some(session), Some(sent));
                return Ok(());
            }
            Err(not) => self.not_loaded(id, not),
        };
        self.exchange.record().set_session(SessionRef::of(id));
        Err(problem)
    }

    /// Asks the store for the session, where [`open`](Self::open) has left that to a commit.
    pub(super) async fn prove(&mut self) -> Result<(), Failure> {
        if let Some(session) = self.session.take_if(|session| !session.asked) {
            let id = session.head.id;
            let proved = Box::pin(self.exchange.sessions().prove(session)).await;
            let proved = proved.map_err(|not| self.not_loaded(&id.to_string(), not))?;
            self.session = Some(proved);
        }
        Ok(())
    }

    fn not_loaded(&self, id: &str, not: NotLoaded) -> Failure {
        let (instance, record) = (self.exchange.instance(), self.exchange.record());
        match not {
            NotLoaded::Gone(gone) => Failure::NoSession(no_session(instance, record, id, gone)),
            NotLoaded::Unavailable => Unavailable.into(),
        }
    }

    /// The session that GET and DELETE must name.
    pub(super) async fn existing(&mut self) -> Result<&Record, Failure> {
        self.open().await?;
        self.prove().await?;
        self.session.as_ref().ok_or(Failure::SessionRequired)
    }

    /// A header that may appear once, in visible ASCII.
    pub(super) fn header(&self, known: Known) -> Result<Option<&'a str>, Failure> {
        Ok(self.exchange.inbound.head().text(known)?)
    }

    /// Fails if the request names no session and none may be created implicitly.
    pub(super) fn require_session_or_implicit(&self) -> Result<(), Failure> {
        let fine = self.session.is_some() || self.exchange.policy().session.implicit;
        fine.then_some(()).ok_or(Failure::SessionRequired)
    }

    /// The session, which is created now if the request named none. Only for requests that are known to be valid.
    pub(super) async fn session(&mut self) -> Result<&Record, Failure> {
        if self.session.is_none() {
            self.require_session_or_implicit()?;
            if !self.exchange.policy().protocol.versions.contains(&self.version) {
                self.version = self.exchange.policy().protocol.version;
            }
            self.begin(Handshake::implicit(Some(self.version))).await?;
        }
        self.session.as_ref().ok_or(Failure::SessionRequired)
    }

    async fn begin(&mut self, handshake: Handshake) -> Result<(), Failure> {
        let caller = self.exchange.inbound.caller;
        let session = self.exchange.sessions().create(handshake, caller).await?;
        self.exchange.record().set_session(session.head.reference);
        (self.session, self.named) = (Some(session), None);
        Ok(())
    }

    /// The conversation of [`session`](Self::session), begun now if there was none.
    pub(super) async fn conversation(&mut self) -> Result<Arc<Conversation>, Failure> {
        let id = self.session().await?.head.id;
        Ok(self.exchange.sessions().conversation(id))
    }

    /// The conversation, if the request named a session and it has one.
    pub(super) fn conversation_if_any(&self) -> Option<Arc<Conversation>> {
        let id = self.session.as_ref()?.head.id;
        self.exchange.sessions().conversation_of(id)
    }

    /// Changes the session, if there is one and it has not ended meanwhile.
    pub(super) async fn commit(&self, change: Change<'_>) -> Result<(), Failure> {
        let Some(session) = &self.session else { return Ok(()) };
        Ok(commit_if_live(self.exchange.instance(), session, change).await?)
    }

    /// `initialize`. Always creates a new session, whatever id the request carries.
    pub(super) async fn initialize(
        &mut self,
        id: Id<'_>,
        params: Option<Raw<'_>>,
    ) -> Result<Started, Failure> {
        // Not looked at, but whoever sent two does not know which one counts.
        self.header(Known::Version)?;
        self.header(Known::Session)?;
        let InitializeParams { protocol_version, capabilities, client_info } =
            require(params, "\"protocolVersion\"")?;
        let client = match client_info {
            None => None,
            Some(Nested(info)) if info.name.len().max(info.version.len()) > MAX_CLIENT_TEXT => {
                return invalid(format!(
                    "clientInfo texts must not be longer than {MAX_CLIENT_TEXT} bytes"
                ));
            }
            Some(Nested(info)) => {
                Some(Client { name: info.name.into(), version: info.version.into() })
            }
        };
        let Some(capabilities) = Capabilities::read(&capabilities.unwrap_or_else(|| json!({})))
        else {
            return invalid("\"capabilities\" must be an object");
        };
        let protocol = &self.exchange.policy().protocol;
        let served =
            |version: &ProtocolVersion| version.era() == ERA && protocol.versions.contains(version);
        let wanted = protocol_version.parse().ok().filter(served);
        let version = wanted.unwrap_or(protocol.version);
        let capabilities = Capabilities {
            // Ignored if the negotiated revision does not define them.
            elicitation: capabilities.elicitation && version.has(Feature::FormElicitation),
            elicitation_url: capabilities.elicitation_url && version.has(Feature::UrlElicitation),
            tasks: false,
            ..capabilities
        };
        let handshake = Handshake { client, capabilities, ..Handshake::implicit(Some(version)) };
        self.begin(handshake).await?;
        self.version = version;
        Ok(done(id, self.exchange.catalogue().initialize(version)))
    }
}
