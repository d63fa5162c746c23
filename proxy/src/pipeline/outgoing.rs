//! What is sent for a call that passes: the request as it was judged, in our own words where the agent
//! may not speak.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, header, request::Parts};
use hyper::body::Incoming;

use super::case::Case;
use crate::{
    listen::host::Authority, protocol::Asked, record::Ruling, rejection::Rejection, tag,
    upstream::RequestBody, websocket,
};

/// What stands behind the service's name in the agent's target, as sent.
#[derive(Debug, Default)]
pub(super) struct Target {
    rest: Box<str>,
    query: Option<Box<str>>,
    /// It is appended to the upstream's own target.
    appended: bool,
    way: Way,
}

/// What a call that passes becomes.
#[derive(Debug, Default)]
pub(super) enum Way {
    /// A request and its answer.
    #[default]
    Request,
    /// A tunnel to there.
    Tunnel(Through),
    /// A WebSocket.
    WebSocket,
}

/// The host and port of a tunnel.
#[derive(Debug, Clone)]
pub(super) struct Through {
    pub(super) host: Arc<str>,
    pub(super) port: u16,
}

impl Target {
    pub(super) fn appended(rest: &str, query: Option<&str>) -> Self {
        Self {
            rest: rest.into(),
            query: query.map(Into::into),
            appended: true,
            way: Way::Request,
        }
    }

    /// The same, where a WebSocket is asked for.
    pub(super) fn upgraded(self, websocket: bool) -> Self {
        if websocket {
            Self {
                way: Way::WebSocket,
                ..self
            }
        } else {
            self
        }
    }

    pub(super) fn through(at: Authority<'_>) -> Self {
        Self {
            way: Way::Tunnel(Through {
                host: at.name.to_ascii_lowercase().into(),
                port: at.port,
            }),
            ..Self::default()
        }
    }

    /// What the call becomes; taken out.
    pub(super) fn take_way(&mut self) -> Way {
        std::mem::take(&mut self.way)
    }

    /// The request as a protocol sees it.
    pub(super) fn asked<'a>(&'a self, head: &'a Parts, body: &'a [u8]) -> Asked<'a> {
        Asked {
            head,
            rest: &self.rest,
            query: self.query.as_deref(),
            body,
            websocket: matches!(self.way, Way::WebSocket),
        }
    }
}

/// The body of a request.
#[derive(Debug)]
pub(super) enum Body {
    /// Read whole.
    Whole(Bytes),
    /// It passes as it comes, unread.
    Stream(Incoming),
}

impl Body {
    /// What was read of it.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Stream(_) => &[],
        }
    }
}

/// A request that cannot be made: it could not be signed, or its target could not be written.
struct Unsendable;

impl Case {
    /// Where a tunnel is asked to, if one is.
    pub(super) fn tunnel(&self) -> Option<&Through> {
        match &self.target.way {
            Way::Tunnel(through) => Some(through),
            Way::Request | Way::WebSocket => None,
        }
    }

    /// The host and port that are called.
    pub(super) fn place(&self) -> (Arc<str>, u16) {
        if let Some(through) = self.tunnel() {
            return (Arc::clone(&through.host), through.port);
        }
        let upstream = &self.upstream;
        (Arc::clone(upstream.host()), upstream.port())
    }

    /// The path as it is sent.
    pub(super) fn path(&self) -> Arc<str> {
        let base = self.upstream.path();
        if self.target.rest.is_empty() {
            return Arc::clone(base);
        }
        format!("{}{}", base.trim_end_matches('/'), self.target.rest).into()
    }

    /// Makes the request that a passing ruling sends; one that cannot be made is refused.
    pub(super) fn prepare(&mut self, ruling: Ruling) -> Ruling {
        if !ruling.passes() {
            return ruling;
        }
        let started = Instant::now();
        match self.request() {
            Ok(request) => self.known.request = Some(request),
            Err(_) => return ruling.overruled(Rejection::PolicyError),
        }
        self.known.timers.tag = started.elapsed();
        ruling
    }

    fn request(&mut self) -> Result<Request<RequestBody>, Unsendable> {
        let upstream = &self.upstream;
        let appended = self
            .target
            .appended
            .then(|| upstream.join(&self.target.rest, self.target.query.as_deref()))
            .transpose()
            .map_err(|_| Unsendable)?;
        let (target, uri) = match &appended {
            Some((target, uri)) => (target, uri.as_str()),
            None => (upstream.target(), upstream.uri()),
        };
        let mut headers = std::mem::take(&mut self.head.headers);
        headers.remove(header::CONTENT_LENGTH);
        if self.service.protocol.manner().answers.inspected() {
            headers.insert(
                header::ACCEPT_ENCODING,
                HeaderValue::from_static("identity"),
            );
        }
        if self.service.upstream.is_stdio() {
            // The next call may be for another wrapper.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Way::WebSocket = self.target.way {
            websocket::ask(&mut headers);
        }
        let facts = &self.known.facts;
        if let Some(trace) = facts
            .trace
            .and_then(|trace| HeaderValue::try_from(trace.header()).ok())
        {
            headers.insert("traceparent", trace);
        }
        let mut id = [0; 36];
        let said = tag::Facts {
            decision_id: self.id.encode(&mut id),
            task: facts.task.as_deref(),
            tool: self.known.tool.as_ref().map(|tool| &tool.told),
            classification: facts.classification,
            audience: upstream.origin(),
            method: self.head.method.as_str(),
            uri,
            body_hash: self.known.body_hash.as_ref(),
            now_s: self.now.as_second(),
        };
        tag::write(
            self.service.identity,
            &said,
            &self.outrider.signer,
            &mut headers,
        )
        .map_err(|_| Unsendable)?;
        let body = match std::mem::replace(&mut self.body, Body::Whole(Bytes::new())) {
            Body::Whole(bytes) => RequestBody::from(bytes),
            Body::Stream(body) => RequestBody::Stream(body),
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = target.clone();
        *request.headers_mut() = headers;
        Ok(request)
    }
}
