//! What a client wrote, as the log shows it.
//!
//! Owns the one way to show such a text: bounded, with every character that does not print, or that changes how others
//! print, as its number, and of what may be a session id no more than its beginning.
//! Trap: what does not print are whole classes of Unicode (control, format, line and paragraph separator), not a handful
//! of characters.

/// Of so many hexadecimal digits and hyphens in a row no more are shown: a session's reference is whole, an id is not.
const MAX_DIGITS: usize = 12;

/// At most `max` characters of a text.
pub(crate) fn shown(text: &str, max: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(max));
    let mut digits = 0;
    for (place, c) in text.chars().enumerate() {
        digits = if c.is_ascii_hexdigit() || c == '-' { digits + 1 } else { 0 };
        match () {
            () if place == max => {
                shown.push('…');
                break;
            }
            () if digits == MAX_DIGITS + 1 => shown.push('…'),
            () if digits > MAX_DIGITS => {}
            () if is_unseen(c) => shown.push_str(&c.escape_unicode().to_string()),
            () => shown.push(c),
        }
    }
    shown
}

/// Unicode's categories Cc, Cf, Zl and Zp.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{600}'..='\u{605}'
                | '\u{61c}'
                | '\u{6dd}'
                | '\u{70f}'
                | '\u{890}'..='\u{891}'
                | '\u{8e2}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{110bd}'
                | '\u{110cd}'
                | '\u{13430}'..='\u{1343f}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0001}'
                | '\u{e0020}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_print_is_a_number_and_the_rest_is_cut() {
        for (text, max, expected) in [
            ("tools/call", 64, "tools/call"),
            ("zoë 名", 64, "zoë 名"),
            ("a\u{9b}31m\u{202e}b\u{200b}\n", 64, "a\\u{9b}31m\\u{202e}b\\u{200b}\\u{a}"),
            ("abcdef", 3, "abc…"),
            ("abc", 3, "abc"),
            ("", 3, ""),
            ("echo 05059bccc243", 64, "echo 05059bccc243"),
            ("3a1f0aaa-0000-8000-8000-00000000cafe!", 64, "3a1f0aaa-000…!"),
        ] {
            assert_eq!(shown(text, max), expected);
        }
    }
}
