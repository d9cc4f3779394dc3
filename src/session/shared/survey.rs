//! What operators ask of a shared store: lists of sessions and of ends.
//!
//! Owns going through all sessions of an instance, some at a time, so that no script takes long. Restarts no idle clock.
//! Traps: sessions come and go meanwhile, and one may be found twice. The store knows a session by its
//! digest, so a reference, which is where the digest begins, is what one is looked for by.

use std::collections::HashMap;

use super::{
    SharedStore,
    codec::{Ending, read_facts, read_handshake},
};
use crate::{
    id::{SessionDigest, SessionRef},
    link::{Call, Reply, scripts},
    session::{
        ledger::EndedSession,
        record::Listed,
        search::{Found, Search},
        store::Unavailable,
    },
};

scripts! { "prelude.lua":
    LIST: repeated, "list.lua";
    SIZES: repeated, "sizes.lua";
    ENDED: repeated, "ended.lua";
}

/// How many sessions or ends one script tells.
const PAGE: u64 = 256;

impl SharedStore {
    pub(in crate::session) async fn list(&self) -> Result<Vec<Listed>, Unavailable> {
        self.all("*", |_| true).await
    }

    pub(in crate::session) async fn recent(
        &self,
        limit: usize,
        search: &Search,
    ) -> Result<Found, Unavailable> {
        let fits = |listed: &Listed| search.fits(listed.reference, &listed.handshake);
        let mut sessions = self.all("*", fits).await?;
        let count = sessions.len();
        sessions.sort_unstable_by_key(Listed::by_use);
        sessions.truncate(limit);
        Ok(Found { count, sessions })
    }

    pub(in crate::session) async fn find_reference(
        &self,
        wanted: [Option<SessionRef>; 2],
    ) -> Result<Option<Listed>, Unavailable> {
        for reference in wanted.into_iter().flatten() {
            let found = self.all(&format!("{reference}*"), |_| true).await?;
            let Some(mut found) = found.into_iter().next() else { continue };
            let Some(digest) = found.digest else { continue };
            let digits = digest.digits();
            let call = Call::new(&SIZES, &self.key).text(digits.as_str());
            let mut reply = self.run(&call).await?;
            let (mut keys, mut sizes) =
                (reply.list().ok_or(Unavailable)?, reply.list().ok_or(Unavailable)?);
            while let (Some(key), Some(size)) = (keys.text(), sizes.count()) {
                found.sizes.push((key.into(), usize::try_from(size).unwrap_or(usize::MAX)));
            }
            found.sizes.sort_unstable();
            return Ok(Some(found));
        }
        Ok(None)
    }

    pub(in crate::session) async fn last_ended(
        &self,
        limit: usize,
        fits: impl Fn(SessionRef) -> bool,
    ) -> Result<Vec<EndedSession>, Unavailable> {
        let mut found = Vec::new();
        let mut from = 0;
        loop {
            let call = Call::new(&ENDED, &self.key).number(from).number(from + PAGE - 1);
            let mut some = self.run(&call).await?.list().ok_or(Unavailable)?;
            let page = some.len() as u64;
            while let Some(ended) = some.list() {
                found.extend(self.read_end(ended).filter(|ended| fits(ended.reference)));
            }
            from += PAGE;
            if page < PAGE || found.len() >= limit {
                found.truncate(limit);
                return Ok(found);
            }
        }
    }

    fn read_end(&self, mut reply: Reply) -> Option<EndedSession> {
        let digest = SessionDigest::parse(&reply.bytes()?)?;
        let at = self.link.moment(reply.integer()?);
        let Ending { reason, timeout, .. } = Ending::parse(&reply.text()?)?;
        Some(EndedSession { reference: digest.reference(), at, reason, timeout })
    }

    /// All live sessions whose digest fits the pattern, if they fit.
    async fn all(
        &self,
        pattern: &str,
        fits: impl Fn(&Listed) -> bool,
    ) -> Result<Vec<Listed>, Unavailable> {
        let mut found: HashMap<SessionDigest, Listed> = HashMap::new();
        let mut cursor = "0".to_owned();
        loop {
            let call = Call::new(&LIST, &self.key).text(&cursor).number(PAGE).text(pattern);
            let mut reply = self.run(&call).await?;
            let next = reply.text().ok_or(Unavailable)?;
            let mut some = reply.list().ok_or(Unavailable)?;
            while let Some(mut session) = some.list() {
                let Some((digest, listed)) = self.read_listed(&mut session) else { continue };
                if fits(&listed) {
                    let id = self.known.head(digest).map(|head| head.id);
                    found.entry(digest).or_insert(Listed { id, ..listed });
                }
            }
            if next == "0" {
                return Ok(found.into_values().collect());
            }
            cursor = next;
        }
    }

    fn read_listed(&self, reply: &mut Reply) -> Option<(SessionDigest, Listed)> {
        let digest = SessionDigest::parse(&reply.bytes()?)?;
        let timeout = reply.count()?;
        let handshake = read_handshake(&reply.text()?, timeout)?;
        let created = self.link.moment(reply.integer()?);
        let facts = read_facts(&self.link, reply)?;
        let listed = Listed {
            reference: digest.reference(),
            id: None,
            digest: Some(digest),
            handshake,
            created,
            touched: facts.touched,
            tally: facts.tally,
            initialized: facts.initialized,
            data_keys: facts.data_keys,
            data_bytes: facts.data_bytes,
            sizes: Vec::new(),
        };
        Some((digest, listed))
    }
}
