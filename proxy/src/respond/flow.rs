//! A body on its way to the agent that nobody reads: it passes as it comes.
//!
//! Like a stream of events it runs beside the agent's connection and ends with its task, when the
//! agent goes away, or when the service is silent for too long. An end before the end is an abort,
//! never a body that looks complete.

use http::HeaderMap;
use http_body_util::BodyExt as _;
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::sleep,
};

use super::{Expected, ended, headers, over, relay::Said};
use crate::{
    headers::fit_for_trailers,
    record::{Ended, Entry},
    rejection::{Code, Rejection},
    upstream::UpstreamBody,
};

/// A body under way.
pub(super) struct Flow {
    upstream: UpstreamBody,
    expected: Expected,
    entry: Box<Entry>,
    agent: Sender<Said>,
}

/// Why a body is over.
enum Over {
    /// It is whole, with what followed it.
    Whole(Option<HeaderMap>),
    /// The agent went away.
    Gone,
    /// It may not go on.
    Refused(Rejection),
}

impl Flow {
    pub(super) fn new(
        upstream: UpstreamBody,
        expected: Expected,
        entry: Box<Entry>,
    ) -> (Self, Receiver<Said>) {
        let (agent, pieces) = channel(1);
        let flow = Self {
            upstream,
            expected,
            entry,
            agent,
        };
        (flow, pieces)
    }

    /// Passes everything on, and closes the entry with what it was.
    pub(super) async fn run(mut self) {
        let tether = self.expected.tether.clone();
        let end = tokio::select! {
            biased;
            why = tether.severed() => Over::Refused(over(why)),
            end = self.pass() => end,
        };
        match end {
            Over::Whole(trailers) => {
                self.entry.close(Ended::Completed, Code::Ok);
                let last = trailers.map_or(Said::End, Said::Trailers);
                // An agent that has it all may be gone.
                self.agent.send(last).await.ok();
            }
            // Dropped: the entry says that the agent is gone.
            Over::Gone => {}
            Over::Refused(rejection) => self.entry.close(ended(&rejection), rejection.code()),
        }
    }

    async fn pass(&mut self) -> Over {
        loop {
            let frame = tokio::select! {
                biased;
                () = self.agent.closed() => return Over::Gone,
                frame = self.upstream.frame() => frame,
                () = sleep(self.expected.service.stream_idle) => {
                    return Over::Refused(Rejection::UpstreamTimeout);
                }
            };
            let bytes = match frame {
                None => return Over::Whole(None),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => bytes,
                    Err(frame) => {
                        let mut trailers = frame.into_trailers().unwrap_or_default();
                        headers::clean(&mut trailers, &self.expected.service.passthrough);
                        fit_for_trailers(&mut trailers);
                        return Over::Whole(Some(trailers));
                    }
                },
                Some(Err(_)) => {
                    return Over::Refused(Rejection::ResponseRefused(
                        "the service's answer broke off",
                    ));
                }
            };
            let length = bytes.len() as u64;
            if self.agent.send(Said::Event(bytes)).await.is_err() {
                return Over::Gone;
            }
            self.entry.answered.bytes += length;
        }
    }
}
