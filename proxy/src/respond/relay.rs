//! A stream of events on its way to the agent: each is parsed, inspected and written anew, one at
//! a time, and at most one is held.
//!
//! The stream ends when the answer has passed, when the task ends, or when the service breaks a
//! bound; in the last two cases the agent is told by a message for the pending ID.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::time::sleep;

use super::{Expected, ended, inspect, over};
use crate::{
    protocol::{Passed, sse},
    record::{Ended, Entry},
    rejection::{Code, Rejection},
    upstream::UpstreamBody,
};

/// How long a service may take to end a stream that has carried its answer.
const GRACE: Duration = Duration::from_millis(50);

/// The stream between two events.
pub(super) struct Relay {
    upstream: Option<UpstreamBody>,
    events: sse::Decoder,
    unread: Bytes,
    expected: Expected,
    entry: Entry,
    answered: bool,
}

/// What comes next.
pub(super) enum Step {
    /// One event, and the stream behind it.
    Event(Bytes, Box<Relay>),
    /// Nothing more.
    End,
}

/// What a wait for the upstream brought.
enum Heard {
    Data(Bytes),
    End(Rejection),
}

impl Relay {
    pub(super) fn new(upstream: UpstreamBody, expected: Expected, entry: Entry) -> Self {
        Self {
            upstream: Some(upstream),
            events: sse::Decoder::new(expected.max),
            unread: Bytes::new(),
            expected,
            entry,
            answered: false,
        }
    }

    /// Waits for the next event that may pass.
    pub(super) async fn step(self) -> Step {
        Box::new(self).advance().await
    }

    async fn advance(mut self: Box<Self>) -> Step {
        if self.answered {
            self.finish().await;
            return Step::End;
        }
        loop {
            match self.events.push(&mut self.unread) {
                Ok(Some(item)) => match self.pass(item).await {
                    Ok(Some(bytes)) => return self.emit(bytes),
                    Ok(None) => {}
                    Err(rejection) => return self.break_off(&rejection),
                },
                Ok(None) => match self.listen().await {
                    Some(Heard::Data(data)) => self.unread = data,
                    Some(Heard::End(rejection)) => return self.break_off(&rejection),
                    None => return Step::End,
                },
                Err(_) => {
                    return self.break_off(&Rejection::ResponseRefused(
                        "an event of the service is too large, or no text",
                    ));
                }
            }
        }
    }

    /// Nothing that follows the answer is for this exchange; a service that ends its stream at
    /// once keeps its connection.
    async fn finish(&mut self) {
        if let Some(mut upstream) = self.upstream.take() {
            // Silence is as good as an end here.
            tokio::time::timeout(GRACE, upstream.frame()).await.ok();
        }
        self.entry.close(Ended::Completed, Code::Ok);
    }

    /// Waits for data, the end of the task, or silence; nothing once the stream was broken off.
    async fn listen(&mut self) -> Option<Heard> {
        let upstream = self.upstream.as_mut()?;
        let task = self.expected.task.clone();
        let ended = async {
            match &task {
                Some(task) => task.ended().await,
                None => std::future::pending().await,
            }
        };
        let idle: Duration = self.expected.idle;
        Some(tokio::select! {
            biased;
            state = ended => Heard::End(over(state)),
            frame = upstream.frame() => match frame {
                Some(Ok(frame)) => Heard::Data(frame.into_data().unwrap_or_default()),
                Some(Err(_)) | None => Heard::End(Rejection::ResponseRefused("the service's stream ended before its answer")),
            },
            () = sleep(idle) => Heard::End(Rejection::UpstreamTimeout),
        })
    }

    /// Inspects one item; gives what is written to the agent.
    async fn pass(&mut self, item: sse::Item) -> Result<Option<Bytes>, Rejection> {
        let mut event = match item {
            sse::Item::Comment => return Ok(Some(Bytes::from_static(b":\n\n"))),
            sse::Item::Event(event) => event,
        };
        // A block without data is no event (WHATWG HTML, server-sent events).
        let Some(data) = event.data.take() else {
            return Ok(None);
        };
        match inspect(&self.expected, data).await? {
            Passed::Dropped => Ok(None),
            Passed::Interim(message) => {
                event.data = Some(message);
                Ok(Some(written(&event)))
            }
            Passed::Final(message) => {
                self.answered = true;
                event.data = Some(message);
                Ok(Some(written(&event)))
            }
        }
    }

    fn emit(mut self: Box<Self>, bytes: Bytes) -> Step {
        self.entry.answered.bytes += bytes.len() as u64;
        Step::Event(bytes, self)
    }

    /// Ends the stream with a message for the pending ID.
    fn break_off(mut self: Box<Self>, rejection: &Rejection) -> Step {
        self.upstream = None;
        self.unread = Bytes::new();
        let refusal =
            self.expected
                .protocol
                .refuse(&self.expected.exchange, rejection, self.entry.id());
        self.entry.close(ended(rejection), rejection.code());
        self.emit(written(&sse::Event {
            event: Some("message".into()),
            data: Some(refusal.body),
            ..sse::Event::default()
        }))
    }
}

fn written(event: &sse::Event) -> Bytes {
    let mut bytes = BytesMut::with_capacity(event.data.as_ref().map_or(0, Bytes::len) + 32);
    sse::encode(event, &mut bytes);
    bytes.freeze()
}
