//! A request on a reverse listener: is it meant for us, and what does its path name?
//!
//! Pure functions over a request's head. What cannot be read in one way only is refused, never
//! repaired (RFC 9110 §7.4, RFC 9112 §3.2, RFC 3986 §§2.4, 6.2.2).

use std::str;

use http::{
    HeaderMap, Method, Uri,
    header::{HOST, ORIGIN},
    request::Parts,
};

use super::{ListenAddress, ListenerFacts};

/// Levels of percent-encoding that are looked through.
const ENCODING_DEPTH: usize = 8;

/// The `Host` values that a listener answers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts(Vec<Host>);

/// One host, lower-case, IPv6 addresses in brackets; no port means any spelling of the
/// listener's own.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Host {
    name: String,
    port: Option<u16>,
}

/// A host that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a host: `tools.example.org`, `127.0.0.1:15001` or `[::1]:15001`")]
pub struct BadHost;

/// Why a request is not for this listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unadmitted {
    /// `CONNECT` asks for a tunnel, which a reverse listener does not dig.
    #[error("this listener opens no tunnels")]
    Tunnel,
    /// The target is neither a path nor a URL: `*` or an authority alone.
    #[error("the request target is not a path")]
    Target,
    /// There is not exactly one `Host`, or the listener does not answer to it.
    #[error("the host is not one of this listener's")]
    Host,
    /// A web page of a foreign origin made the request.
    #[error("the origin is not admitted by this listener")]
    Origin,
    /// The path names no service.
    #[error("the path names no service")]
    NoService,
}

/// A path that can be read in more than one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// It does not start with `/`.
    #[error("the path does not start with a slash")]
    Relative,
    /// A control character, a byte outside ASCII or a character that URLs do not have.
    #[error("the path has a character that must be encoded")]
    Character,
    /// `%` without two hexadecimal digits.
    #[error("the path has an invalid percent-encoding")]
    Encoding,
    /// An encoded control character, NUL included.
    #[error("the path has an encoded control character")]
    Control,
    /// A `.` or `..` segment, raw, encoded or with parameters.
    #[error("the path has a dot segment")]
    DotSegment,
    /// A backslash, raw or encoded.
    #[error("the path has a backslash")]
    Backslash,
    /// An encoded slash, which is refused unless the operation declares it.
    #[error("the path has an encoded slash")]
    HiddenSlash,
    /// Two slashes in a row.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// Encoded bytes that are not UTF-8.
    #[error("the path does not decode to text")]
    Text,
}

/// Whether `%2F` may stand in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodedSlash {
    /// It is refused, at any depth of encoding.
    Refused,
    /// It is allowed, encoded once; it never separates segments.
    Allowed,
}

/// What the target of an admitted request names. Its path is checked only by [`Target::rest`],
/// because the service decides about encoded slashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// The first segment, as sent; it proves nothing until a service of that name is found.
    pub service: &'a str,
    /// The query without its `?`; `None` when there is no `?`.
    pub query: Option<&'a str>,
    path: &'a str,
    rest: &'a str,
}

impl<'a> Target<'a> {
    /// What follows the service in the path, as sent: empty, or it starts with `/`.
    ///
    /// # Errors
    ///
    /// When the path can be read in more than one way.
    pub fn rest(&self, slash: EncodedSlash) -> Result<&'a str, BadPath> {
        check_path(self.path, slash)?;
        Ok(self.rest)
    }
}

impl Hosts {
    /// The hosts of a listener: those configured, else its address and `localhost`.
    ///
    /// # Errors
    ///
    /// When an entry is no host.
    pub fn new(configured: &[String], address: &ListenAddress) -> Result<Self, BadHost> {
        if configured.is_empty() {
            return Ok(Self::of(address));
        }
        configured.iter().map(|entry| Host::read(entry)).collect::<Result<_, _>>().map(Self)
    }

