//! Session ids: what they say, and what is none.

use mcp_echo_stateful::id::{Boot, InstanceId, MintedBy, ReplicaTag, SessionId};
use proptest::prelude::*;

proptest! {
    #[test]
    fn an_id_says_where_it_came_from(digit in 0u8..10, tag: u8, boot in 0u16..0x1000) {
        let instance = InstanceId::new(digit).expect("0 to 9");
        let by = MintedBy { instance, tag: ReplicaTag(tag), boot: Boot(boot) };
        let id = SessionId::mint(by).expect("random bytes");
        let text = id.to_string();
        prop_assert_eq!(&text[..6], format!("{digit}{tag:02x}{boot:03x}"));
        prop_assert_eq!(SessionId::parse(&text), Some(id));
        prop_assert_eq!(id.minted_by(), Some(by));
    }

    #[test]
    fn any_text_is_an_id_or_not(text in "\\PC{0,40}") {
        if let Some(id) = SessionId::parse(&text) {
            prop_assert_eq!(id.to_string(), text);
        }
    }
}
