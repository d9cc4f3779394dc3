//! What is wrong with JSON that is well formed and still cannot be read, or not be given back.
//!
//! Owns [`Fault`] and the words for it, and [`MAX_NESTING`]. What is taken may come back within an answer, and usual
//! readers refuse more than 128 levels; so `params` may have [`MAX_NESTING`], which leaves room for what is put around.
//! Trap: serde steps over a fault in a member that nobody reads, so a fault that is found need not be why serde failed.

use std::fmt;

/// Most levels of objects and arrays in `params`.
pub(crate) const MAX_NESTING: usize = 100;

/// What no reader takes. Its text continues a sentence: `the argument "x" …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Half of an escaped pair, which stands for no character.
    LoneSurrogate(u16),
    /// Beyond what a double can hold.
    NumberTooLarge,
    TooDeep,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoneSurrogate(half) => {
                write!(f, "holds a lone surrogate (\\u{half:04x}), which is no character")
            }
            Self::NumberTooLarge => f.write_str("holds a number too large, beyond 1.8e308"),
            Self::TooDeep => write!(f, "is nested deeper than {MAX_NESTING} levels"),
        }
    }
}

/// The first fault of a text that is JSON.
pub(crate) fn find(text: &str) -> Option<Fault> {
    faults(text).next()
}

/// Whether a text that is JSON is nested deeper than [`MAX_NESTING`], whatever else is wrong with it.
pub(crate) fn is_too_deep(text: &str) -> bool {
    faults(text).any(|fault| fault == Fault::TooDeep)
}

/// The faults of a text that is JSON, in their order.
fn faults(text: &str) -> impl Iterator<Item = Fault> {
    let (mut rest, mut depth) = (text.as_bytes(), 0usize);
    std::iter::from_fn(move || {
        while let [first, after @ ..] = rest {
            let (fault, after) = match first {
                b'"' => {
                    let (half, after) = string(after);
                    (half.map(Fault::LoneSurrogate), after)
                }
                b'{' | b'[' => {
                    depth += 1;
                    ((depth > MAX_NESTING).then_some(Fault::TooDeep), after)
                }
                b'}' | b']' => {
                    // serde may have stopped before the end of what is no JSON.
                    depth = depth.saturating_sub(1);
                    (None, after)
                }
                b'0'..=b'9' => {
                    let (number, after) = number(rest);
                    let too_large = number.parse().is_ok_and(f64::is_infinite);
                    (too_large.then_some(Fault::NumberTooLarge), after)
                }
                _ => (None, after),
            };
            rest = after;
            if fault.is_some() {
                return fault;
            }
        }
        None
    })
}

/// Why serde did not read a text, as a whole sentence about `what`.
pub(crate) fn explain(what: &str, text: &str, error: &serde_json::Error) -> String {
    if let Some(fault) = find(text).filter(|_| error.is_syntax()) {
        return format!("{what} {fault}");
    }
    let told = error.to_string();
    // The position is one within a part of the body, and helps nobody.
    let told = told.split_once(" at line ").map_or(&*told, |(told, _)| told);
    match told.strip_prefix("duplicate field `").and_then(|rest| rest.strip_suffix('`')) {
        Some(name) => format!("{name:?} is given twice"),
        None => told.to_owned(),
    }
}

/// The first half of a pair that stands alone in a string, after its opening quote, and what follows the string.
fn string(mut rest: &[u8]) -> (Option<u16>, &[u8]) {
    let mut alone = None;
    loop {
        rest = match rest {
            [] => return (alone, rest),
            [b'"', after @ ..] => return (alone, after),
            [b'\\', b'u', after @ ..] => {
                let (code, after) = unit(after);
                match (code, low_half(after)) {
                    (0xd800..0xdc00, Some(after)) => after,
                    (0xd800..0xe000, _) => {
                        alone = alone.or(Some(code));
                        after
                    }
                    (_, _) => after,
                }
            }
            [b'\\', _, after @ ..] | [_, after @ ..] => after,
        };
    }
}

/// What follows the second half of a pair, if that is what comes.
fn low_half(text: &[u8]) -> Option<&[u8]> {
    let (low, after) = unit(text.strip_prefix(b"\\u")?);
    (0xdc00..0xe000).contains(&low).then_some(after)
}

/// Four hexadecimal digits, and what follows them.
fn unit(text: &[u8]) -> (u16, &[u8]) {
    let (digits, after) = text.split_at(text.len().min(4));
    let unit = std::str::from_utf8(digits).ok().and_then(|hex| u16::from_str_radix(hex, 16).ok());
    (unit.unwrap_or_default(), after)
}

/// A number, and what follows it.
fn number(text: &[u8]) -> (&str, &[u8]) {
    let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
    let end = text.iter().position(|byte| !is_part(byte)).unwrap_or(text.len());
    let (number, after) = text.split_at(end);
    (std::str::from_utf8(number).unwrap_or_default(), after)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn nested(levels: usize) -> String {
        format!("{}1{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn each_fault_is_found_and_named() {
        let half = Some(Fault::LoneSurrogate(0xd83d));
        for (text, fault) in [
            (r#""a\ud83d""#, half),
            (r#"{"\ud83d":1}"#, half),
            (r#"["\ud83dx"]"#, half),
            (r#"["\ud83d\u0041"]"#, half),
            (r#"["\ud83d\ude00"]"#, None),
            (r#"["\ude00"]"#, Some(Fault::LoneSurrogate(0xde00))),
            (r#"["\\ud83d", "\"", "\\"]"#, None),
            ("[-1e400]", Some(Fault::NumberTooLarge)),
            ("[1e308, 1e-400, -0, 123456789012345678901234567890]", None),
            (r#"["1e400"]"#, None),
        ] {
            assert_eq!(find(text), fault, "{text}");
        }
        assert_eq!((find(&nested(100)), is_too_deep(&nested(100))), (None, false));
        assert_eq!((find(&nested(101)), is_too_deep(&nested(101))), (Some(Fault::TooDeep), true));
        let both = format!("[\"\\ud83d\",{}]", nested(100));
        assert_eq!((find(&both), is_too_deep(&both)), (half, true), "behind another fault");
        let wide = format!("[{}]", vec![nested(3); 200].join(","));
        assert!(!is_too_deep(&wide) && !is_too_deep(r#"["[[[\"[[[", "\\"]"#));
    }

    #[test]
    fn a_member_given_twice_is_named() {
        #[derive(Debug, serde::Deserialize)]
        struct One {
            #[expect(dead_code, reason = "it is there to be read")]
            a: Value,
        }
        let text = r#"{"a":1,"a":2}"#;
        let error = serde_json::from_str::<One>(text).expect_err("twice");
        assert_eq!(explain("it", text, &error), "\"a\" is given twice");
        let error = serde_json::from_str::<One>(r#"{"b":"\ud83d"}"#).expect_err("missing");
        assert_eq!(explain("it", r#"{"b":"\ud83d"}"#, &error), "missing field `a`");
    }

    proptest! {
        /// What has no fault can be read, and the other way round.
        #[test]
        fn serde_reads_what_has_no_fault(inner in "(\\\\u(d83d|dE00|0041)|\\\\\\\\|[a-z{\\[]){0,6}", number in "[1-9][0-9]{0,3}(\\.[0-9])?(e-?[0-9]{1,3})?") {
            let text = format!("[\"{inner}\",{{\"{inner}\":-{number}}}]");
            let read = serde_json::from_str::<Value>(&text);
            prop_assert_eq!(find(&text).is_none(), read.is_ok(), "{}: {:?}", text, read);
        }
    }
}