    /// The hosts of a listener that configures none.
    fn of(address: &ListenAddress) -> Self {
        let localhost = Host { name: "localhost".into(), port: None };
        let ListenAddress::Tcp(address) = address else { return Self(vec![localhost]) };
        let name = match address.ip() {
            std::net::IpAddr::V4(ip) => ip.to_string(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let port = Some(address.port());
        Self(vec![Host { name, port }, Host { port, ..localhost }])
    }

    /// Whether `host`, a `Host` value, is one of these on a listener with `port`.
    fn admit(&self, host: &str, port: Option<u16>) -> bool {
        let Some((name, asked)) = split_port(host) else { return false };
        self.0.iter().any(|known| {
            known.name.eq_ignore_ascii_case(name)
                && match (known.port, asked) {
                    (Some(known), Some(asked)) => known == asked,
                    // A missing port is 80 (RFC 9110 §4.2.1).
                    (Some(known), None) => known == 80,
                    (None, Some(asked)) => Some(asked) == port,
                    (None, None) => true,
                }
        })
    }
}

impl Host {
    fn read(entry: &str) -> Result<Self, BadHost> {
        let (name, port) = split_port(entry).ok_or(BadHost)?;
        Ok(Self { name: name.to_ascii_lowercase(), port })
    }
}

/// Splits `name[:port]` and checks both; `None` when it is neither.
fn split_port(host: &str) -> Option<(&str, Option<u16>)> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let close = rest.find(']')? + 1;
            let (name, port) = host.split_at(close + 1);
            (name, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let port = match port {
        None => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok()?),
        Some(_) => return None,
    };
    is_name(name).then_some((name, port))
}

/// Whether this is a host name, an IPv4 address or an IPv6 address in brackets.
fn is_name(name: &str) -> bool {
    match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            !name.is_empty() && name.len() <= 253 && name.bytes().all(plain)
        }
    }
}

/// Admits a request to a reverse listener, before anything else is looked at.
///
/// # Errors
///
/// When it is not for this listener, or names no service.
pub fn admit<'a>(
    listener: &ListenerFacts,
    request: &'a Parts,
) -> Result<Target<'a>, Unadmitted> {
    if request.method == Method::CONNECT {
        return Err(Unadmitted::Tunnel);
    }
    let host = host(&request.headers)?;
    check_form(&request.uri, host)?;
    let port = match &listener.address {
        ListenAddress::Tcp(address) => Some(address.port()),
        ListenAddress::Unix(_) => None,
    };
    if !listener.hosts.admit(host, port) {
        return Err(Unadmitted::Host);
    }
    check_origin(&listener.origins, &request.headers)?;
    target(&request.uri).ok_or(Unadmitted::NoService)
}

/// The one `Host` of a request.
fn host(headers: &HeaderMap) -> Result<&str, Unadmitted> {
    let mut lines = headers.get_all(HOST).iter();
    match (lines.next(), lines.next()) {
        (Some(host), None) => host.to_str().map_err(|_| Unadmitted::Host),
        _ => Err(Unadmitted::Host),
    }
}

/// Refuses `*`, an authority alone, and a URL that names another host than `Host` does.
fn check_form(uri: &Uri, host: &str) -> Result<(), Unadmitted> {
    if !uri.path().starts_with('/') {
        return Err(Unadmitted::Target);
    }
    match (uri.scheme_str(), uri.authority()) {
        (None, None) => Ok(()),
        (Some("http"), Some(authority)) if authority.as_str().eq_ignore_ascii_case(host) => Ok(()),
        (Some(_), Some(_)) => Err(Unadmitted::Host),
        _ => Err(Unadmitted::Target),
    }
}

/// Refuses a request of a web page whose origin is not configured.
fn check_origin(origins: &[String], headers: &HeaderMap) -> Result<(), Unadmitted> {
    let known = |origin: &http::HeaderValue| origins.iter().any(|o| o.as_bytes() == origin.as_bytes());
    let mut lines = headers.get_all(ORIGIN).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(()),
        (Some(origin), None) if known(origin) => Ok(()),
        _ => Err(Unadmitted::Origin),
    }
}

/// Splits a target into service, rest and query.
fn target(uri: &Uri) -> Option<Target<'_>> {
    let path = uri.path();
    let inner = path.strip_prefix('/')?;
    let (service, rest) = inner.split_at(inner.find('/').unwrap_or(inner.len()));
    (!service.is_empty()).then_some(Target { service, query: uri.query(), path, rest })
}

/// The segments of a path that can be read in one way only, as sent. A path that ends with `/`
/// has an empty last segment.
///
/// # Errors
///
/// When the path can be read in more than one way.
pub fn segments(
    path: &str,
    slash: EncodedSlash,
) -> Result<impl Iterator<Item = &str>, BadPath> {
    check_path(path, slash)?;
    Ok(path.split('/').skip(1))
}

/// Checks that a path can be read in one way only.
///
/// # Errors
///
/// When it cannot.
pub fn check_path(path: &str, slash: EncodedSlash) -> Result<(), BadPath> {
    let inner = path.strip_prefix('/').ok_or(BadPath::Relative)?;
    check_characters(path.as_bytes())?;
    let mut segments = inner.split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_some() {
            return Err(BadPath::EmptySegment);
        }
        check_dots(segment.as_bytes())?;
        if segment.contains('%') {
            check_encoded(segment, slash)?;
        }
    }
    Ok(())
}

