//! Ids: instance, replica, boot, session, caller.
//!
//! Owns [`InstanceId`], [`SessionId`], which says where it was minted ([`MintedBy`]), its [`SessionRef`] for logs,
//! and [`Caller`]. Handles and task ids have the form of a session id.
//! Trap: a session id is a secret that lets its holder act as the session. Its first six digits are for routing and
//! no secret; logs show a [`SessionRef`].

use std::{fmt, str::FromStr};

use http::HeaderValue;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Which of the ten: 0 to 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct InstanceId(u8);

impl InstanceId {
    /// How many there are.
    pub const COUNT: usize = 10;

    /// What every name of an instance begins with; its number follows.
    pub(crate) const LABEL: &str = "echo-stateful";

    /// The id of that number, if there is such an instance.
    pub const fn new(number: u8) -> Option<Self> {
        if (number as usize) < Self::COUNT { Some(Self(number)) } else { None }
    }

    /// For round robin: the count modulo ten.
    pub const fn wrapping(count: usize) -> Self {
        Self((count % Self::COUNT) as u8)
    }

    /// All ten, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }

    /// As an index into a table of ten.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The digit that opens every session id of this instance.
    pub const fn digit(self) -> u8 {
        self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for InstanceId {
    /// From a string, since it is the key of a table.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = text.parse().ok().and_then(Self::new).filter(|id| id.to_string() == text);
        known.ok_or_else(|| D::Error::custom(format!("{text:?} is no instance: they are 0 to 9")))
    }
}

/// Where an id was minted: which instance of which replica, in which start of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MintedBy {
    /// Hex digit 0.
    pub instance: InstanceId,
    /// Hex digits 1-2.
    pub tag: ReplicaTag,
    /// Hex digits 3-5.
    pub boot: Boot,
}

/// What is not the same where an id was minted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// By another of the ten.
    Instance,
    /// By this instance of another replica.
    Replica,
    /// Here, before the last start.
    Boot,
}

impl MintedBy {
    /// The first difference to here; `None` if there is none.
    pub(crate) fn elsewhere(self, here: Self) -> Option<Elsewhere> {
        match () {
            () if self.instance != here.instance => Some(Elsewhere::Instance),
            () if self.tag != here.tag => Some(Elsewhere::Replica),
            () if self.boot != here.boot => Some(Elsewhere::Boot),
            () => None,
        }
    }

    /// `{"instance":…,"replica_tag":…,"boot":…}`
    pub(crate) fn to_json(self) -> Value {
        json!({
            "instance": self.instance,
            "replica_tag": self.tag.to_string(),
            "boot": self.boot.to_string(),
        })
    }
}

/// Drawn at every start: 12 bits, three hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot(pub u16);

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03x}", self.0)
    }
}

/// The replica tag: hex digits 1-2 of every id minted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaTag(pub u8);

impl ReplicaTag {
    /// The tag of a process that was given none: the same at every start on that host and port, and another one on each
    /// of the next 255 ports.
    pub(crate) fn of(host: &str, port: u16) -> Self {
        let [low, ..] = port.to_le_bytes();
        Self(digest_of(&[host.as_bytes()])[0].wrapping_add(low))
    }
}

impl fmt::Display for ReplicaTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}", self.0)
    }
}

impl FromStr for ReplicaTag {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let two_digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_hexdigit());
        match u8::from_str_radix(text, 16) {
            Ok(tag) if two_digits => Ok(Self(tag)),
            _ => Err(
                "must be two hex digits, such as \"a1\", or \"\" to derive them from host name and port",
            ),
        }
    }
}

/// A UUID (version 8): hex digit 0 is the instance that minted it, digits 1-2 the replica tag, digits
/// 3-5 the boot; the other 98 bits are random.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(Uuid);

impl SessionId {
    /// A new id that no one can guess.
    pub fn mint(by: MintedBy) -> Result<Self, getrandom::Error> {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes)?;
        let MintedBy { instance, tag: ReplicaTag(tag), boot: Boot(boot) } = by;
        bytes[0] = instance.digit() << 4 | tag >> 4;
        bytes[1] = tag << 4 | (boot >> 8) as u8;
        bytes[2] = boot as u8;
        Ok(Self(uuid::Builder::from_custom_bytes(bytes).into_uuid()))
    }

    /// Reads an id as this server writes it: 36 characters, lower case.
    pub fn parse(text: &str) -> Option<Self> {
        let uuid = Uuid::try_parse(text).ok()?;
        // `Uuid` reads other forms as well, which have other lengths.
        let text: &[u8; 36] = text.as_bytes().try_into().ok()?;
        // All bytes at a time: a search that ends at the first would go one by one.
        let upper = text.iter().fold(false, |upper, byte| upper | byte.is_ascii_uppercase());
        let ours = !upper && uuid.get_version_num() == 8;
        ours.then_some(Self(uuid))
    }

    /// Where it was minted; `None` for an id that is not ours.
    pub fn minted_by(self) -> Option<MintedBy> {
        let [a, b, c, ..] = *self.0.as_bytes();
        Some(MintedBy {
            instance: InstanceId::new(a >> 4)?,
            tag: ReplicaTag(a << 4 | b >> 4),
            boot: Boot(u16::from(b & 0xf) << 8 | u16::from(c)),
        })
    }

    pub(crate) fn reference(self) -> SessionRef {
        SessionRef::of(self.encode(&mut [0; 36]))
    }

    pub(crate) fn digest(self) -> SessionDigest {
        SessionDigest::of(self.encode(&mut [0; 36]))
    }

    /// As `Mcp-Session-Id` tells it.
    pub(crate) fn to_header(self) -> HeaderValue {
        HeaderValue::from_str(self.encode(&mut [0; 36])).unwrap_or(HeaderValue::from_static("-"))
    }

    /// Writes it as text.
    pub(crate) fn encode(self, buffer: &mut [u8; 36]) -> &str {
        self.0.as_hyphenated().encode_lower(buffer)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.encode(&mut [0; 36]))
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.encode(&mut [0; 36]))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({})", self.reference())
    }
}

