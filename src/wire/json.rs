//! JSON text that is known to be one value, and the members of an object found in one pass.
//!
//! Owns [`Raw`], which borrows from the request body, and [`visit`], the fast path for most requests: it scans an
//! object, and those objects in it that the visitor wants. It reads plain names and values only; at anything else
//! (an escape, a fraction, deep nesting, invalid JSON) it returns false, and serde reads the text or says what is
//! wrong with it.
//! Trap: whatever it accepts, serde must accept too, with the same members; property tests compare the two.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::Error as _};
use serde_json::{Value, value::RawValue};

use super::fault::{self, Fault};

/// Deeper nesting is left to serde.
const MAX_DEPTH: usize = 16;

/// The text of one JSON value, without space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// `text` must come from [`Raw::get`].
    pub(crate) fn again(text: &'a str) -> Self {
        Self(text)
    }

    pub(crate) fn get(self) -> &'a str {
        self.0
    }

    pub(crate) fn is_object(self) -> bool {
        self.0.starts_with('{')
    }

    pub(crate) fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// The decoded string, borrowed unless it holds an escape. `None` if this is no string, or not valid Unicode.
    pub(crate) fn text(self) -> Option<Cow<'a, str>> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        // It is JSON, so whatever else needs an escape has one.
        match inner.as_bytes().contains(&b'\\') {
            false => Some(Cow::Borrowed(inner)),
            true => serde_json::from_str(self.0).ok().map(Cow::Owned),
        }
    }

    /// What is wrong with it, if it cannot be read although it is JSON.
    pub(crate) fn fault(self) -> Option<Fault> {
        fault::find(self.0)
    }

    pub(crate) fn value(self) -> Value {
        // It is JSON already; only a number out of range or very deep nesting fails, and becomes `null`.
        serde_json::from_str(self.0).unwrap_or_default()
    }
}

/// As it came, but for line breaks between its parts, which would end the `data` line of an event.
impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = match self.0.contains(['\n', '\r']) {
            true => Cow::Owned(self.0.replace(['\n', '\r'], " ")),
            false => Cow::Borrowed(self.0),
        };
        let raw: &RawValue = serde_json::from_str(&text).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|raw| Self(raw.get()))
    }
}

/// Receives the members of an object and of objects within it.
pub(crate) trait Visitor<'a> {
    /// Says which of these objects a member belongs to.
    type Place: Copy;

    /// The place of a nested object whose members are wanted; they are taken before the object itself.
    fn enter(&self, place: Self::Place, name: &str) -> Option<Self::Place>;

    /// False stops the scan.
    fn take(&mut self, place: Self::Place, name: &'a str, raw: Raw<'a>) -> bool;
}

/// Hands each member of an object to the visitor. False if the visitor stopped or the text is not a plain object;
/// then nothing is known of it.
pub(crate) fn visit<'a, V: Visitor<'a>>(text: &'a str, place: V::Place, visitor: &mut V) -> bool {
    let mut scanner = Scanner { text, at: 0 };
    scanner.space();
    let plain = scanner.object(0, place, visitor);
    scanner.space();
    plain.is_some() && scanner.at == text.len()
}

/// The same without the members of nested objects.
pub(crate) fn members<'a>(text: &'a str, take: impl FnMut(&'a str, Raw<'a>) -> bool) -> bool {
    visit(text, (), &mut Flat(take))
}

/// Enters no nested object.
struct Flat<F>(F);

impl<'a, F: FnMut(&'a str, Raw<'a>) -> bool> Visitor<'a> for Flat<F> {
    type Place = ();

    fn enter(&self, (): (), _: &str) -> Option<()> {
        None
    }

    fn take(&mut self, (): (), name: &'a str, raw: Raw<'a>) -> bool {
        self.0(name, raw)
    }
}