/// Refuses what must not stand in a path as it is (RFC 3986 §3.3).
fn check_characters(path: &[u8]) -> Result<(), BadPath> {
    for &byte in path {
        match byte {
            b'\\' => return Err(BadPath::Backslash),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'%' | b'-' | b'.' | b'_' | b'~' => {}
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => {}
            b':' | b'@' => {}
            _ => return Err(BadPath::Character),
        }
    }
    Ok(())
}

/// Refuses `.` and `..`, also with path parameters behind them.
fn check_dots(segment: &[u8]) -> Result<(), BadPath> {
    let name = segment.split(|&b| b == b';').next().unwrap_or_default();
    if name == b"." || name == b".." { Err(BadPath::DotSegment) } else { Ok(()) }
}

/// Refuses what any reader could find in a segment that is encoded.
fn check_encoded(segment: &str, slash: EncodedSlash) -> Result<(), BadPath> {
    let text = decode(segment.as_bytes())?;
    match slash {
        EncodedSlash::Refused => check_decoded(text),
        EncodedSlash::Allowed => {
            text.split(|&b| b == b'/').try_for_each(|part| check_decoded(part.to_vec()))
        }
    }
}

/// Decodes a text again and again and refuses what must not be found in it.
fn check_decoded(mut text: Vec<u8>) -> Result<(), BadPath> {
    for _ in 0..ENCODING_DEPTH {
        str::from_utf8(&text).map_err(|_| BadPath::Text)?;
        for &byte in &text {
            match byte {
                0..=0x1f | 0x7f => return Err(BadPath::Control),
                b'\\' => return Err(BadPath::Backslash),
                b'/' => return Err(BadPath::HiddenSlash),
                _ => {}
            }
        }
        check_dots(&text)?;
        if !text.contains(&b'%') {
            return Ok(());
        }
        // `%25` followed by what is no encoding is a plain percent sign.
        text = decode(&text).unwrap_or_else(|_| decode_leniently(&text));
    }
    Err(BadPath::Encoding)
}

/// Decodes every percent-encoding.
fn decode(text: &[u8]) -> Result<Vec<u8>, BadPath> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let (byte, after) = hex_pair(after).ok_or(BadPath::Encoding)?;
        decoded.push(byte);
        rest = after;
    }
    Ok(decoded)
}

/// Decodes what is a percent-encoding and leaves out percent signs that are none.
fn decode_leniently(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            decoded.push(byte);
        } else if let Some((byte, after)) = hex_pair(after) {
            decoded.push(byte);
            rest = after;
        }
    }
    decoded
}

