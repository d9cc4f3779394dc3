//! A header that may stand once.
//!
//! Owns [`once`], by which every header is read that decides something. Refuses to pick one of several: what
//! lies before us may have picked another.
//! Trap: a map's iterator over one name costs more than a look-up, so the map is first asked whether any name
//! stands twice, which it knows.

use http::{HeaderMap, HeaderValue, header::AsHeaderName};

/// How often a header stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Once<'a> {
    /// Not at all.
    Missing,
    /// Once.
    Value(&'a HeaderValue),
    /// More often.
    Several,
}

/// The header of that name.
pub fn once(headers: &HeaderMap, name: impl AsHeaderName) -> Once<'_> {
    if headers.len() == headers.keys_len() {
        return headers.get(name).map_or(Once::Missing, Once::Value);
    }
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Once::Missing,
        (Some(value), None) => Once::Value(value),
        (Some(_), Some(_)) => Once::Several,
    }
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, HOST, ORIGIN};

    use super::*;

    #[test]
    fn one_is_told_from_several() {
        let (one, other) = (HeaderValue::from_static("1"), HeaderValue::from_static("2"));
        let mut headers = HeaderMap::new();
        headers.insert(HOST, one.clone());
        assert_eq!(once(&headers, HOST), Once::Value(&one));
        assert_eq!(once(&headers, ORIGIN), Once::Missing);
        headers.append(ACCEPT, one.clone());
        headers.append(ACCEPT, other);
        assert_eq!(once(&headers, HOST), Once::Value(&one));
        assert_eq!(once(&headers, ORIGIN), Once::Missing);
        assert_eq!(once(&headers, ACCEPT), Once::Several);
    }
}
