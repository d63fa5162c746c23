//! Bodies towards and from upstreams.

use std::{
    convert::Infallible,
    fmt,
    future::Future as _,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::{
    http2::Use,
    pool::{Idle, Link},
};
use crate::{headers::fit_for_trailers, identify};

/// The body of a request to an upstream.
#[derive(Debug)]
pub enum RequestBody {
    /// No body.
    Empty,
    /// The bytes that were judged.
    Whole(Bytes),
    /// Passed on as it arrives; its trailers are dropped.
    Stream(Incoming),
    /// The same, and its trailers are passed on, without what the agent may not say; until its call
    /// is over.
    Trailed(Incoming, Until),
}

/// Tells a body that its call is over: whoever holds the other end is gone.
pub(super) type Until = oneshot::Receiver<Infallible>;

/// Why a body is not sent to its end.
#[derive(Debug, thiserror::Error)]
pub enum NotSent {
    /// It did not arrive whole.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// Its call is over; its stream is reset (RFC 9113 §8.7).
    #[error("the call is over")]
    Over(#[source] h2::Error),
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
    type Error = NotSent;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, NotSent>>> {
        if let Self::Stream(body) = &mut *self {
            return match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) if frame.is_trailers() => {
                    *self = Self::Empty;
                    Poll::Ready(None)
                }
                other => Poll::Ready(other.map(|frame| frame.map_err(Into::into))),
            };
        }
        if let Self::Trailed(body, until) = &mut *self {
            if Pin::new(until).poll(cx).is_ready() {
                *self = Self::Empty;
                let over = NotSent::Over(h2::Reason::CANCEL.into());
                return Poll::Ready(Some(Err(over)));
            }
            let frame = ready!(Pin::new(body).poll_frame(cx));
            return Poll::Ready(frame.map(|frame| Ok(stripped(frame?))));
        }
        match std::mem::replace(&mut *self, Self::Empty) {
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Self::Empty | Self::Stream(_) | Self::Trailed(..) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Stream(body) | Self::Trailed(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(body) | Self::Trailed(body, _) => body.size_hint(),
        }
    }
}

/// A frame of an agent's body; trailers say no more than headers may.
fn stripped(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            identify::strip(&mut trailers, &[]);
            fit_for_trailers(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// The body of an answer ended before its end.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's answer was cut short")]
pub struct BodyCut(#[source] hyper::Error);

/// The body of an upstream's answer, and over HTTP/2 its trailers.
///
/// At its end the connection goes back to its pool; dropped earlier, it is closed, or its stream
/// reset.
pub struct UpstreamBody {
    incoming: Incoming,
    carrier: Carrier,
    ended: bool,
}

/// What brings a body.
enum Carrier {
    /// A connection of its own, driven with the body.
    Alone {
        link: Option<Box<Link>>,
        home: Rc<Idle>,
        key: u64,
    },
    /// A part of a connection, given back with its end; what is sent ends with it, too.
    Shared(Option<Use>),
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
        let link = Some(link);
        let mut body = Self {
            incoming,
            carrier: Carrier::Alone { link, home, key },
            ended: false,
        };
        body.settle();
        body
    }

    pub(super) fn shared(incoming: Incoming, used: Use) -> Self {
        let mut body = Self {
            incoming,
            carrier: Carrier::Shared(Some(used)),
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
            match &mut self.carrier {
                Carrier::Alone { link, home, key } => {
                    if let Some(link) = link.take() {
                        home.put(*key, link);
                    }
                }
                Carrier::Shared(used) => drop(used.take()),
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
        let this = &mut *self;
        let frame = match &mut this.carrier {
            Carrier::Alone { link, .. } => {
                if let Some(link) = link {
                    link.drive(cx);
                }
                // The connection moves only when it is driven here, and asking for a frame wakes
                // it if it could move: no waker is needed.
                let mut asking = Context::from_waker(Waker::noop());
                let frame = ready!(Pin::new(&mut this.incoming).poll_frame(&mut asking));
                if let Some(Err(_)) = frame {
                    *link = None;
                }
                frame.filter(|frame| frame.as_ref().is_ok_and(Frame::is_data) || frame.is_err())
            }
            Carrier::Shared(_) => ready!(Pin::new(&mut this.incoming).poll_frame(cx)),
        };
        let frame = frame.map(|frame| frame.map_err(BodyCut));
        self.ended |= !matches!(&frame, Some(Ok(frame)) if frame.is_data());
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
