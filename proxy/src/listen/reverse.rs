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
    EncodedSlash,
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

/// Decodes a segment again and again and refuses what any reader could find in it.
fn check_encoded(segment: &str, slash: EncodedSlash) -> Result<(), BadPath> {
    let mut text = decode(segment.as_bytes())?;
    for depth in 1..=ENCODING_DEPTH {
        str::from_utf8(&text).map_err(|_| BadPath::Text)?;
        let allowed = slash == EncodedSlash::Allowed && depth == 1;
        for &byte in &text {
            match byte {
                0..=0x1f | 0x7f => return Err(BadPath::Control),
                b'\\' => return Err(BadPath::Backslash),
                b'/' if !allowed => return Err(BadPath::EncodedSlash),
                _ => {}
            }
        }
        text.split(|&b| b == b'/').try_for_each(check_dots)?;
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
