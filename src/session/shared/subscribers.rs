//! Who of the replicas sends a session's client what belongs to no call, and of which resources.
//!
//! Owns the session's subscriptions in the store, and its speaker: the replica at which the client opened its last
//! standalone stream, since the same message must not go out on several. When that stream has lost its reader, a replica
//! that has another takes over; if none has, the speaker keeps what is to be sent, until the client comes back.
//! Traps: a URI of a session's data holds a session id, which no key or record may hold. So a URI is veiled: to read it
//! takes the id of the session that has subscribed. And a speaker that was killed is not replaced until its client opens
//! a stream again, as it will.

use super::{SharedStore, news::digits};
use crate::{
    id::{SessionDigest, SessionId, digest_of},
    link::{Call, Lost, scripts},
    session::{Followed, MAX_SUBSCRIPTIONS, news::Untold, store::Unavailable},
};

scripts! { "prelude.lua":
    SUBSCRIBE: promised, "subscribe.lua";
    UNSUBSCRIBE: promised, "unsubscribe.lua";
    SPEAK: repeated, "speak.lua";
}

impl SharedStore {
    pub(in crate::session) async fn subscribe(
        &self,
        session: SessionId,
        uri: &str,
    ) -> Result<Followed, Unavailable> {
        let (digest, hidden) = (SessionDigest::of(uri), veil(session, uri));
        let call = Call::new(&SUBSCRIBE, &self.key)
            .bytes(digits(session.digest()))
            .text(self.news.writer())
            .bytes(digits(digest))
            .bytes(hidden.into_bytes())
            .number(MAX_SUBSCRIPTIONS as u64);
        match self.run(&call).await?.text().as_deref() {
            Some("many") => Ok(Followed::TooMany),
            // Of a session that has just ended there is nothing to tell.
            Some(_) => Ok(Followed::Yes),
            None => Err(Unavailable),
        }
    }

    pub(in crate::session) async fn unsubscribe(
        &self,
        session: SessionDigest,
        uri: &str,
    ) -> Result<(), Lost> {
        let call = Call::new(&UNSUBSCRIBE, &self.key)
            .bytes(digits(session))
            .text(self.news.writer())
            .bytes(digits(SessionDigest::of(uri)));
        self.run(&call).await.map(|_| ())
    }

    pub(in crate::session) async fn speak(&self, session: SessionId) -> Result<Vec<String>, Lost> {
        let uris = self.subscriptions(session, self.news.writer()).await?;
        if let Some(conversation) = self.conversations.get(session) {
            conversation.set_speaking(true);
        }
        Ok(uris)
    }

    /// What the client has subscribed to. Names who speaks to it from now on, unless that is nobody.
    pub(super) async fn subscriptions(
        &self,
        session: SessionId,
        speaker: &str,
    ) -> Result<Vec<String>, Lost> {
        let call = Call::new(&SPEAK, &self.key).bytes(digits(session.digest())).text(speaker);
        let mut all = self.run(&call).await?.list().ok_or(Lost)?;
        let mut uris = Vec::with_capacity(all.len() / 2);
        while let (Some(digest), Some(hidden)) = (all.bytes(), all.text()) {
            uris.extend(SessionDigest::parse(&digest).and_then(|it| unveil(session, it, &hidden)));
        }
        Ok(uris)
    }

    pub(in crate::session) fn fall_silent(&self, session: SessionId) {
        let reads = self.conversations.get(session).is_some_and(|it| it.has_listener());
        if !reads {
            self.news.tell(Untold::Silent(session.digest()));
        }
    }
}

/// A URI as the store has it.
fn veil(session: SessionId, uri: &str) -> String {
    let hidden = veiled(session, SessionDigest::of(uri), uri.as_bytes());
    hidden.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn unveil(session: SessionId, digest: SessionDigest, hidden: &str) -> Option<String> {
    let pairs = hidden.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    let bytes: Option<Vec<u8>> = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
    let uri = String::from_utf8(veiled(session, digest, &bytes?)).ok()?;
    (SessionDigest::of(&uri) == digest).then_some(uri)
}

/// Each byte combined with one that follows from the session's id, the URI's digest, which no other URI has, and its place.
fn veiled(session: SessionId, digest: SessionDigest, bytes: &[u8]) -> Vec<u8> {
    let (mut id, digits) = ([0; 36], digest.digits());
    let id = session.encode(&mut id).as_bytes();
    let block = |number: usize| {
        let number = (number as u64).to_be_bytes();
        digest_of(&[b"subscription", id, digits.as_str().as_bytes(), &number])
    };
    let blocks = bytes.chunks(32).enumerate();
    blocks
        .flat_map(|(n, some)| some.iter().zip(block(n)).map(|(a, b)| a ^ b).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_veiled_uri_is_read_by_those_who_know_the_session() {
        let ids = ["0a100000-0000-8000-8000-000000000001", "0a100000-0000-8000-8000-000000000002"];
        let [one, other] = ids.map(|id| SessionId::parse(id).expect("an id"));
        for uri in ["", "a", &format!("session://{}/data/{}", ids[1], "ä".repeat(100))] {
            let (hidden, digest) = (veil(one, uri), SessionDigest::of(uri));
            assert_eq!(unveil(one, digest, &hidden).as_deref(), Some(uri));
            if !uri.is_empty() {
                assert_eq!(unveil(other, digest, &hidden), None);
                assert!(!hidden.contains(uri));
            }
        }
    }
}
