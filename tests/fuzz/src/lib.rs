//! What is fuzzed, and how: shared by the targets for libFuzzer and by the replay, which needs none.
//!
//! [`input`] is what may be sent, [`render`] turns it into requests, [`drive`] sends them to a server of
//! this process, [`oracle`] says what every answer must be. `wire` is the other way in: any bytes at all.

pub mod drive;
mod frames;
pub mod input;
pub mod oracle;
pub mod render;
mod stories;
mod wire;
mod words;

#[path = "../../it/schema.rs"]
mod schema;

use arbitrary::{Arbitrary, Unstructured};

use self::input::Conversation;

/// The conversation that some bytes stand for; `None` if they are none.
pub fn conversation(bytes: &[u8]) -> Option<Conversation> {
    Conversation::arbitrary(&mut Unstructured::new(bytes)).ok()
}
