//! A hasher for session ids, which are random already.
//!
//! Owns [`BuildIdHasher`]. It passes on the random half of an id instead of mixing it: an id in a map was minted by this
//! process, so no client can choose ids that collide.
//! Trap: only ids that were minted here may become keys. A made-up id may be looked up.

use std::hash::{BuildHasher, Hasher};

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BuildIdHasher;

impl BuildHasher for BuildIdHasher {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher(0)
    }
}

pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        // The last eight bytes are random but for the two variant bits of the UUID. Maps look at the highest and the
        // lowest bits, so those two are turned to the middle.
        let random = bytes.last_chunk().copied().map_or(0, u64::from_le_bytes);
        self.0 = (self.0 ^ random).rotate_left(28);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