/// The byte that two hexadecimal digits write, and what follows.
fn hex_pair(text: &[u8]) -> Option<(u8, &[u8])> {
    let (pair, rest) = text.split_at_checked(2)?;
    let digit = |b: &u8| char::from(*b).to_digit(16);
    let (high, low) = (digit(pair.first()?)?, digit(pair.get(1)?)?);
    u8::try_from(high * 16 + low).ok().map(|byte| (byte, rest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;
    use crate::listen::{MAX_CONNECTIONS, Mode, Patience};

    fn listener(address: &str, hosts: &[&str], origins: &[&str]) -> ListenerFacts {
        let address: ListenAddress = address.parse().unwrap();
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        ListenerFacts {
            name: "reverse".into(),
            mode: Mode::Reverse,
            hosts: Hosts::new(&owned(hosts), &address).unwrap(),
            address,
            origins: owned(origins),
            patience: Patience::default(),
            max_connections: MAX_CONNECTIONS,
        }
    }

    fn request(target: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn host_admitted(listener: &ListenerFacts, host: &str) -> bool {
        match admit(listener, &request("/a", &[("host", host)])) {
            Ok(_) => true,
            Err(refusal) => {
                assert_eq!(refusal, Unadmitted::Host);
                false
            }
        }
    }

    #[test]
    fn a_listener_answers_to_its_address_and_localhost() {
        let plain = listener("127.0.0.1:15001", &[], &[]);
        for host in ["127.0.0.1:15001", "localhost:15001", "LocalHost:15001"] {
            assert!(host_admitted(&plain, host), "{host}");
        }
        for host in [
            "", " ", "127.0.0.1", "localhost", "localhost:80", "localhost:015001x", "evil.test",
            "evil.test:15001", "localhost.:15001", "localhost:15001/x", "localhost:15001, x",
            "user@localhost:15001", "localhost :15001", "169.254.169.254", "localhost:",
            "[::1]:15001", "127.1:15001", "0x7f000001:15001",
        ] {
            assert!(!host_admitted(&plain, host), "{host}");
        }
        let six = listener("[::1]:15001", &[], &[]);
        assert!(host_admitted(&six, "[::1]:15001") && host_admitted(&six, "localhost:15001"));
        assert!(!host_admitted(&six, "[::1]") && !host_admitted(&six, "[::2]:15001"));
        let eighty = listener("127.0.0.1:80", &[], &[]);
        assert!(host_admitted(&eighty, "127.0.0.1") && host_admitted(&eighty, "127.0.0.1:80"));
        let unix = listener("unix:/run/agent.sock", &[], &[]);
        assert!(host_admitted(&unix, "localhost") && !host_admitted(&unix, "localhost:80"));
    }

    #[test]
    fn a_configured_host_without_a_port_stands_for_the_listeners_port() {
        let named = listener("127.0.0.1:15001", &["Tools.Test", "other.test:99"], &[]);
        for host in ["tools.test", "TOOLS.test:15001", "other.test:99"] {
            assert!(host_admitted(&named, host), "{host}");
        }
        for host in ["tools.test:80", "other.test", "other.test:15001", "localhost:15001"] {
            assert!(!host_admitted(&named, host), "{host}");
        }
        for bad in ["", "a b", "http://x", "x:y", "x:99999", "user@x", "x/y", "[::1", "*"] {
            let address = "127.0.0.1:1".parse().unwrap();
            assert_eq!(Hosts::new(&[bad.to_owned()], &address), Err(BadHost), "{bad}");
        }
    }

    #[test]
    fn exactly_one_host_is_needed() {
        let plain = listener("127.0.0.1:15001", &[], &[]);
        let one = ("host", "localhost:15001");
        assert_eq!(admit(&plain, &request("/a", &[])).unwrap_err(), Unadmitted::Host);
        assert_eq!(admit(&plain, &request("/a", &[one, one])).unwrap_err(), Unadmitted::Host);
    }

    #[test]
    fn only_a_path_or_the_same_url_is_a_target() {
        let plain = listener("127.0.0.1:15001", &[], &[]);
        let host = [("host", "localhost:15001")];
        let refused = |target: &str| admit(&plain, &request(target, &host)).unwrap_err();
        let same = request("http://localhost:15001/a/b?c", &host);
        let target = admit(&plain, &same).unwrap();
        assert_eq!((target.service, target.query), ("a", Some("c")));
        assert_eq!(target.rest(EncodedSlash::Refused), Ok("/b"));
        assert_eq!(refused("http://127.0.0.1:15001/a"), Unadmitted::Host);
        assert_eq!(refused("http://evil.test/a"), Unadmitted::Host);
        assert_eq!(refused("http://x@localhost:15001/a"), Unadmitted::Host);
        assert_eq!(refused("https://localhost:15001/a"), Unadmitted::Host);
        assert_eq!(refused("*"), Unadmitted::Target);
        assert_eq!(refused("localhost:15001"), Unadmitted::Target);
        assert_eq!(refused("/"), Unadmitted::NoService);
        assert_eq!(refused("//a"), Unadmitted::NoService);
        let mut tunnel = request("localhost:15001", &host);
        tunnel.method = Method::CONNECT;
        assert_eq!(admit(&plain, &tunnel).unwrap_err(), Unadmitted::Tunnel);
    }

    #[test]
    fn a_web_page_is_refused_unless_its_origin_is_configured() {
        let open = listener("127.0.0.1:15001", &[], &["http://ide.test"]);
        let from = |origins: &[&str]| {
            let mut headers = vec![("host", "localhost:15001")];
            headers.extend(origins.iter().map(|origin| ("origin", *origin)));
            admit(&open, &request("/a", &headers)).err()
        };
        assert_eq!(from(&["http://ide.test"]), None);
        for origins in [
            &["http://evil.test"][..], &["null"], &[""], &["http://ide.test:80"],
            &["http://ide.test", "http://ide.test"], &["http://ide.test http://evil.test"],
        ] {
            assert_eq!(from(origins), Some(Unadmitted::Origin), "{origins:?}");
        }
    }

    #[test]
    fn a_path_that_can_be_read_in_two_ways_is_refused() {
        use BadPath::*;
        for (path, flaw) in [
            ("", Relative), ("a", Relative), ("/a/../b", DotSegment), ("/a/..", DotSegment),
            ("/.", DotSegment), ("/a/./b", DotSegment), ("/a/%2e%2e/b", DotSegment),
            ("/a/%2E./b", DotSegment), ("/a/.%2e/b", DotSegment), ("/a/%252e%252e/b", DotSegment),
            ("/a/%25252e%25252E/b", DotSegment), ("/a/%2%65%2%65/b", Encoding),
            ("/a/%25%32%65%25%32%65/b", DotSegment), ("/a/..;/b", DotSegment),
            ("/a/..;x=y/b", DotSegment), ("/a/.;/b", DotSegment), ("/a/%2e%2e%3b/b", DotSegment),
            ("/a/..%00/b", Control), ("/a%00b", Control), ("/a%2500b", Control),
            ("/a%0d%0aX:y", Control), ("/a%7f", Control), ("/a\\b", Backslash),
            ("/a%5cb", Backslash), ("/a%255Cb", Backslash), ("/a%2fb", HiddenSlash),
            ("/a%2F..%2fb", HiddenSlash), ("/a%252Fb", HiddenSlash), ("//a", EmptySegment),
            ("/a//b", EmptySegment), ("/a//", EmptySegment), ("/%zz", Encoding), ("/a%", Encoding),
            ("/a%2", Encoding), ("/a%u002e", Encoding), ("/%c0%ae%c0%ae/b", Text), ("/%ff", Text),
            ("/%ed%a0%80", Text), ("/a b", Character), ("/a\tb", Character), ("/é", Character),
            ("/a?b", Character), ("/a#b", Character), ("/a\"b", Character), ("/a<b", Character),
            ("/a{b}", Character), ("/a|b", Character), ("/a^b", Character), ("/a`b", Character),
        ] {
            assert_eq!(check_path(path, EncodedSlash::Refused), Err(flaw), "{path}");
        }
        let deep = format!("/a{}2e", "%25".repeat(1) + &"25".repeat(20));
        assert_eq!(check_path(&deep, EncodedSlash::Refused), Err(Encoding));
    }

    #[test]
    fn a_plain_path_passes_as_it_is() {
        for path in [
            "/", "/a", "/a/", "/a/b/c", "/a.b", "/..a", "/a..", "/...", "/a/%20b", "/%C3%A9",
            "/100%25", "/%25zz", "/a;x=1", "/a,b:c@d!$&'()*+=~-_", "/%2525",
        ] {
            assert_eq!(check_path(path, EncodedSlash::Refused), Ok(()), "{path}");
        }
        let sent: Vec<_> = segments("/a/%20b/", EncodedSlash::Refused).unwrap().collect();
        assert_eq!(sent, ["a", "%20b", ""]);
        assert!(segments("/a/..", EncodedSlash::Refused).is_err());
    }

    #[test]
    fn a_declared_slash_passes_once_encoded_and_never_hides_dots() {
        use BadPath::*;
        let check = |path| check_path(path, EncodedSlash::Allowed);
        assert_eq!(check("/files/a%2Fb"), Ok(()));
        assert_eq!(check("/files/a%2Fb%25"), Ok(()));
        let sent: Vec<_> = segments("/a%2fb/c", EncodedSlash::Allowed).unwrap().collect();
        assert_eq!(sent, ["a%2fb", "c"]);
        assert_eq!(check("/files/a%252Fb"), Err(HiddenSlash));
        assert_eq!(check("/files/a%2f..%2fb"), Err(DotSegment));
        assert_eq!(check("/files/..%2fb"), Err(DotSegment));
        assert_eq!(check("/files/a%2f%252e%252e"), Err(DotSegment));
        assert_eq!(check("/files/a%5cb"), Err(Backslash));
    }

    proptest! {
        #[test]
        fn no_encoding_smuggles_a_dot_segment(
            dots in "[.]{1,2}", depth in 0..6_usize, choice in any::<u8>(), tail in "(/b)?",
        ) {
            let mut segment = dots;
            for level in 0..depth {
                let encode = |(index, byte): (usize, u8)| {
                    if choice >> ((index + level) % 8) & 1 == 1 || byte == b'%' {
                        format!("%{byte:02x}")
                    } else {
                        char::from(byte).to_string()
                    }
                };
                segment = segment.bytes().enumerate().map(encode).collect();
            }
            let path = format!("/a/{segment}{tail}");
            prop_assert!(check_path(&path, EncodedSlash::Refused).is_err(), "{}", path);
            prop_assert!(check_path(&path, EncodedSlash::Allowed).is_err(), "{}", path);
        }
    }
}
