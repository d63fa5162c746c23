//! Hosts as requests and configuration name them: one spelling each, a name and a port.

use super::target::Unadmitted;
use http::{HeaderMap, Uri, Version, header::HOST, request::Parts};

/// One host, lower-case, IPv6 addresses in brackets.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Host {
    /// Its name or address.
    pub name: String,
    /// Its port; what a missing one means is for the place where it stands to say.
    pub port: Option<u16>,
}

/// A host that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a host: `tools.example.org`, `127.0.0.1:15001` or `[::1]:15001`")]
pub struct BadHost;

impl Host {
    /// Reads `name[:port]`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn read(entry: &str) -> Result<Self, BadHost> {
        let (name, port) = split_port(entry).ok_or(BadHost)?;
        Ok(Self {
            name: name.to_ascii_lowercase(),
            port,
        })
    }
}

impl TryFrom<String> for Host {
    type Error = BadHost;

    fn try_from(entry: String) -> Result<Self, BadHost> {
        Self::read(&entry)
    }
}

/// A host of a service, or all hosts under a domain: `*.example.org`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct HostPattern {
    /// A domain keeps its leading dot.
    key: Box<str>,
    port: Option<u16>,
}

impl HostPattern {
    /// One host, by name or address.
    pub fn one(host: Host) -> Self {
        Self {
            key: host.name.into(),
            port: host.port,
        }
    }

    /// The host, or the domain with a leading dot; lower-case.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The port, where one is named.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether it stands for more than one host.
    pub fn is_domain(&self) -> bool {
        self.key.starts_with('.')
    }
}

impl TryFrom<String> for HostPattern {
    type Error = BadHost;

    fn try_from(entry: String) -> Result<Self, BadHost> {
        let Some(domain) = entry.strip_prefix("*.") else {
            return Host::read(&entry).map(Self::one);
        };
        let host = Host::read(domain)?;
        Ok(Self {
            key: format!(".{}", host.name).into(),
            port: host.port,
        })
    }
}

/// Whether what is asked for travels in TLS: what a missing port means follows from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`, port 80.
    Http,
    /// `https`, port 443.
    Https,
}

impl Scheme {
    /// The port that a missing one means (RFC 9110 §4.2).
    pub fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    fn of(uri: &Uri) -> Option<Self> {
        match uri.scheme_str()? {
            "http" => Some(Self::Http),
            "https" => Some(Self::Https),
            _ => None,
        }
    }
}

/// A host and port that a request names, as it spells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'a> {
    /// Name or address, in the agent's case.
    pub name: &'a str,
    /// The port, the scheme's own where none was said.
    pub port: u16,
}

impl<'a> Authority<'a> {
    /// Reads `name[:port]`.
    pub(super) fn read(text: &'a str, scheme: Scheme) -> Option<Self> {
        let (name, port) = split_port(text)?;
        let port = port.unwrap_or_else(|| scheme.port());
        (port != 0).then_some(Self { name, port })
    }

    /// Reads `name:port`, as `CONNECT` names it.
    pub(super) fn with_port(text: &'a str) -> Option<Self> {
        let (name, port) = split_port(text)?;
        let port = port.filter(|port| *port != 0)?;
        Some(Self { name, port })
    }

    /// Whether both name the same.
    pub(super) fn agrees(self, other: Authority<'_>) -> bool {
        self.port == other.port && self.name.eq_ignore_ascii_case(other.name)
    }
}

/// The URL of a request in absolute form, and what it is asked through.
pub(super) fn absolute(uri: &Uri) -> Option<(Scheme, Authority<'_>)> {
    let scheme = Scheme::of(uri)?;
    let authority = Authority::read(uri.authority()?.as_str(), scheme)?;
    Some((scheme, authority))
}

/// The one host of a request: its only `Host`, which HTTP/2 may leave to `:authority`.
///
/// # Errors
/// When there is none, or more than one.
pub(super) fn only_host(request: &Parts) -> Result<&str, Unadmitted> {
    let named = lines(&request.headers)?;
    let authority = request.uri.authority().map(http::uri::Authority::as_str);
    match (named, authority) {
        (Some(host), Some(authority)) if request.version == Version::HTTP_2 => {
            let same = host.eq_ignore_ascii_case(authority);
            same.then_some(host).ok_or(Unadmitted::Host)
        }
        (Some(host), _) => Ok(host),
        (None, Some(authority)) if request.version == Version::HTTP_2 => Ok(authority),
        (None, _) => Err(Unadmitted::Host),
    }
}

/// The only `Host` line, if there is one.
fn lines(headers: &HeaderMap) -> Result<Option<&str>, Unadmitted> {
    let mut lines = headers.get_all(HOST).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(None),
        (Some(host), None) => host.to_str().map(Some).map_err(|_| Unadmitted::Host),
        _ => Err(Unadmitted::Host),
    }
}

/// Splits `name[:port]` and checks both; `None` when it is neither.
pub(super) fn split_port(host: &str) -> Option<(&str, Option<u16>)> {
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
