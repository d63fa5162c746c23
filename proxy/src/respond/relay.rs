//! A stream of events on its way to the agent: each is parsed, inspected and written anew, one at
//! a time, and at most one is held.
//!
//! It runs beside the agent's connection, so that it also ends when the agent does not read: with
//! the answer, with the task, when the agent goes away, or when the service breaks a bound. An
//! enforced end is a message for the pending ID, or, for an agent that takes none, an abort.

use std::{future::pending, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt as _;
use tokio::{
    sync::{
        mpsc::{Receiver, Sender, channel},
        watch,
    },
    time::{sleep, timeout},
};

use super::{Expected, ended, inspect, over};
use crate::{
    protocol::{Form, Hangup, Passed, sse},
    record::{Ended, Entry},
    rejection::{Code, Rejection},
    upstream::UpstreamBody,
};

/// How long a service may take to end a stream that has carried its answer.
const GRACE: Duration = Duration::from_millis(50);

/// Longer than any stream; a timer can still count it.
const NEVER: Duration = Duration::from_hours(24 * 365);

/// How long an agent may take to accept the message that ends its stream.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the agent's connection is told.
#[derive(Debug)]
pub(super) enum Said {
    /// One event.
    Event(Bytes),
    /// What follows the body; then it is whole.
    Trailers(HeaderMap),
    /// The stream is whole: all was said. Without it the connection is aborted.
    End,
}

/// A stream under way.
pub(super) struct Relay {
    upstream: UpstreamBody,
    events: sse::Decoder,
    unread: Bytes,
    /// An event said where to take up the stream.
    has_id: bool,
    /// The agent has heard that it listens.
    begun: bool,
    /// How long the service may be silent.
    patience: Duration,
    changes: watch::Receiver<u64>,
    expected: Expected,
    entry: Box<Entry>,
    agent: Sender<Said>,
}

/// Why a stream is over.
enum Over {
    /// Its answer has passed.
    Answered,
    /// The service ended it before its answer, which comes on another stream of the session.
    Paused,
    /// The agent went away.
    Gone,
    /// The agent went away, and nothing more was to come.
    Late,
    /// It has no end, and the sidecar stops.
    Stopped,
    /// It may not go on.
    Refused(Rejection),
}

impl Relay {
    pub(super) fn new(
        upstream: UpstreamBody,
        expected: Expected,
        entry: Box<Entry>,
    ) -> (Self, Receiver<Said>) {
        let (agent, events) = channel(1);
        let relay = Self {
            upstream,
            events: sse::Decoder::new(expected.max),
            unread: Bytes::new(),
            has_id: false,
            begun: expected.exchange.form == Form::Feed,
            patience: if expected.exchange.form.may_be_silent() {
                NEVER
            } else {
                expected.service.stream_idle
            },
            changes: expected.memory.revision.subscribe(),
            expected,
            entry,
            agent,
        };
        (relay, events)
    }

    /// Relays to the end, and closes the entry with what it was.
    pub(super) async fn run(mut self) {
        let tether = self.expected.tether.clone();
        let stopped = self.stopped();
        let end = tokio::select! {
            biased;
            why = tether.severed() => Over::Refused(over(why)),
            () = stopped => Over::Stopped,
            end = self.relay() => end,
        };
        // What did not reach the agent can be asked for on the session's stream.
        if let (Over::Answered | Over::Refused(_), Some(session), Some(id)) =
            (&end, &self.expected.session, &self.expected.exchange.id)
        {
            session.answered(id);
        }
        match end {
            Over::Answered => self.answered().await,
            Over::Paused => {
                self.entry.close(Ended::Completed, Code::Ok);
                self.agent.send(Said::End).await.ok();
            }
            // Dropped: the connection is aborted, and the agent comes back when we do.
            Over::Stopped => self.entry.close(Ended::Cut, Code::Ok),
            // Dropped: the entry says that the agent is gone.
            Over::Late => {}
            Over::Gone if self.expected.exchange.hangup == Hangup::Cancels => {}
            Over::Gone => self.outlive().await,
            Over::Refused(rejection) => self.break_off(&rejection).await,
        }
    }

    /// The moment from which on a stream without an end is not waited for.
    fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let endless = self.expected.exchange.form.may_be_silent();
        let mut stopping = self.expected.memory.stopping.subscribe();
        async move {
            if !endless || stopping.wait_for(|stopping| *stopping).await.is_err() {
                pending::<()>().await;
            }
        }
    }

    async fn relay(&mut self) -> Over {
        loop {
            match self.next().await {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(rejection) => return Over::Refused(rejection),
            }
        }
    }

    /// Reads what the service still says, within the bounds of one answer and of one silence, for
    /// nobody.
    async fn outlive(&mut self) {
        let memory = Arc::clone(&self.expected.memory);
        let Ok(_place) = memory.abandoned.try_acquire() else {
            return;
        };
        // The agent may come back for the answer: it stays outstanding in the session.
        self.expected.session = None;
        let mut left = self.expected.max;
        let tether = self.expected.tether.clone();
        let patience = self.expected.service.stream_idle;
        let rest = async {
            loop {
                // The first time, this is what had come when the agent left.
                while let Ok(Some(item)) = self.events.push(&mut self.unread) {
                    if !matches!(self.inspected(item).await, Ok(None | Some((_, false)))) {
                        return;
                    }
                }
                let Some(Ok(frame)) = self.upstream.frame().await else {
                    return;
                };
                self.unread = frame.into_data().unwrap_or_default();
                let Some(less) = left.checked_sub(self.unread.len()) else {
                    return;
                };
                left = less;
            }
        };
        // Without the bound on all of it a service could go on by saying a little at a time.
        let cut = tokio::select! {
            _whole = timeout(patience, rest) => None,
            why = tether.severed() => Some(over(why)),
        };
        if let Some(rejection) = cut {
            self.entry.close(ended(&rejection), rejection.code());
        }
    }

    /// Passes the next item on, or hears more; the end of the stream, if that is it.
    async fn next(&mut self) -> Result<Option<Over>, Rejection> {
        let unfit =
            |_| Rejection::ResponseRefused("an event of the service is too large, or no text");
        let Some(item) = self.events.push(&mut self.unread).map_err(unfit)? else {
            return self.listen().await;
        };
        let Some((bytes, last)) = self.inspected(item).await? else {
            return Ok(None);
        };
        let length = bytes.len() as u64;
        if self.agent.send(Said::Event(bytes)).await.is_err() {
            return Ok(Some(if last { Over::Late } else { Over::Gone }));
        }
        self.entry.answered.bytes += length;
        Ok(last.then_some(Over::Answered))
    }

    /// Waits for data, or for the reason why there will be none.
    async fn listen(&mut self) -> Result<Option<Over>, Rejection> {
        tokio::select! {
            biased;
            () = self.agent.closed() => Ok(Some(Over::Gone)),
            changed = self.changes.changed(), if self.begun => {
                // The sender lives as long as the sidecar.
                changed.map_err(|_| Rejection::UpstreamTimeout)?;
                Ok(self.tell().await)
            }
            frame = self.upstream.frame() => match frame {
                Some(Ok(frame)) => {
                    self.unread = frame.into_data().unwrap_or_default();
                    Ok(None)
                }
                None if self.may_pause() => Ok(Some(Over::Paused)),
                Some(Err(_)) | None => Err(Rejection::ResponseRefused("the service's stream ended before its answer")),
            },
            () = sleep(self.patience) => Err(Rejection::UpstreamTimeout),
        }
    }

    /// Tells the agent that what it may use has changed, where it wants to hear of that.
    async fn tell(&mut self) -> Option<Over> {
        let session = self.expected.session.as_deref();
        let protocol = &self.expected.service.protocol;
        for message in protocol.changed(&self.expected.exchange, session) {
            let event = sse::Event {
                event: Some("message".into()),
                data: Some(message),
                ..sse::Event::default()
            };
            let bytes = written(&event);
            let length = bytes.len() as u64;
            if self.agent.send(Said::Event(bytes)).await.is_err() {
                return Some(Over::Gone);
            }
            self.entry.answered.bytes += length;
        }
        None
    }

    /// Whether the stream may end without an answer: one of a session that can be taken up again.
    fn may_pause(&self) -> bool {
        let resumable = self.expected.session.is_some() && self.has_id;
        self.expected.exchange.form == Form::Feed || resumable
    }

    /// What is written to the agent for one item, and whether it is the answer.
    async fn inspected(&mut self, item: sse::Item) -> Result<Option<(Bytes, bool)>, Rejection> {
        let mut event = match item {
            sse::Item::Comment => return Ok(Some((Bytes::from_static(b":\n\n"), false))),
            sse::Item::Event(event) => event,
        };
        if let Some(id) = &event.id {
            self.has_id = !id.is_empty();
        }
        // A block whose data is empty is no event (WHATWG HTML, server-sent events); in a session it may
        // say where to take up the stream (MCP 2025-11-25 transports).
        let marks =
            self.expected.session.is_some() && (event.id.is_some() || event.retry.is_some());
        let data = match event.data.take() {
            Some(data) if !data.is_empty() => data,
            data if marks => {
                event.data = data;
                return Ok(Some((written(&event), false)));
            }
            _ => return Ok(None),
        };
        let (message, last) = match inspect(&self.expected, data).await? {
            Passed::Dropped => return Ok(None),
            Passed::Interim(message) => (message, false),
            Passed::Final(message) => (message, true),
        };
        self.begun = true;
        event.data = Some(message);
        Ok(Some((written(&event), last)))
    }

    /// Nothing that follows the answer is for this exchange; a service that ends its stream at
    /// once keeps its connection.
    async fn answered(mut self) {
        self.entry.close(Ended::Completed, Code::Ok);
        // An agent that has its answer may be gone.
        self.agent.send(Said::End).await.ok();
        // Silence is as good as an end here.
        timeout(GRACE, self.upstream.frame()).await.ok();
    }

    /// Ends the upstream's work, the entry, and the stream with a message for the pending ID.
    async fn break_off(self, rejection: &Rejection) {
        let Self {
            upstream,
            expected,
            mut entry,
            agent,
            ..
        } = self;
        drop(upstream);
        expected.abandon();
        let refusal = expected
            .service
            .protocol
            .refuse(&expected.exchange, rejection, entry.id());
        entry.close(ended(rejection), rejection.code());
        // Where there is no pending ID nothing can be said: the connection is aborted.
        let Some(refusal) = refusal else { return };
        let last = sse::Event {
            event: Some("message".into()),
            data: Some(refusal.body),
            ..sse::Event::default()
        };
        let farewell = async {
            agent.send(Said::Event(written(&last))).await.ok();
            agent.send(Said::End).await.ok();
        };
        // An agent that does not read is not waited for; its connection is aborted.
        timeout(FAREWELL, farewell).await.ok();
    }
}

fn written(event: &sse::Event) -> Bytes {
    let mut bytes = BytesMut::with_capacity(event.data.as_ref().map_or(0, Bytes::len) + 32);
    sse::encode(event, &mut bytes);
    bytes.freeze()
}
