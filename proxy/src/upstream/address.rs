//! Where a service really is: its upstream URL, read once at load.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{
    HeaderValue, Uri,
    uri::{PathAndQuery, Scheme},
};
use rustls::pki_types::ServerName;

use super::{TlsRoots, Wrapper, stdio::Place};

/// One service's upstream: where it is dialled, and what is written into requests for it.
#[derive(Debug, Clone)]
pub struct Upstream(Arc<Facts>);

#[derive(Debug, Clone)]
struct Facts {
    /// Less than 2³².
    key: u64,
    origin: Box<str>,
    authority: Box<str>,
    host_header: HeaderValue,
    path: Arc<str>,
    host: Arc<str>,
    target: Uri,
    uri: Box<str>,
    query: Option<Box<str>>,
    dial: Dial,
    tls: Option<ServerName<'static>>,
    /// Whom it is proved by, where that is its own.
    roots: Option<TlsRoots>,
    /// It speaks HTTP/2.
    http2: bool,
}

/// What is dialled.
#[derive(Debug, Clone)]
pub(super) enum Dial {
    /// A literal address.
    Address(SocketAddr),
    /// A name that is looked up at each dial.
    Name(Box<str>, u16),
    /// A socket of this machine.
    Socket(Arc<Place>),
    /// Nothing: no request is ever sent there.
    Nowhere,
}

/// An upstream URL that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadUpstream {
    /// It is no URL, or none with a host.
    #[error("expected a URL: `https://tools.example.org/mcp`")]
    NotAUrl,
    /// A scheme other than `http` and `https`.
    #[error("expected a URL that starts with `http://` or `https://`")]
    Scheme,
    /// A user or password before the host.
    #[error("a URL with a user or password is refused: use `credentials`")]
    UserInfo,
    /// A fragment.
    #[error("a URL with a fragment (`#`) is refused")]
    Fragment,
    /// A port that is 0 or no number.
    #[error("expected a port from 1 to 65535")]
    Port,
    /// A host that TLS cannot verify.
    #[error("expected a host name or an IP address")]
    Host,
}

static NEXT_KEY: AtomicU64 = AtomicU64::new(0);