/// Whether a JSON string can hold the text without escapes.
///
/// Where it stops does not matter, so blocks are looked at as a whole, which compilers turn into vector instructions.
pub(crate) fn is_plain(text: &str) -> bool {
    let (blocks, rest) = text.as_bytes().as_chunks::<64>();
    let any_stop = |block: &[u8; 64]| block.iter().fold(false, |any, byte| any | is_stop(byte));
    let rest_is_plain = || match rest.last_chunk() {
        // The last eight bytes may overlap the word before.
        Some(last) => stops(*last) == 0 && rest.as_chunks().0.iter().all(|word| stops(*word) == 0),
        None => !rest.iter().any(is_stop),
    };
    !blocks.iter().any(any_stop) && rest_is_plain()
}

/// Finds the first quote, backslash or control character. Eight bytes at a time, since most of a message is strings.
///
/// A function of its own, as is the rest: within a larger one, what the compiler keeps at hand for it is put aside and
/// fetched again around each string.
#[inline(never)]
fn stop(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(word) = text.get(at..)?.first_chunk() {
        let stops = stops(*word);
        if stops != 0 {
            return Some(at + stops.trailing_zeros() as usize / 8);
        }
        at += word.len();
    }
    stop_in_rest(text, at)
}

#[cold]
#[inline(never)]
fn stop_in_rest(text: &[u8], at: usize) -> Option<usize> {
    text.get(at..)?.iter().position(is_stop).map(|within| at + within)
}

fn is_stop(byte: &u8) -> bool {
    matches!(byte, 0..b' ' | b'"' | b'\\')
}

/// The highest bit is set in each byte that is one; a borrow may set it in higher bytes too, so only the lowest one counts.
fn stops(word: [u8; 8]) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGHEST: u64 = ONES << 7;

    let word = u64::from_le_bytes(word);
    let below = |word: u64, least: u8| word.wrapping_sub(ONES * u64::from(least)) & !word;
    let equal = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (below(word, b' ') | equal(word, b'"') | equal(word, b'\\')) & HIGHEST
}

