//! Which of a cluster's 16384 slots a key is in.
//!
//! Owns the sum by which all clients and servers find it: CRC-16/XMODEM of what stands between the first brace and the
//! next closing one, or of the whole key where nothing does.
//! Trap: another sum asks the wrong node every time, which works, at twice the price.

/// The slot of a key.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&byte| byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let length = rest.iter().position(|&byte| byte == b'}')?;
        (length > 0).then(|| &rest[..length])
    });
    crc16(tag.unwrap_or(key)) % 16_384
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, &byte| {
        (0..8).fold(sum ^ (u16::from(byte) << 8), |sum, _| {
            if sum & 0x8000 == 0 { sum << 1 } else { (sum << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_servers() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, slot) in
            [("foo", 12_182), ("a{foo}b}", 12_182), ("{}foo", 9_500), ("{foo", 13_308)]
        {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
    }
}
