//! What an admitted request names, and why one is not admitted.

use http::{HeaderMap, Uri, header::TRANSFER_ENCODING, request::Parts};

use super::{
    Connection, Mode, Via, forward,
    host::Authority,
    path::{BadPath, EncodedSlash, check_path},
    reverse,
};

/// Why a request is not for this listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unadmitted {
    /// `CONNECT` asks for a tunnel where none is opened.
    #[error("no tunnel is opened here")]
    Tunnel,
    /// The target is neither a path nor a URL: `*` or an authority alone.
    #[error("the request target is not a path")]
    Target,
    /// The target is not the URL that a proxy is asked for.
    #[error("the request target is not a URL")]
    NotAbsolute,
    /// There is not exactly one `Host`, or the listener does not answer to it.
    #[error("the host is not one of this listener's")]
    Host,
    /// What the connection was opened for, the URL and `Host` name different hosts.
    #[error("the request names more than one host")]
    Differs,
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

/// What the target of an admitted request names. Its path is checked only by [`Target::check`],
/// because the service decides about encoded slashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// Where it goes; it proves nothing until a service is found there.
    pub named: Named<'a>,
    /// The whole path, as sent; empty where a tunnel is asked for.
    pub path: &'a str,
    /// The query without its `?`; `None` when there is no `?`.
    pub query: Option<&'a str>,
}

/// How a request names where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'a> {
    /// By a service's name, the first segment of the path.
    Service {
        /// That segment, as sent.
        name: &'a str,
        /// What follows it: empty, or it starts with `/`.
        rest: &'a str,
    },
    /// By host and port: a request to there.
    Host(Authority<'a>),
    /// By host and port: a tunnel to there.
    Tunnel(Authority<'a>),
}

impl<'a> Target<'a> {
    /// A request to a host.
    pub(super) fn at(authority: Authority<'a>, uri: &'a Uri) -> Self {
        Self {
            named: Named::Host(authority),
            path: uri.path(),
            query: uri.query(),
        }
    }

    /// A tunnel to a host.
    pub(super) fn through(authority: Authority<'a>) -> Self {
        Self {
            named: Named::Tunnel(authority),
            path: "",
            query: None,
        }
    }

    /// Refuses a path that can be read in more than one way.
    ///
    /// # Errors
    ///
    /// [`BadPath`].
    pub fn check(&self, slash: EncodedSlash) -> Result<(), BadPath> {
        match self.named {
            Named::Service { .. } | Named::Host(_) => check_path(self.path, slash),
            Named::Tunnel(_) => Ok(()),
        }
    }
}

/// Admits a request, before anything else is looked at.
///
/// # Errors
///
/// When it is not for this listener, or names nothing.
pub fn admit<'a>(connection: &'a Connection, request: &'a Parts) -> Result<Target<'a>, Unadmitted> {
    match (&connection.via, connection.listener.mode) {
        (Via::Origin(origin), _) => forward::inside(origin, request),
        (Via::Listener, Mode::Reverse) => reverse::admit(&connection.listener, request),
        (Via::Listener, Mode::Forward) => forward::admit(request),
        // What a redirect brings has an origin, but for the tunnel that it is itself.
        (Via::Listener, Mode::Transparent) => forward::tunnel(request).map(Target::through),
    }
}

/// Refuses any transfer coding but `chunked`: nothing here undoes another.
pub(super) fn check_coding(headers: &HeaderMap) -> Result<(), Unadmitted> {
    let chunked = |coding: &http::HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    let known = headers.get_all(TRANSFER_ENCODING).iter().all(chunked);
    if known {
        Ok(())
    } else {
        Err(Unadmitted::Coding)
    }
}
