//! A request on a reverse listener: is it meant for us, and what does its target name?
//!
//! Pure functions over a request's head. What cannot be read in one way only is refused, never
//! repaired (RFC 9110 §7.4, RFC 9112 §3.2).

use http::{
    HeaderMap, Method, Uri,
    header::{HOST, ORIGIN, TRANSFER_ENCODING},
    request::Parts,
};

use super::{
    ListenAddress, ListenerFacts,
    path::{BadPath, EncodedSlash, check_path},
};

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
    /// Its body is transfer-coded otherwise than `chunked`.
    #[error("the transfer coding is not served")]
    Coding,
    /// The path names no service.
    #[error("the path names no service")]
    NoService,
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
        configured
            .iter()
            .map(|entry| Host::read(entry))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The hosts of a listener that configures none.
    fn of(address: &ListenAddress) -> Self {
        let localhost = Host {
            name: "localhost".into(),
            port: None,
        };
        let ListenAddress::Tcp(address) = address else {
            return Self(vec![localhost]);
        };
        let name = match address.ip() {
            std::net::IpAddr::V4(ip) => ip.to_string(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let port = Some(address.port());
        Self(vec![Host { name, port }, Host { port, ..localhost }])
    }

    /// Whether `host`, a `Host` value, is one of these on a listener with `port`.
    fn admit(&self, host: &str, port: Option<u16>) -> bool {
        let Some((name, asked)) = split_port(host) else {
            return false;
        };
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
        Ok(Self {
            name: name.to_ascii_lowercase(),
            port,
        })
    }
}

/// Splits `name[:port]` and checks both; `None` when it is neither.
fn split_port(host: &str) -> Option<(&str, Option<u16>)> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let close = rest.find(']')? + 1;
            let (name, port) = host.split_at(close + 1);
            (
                name,
                if port.is_empty() {
                    None
                } else {
                    Some(port.strip_prefix(':')?)
                },
            )
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
    if let Some(ip) = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return ip.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    !name.is_empty() && name.len() <= 253 && name.bytes().all(plain)
}

/// Admits a request to a reverse listener, before anything else is looked at.
///
/// # Errors
///
/// When it is not for this listener, or names no service.
pub fn admit<'a>(listener: &ListenerFacts, request: &'a Parts) -> Result<Target<'a>, Unadmitted> {
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
    check_coding(&request.headers)?;
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
    let known =
        |origin: &http::HeaderValue| origins.iter().any(|o| o.as_bytes() == origin.as_bytes());
    let mut lines = headers.get_all(ORIGIN).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(()),
        (Some(origin), None) if known(origin) => Ok(()),
        _ => Err(Unadmitted::Origin),
    }
}

/// Refuses any transfer coding but `chunked`: nothing here undoes another.
fn check_coding(headers: &HeaderMap) -> Result<(), Unadmitted> {
    let chunked = |coding: &http::HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    let known = headers.get_all(TRANSFER_ENCODING).iter().all(chunked);
    if known {
        Ok(())
    } else {
        Err(Unadmitted::Coding)
    }
}

/// Splits a target into service, rest and query.
fn target(uri: &Uri) -> Option<Target<'_>> {
    let path = uri.path();
    let inner = path.strip_prefix('/')?;
    let (service, rest) = inner.split_at(inner.find('/').unwrap_or(inner.len()));
    (!service.is_empty()).then_some(Target {
        service,
        query: uri.query(),
        path,
        rest,
    })
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]
mod tests {
    use http::Request;

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
            tls: None,
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
            "",
            " ",
            "127.0.0.1",
            "localhost",
            "localhost:80",
            "localhost:015001x",
            "evil.test",
            "evil.test:15001",
            "localhost.:15001",
            "localhost:15001/x",
            "localhost:15001, x",
            "user@localhost:15001",
            "localhost :15001",
            "169.254.169.254",
            "localhost:",
            "[::1]:15001",
            "127.1:15001",
            "0x7f000001:15001",
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
        for host in [
            "tools.test:80",
            "other.test",
            "other.test:15001",
            "localhost:15001",
        ] {
            assert!(!host_admitted(&named, host), "{host}");
        }
        for bad in [
            "", "a b", "http://x", "x:y", "x:99999", "user@x", "x/y", "[::1", "*",
        ] {
            let address = "127.0.0.1:1".parse().unwrap();
            assert_eq!(
                Hosts::new(&[bad.to_owned()], &address),
                Err(BadHost),
                "{bad}"
            );
        }
    }

    #[test]
    fn exactly_one_host_is_needed() {
        let plain = listener("127.0.0.1:15001", &[], &[]);
        let one = ("host", "localhost:15001");
        assert_eq!(
            admit(&plain, &request("/a", &[])).unwrap_err(),
            Unadmitted::Host
        );
        assert_eq!(
            admit(&plain, &request("/a", &[one, one])).unwrap_err(),
            Unadmitted::Host
        );
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
            &["http://evil.test"][..],
            &["null"],
            &[""],
            &["http://ide.test:80"],
            &["http://ide.test", "http://ide.test"],
            &["http://ide.test http://evil.test"],
        ] {
            assert_eq!(from(origins), Some(Unadmitted::Origin), "{origins:?}");
        }
    }
}
