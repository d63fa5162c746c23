//! A request on a reverse listener: is it meant for us, and what does its target name?
//!
//! Pure functions over a request's head. What cannot be read in one way only is refused, never
//! repaired (RFC 9110 §7.4, RFC 9112 §3.2).

use http::{HeaderMap, Method, Uri, header::ORIGIN, request::Parts};

use super::{
    ListenAddress, ListenerFacts,
    host::{BadHost, Host, only_host, split_port},
    target::{Named, Target, Unadmitted, check_coding},
};

/// The `Host` values that a listener answers to; no port means any spelling of the listener's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts(Vec<Host>);

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

/// Admits a request to a reverse listener, before anything else is looked at.
///
/// # Errors
///
/// When it is not for this listener, or names no service.
pub fn admit<'a>(listener: &ListenerFacts, request: &'a Parts) -> Result<Target<'a>, Unadmitted> {
    if request.method == Method::CONNECT {
        return Err(Unadmitted::Tunnel);
    }
    let host = only_host(request)?;
    check_form(listener, &request.uri, host)?;
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

/// Refuses `*`, an authority alone, and a URL that names another host than `Host` does.
fn check_form(listener: &ListenerFacts, uri: &Uri, host: &str) -> Result<(), Unadmitted> {
    if !uri.path().starts_with('/') {
        return Err(Unadmitted::Target);
    }
    let scheme = if listener.tls.is_some() {
        "https"
    } else {
        "http"
    };
    match (uri.scheme_str(), uri.authority()) {
        (None, None) => Ok(()),
        (Some(said), Some(authority))
            if said == scheme && authority.as_str().eq_ignore_ascii_case(host) =>
        {
            Ok(())
        }
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

/// Splits a target into service, rest and query.
fn target(uri: &Uri) -> Option<Target<'_>> {
    let path = uri.path();
    let inner = path.strip_prefix('/')?;
    let (name, rest) = inner.split_at(inner.find('/').unwrap_or(inner.len()));
    (!name.is_empty()).then_some(Target {
        named: Named::Service { name, rest },
        query: uri.query(),
        path,
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
    use crate::listen::{Inside, MAX_CONNECTIONS, Mode, Patience, path::EncodedSlash};

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
            inside: Inside::Refuse,
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
        let named = Named::Service {
            name: "a",
            rest: "/b",
        };
        assert_eq!((target.named, target.query), (named, Some("c")));
        assert_eq!(target.check(EncodedSlash::Refused), Ok(()));
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
