//! Who is calling: the optional bearer check of one instance.
//!
//! Owns [`AuthMode`], which finds the [`Caller`] of a request, and the reading of a token's claims for display. Refuses to verify signatures: that is a gateway's work; here a token is either one of the
//! configured ones or a stranger's word that is carried along.
//! Trap: a session belongs to an identity, not to the bytes of a token, which change at every refresh.

use std::{fmt, fs};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{
    config::{AuthConfig, AuthModeName, is_token, split_pair},
    id::Caller,
};

/// Whether and how the bearer token of a request is checked.
#[derive(Debug)]
pub enum AuthMode {
    /// No token is asked for.
    Off,
    /// A well-formed token must be there; it is not verified.
    Passthrough,
    /// One of these must be there.
    Tokens(TokenTable),
}

/// Digests of the accepted tokens, each with the identity it stands for.
pub struct TokenTable(Vec<([u8; 32], Caller)>);

impl fmt::Debug for TokenTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenTable({} tokens)", self.0.len())
    }
}

/// Why a request is answered with 401 (RFC 6750 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthorized {
    /// No `Authorization` header.
    #[error("a bearer token is required: send \"Authorization: Bearer <token>\"")]
    Missing,
    /// Not of the form `Bearer <token>`.
    #[error("the Authorization header must be of the form \"Bearer <token>\"")]
    Malformed,
    /// A token, but none that is accepted here.
    #[error("the bearer token is not accepted here")]
    Rejected,
}

impl AuthMode {
    /// Reads the tokens; fails if `auth.tokens_file` cannot be read or holds a line that is no pair.
    pub fn build(config: &AuthConfig) -> anyhow::Result<Self> {
        match config.mode {
            AuthModeName::Off => Ok(Self::Off),
            AuthModeName::Passthrough => Ok(Self::Passthrough),
            AuthModeName::Tokens => {
                let mut pairs: Vec<String> =
                    config.tokens.iter().map(|pair| pair.expose().to_owned()).collect();
                if !config.tokens_file.as_os_str().is_empty() {
                    let path = config.tokens_file.display();
                    let text = fs::read_to_string(&config.tokens_file)
                        .map_err(|error| anyhow::anyhow!("auth.tokens_file: {path}: {error}"))?;
                    let lines = text.lines().map(str::trim).enumerate();
                    for (number, line) in
                        lines.filter(|(_, l)| !l.is_empty() && !l.starts_with('#'))
                    {
                        anyhow::ensure!(
                            split_pair(line).is_some(),
                            "auth.tokens_file: {path}: line {}: must be name=token",
                            number + 1
                        );
                        pairs.push(line.to_owned());
                    }
                }
                let table =
                    pairs.iter().filter_map(|pair| split_pair(pair)).map(|(name, token)| {
                        (Sha256::digest(token.as_bytes()).into(), Caller::known("token", name))
                    });
                Ok(Self::Tokens(TokenTable(table.collect())))
            }
        }
    }

    /// As it stands in configuration.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Passthrough => "passthrough",
            Self::Tokens(_) => "tokens",
        }
    }

    /// The caller of a request with that `Authorization` header.
    pub fn check(&self, header: Option<&[u8]>) -> Result<Caller, Unauthorized> {
        match self {
            Self::Off => Ok(Caller::Anonymous),
            Self::Passthrough => {
                let token = bearer(header)?;
                Ok(match Claims::decode(token).and_then(|claims| claims.identity()) {
                    Some(identity) => Caller::known("claims", &identity),
                    None => Caller::known("opaque", token),
                })
            }
            Self::Tokens(TokenTable(table)) => {
                let digest: [u8; 32] = Sha256::digest(bearer(header)?.as_bytes()).into();
                // Every row is compared, so that the time tells nothing about which one fits.
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

/// The token of an `Authorization: Bearer …` header.
pub fn bearer(header: Option<&[u8]>) -> Result<&str, Unauthorized> {
    let header = header.ok_or(Unauthorized::Missing)?;
    let text = std::str::from_utf8(header).map_err(|_| Unauthorized::Malformed)?;
    let (scheme, token) = text.split_once(' ').ok_or(Unauthorized::Malformed)?;
    let token = token.trim();
    let fits = scheme.eq_ignore_ascii_case("bearer") && is_token(token);
    fits.then_some(token).ok_or(Unauthorized::Malformed)
}

/// The decoded, unverified parts of a JWT.
#[derive(Clone, Debug)]
pub struct Claims {
    /// The JOSE header.
    pub header: Value,
    /// The payload.
    pub payload: Value,
    /// Whether a signature is there; nobody has looked at it.
    pub signed: bool,
}

impl Claims {
    /// Decodes a JWT, if the token is one.
    pub fn decode(token: &str) -> Option<Self> {
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

    /// A claim that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.payload.get(name).and_then(Value::as_str)
    }

    fn identity(&self) -> Option<String> {
        let subject = self.text("sub")?;
        Some(format!("{}\0{subject}", self.text("iss").unwrap_or_default()))
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

        #[test]
        fn a_refreshed_token_keeps_its_identity(subject in "[a-z]{1,10}", first: u32, second: u32) {
            let token = |issued: u32| {
                let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
                let payload = serde_json::json!({"sub": subject, "iat": issued});
                format!("Bearer {}.{}.x", part(serde_json::json!({"alg": "none"})), part(payload))
            };
            let caller = |token: String| AuthMode::Passthrough.check(Some(token.as_bytes()));
            prop_assert_eq!(caller(token(first)), caller(token(second)));
            prop_assert!(caller(token(first)).is_ok());
        }
    }
}