impl Upstream {
    /// Reads an upstream URL.
    ///
    /// # Errors
    ///
    /// When it is not an absolute `http` or `https` URL, or has parts that an upstream must not.
    pub fn parse(url: &str) -> Result<Self, BadUpstream> {
        if url.contains('#') {
            return Err(BadUpstream::Fragment);
        }
        let uri: Uri = url.parse().map_err(|_| BadUpstream::NotAUrl)?;
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(_) => return Err(BadUpstream::Scheme),
            None => return Err(BadUpstream::NotAUrl),
        };
        let authority = uri.authority().ok_or(BadUpstream::NotAUrl)?.as_str();
        if authority.contains('@') {
            return Err(BadUpstream::UserInfo);
        }
        let authority = authority.to_ascii_lowercase();
        let (host, port) = split(&uri, &authority)?;
        let default = if secure { 443 } else { 80 };
        let ip = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>();
        let dial = match ip {
            Ok(ip) => Dial::Address(SocketAddr::new(ip, port.unwrap_or(default))),
            Err(_) => Dial::Name(host.into(), port.unwrap_or(default)),
        };
        let name = match ip {
            Ok(ip) => ServerName::from(ip),
            Err(_) => ServerName::try_from(host.to_owned()).map_err(|_| BadUpstream::Host)?,
        };
        // The default port is left out, as clients do and upstreams compare (RFC 9110 §7.2).
        let authority = if port == Some(default) {
            host
        } else {
            &authority
        };
        Ok(Self(Arc::new(Facts {
            key: NEXT_KEY.fetch_add(1, Ordering::Relaxed),
            origin: format!("{}://{authority}", if secure { "https" } else { "http" }).into(),
            host_header: HeaderValue::from_str(authority).map_err(|_| BadUpstream::Host)?,
            authority: authority.into(),
            path: uri.path().into(),
            host: host.into(),
            target: uri
                .path_and_query()
                .cloned()
                .map_or_else(|| Uri::from_static("/"), Uri::from),
            uri: format!(
                "{}://{authority}{}",
                if secure { "https" } else { "http" },
                uri.path_and_query().map_or("/", PathAndQuery::as_str)
            )
            .into(),
            query: uri.query().map(Into::into),
            dial,
            tls: secure.then_some(name),
            roots: None,
            http2: false,
        })))
    }

    /// That of a service that answers no requests.
    pub fn nowhere() -> Self {
        Self(Arc::new(Facts {
            key: NEXT_KEY.fetch_add(1, Ordering::Relaxed),
            origin: "".into(),
            authority: "".into(),
            host_header: HeaderValue::from_static(""),
            path: "".into(),
            host: "".into(),
            target: Uri::from_static("/"),
            uri: "".into(),
            query: None,
            dial: Dial::Nowhere,
            tls: None,
            roots: None,
            http2: false,
        }))
    }

    /// That of a service which each of its callers starts for himself.
    pub fn stdio() -> Self {
        let nowhere = Self::nowhere();
        Self(Arc::new(Facts {
            host: "stdio".into(),
            path: "/".into(),
            target: Uri::from_static("/"),
            host_header: HeaderValue::from_static("localhost"),
            ..Facts::clone(&nowhere.0)
        }))
    }

    /// Such a service, where its caller's wrapper has it.
    #[must_use]
    pub fn of_wrapper(&self, wrapper: &Wrapper) -> Self {
        Self(Arc::new(Facts {
            key: NEXT_KEY.fetch_add(1, Ordering::Relaxed),
            dial: Dial::Socket(Arc::clone(&wrapper.place)),
            target: wrapper.target.clone(),
            ..Facts::clone(&self.0)
        }))
    }

    /// A sidecar that listens on a socket; `target` is where its service is.
    pub fn of_socket(path: &Path, target: Uri) -> Self {
        let stdio = Self::stdio();
        Self(Arc::new(Facts {
            key: NEXT_KEY.fetch_add(1, Ordering::Relaxed),
            dial: Dial::Socket(Arc::new(Place::of(path))),
            target,
            ..Facts::clone(&stdio.0)
        }))
    }

    /// Whether each caller has it for himself.
    pub fn is_stdio(&self) -> bool {
        matches!(self.dial(), Dial::Nowhere) && &*self.0.host == "stdio"
    }

    /// The same upstream, proved by its own authorities and shown what they say.
    #[must_use]
    pub fn proved_by(self, roots: TlsRoots) -> Self {
        let roots = Some(roots);
        Self(Arc::new(match Arc::try_unwrap(self.0) {
            Ok(facts) => Facts { roots, ..facts },
            Err(shared) => Facts {
                key: NEXT_KEY.fetch_add(1, Ordering::Relaxed),
                roots,
                ..Facts::clone(&shared)
            },
        }))
    }

    /// The same upstream, spoken to in HTTP/2.
    #[must_use]
    pub fn over_http2(self) -> Self {
        Self(Arc::new(Facts {
            key: NEXT_KEY.fetch_add(1, Ordering::Relaxed),
            http2: true,
            ..Facts::clone(&self.0)
        }))
    }

    /// Whether HTTP/2 is spoken there.
    pub(super) fn is_http2(&self) -> bool {
        self.0.http2
    }

    pub(super) fn scheme(&self) -> Scheme {
        if self.is_secure() {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        }
    }

    /// Scheme and authority, `https://tools.example.org`.
    pub fn origin(&self) -> &str {
        &self.0.origin
    }

    /// Host and port, the port only if it is not the scheme's own.
    pub fn authority(&self) -> &str {
        &self.0.authority
    }

    /// The `Host` value of a request, ready to be sent.
    pub fn host_header(&self) -> &HeaderValue {
        &self.0.host_header
    }

    /// The path as configured; `/` when there was none.
    pub fn path(&self) -> &Arc<str> {
        &self.0.path
    }

    /// The query as configured, without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.0.query.as_deref()
    }

    /// What stands in the request line of a request to the URL as configured.
    pub fn target(&self) -> &Uri {
        &self.0.target
    }

    /// The URL as configured, in the form in which it is sent.
    pub fn uri(&self) -> &str {
        &self.0.uri
    }

    /// The target and the whole URL of a request to what follows the URL as configured: `rest` is
    /// appended to its path, `query` to its query.
    ///
    /// # Errors
    /// When the result is no request target.
    pub fn join(&self, rest: &str, query: Option<&str>) -> Result<(Uri, String), BadUpstream> {
        let base = self.path();
        let base = if rest.is_empty() {
            base
        } else {
            base.trim_end_matches('/')
        };
        let mut target = format!("{base}{rest}");
        let queries = [self.query(), query];
        for (mark, query) in ["?", "&"].iter().zip(queries.into_iter().flatten()) {
            target.push_str(mark);
            target.push_str(query);
        }
        let uri: Uri = target.parse().map_err(|_| BadUpstream::NotAUrl)?;
        // What is parsed must be what is sent: a library that repairs a target is not followed.
        if uri.path_and_query().map(PathAndQuery::as_str) != Some(target.as_str()) {
            return Err(BadUpstream::NotAUrl);
        }
        Ok((uri, format!("{}{target}", self.origin())))
    }

    /// The host alone.
    pub fn host(&self) -> &Arc<str> {
        &self.0.host
    }

    /// The port, the scheme's own when the URL has none.
    pub fn port(&self) -> u16 {
        match self.dial() {
            Dial::Address(address) => address.port(),
            Dial::Name(_, port) => *port,
            Dial::Socket(_) | Dial::Nowhere => 0,
        }
    }

    /// Whether requests to it are encrypted.
    pub fn is_secure(&self) -> bool {
        self.0.tls.is_some()
    }

    /// Whether nobody on a network can read requests to it: they are encrypted, or stay on this
    /// machine.
    pub fn is_protected(&self) -> bool {
        self.is_secure()
            || match self.dial() {
                Dial::Address(address) => address.ip().is_loopback(),
                Dial::Name(name, _) => &**name == "localhost",
                Dial::Socket(_) | Dial::Nowhere => true,
            }
    }

    /// The name its certificate must prove; `None` without TLS.
    pub(super) fn tls_name(&self) -> Option<&ServerName<'static>> {
        self.0.tls.as_ref()
    }

    /// Whom it is proved by, where that is not the same as for others.
    pub(super) fn roots(&self) -> Option<&TlsRoots> {
        self.0.roots.as_ref()
    }

    /// What tells this upstream from every other of this process. Where connections are made with an
    /// SVID, one that was made with the SVID before is to another upstream.
    pub(super) fn key(&self) -> u64 {
        let turn = self.0.roots.as_ref().map_or(0, TlsRoots::turn);
        self.0.key | turn << u32::BITS
    }

    pub(super) fn dial(&self) -> &Dial {
        &self.0.dial
    }
}

/// Host and port of an authority.
fn split<'a>(uri: &Uri, authority: &'a str) -> Result<(&'a str, Option<u16>), BadUpstream> {
    let host = uri
        .host()
        .map(str::len)
        .and_then(|length| authority.get(..length));
    let host = host
        .filter(|host| !host.is_empty())
        .ok_or(BadUpstream::NotAUrl)?;
    match authority.strip_prefix(host) {
        Some("") => Ok((host, None)),
        Some(rest) => {
            let port = rest
                .strip_prefix(':')
                .and_then(|digits| digits.parse().ok());
            port.filter(|&port: &u16| port != 0)
                .map(|p| (host, Some(p)))
                .ok_or(BadUpstream::Port)
        }
        None => Err(BadUpstream::NotAUrl),
    }
}