/// The first 12 hex digits of the SHA-256 of an id's text: enough to find a session, too little to be one.
/// `printf %s "$SESSION_ID" | sha256sum | cut -c1-12` gives the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionRef([u8; 6]);

impl SessionRef {
    /// The reference of any text that was given as an id.
    pub fn of(id: &str) -> Self {
        let digest = Sha256::digest(id.as_bytes());
        let mut first = [0; 6];
        first.copy_from_slice(&digest[..6]);
        Self(first)
    }

    /// Reads a reference as it is shown.
    pub fn parse(text: &str) -> Option<Self> {
        let number = u64::from_str_radix(text, 16).ok()?;
        let [_, _, bytes @ ..] = number.to_be_bytes();
        let reference = Self(bytes);
        (reference.to_string() == text).then_some(reference)
    }

    pub(crate) fn digits(self) -> [u8; 12] {
        let mut digits = [0; 12];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&hex_pair(byte));
        }
        digits
    }
}

impl fmt::Display for SessionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

/// The first 32 hex digits of the SHA-256 of an id's text: what a shared store knows a session by, so that who reads the
/// store can take no session over. It begins with the [`SessionRef`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionDigest([u8; 16]);

impl SessionDigest {
    /// Of the id's text.
    pub(crate) fn of(id: &str) -> Self {
        let mut first = [0; 16];
        first.copy_from_slice(&Sha256::digest(id.as_bytes())[..16]);
        Self(first)
    }

    /// Reads it as [`SessionDigest::digits`] writes it.
    pub(crate) fn parse(digits: &[u8]) -> Option<Self> {
        let digits: &[u8; 32] = digits.try_into().ok()?;
        let number = u128::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        Some(Self(number.to_be_bytes()))
    }

    /// What stands for the session in logs.
    pub(crate) fn reference(self) -> SessionRef {
        let [a, b, c, d, e, f, ..] = self.0;
        SessionRef([a, b, c, d, e, f])
    }

    /// In lower case.
    pub(crate) fn digits(self) -> Digits {
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&hex_pair(byte));
        }
        Digits(digits)
    }
}

/// A [`SessionDigest`] as text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digits([u8; 32]);

impl Digits {
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

fn hex_pair(byte: u8) -> [u8; 2] {
    let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
    [digit(byte >> 4), digit(byte & 0xf)]
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Idle for too long.
    Expired,
    /// The client sent DELETE.
    Client,
    /// An operator ended it.
    Admin,
    /// The process stopped.
    Shutdown,
}

impl EndReason {
    /// Every reason, in the order of the enum.
    pub const ALL: [Self; 4] = [Self::Expired, Self::Client, Self::Admin, Self::Shutdown];

    /// Position in [`EndReason::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// As it stands in logs and listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Client => "client",
            Self::Admin => "admin",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Who sent a request, as a digest, which can be compared and gives nothing away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// No identity is known.
    Anonymous,
    /// A known identity.
    Known([u8; 16]),
}

impl Caller {
    /// The caller of that identity; `kind` keeps a user and a token of the same name apart.
    pub fn known(kind: &str, identity: impl AsRef<[u8]>) -> Self {
        Self::of_parts(&[kind.as_bytes(), identity.as_ref()])
    }

    /// The caller of an identity that has several parts.
    pub(crate) fn of_parts(parts: &[&[u8]]) -> Self {
        let mut first = [0; 16];
        first.copy_from_slice(&digest_of(parts)[..16]);
        Self::Known(first)
    }
}

/// The SHA-256 of several parts, each after its length: with a mark between them, a part that holds the mark could run
/// into the next one. Whatever is hashed of more than one part goes through here.
pub(crate) fn digest_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_never_run_into_each_other(
            one in proptest::collection::vec("[a\0]{0,3}", 0..4),
            other in proptest::collection::vec("[a\0]{0,3}", 0..4),
        ) {
            let digest = |parts: &[String]| {
                digest_of(&parts.iter().map(|part| part.as_bytes()).collect::<Vec<_>>())
            };
            prop_assert_eq!(digest(&one) == digest(&other), one == other);
        }
    }
}
