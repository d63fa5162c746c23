//! The body of an answer. It holds the call's `Entry`: dropping it early is how the record learns
//! that the agent went away.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc::Receiver;

use super::relay::Said;
use crate::{
    record::{Ended, Entry},
    rejection::Code,
};

/// The body of an answer to the agent.
pub struct Answer(Inner);

enum Inner {
    /// Bytes of our own.
    Bytes(Bytes),
    /// One inspected message.
    Whole(Bytes, Box<Entry>),
    /// A stream, relayed beside this connection, and its length where that is known.
    Events(Receiver<Said>, Option<u64>),
    /// All was said.
    Ended,
}

/// The stream ended before its end: the connection is aborted, so that it does not look whole.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the stream was cut")]
pub struct Cut;

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

impl Answer {
    /// Nothing, of no call.
    pub(crate) fn none() -> Self {
        Self(Inner::Ended)
    }

    pub(super) fn bytes(bytes: Bytes) -> Self {
        Self(Inner::Bytes(bytes))
    }

    pub(super) fn whole(bytes: Bytes, mut entry: Box<Entry>) -> Self {
        if bytes.is_empty() {
            // The HTTP engine asks no frames of an empty body.
            entry.close(Ended::Completed, Code::Ok);
            return Self(Inner::Ended);
        }
        Self(Inner::Whole(bytes, entry))
    }

    pub(super) fn events(events: Receiver<Said>, length: Option<u64>) -> Self {
        Self(Inner::Events(events, length))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Inner::Events(events, _) = &mut self.0 {
            return Poll::Ready(match ready!(events.poll_recv(cx)) {
                Some(Said::Event(bytes)) => Some(Ok(Frame::data(bytes))),
                Some(Said::Trailers(trailers)) => {
                    self.0 = Inner::Ended;
                    Some(Ok(Frame::trailers(trailers)))
                }
                Some(Said::End) => {
                    self.0 = Inner::Ended;
                    None
                }
                None => Some(Err(Cut)),
            });
        }
        match std::mem::replace(&mut self.0, Inner::Ended) {
            Inner::Bytes(bytes) if !bytes.is_empty() => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Inner::Whole(bytes, mut entry) => {
                entry.answered.bytes = bytes.len() as u64;
                entry.close(Ended::Completed, Code::Ok);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Inner::Bytes(_) | Inner::Events(..) | Inner::Ended => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Bytes(bytes) => bytes.is_empty(),
            Inner::Whole(..) | Inner::Events(..) => false,
            Inner::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Bytes(bytes) | Inner::Whole(bytes, _) => {
                SizeHint::with_exact(bytes.len() as u64)
            }
            Inner::Events(_, Some(length)) => SizeHint::with_exact(*length),
            Inner::Events(_, None) => SizeHint::default(),
            Inner::Ended => SizeHint::with_exact(0),
        }
    }
}
