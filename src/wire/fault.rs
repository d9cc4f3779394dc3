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
    let mut rest = text.as_bytes();
    let mut depth = 0usize;
    while let [first, after @ ..] = rest {
        rest = match first {
            b'"' => match string(after) {
                Ok(after) => after,
                Err(half) => return Some(Fault::LoneSurrogate(half)),
            },
            b'{' | b'[' if depth == MAX_NESTING => return Some(Fault::TooDeep),
            b'{' | b'[' => {
                depth += 1;
                after
            }
            b'}' | b']' => {
                // serde may have stopped before the end of what is no JSON.
                depth = depth.saturating_sub(1);
                after
            }
            b'0'..=b'9' => {
                let (number, after) = number(rest);
                if number.parse().is_ok_and(f64::is_infinite) {
                    return Some(Fault::NumberTooLarge);
                }
                after
            }
            _ => after,
        };
    }
    None
}

/// Whether a text that is JSON is nested deeper than [`MAX_NESTING`].
pub(crate) fn is_too_deep(text: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' if depth == MAX_NESTING => return true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
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

/// What follows a string after its opening quote; the half of a pair if one stands alone.
fn string(mut rest: &[u8]) -> Result<&[u8], u16> {
    loop {
        rest = match rest {
            [] => return Ok(rest),
            [b'"', after @ ..] => return Ok(after),
            [b'\\', b'u', after @ ..] => {
                let (unit, after) = unit(after);
                match (unit, after) {
                    (0xd800..0xdc00, [b'\\', b'u', low @ ..]) => {
                        let (low, after) = self::unit(low);
                        if !(0xdc00..0xe000).contains(&low) {
                            return Err(unit);
                        }
                        after
                    }
                    (0xd800..0xe000, _) => return Err(unit),
                    _ => after,
                }
            }
            [b'\\', _, after @ ..] | [_, after @ ..] => after,
        };
    }
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
