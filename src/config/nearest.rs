//! The right name for one that does not exist.
//!
//! Owns how near two names are. Separators do not count, since `SESSION_CAPACITY` for `SESSION__CAPACITY` is the most
//! common slip of all.
//! Trap: a guess that is far off sends people the wrong way, so there may be none.

/// The name that was most likely meant.
pub(super) fn nearest(wrong: &str, names: impl Iterator<Item = String>) -> Option<String> {
    let wrong = letters(wrong);
    let scored = names.filter_map(|name| Some((distance(&wrong, &letters(&name))?, name)));
    scored.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

fn letters(name: &str) -> Vec<char> {
    let letters = name.chars().filter(|c| !matches!(c, '_' | '.' | '-'));
    letters.map(|c| c.to_ascii_lowercase()).take(64).collect()
}

/// How many letters are missing, added or changed; `None` if it is another name. One that has lost its beginning or its
/// end, but not more than half, is near.
fn distance(wrong: &[char], name: &[char]) -> Option<usize> {
    let is_part = name.starts_with(wrong) || name.ends_with(wrong);
    if is_part && wrong.len() * 2 >= name.len() {
        return Some(usize::from(wrong.len() != name.len()));
    }
    // Levenshtein's distance, row by row.
    let mut row: Vec<usize> = (0..=name.len()).collect();
    for (above, a) in wrong.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], above + 1);
        for (column, b) in name.iter().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    let distance = row[name.len()];
    // Two letters that have changed places count as two.
    let near = if wrong.len() < 4 { 1 } else { (wrong.len() / 3).max(2) };
    (distance <= near).then_some(distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_another_name_finds_none() {
        let names = ["session.capacity", "session.timeout_seconds", "server.port", "log.level"];
        let of = |wrong| nearest(wrong, names.into_iter().map(str::to_owned));
        for (wrong, right) in [
            ("session_capacity", Some("session.capacity")),
            ("sesion.capacity", Some("session.capacity")),
            ("session.timeout", Some("session.timeout_seconds")),
            ("timeout_seconds", Some("session.timeout_seconds")),
            ("logging.level", Some("log.level")),
            ("server.prot", Some("server.port")),
            ("session", None),
            ("kubernetes", None),
            ("", None),
        ] {
            assert_eq!(of(wrong).as_deref(), right, "{wrong}");
        }
    }
}
