//! The text of `big_response`: a ruler, each of whose words is its own position, so that a missing piece shows.
//!
//! Owns the text ([`write`]) and [`Ruler`], which digests it. All these texts begin alike, so the digest of each stretch
//! is kept for the next one that is longer: a processor without instructions for SHA-256 would spend nearly all the time
//! of a large answer on it.
//! Trap: words and stretches fit into each other only by these lengths.

use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

/// What is written at a time: well below a millisecond's work. Bytes, a whole number of pages and of SHA-256's blocks.
pub(crate) const STRETCH: usize = 8 * PAGE;

/// Bytes in which the last digits of a position are what they are in the first such bytes.
const PAGE: usize = 10_000;

/// Fifteen digits and a space.
const WORD: usize = 16;

/// The digits in front of those.
const NUMBER: usize = 11;

/// The first page.
const FIRST: [u8; PAGE] = {
    let mut page = [b'0'; PAGE];
    let mut at = 0;
    while at < PAGE {
        let (mut rest, mut digit) = (at, WORD - 1);
        page[at + digit] = b' ';
        while rest > 0 {
            digit -= 1;
            page[at + digit] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        at += WORD;
    }
    page
};

/// Digests kept, at about 100 bytes each: of the first 80 MB.
const MOST: usize = 1000;

/// See the module.
#[derive(Debug, Default)]
pub struct Ruler {
    /// Of the text up to the end of each stretch.
    digests: Mutex<Vec<Sha256>>,
}

impl Ruler {
    /// The digest of the text up to the end of `stretch`, which is the one of that number. `before` is that of all
    /// before it.
    pub(crate) fn digest(&self, number: usize, before: Sha256, stretch: &[u8]) -> Sha256 {
        let kept = || self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = stretch.len() == STRETCH;
        if whole && let Some(known) = kept().get(number) {
            return known.clone();
        }
        let digest = before.chain_update(stretch);
        let mut kept = kept();
        if whole && number < MOST && kept.len() == number {
            kept.push(digest.clone());
        }
        digest
    }
}

/// Appends the text from one position to another. `from` is the beginning of a stretch.
pub(crate) fn write(text: &mut Vec<u8>, from: usize, to: usize) {
    for start in (from..to).step_by(PAGE) {
        let at = text.len();
        text.extend_from_slice(&FIRST[..PAGE.min(to - start)]);
        if start > 0 {
            let number = format!("{:0NUMBER$}", start / PAGE);
            for word in text[at..].chunks_mut(WORD) {
                let length = word.len().min(NUMBER);
                word[..length].copy_from_slice(&number.as_bytes()[..length]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_its_own_position() {
        for length in [0, 1, 15, 16, 9_999, 10_000, 10_007, 3 * STRETCH - 5] {
            let mut text = Vec::new();
            write(&mut text, 0, length);
            let words: String = (0..length).step_by(WORD).map(|at| format!("{at:015} ")).collect();
            assert_eq!(text, &words.as_bytes()[..length]);
            let mut half = Vec::new();
            write(&mut half, STRETCH.min(length), length);
            assert_eq!(half, &text[STRETCH.min(length)..]);
        }
    }

    #[test]
    fn a_digest_that_is_kept_is_that_of_the_text() {
        let ruler = Ruler::default();
        // Shorter, longer, the same again.
        for length in [STRETCH - 1, 3 * STRETCH, 2 * STRETCH + 7, 3 * STRETCH, 5 * STRETCH] {
            let (mut text, mut digest) = (Vec::new(), Sha256::new());
            for (number, start) in (0..length).step_by(STRETCH).enumerate() {
                write(&mut text, start, length.min(start + STRETCH));
                digest = ruler.digest(number, digest, &text[start..]);
            }
            assert_eq!(digest.finalize(), Sha256::digest(&text), "{length}");
        }
        assert_eq!(ruler.digests.lock().expect("is whole").len(), 5);
    }
}
