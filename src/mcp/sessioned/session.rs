//! What a session id means for a request.
//!
//! Owns the look-up, the implicit session, the handshake and the end by DELETE.
//! Trap: a session is begun only by a request that is known to be valid.

use std::sync::Arc;

use axum::response::Response;
use http::HeaderName;
use serde_json::json;

use super::{ERA, Sessioned, Started, done};
use crate::{
    failure::Failure,
    id::{EndReason, SessionRef},
    mcp::{
        dispatch::{no_session, require},
        exchange::Exchange,
        reply::Reply,
    },
    session::{
        conversation::Conversation,
        record::{Change, Client, Handshake, Record, Want},
        store::{NotCommitted, NotLoaded, Unavailable},
    },
    wire::{
        headers::{SESSION_HEADER, Single, VERSION_HEADER, single},
        json::Raw,
        jsonrpc::Id,
        model::{Capabilities, InitializeParams, Nested},
        version::{Feature, ProtocolVersion},
    },
};

/// `clientInfo` texts are kept as long as the session, so they are bounded. Bytes.
const MAX_CLIENT_TEXT: usize = 256;

/// Answers a DELETE: the client no longer needs the session.
pub(in crate::mcp) async fn terminate(exchange: Exchange<'_>) -> Result<Response, Failure> {
    let mut request = Sessioned::new(exchange);
    let id = request.existing().await?.head.id;
    // Gone between the two look-ups is gone as well.
    exchange.instance().state.sessions.end(id, EndReason::Client).await?;
    Ok(Reply::NoContent.into_response(None))
}

impl<'a> Sessioned<'a> {
    /// Finds the session that the headers name, if they name one, and the revision that is spoken.
    pub(super) async fn open(&mut self) -> Result<(), Failure> {
        let served = &self.exchange.policy().protocol.versions;
        let named = match self.header(&VERSION_HEADER, "MCP-Protocol-Version")? {
            None => None,
            Some(text) => match text.parse().ok().filter(|version| served.contains(version)) {
                Some(version) => Some(version),
                None => return Err(Failure::UnsupportedVersion { served: served.clone() }),
            },
        };
        self.version = named.unwrap_or(ProtocolVersion::UNNAMED);
        let Some(id) = self.header(&SESSION_HEADER, "Mcp-Session-Id")? else { return Ok(()) };
        let (instance, record) = (self.exchange.instance(), self.exchange.record());
        let caller = self.exchange.inbound.caller;
        match instance.state.sessions.load(id, caller, Want::Nothing).await {
            Ok(session) => {
                self.version = session.head.handshake.version.unwrap_or(self.version);
                record.set_session(session.head.reference);
                self.session = Some(session);
                Ok(())
            }
            Err(NotLoaded::Gone(gone)) => {
                record.set_session(SessionRef::of(id));
                Err(Failure::NoSession(no_session(instance, id, gone)))
            }
            Err(NotLoaded::Unavailable) => {
                record.set_session(SessionRef::of(id));
                Err(Unavailable.into())
            }
        }
    }

    /// The session that GET and DELETE must name.
    pub(super) async fn existing(&mut self) -> Result<&Record, Failure> {
        self.open().await?;
        self.session.as_ref().ok_or(Failure::SessionRequired)
    }

    /// A header that may appear once, as visible ASCII.
    pub(super) fn header(
        &self,
        name: &HeaderName,
        shown: &'static str,
    ) -> Result<Option<&'a str>, Failure> {
        match single(self.exchange.inbound.headers(), name) {
            Single::Missing => Ok(None),
            Single::Value(value) => value.to_str().map(Some).map_err(|_| Failure::BadHeader(shown)),
            Single::Several => Err(Failure::BadHeader(shown)),
        }
    }

    /// Fails where a session is required and none was named.
    pub(super) fn require_session_or_implicit(&self) -> Result<(), Failure> {
        let fine = self.session.is_some() || self.exchange.policy().session.implicit;
        fine.then_some(()).ok_or(Failure::SessionRequired)
    }

    /// The session; made now if the request named none. Only for requests that are known to be valid.
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
        let sessions = &self.exchange.instance().state.sessions;
        let session = sessions.create(handshake, self.exchange.inbound.caller).await?;
        self.exchange.record().set_session(session.head.reference);
        self.session = Some(session);
        Ok(())
    }

    /// What is open for the session, made if there was nothing; the session is made now if there is none.
    pub(super) async fn conversation(&mut self) -> Result<Arc<Conversation>, Failure> {
        let id = self.session().await?.head.id;
        Ok(self.exchange.instance().state.sessions.conversation(id))
    }

    /// What is open for the session, if there is a session and anything is.
    pub(super) fn conversation_if_any(&self) -> Option<Arc<Conversation>> {
        let id = self.session.as_ref()?.head.id;
        self.exchange.instance().state.sessions.conversation_of(id)
    }

    /// Changes the session that the request named; one that has ended meanwhile has nothing to be changed.
    pub(super) async fn commit(&self, change: Change<'_>) -> Result<(), Failure> {
        let Some(session) = &self.session else { return Ok(()) };
        let sessions = &self.exchange.instance().state.sessions;
        match sessions.commit(&session.head, change, &self.exchange.policy().session).await {
            Ok(_) | Err(NotCommitted::Gone(_) | NotCommitted::Quota(_)) => Ok(()),
            Err(NotCommitted::Unavailable) => Err(Unavailable.into()),
        }
    }

    /// Notes `notifications/initialized`.
    pub(super) async fn set_initialized(&self) -> Result<(), Failure> {
        self.commit(Change { initialized: true, ..Change::default() }).await
    }

    /// Always a new session, whatever id the request carries.
    pub(super) async fn initialize(
        &mut self,
        id: Id<'_>,
        params: Option<Raw<'_>>,
    ) -> Result<Started, Failure> {
        let InitializeParams { protocol_version, capabilities, client_info } =
            require(params, "\"protocolVersion\"")?;
        let client = match client_info {
            None => None,
            Some(Nested(info)) if info.name.len().max(info.version.len()) > MAX_CLIENT_TEXT => {
                let problem =
                    format!("clientInfo texts must not be longer than {MAX_CLIENT_TEXT} bytes");
                return Err(Failure::InvalidParams(problem));
            }
            Some(Nested(info)) => {
                Some(Client { name: info.name.into(), version: info.version.into() })
            }
        };
        let Some(capabilities) = Capabilities::read(&capabilities.unwrap_or_else(|| json!({})))
        else {
            return Err(Failure::InvalidParams("\"capabilities\" must be an object".to_owned()));
        };
        let protocol = &self.exchange.policy().protocol;
        let served =
            |version: &ProtocolVersion| version.era() == ERA && protocol.versions.contains(version);
        let wanted = protocol_version.parse().ok().filter(served);
        let version = wanted.unwrap_or(protocol.version);
        let capabilities = Capabilities {
            // What the negotiated revision does not have, its client cannot mean.
            elicitation: capabilities.elicitation && version.has(Feature::FormElicitation),
            elicitation_url: capabilities.elicitation_url && version.has(Feature::UrlElicitation),
            tasks: false,
            ..capabilities
        };
        let handshake = Handshake { client, capabilities, ..Handshake::implicit(Some(version)) };
        self.begin(handshake).await?;
        Ok(done(id, self.exchange.catalogue().initialize(version)))
    }
}
