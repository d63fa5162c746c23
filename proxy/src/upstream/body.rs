//! Bodies towards and from upstreams.

use std::{
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::pool::{Idle, Link};

/// The body of a request to an upstream.
#[derive(Debug)]
pub enum RequestBody {
    /// No body.
    Empty,
    /// The bytes that were judged.
    Whole(Bytes),
    /// Passed on as it arrives; its trailers are dropped.
    Stream(Incoming),
}

impl From<Bytes> for RequestBody {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Self::Empty
        } else {
            Self::Whole(bytes)
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Self::Stream(body) = &mut *self {
            return match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) if frame.is_trailers() => {
                    *self = Self::Empty;
                    Poll::Ready(None)
                }
                other => Poll::Ready(other),
            };
        }
        match std::mem::replace(&mut *self, Self::Empty) {
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Self::Empty | Self::Stream(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(body) => body.size_hint(),
        }
    }
}

/// The body of an answer ended before its end.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's answer was cut short")]
pub struct BodyCut(#[source] hyper::Error);

/// The body of an upstream's answer; trailers are dropped.
///
/// At its end the connection goes back to its pool; dropped earlier, it is closed.
pub struct UpstreamBody {
    incoming: Incoming,
    link: Option<Box<Link>>,
    home: Rc<Idle>,
    key: u64,
    ended: bool,
}

impl fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamBody")
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl UpstreamBody {
    pub(super) fn new(incoming: Incoming, link: Box<Link>, home: Rc<Idle>, key: u64) -> Self {
        let mut body = Self {
            incoming,
            link: Some(link),
            home,
            key,
            ended: false,
        };
        body.settle();
        body
    }

    /// Gives the connection back if the body is read to its end. The HTTP engine does not ask
    /// for another frame after the last byte of a known length, so this cannot wait for one.
    fn settle(&mut self) {
        if self.ended || self.incoming.is_end_stream() {
            self.ended = true;
            if let Some(link) = self.link.take() {
                self.home.put(self.key, link);
            }
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyCut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(link) = &mut self.link {
            link.drive(cx);
        }
        // The connection moves only when it is driven here, and asking for a frame wakes it if
        // it could move: no waker is needed.
        let mut asking = Context::from_waker(Waker::noop());
        let frame = match ready!(Pin::new(&mut self.incoming).poll_frame(&mut asking)) {
            Some(Ok(frame)) if frame.is_data() => Some(Ok(frame)),
            Some(Err(error)) => {
                self.link = None;
                Some(Err(BodyCut(error)))
            }
            Some(Ok(_)) | None => None,
        };
        self.ended |= !matches!(frame, Some(Ok(_)));
        self.settle();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        if self.ended {
            SizeHint::with_exact(0)
        } else {
            self.incoming.size_hint()
        }
    }
}
