//! What `_meta` must say (2026-07-28, basic/index, "_meta"; streamable-http, "Protocol Version Header").
//!
//! Owns the checks of revision and capabilities, and what they say of the client.
//! Trap: a client of an older revision cannot fall forward; what it is told here may be all that its user sees.

use super::{ERA, Stateless, headers};
use crate::{
    failure::Failure,
    mcp::{
        catalogue,
        dispatch::{self, read},
    },
    tools::call::ClientFacts,
    wire::{
        headers::VERSION_HEADER,
        json::Raw,
        model::{Capabilities, InitializeParams, LogLevel},
        params::{Meta, Params},
        version::{Era, ProtocolVersion},
    },
};

impl Stateless<'_> {
    /// The revision and what must come with it.
    pub(super) fn check_meta(
        &self,
        method: &str,
        params: &Params<'_>,
        meta: Option<&Meta<'_>>,
    ) -> Result<ClientFacts, Failure> {
        let claim = meta.and_then(|meta| meta.version);
        let header = headers::header(self.exchange.inbound.headers(), &VERSION_HEADER)?;
        self.refuse_handshake(claim, method, params)?;
        let Some(header) = header else {
            let body = claim.map_or("nothing", Raw::get);
            return Err(Failure::HeaderMismatch(format!(
                "MCP-Protocol-Version header is missing, the body says {body}"
            )));
        };
        let meta = meta.ok_or(Failure::BadMeta("\"_meta\" is required"))?;
        let claim = claim.and_then(Raw::text).ok_or(Failure::BadMeta(
            "\"_meta\" must have \"io.modelcontextprotocol/protocolVersion\", a string",
        ))?;
        let capabilities = meta.capabilities.map(Raw::value);
        let capabilities = capabilities.as_ref().and_then(Capabilities::read);
        let capabilities = capabilities.ok_or(Failure::BadMeta(
            "\"_meta\" must have \"io.modelcontextprotocol/clientCapabilities\", an object",
        ))?;
        if header != claim {
            return Err(Failure::HeaderMismatch(format!(
                "MCP-Protocol-Version header value {header:?} does not match body value {claim:?}"
            )));
        }
        let serves = |version: &ProtocolVersion| version.era() == ERA && version.as_str() == claim;
        if !self.exchange.policy().protocol.versions.iter().any(serves) {
            return Err(self.unsupported(claim.into_owned()));
        }
        Ok(ClientFacts {
            capabilities,
            progress_token: dispatch::progress_token(Some(meta))?,
            log_level: log_level(meta)?,
            meta: params.raw_meta().map(|raw| raw.get().into()),
            progress_messages: true,
        })
    }

    fn unsupported(&self, requested: String) -> Failure {
        let served = catalogue::stateless(&self.exchange.policy().protocol.versions);
        Failure::UnsupportedRevision { requested, served }
    }

    /// Tells a client of an older revision what is served, where none of those is.
    fn refuse_handshake(
        &self,
        claim: Option<Raw<'_>>,
        method: &str,
        params: &Params<'_>,
    ) -> Result<(), Failure> {
        match (claim, method) {
            (None, "initialize") if !self.exchange.instance().serves(Era::Sessioned) => {
                let requested = match read::<InitializeParams<'_>>(params.raw) {
                    Ok(Some(params)) => params.protocol_version.into_owned(),
                    _ => String::new(),
                };
                Err(self.unsupported(requested))
            }
            _ => Ok(()),
        }
    }
}

fn log_level(meta: &Meta<'_>) -> Result<Option<LogLevel>, Failure> {
    let Some(level) = meta.log_level else { return Ok(None) };
    let known = serde_json::from_str(level.get());
    known.map(Some).map_err(|_| Failure::InvalidParams(format!("{} is no log level", level.get())))
}
