//! The endpoints that a probe talks to, read from its URL.
//!
//! Owns what a URL may be, and the range that stands for each of the ten: in the host name, or in the path.
//! Trap: the `Host` header is what the URL says, wherever the connection leads.

use http::{HeaderValue, Uri, uri::Authority};

use super::{arguments::BadPlan, dial::Peer};

/// An endpoint to talk to.
pub(super) struct Target {
    /// Its place among all of a run.
    pub(super) number: usize,
    pub(super) peer: Peer,
    /// The `Host` header.
    pub(super) host: HeaderValue,
    /// Path and query.
    pub(super) path: Uri,
    /// The host's name.
    pub(super) name: String,
    /// What tells it from the other targets, for the report: the host's name, or the path if that differs.
    pub(super) label: String,
    /// Which of the ten instances it is, if the URL has a range.
    pub(super) instance: Option<u8>,
}

pub(super) fn address(text: &str) -> Result<(String, u16), BadPlan> {
    let bad = || BadPlan::Connect(text.to_owned());
    let authority: Authority = text.parse().map_err(|_| bad())?;
    match authority.port_u16() {
        Some(port) if !authority.host().is_empty() && !authority.as_str().contains('@') => {
            Ok((bare(authority.host()), port))
        }
        _ => Err(bad()),
    }
}

/// An IPv6 address without its brackets.
fn bare(host: &str) -> String {
    host.trim_matches(['[', ']']).to_owned()
}

/// The targets of a URL. Never empty.
pub(super) fn targets(url: &str, connect: Option<&(String, u16)>) -> Result<Vec<Target>, BadPlan> {
    let mut targets = Vec::new();
    for (number, (url, instance)) in spread(url)?.into_iter().enumerate() {
        let target = target(&url, (number, instance), connect);
        targets.push(target.map_err(|problem| BadPlan::Url(url, problem))?);
    }
    if let [first, second, ..] = &targets[..]
        && first.name == second.name
    {
        for target in &mut targets {
            target.label = format!("{}{}", target.name, target.path);
        }
    }
    Ok(targets)
}

/// The URLs that a range such as `{0-9}` stands for, each with its number.
fn spread(url: &str) -> Result<Vec<(String, Option<u8>)>, BadPlan> {
    let Some((before, rest)) = url.split_once('{') else { return Ok(vec![(url.to_owned(), None)]) };
    let bad = |problem: &str| BadPlan::Url(url.to_owned(), problem.to_owned());
    let (range, after) = rest.split_once('}').ok_or_else(|| bad("{ is not closed by }"))?;
    let numbers = match range.as_bytes() {
        &[first @ b'0'..=b'9', b'-', last @ b'0'..=b'9'] if first <= last => {
            first - b'0'..=last - b'0'
        }
        _ => {
            return Err(bad(
                "what stands between { and } must be a range of digits, such as {0-9}",
            ));
        }
    };
    if after.contains('{') {
        return Err(bad("a range may stand only once"));
    }
    Ok(numbers.map(|number| (format!("{before}{number}{after}"), Some(number))).collect())
}

fn target(
    url: &str,
    (number, instance): (usize, Option<u8>),
    connect: Option<&(String, u16)>,
) -> Result<Target, String> {
    let port = match url.split_once("://") {
        Some(("http", _)) => 80,
        Some(("https", _)) => 443,
        Some(_) | None => return Err("must begin with http:// or https://".to_owned()),
    };
    let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
    let named = |authority: &&Authority| !authority.host().is_empty();
    let authority = uri.authority().filter(named).ok_or("names no host")?;
    if authority.as_str().contains('@') {
        return Err("must hold no user and no password; --bearer sends a token".to_owned());
    }
    let name = bare(authority.host());
    let host = HeaderValue::from_str(authority.as_str()).map_err(|error| error.to_string())?;
    let path = match uri.path_and_query().map_or("/", |path| path.as_str()) {
        "/" => Uri::from_static("/mcp"),
        path => path.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?,
    };
    let own = || (name.clone(), authority.port_u16().unwrap_or(port));
    let peer = Peer { address: connect.cloned().unwrap_or_else(own), tls: None };
    let label = name.clone();
    Ok(Target { number, peer, host, path, name, label, instance })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_stands_for_each_of_its_numbers() {
        let all = spread("https://echo-stateful{0-9}.example.com:8443/mcp").expect("is fine");
        assert_eq!(all.len(), 10);
        assert_eq!(all[3], ("https://echo-stateful3.example.com:8443/mcp".to_owned(), Some(3)));
        assert_eq!(
            spread("http://e{2-2}.x").expect("is fine"),
            [("http://e2.x".to_owned(), Some(2))]
        );
        assert_eq!(spread("http://x/y").expect("is fine"), [("http://x/y".to_owned(), None)]);
    }

    #[test]
    fn a_range_may_stand_in_the_path() {
        let ten = targets("http://127.0.0.1:8080/echo-stateful{0-9}/mcp", None).expect("is fine");
        assert_eq!(ten.len(), 10);
        let Target { number, path, label, instance, .. } = &ten[3];
        assert_eq!((*number, *instance), (3, Some(3)));
        assert_eq!(path.to_string(), "/echo-stateful3/mcp");
        assert_eq!(label, "127.0.0.1/echo-stateful3/mcp");
    }

    #[test]
    fn a_url_is_host_path_and_way() {
        let connect = ("127.0.0.1".to_owned(), 8080);
        let plain = target("http://[::1]:3000", (0, Some(1)), None).expect("is fine");
        assert_eq!(plain.peer.address, ("::1".to_owned(), 3000));
        assert_eq!(
            (&*plain.path.to_string(), plain.host),
            ("/mcp", HeaderValue::from_static("[::1]:3000"))
        );
        let other = target("http://e.x/a/b?c=d", (0, None), Some(&connect)).expect("is fine");
        assert_eq!(other.peer.address, connect);
        assert_eq!(
            (&*other.path.to_string(), other.host),
            ("/a/b?c=d", HeaderValue::from_static("e.x"))
        );
        assert_eq!(target("https://e.x/", (0, None), None).expect("is fine").peer.address.1, 443);
        assert_eq!(address("[::1]:1").expect("is fine"), ("::1".to_owned(), 1));
    }
}
