//! The body of an answer. It holds the call's `Entry`: dropping it early is how the record learns
//! that the agent went away.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::relay::{Relay, Step};
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
    /// A stream of inspected events: the next is being waited for.
    Events(Pin<Box<dyn Future<Output = Step>>>),
    /// All was said.
    Ended,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

impl Answer {
    pub(super) fn bytes(bytes: Bytes) -> Self {
        Self(Inner::Bytes(bytes))
    }

    pub(super) fn whole(bytes: Bytes, mut entry: Entry) -> Self {
        if bytes.is_empty() {
            // The HTTP engine asks no frames of an empty body.
            entry.close(Ended::Completed, Code::Ok);
            return Self(Inner::Ended);
        }
        Self(Inner::Whole(bytes, Box::new(entry)))
    }

    pub(super) fn events(relay: Relay) -> Self {
        Self(Inner::Events(Box::pin(relay.step())))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Inner::Events(next) = &mut self.0 {
            let step = ready!(next.as_mut().poll(cx));
            return Poll::Ready(self.advance(step).map(|bytes| Ok(Frame::data(bytes))));
        }
        match std::mem::replace(&mut self.0, Inner::Ended) {
            Inner::Bytes(bytes) if !bytes.is_empty() => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Inner::Whole(bytes, mut entry) => {
                entry.answered.bytes = bytes.len() as u64;
                entry.close(Ended::Completed, Code::Ok);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Inner::Bytes(_) | Inner::Events(_) | Inner::Ended => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Bytes(bytes) => bytes.is_empty(),
            Inner::Whole(..) | Inner::Events(_) => false,
            Inner::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Bytes(bytes) | Inner::Whole(bytes, _) => {
                SizeHint::with_exact(bytes.len() as u64)
            }
            Inner::Events(_) => SizeHint::default(),
            Inner::Ended => SizeHint::with_exact(0),
        }
    }
}

impl Answer {
    fn advance(&mut self, step: Step) -> Option<Bytes> {
        match step {
            Step::Event(bytes, relay) => {
                self.0 = Inner::Events(Box::pin(relay.step()));
                Some(bytes)
            }
            Step::End => {
                self.0 = Inner::Ended;
                None
            }
        }
    }
}
