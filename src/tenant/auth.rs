//! Who is calling: the optional bearer check of one instance.
//!
//! Owns [`AuthMode`], which finds the [`Caller`] of a request, and [`Claims`], what a JWT says. Signatures are not
//! verified: that is a gateway's work. A token is either one of those configured, or taken as it comes.
//! Trap: a session belongs to an identity, not to the bytes of a token, which change at every refresh.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{
    config::{AuthConfig, AuthModeName, file, is_token, split_pair},
    id::Caller,
};

/// `auth.mode`, with what it needs.
#[derive(Debug)]
pub(crate) enum AuthMode {
    Off,
    Passthrough,
    Tokens(TokenTable),
}

/// The SHA-256 of each accepted token, and the identity it stands for.
pub(crate) struct TokenTable(Vec<([u8; 32], Caller)>);

impl fmt::Debug for TokenTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenTable({} tokens)", self.0.len())
    }
}

/// Why a request is answered with a challenge (RFC 6750 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthorized {
    /// No `Authorization` header.
    #[error("a bearer token is required: send \"Authorization: Bearer <token>\"")]
    Missing,
    /// It is of another scheme.
    #[error("the Authorization header must be of the form \"Bearer <token>\"")]
    OtherScheme,
    /// It is not of the form `Bearer <token>`.
    #[error("the Authorization header must be of the form \"Bearer <token>\"")]
    Malformed,
    /// The token is not one of those configured.
    #[error("the bearer token is not accepted here")]
    Rejected,
}

impl AuthMode {
    /// Fails if `auth.tokens_file` cannot be read, or holds a line that is neither empty, a comment nor `name=token`.
    pub(crate) fn build(config: &AuthConfig) -> anyhow::Result<Self> {
        match config.mode {
            AuthModeName::Off => return Ok(Self::Off),
            AuthModeName::Passthrough => return Ok(Self::Passthrough),
            AuthModeName::Tokens => {}
        }
        let mut pairs: Vec<String> =
            config.tokens.iter().map(|pair| pair.expose().to_owned()).collect();
        if !config.tokens_file.as_os_str().is_empty() {
            let path = config.tokens_file.display();
            let text = file::read(&config.tokens_file)
                .map_err(|error| anyhow::anyhow!("auth.tokens_file: {path}: {error}"))?;
            for (number, line) in (1..).zip(text.lines().map(str::trim)) {
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                anyhow::ensure!(
                    split_pair(line).is_some(),
                    "auth.tokens_file: {path}: line {number}: must be name=token"
                );
                pairs.push(line.to_owned());
            }
        }
        let mut table: Vec<([u8; 32], Caller)> = Vec::with_capacity(pairs.len());
        for (name, token) in pairs.iter().filter_map(|pair| split_pair(pair)) {
            let digest = Sha256::digest(token.as_bytes()).into();
            // Only one of two names could ever be meant.
            anyhow::ensure!(
                table.iter().all(|(other, _)| *other != digest),
                "auth.tokens_file: {}: holds a token twice, or one of auth.tokens ({name})",
                config.tokens_file.display()
            );
            table.push((digest, Caller::known("token", name)));
        }
        anyhow::ensure!(
            !table.is_empty(),
            "auth.tokens_file: {}: holds no token, so nobody could call",
            config.tokens_file.display()
        );
        Ok(Self::Tokens(TokenTable(table)))
    }

    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Passthrough => "passthrough",
            Self::Tokens(_) => "tokens",
        }
    }

    /// Who sent a request with that `Authorization` header.
    pub(crate) fn check(&self, header: Option<&[u8]>) -> Result<Caller, Unauthorized> {
        match self {
            Self::Off => Ok(Caller::Anonymous),
            Self::Passthrough => {
                let token = bearer(header)?;
                let claimed = Claims::decode(token).and_then(|claims| claims.identity());
                Ok(claimed.unwrap_or_else(|| Caller::known("opaque", token)))
            }
            Self::Tokens(TokenTable(table)) => {
                let digest: [u8; 32] = Sha256::digest(bearer(header)?.as_bytes()).into();
                // Compare with every row, so that the time taken does not tell which one matches.
                let mut found = Err(Unauthorized::Rejected);
                for (accepted, caller) in table {
                    if bool::from(accepted.ct_eq(&digest)) {
                        found = Ok(*caller);
                    }
                }
                found
            }
        }
    }
}

/// The token of an `Authorization: Bearer …` header (RFC 6750 §2.1).
pub(crate) fn bearer(header: Option<&[u8]>) -> Result<&str, Unauthorized> {
    let header = header.ok_or(Unauthorized::Missing)?;
    let end = header.iter().position(|byte| *byte == b' ').unwrap_or(header.len());
    let (scheme, token) = header.split_at(end);
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(Unauthorized::OtherScheme);
    }
    let token = std::str::from_utf8(token).map_err(|_| Unauthorized::Malformed)?.trim();
    is_token(token).then_some(token).ok_or(Unauthorized::Malformed)
}

/// A JWT, decoded and not verified.
pub(crate) struct Claims {
    /// The JOSE header.
    pub(crate) header: Value,
    pub(crate) payload: Value,
    /// Whether it has a signature, right or wrong.
    pub(crate) signed: bool,
}

impl Claims {
    /// `None` if the token is not a JWT.
    pub(crate) fn decode(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
        let object = |part: &str| -> Option<Value> {
            let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
            serde_json::from_slice(&bytes).ok().filter(Value::is_object)
        };
        let claims = Self {
            header: object(header)?,
            payload: object(payload)?,
            signed: !signature.is_empty(),
        };
        parts.next().is_none().then_some(claims)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.payload.get(name).and_then(Value::as_str)
    }

    /// Issuer and subject: a subject is unique for its issuer only (RFC 7519 §4.1.2).
    fn identity(&self) -> Option<Caller> {
        let subject = self.text("sub")?.as_bytes();
        Some(match self.text("iss") {
            Some(issuer) => Caller::of_parts(&[b"claims", issuer.as_bytes(), subject]),
            None => Caller::of_parts(&[b"claims", subject]),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_header_is_read_or_refused(header in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = bearer(Some(&header));
        }
    }
}