/// Reads a member that is present, even as `null`; a missing one is `None`.
pub(super) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then(|| self.at += 1)
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.next() {
            self.at += 1;
        }
    }

    /// The next byte that is no space, taken.
    fn token(&mut self) -> Option<u8> {
        self.space();
        let token = self.next()?;
        self.at += 1;
        Some(token)
    }

    fn object<V: Visitor<'a>>(
        &mut self,
        depth: usize,
        place: V::Place,
        visitor: &mut V,
    ) -> Option<()> {
        self.eat(b'{')?;
        self.space();
        if self.eat(b'}').is_some() {
            return Some(());
        }
        loop {
            let name = self.string()?;
            if self.token()? != b':' {
                return None;
            }
            self.space();
            let start = self.at;
            let within = match self.next() {
                Some(b'{') => visitor.enter(place, name),
                Some(_) | None => None,
            };
            match within {
                Some(within) => self.object(depth + 1, within, visitor)?,
                None => self.value(depth + 1)?,
            }
            if !visitor.take(place, name, Raw(self.text.get(start..self.at)?)) {
                return None;
            }
            match self.token()? {
                b',' => self.space(),
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.eat(b'[')?;
        self.space();
        if self.eat(b']').is_some() {
            return Some(());
        }
        loop {
            self.value(depth + 1)?;
            match self.token()? {
                b',' => self.space(),
                b']' => return Some(()),
                _ => return None,
            }
        }
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        match self.next()? {
            b'"' => self.string().map(drop),
            b'{' if depth < MAX_DEPTH => self.object(depth, (), &mut Flat(|_, _| true)),
            b'[' if depth < MAX_DEPTH => self.array(depth),
            b'-' | b'0'..=b'9' => self.integer(),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => None,
        }
    }

    /// A string without escapes.
    fn string(&mut self) -> Option<&'a str> {
        self.eat(b'"')?;
        let rest = self.text.get(self.at..)?;
        let string = rest.get(..stop(rest.as_bytes())?)?;
        self.at += string.len();
        // Anything but the closing quote is left to serde.
        self.eat(b'"').map(|()| string)
    }

    fn integer(&mut self) -> Option<()> {
        let _ = self.eat(b'-');
        let start = self.at;
        while self.next().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        let digits = self.text.get(start..self.at)?;
        let fits = !digits.is_empty() && (digits == "0" || !digits.starts_with('0'));
        let ends = !matches!(self.next(), Some(b'.' | b'e' | b'E'));
        (fits && ends).then_some(())
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.text.get(self.at..)?.starts_with(word).then(|| self.at += word.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> Option<Vec<(&str, Raw<'_>)>> {
        let mut all = Vec::new();
        members(text, |name, raw| {
            all.push((name, raw));
            true
        })
        .then_some(all)
    }

    /// Where the scanner says what a text is, serde says the same; returns whether it did.
    fn agrees(text: &str) -> Result<bool, TestCaseError> {
        let Some(found) = found(text) else { return Ok(false) };
        let read: Value = serde_json::from_str(text)
            .map_err(|error| TestCaseError::fail(format!("{text:?}: {error}")))?;
        let Value::Object(read) = read else {
            return Err(TestCaseError::fail(format!("{text:?} is no object")));
        };
        for (name, raw) in &found {
            let raw: &RawValue = serde_json::from_str(raw.get())
                .map_err(|error| TestCaseError::fail(format!("{name:?} of {text:?}: {error}")))?;
            // Of a repeated name both keep the last.
            let last = found.iter().rev().find(|(other, _)| other == name);
            let last = last.map(|(_, raw)| raw.value());
            prop_assert_eq!(last.as_ref(), read.get(*name));
            prop_assert_eq!(raw.get().trim(), raw.get());
        }
        prop_assert!(read.keys().all(|key| found.iter().any(|(name, _)| name == key)));
        Ok(true)
    }

    #[test]
    fn what_clients_send_is_plain() {
        for text in [
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"message":"é"}}}"#,
            "{ }",
            " {\"a\" : [1, -2, true, false, null, {}, []] ,\n\"b\":{\"c\":\"\"}}\t",
        ] {
            assert!(agrees(text).expect("serde agrees"), "{text} is plain");
        }
        for text in [
            "",
            "{",
            "{}}",
            "[]",
            "{\"a\":01}",
            "{\"a\":-}",
            "{\"a\":1.5}",
            "{\"a\":1e3}",
            "{\"a\":\"\\n\"}",
            "{\"a\":\"\n\"}",
            "{\"a\":tru}",
            "{\"a\":1,}",
            "{,}",
            "{\"a\"}",
            "{\"a\":1 \"b\":2}",
        ] {
            assert_eq!(found(text), None, "{text} is not");
        }
    }

    proptest! {
        #[test]
        fn a_string_stops_where_it_must(mut text in proptest::collection::vec(0u8.., 0..40), at in 0usize..40, byte in 0u8..40) {
            text.insert(at.min(text.len()), byte);
            let first = text.iter().position(|byte| *byte < b' ' || b"\"\\".contains(byte));
            prop_assert_eq!(stop(&text), first);
            prop_assert_eq!(is_plain(&String::from_utf8_lossy(&text)), first.is_none());
        }

        #[test]
        fn a_long_text_is_plain_where_it_stops_nowhere(mut text in "[ -~é]{0,200}", at in 0usize..200, byte in 0u8..128) {
            let at = text.char_indices().nth(at).map_or(text.len(), |(at, _)| at);
            text.insert(at, char::from(byte));
            prop_assert_eq!(is_plain(&text), stop(text.as_bytes()).is_none());
        }

        #[test]
        fn serde_agrees_on_any_text(text in "\\PC{0,60}") {
            agrees(&text)?;
        }

        #[test]
        fn serde_agrees_on_what_is_nearly_json(text in "[{}\\[\\]\":,0-9a-e.truefalsn \\-\\\\]{0,30}") {
            agrees(&format!("{{\"a\":{text}}}"))?;
            agrees(&text)?;
        }

        /// A letter more, a letter less, somewhere in a real message.
        #[test]
        fn serde_agrees_on_what_was_json(at in 0usize..110, byte in 0u8..128, cut: bool) {
            let mut text = r#"{"jsonrpc":"2.0","id":-12,"method":"tools/call","params":{"name":"echo","arguments":{"message":"x"}, "c":[null]}}"#.to_owned();
            if cut { text.remove(at); } else { text.insert(at, char::from(byte)); }
            agrees(&text)?;
        }
    }
}
