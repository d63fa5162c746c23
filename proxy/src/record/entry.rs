//! One [`Entry`] per call, opened when its head arrives and closed exactly once, also when the
//! agent hangs up half-way. Record, metrics, event and span are all derived from it.
//!
//! The way to an upstream leads through here: a [`Ruling`] becomes [`Recorded`] once its line is
//! in the log, and only an allowing one yields a [`Permit`], which `forward` consumes.
//!
//! ```compile_fail
//! let permit = outrider::record::Permit { _private: () }; // cannot be forged
//! ```
//!
//! ```compile_fail
//! fn twice(permit: outrider::record::Permit) {
//!     let again = permit.clone(); // one permit, one call
//! }
//! ```
//!
//! ```compile_fail
//! fn unrecorded(ruling: outrider::record::Ruling) {
//!     let permit = ruling.permit(); // only `Recorded` yields one
//! }
//! ```

use std::{
    any::Any,
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use outrider_policy::{Decision, Input};

use super::{
    Recorder,
    chain::{Log, Unwritable},
    compose,
    underway::Underway,
};
use crate::{
    call::{DecisionId, ServiceName, ToolId, Trace},
    listen::Peer,
    metrics::InFlight,
    rejection::{Code, Rejection},
    task::Task,
};

/// What was decided on one call: to let it pass, or why not; with policy's evidence if it was asked.
#[derive(Debug)]
pub struct Ruling {
    pub(super) refusal: Option<Rejection>,
    pub(super) decision: Option<Decision>,
}

impl Ruling {
    /// Lets a message pass that needs no policy.
    pub fn passed() -> Self {
        Self {
            refusal: None,
            decision: None,
        }
    }

    /// Refuses before policy was asked.
    pub fn refused(rejection: Rejection) -> Self {
        Self {
            refusal: Some(rejection),
            decision: None,
        }
    }

    /// What policy decided, and the refusal that follows from it, if any.
    pub fn judged(decision: Decision, refusal: Option<Rejection>) -> Self {
        Self {
            refusal,
            decision: Some(decision),
        }
    }

    /// Whether the call would pass.
    pub fn passes(&self) -> bool {
        self.refusal.is_none()
    }

    /// What policy decided, if it was asked.
    pub fn decision(&self) -> Option<&Decision> {
        self.decision.as_ref()
    }

    /// The same evidence, refused after all.
    #[must_use]
    pub fn overruled(self, rejection: Rejection) -> Self {
        Self {
            refusal: Some(rejection),
            ..self
        }
    }

    /// Whether the chain of delegation is why, or one of the reasons why, policy refuses.
    pub(super) fn widens(&self) -> bool {
        let reasons = self.decision.iter().flat_map(|decision| &decision.reasons);
        let mut reasons = reasons.map(|one| &*one.reason);
        reasons.any(|reason| reason == "delegation_widened")
    }

    pub(super) fn code(&self) -> Code {
        self.refusal.as_ref().map_or(Code::Ok, Rejection::code)
    }
}

/// A ruling whose line is in the log.
#[derive(Debug)]
pub struct Recorded {
    refusal: Option<Rejection>,
}

impl Recorded {
    /// The permission to act.
    ///
    /// # Errors
    /// The recorded refusal.
    pub fn permit(self) -> Result<Permit, Rejection> {
        match self.refusal {
            None => Ok(Permit { _private: () }),
            Some(rejection) => Err(rejection),
        }
    }
}

/// Permission to send one request upstream. Not `Clone`; consumed by `forward`.
#[derive(Debug)]
pub struct Permit {
    _private: (),
}

/// What became known about the call on its way; everything the record tells.
#[derive(Debug, Default)]
pub struct Facts {
    /// The service, once the path named one.
    pub service: Option<ServiceName>,
    /// The tool, once the catalogue knew it.
    pub tool: Option<ToolId>,
    /// The protocol of the service.
    pub protocol: &'static str,
    /// Which revision of it the message is of, where there are several.
    pub revision_spoken: Option<Box<str>>,
    /// The method of the protocol.
    pub method: Cow<'static, str>,
    /// The task, where one was proved.
    pub task: Option<Arc<Task>>,
    /// How the task reached us: `token`, `current` or `none`.
    pub task_source: &'static str,
    /// The level of the data.
    pub classification: &'static str,
    /// What policy was asked.
    pub input: Option<Box<Input>>,
    /// The keyed digest of the body.
    pub request_digest: String,
    /// The trace that the call continues or starts.
    pub trace: Option<Trace>,
    /// The revision of the policy that judged.
    pub revision: Option<Arc<str>>,
    /// Headers of ours that the agent sent.
    pub forged: Vec<http::HeaderName>,
    /// Why the task's token is not valid, for the security log.
    pub distrusted: Option<Distrusted>,
}

/// Why a task's token is not valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Distrusted {
    /// It is not believed.
    Token(String),
    /// It claims more than was handed on.
    Widened(String),
}

/// How a permitted call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The answer went to the agent whole.
    Completed,
    /// The upstream failed, or its answer was refused.
    UpstreamFailed,
    /// The agent went away.
    AgentGone,
    /// The task ended first.
    Cut,
}

impl Ended {
    /// The word in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::UpstreamFailed => "upstream_failed",
            Self::AgentGone => "agent_gone",
            Self::Cut => "cut",
        }
    }
}

/// What came back, as far as it did.
#[derive(Debug, Default, Clone, Copy)]
pub struct Answered {
    /// The HTTP status that the agent got; 0 when there was none.
    pub status: u16,
    /// Bytes of the body that were passed on.
    pub bytes: u64,
    /// Bytes that a relay took from the agent; none where there was no relay.
    pub sent: Option<u64>,
}

/// How long the stages took.
#[derive(Debug, Default, Clone, Copy)]
pub struct Timers {
    /// Reading and proving the call.
    pub parse: Duration,
    /// Checking the arguments.
    pub schema: Duration,
    /// Checking the limits.
    pub limit: Duration,
    /// Evaluating policy.
    pub policy: Duration,
    /// Writing the record.
    pub record: Duration,
    /// Minting identity.
    pub tag: Duration,
    /// From the first byte sent upstream to its response head or whole answer.
    pub upstream: Duration,
    /// From the last byte of the request to the permit.
    pub decided: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    Refused,
    Permitted,
    Closed,
}

/// The record of one call in the making.
#[derive(Debug)]
pub struct Entry {
    pub(super) id: DecisionId,
    pub(super) opened: Instant,
    pub(super) time: Timestamp,
    pub(super) recorder: Arc<Recorder>,
    pub(super) listener: Arc<str>,
    pub(super) peer: Peer,
    /// What is known so far.
    pub facts: Facts,
    /// What the stages took so far.
    pub timers: Timers,
    /// What the agent got so far.
    pub answered: Answered,
    held: Option<Box<dyn Any + Send>>,
    /// Counts the call as under way while the entry is there.
    #[expect(dead_code, reason = "held for its drop")]
    under_way: Option<InFlight>,
    stage: Stage,
    code: Code,
}

impl Entry {
    /// Opens the record of a call that has just arrived.
    pub fn open(recorder: &Arc<Recorder>, listener: &Arc<str>, peer: &Peer) -> Self {
        Self {
            id: DecisionId::mint(),
            opened: Instant::now(),
            time: Timestamp::now(),
            recorder: Arc::clone(recorder),
            listener: Arc::clone(listener),
            peer: peer.clone(),
            held: None,
            under_way: recorder.enter(listener),
            facts: Facts {
                task_source: "none",
                ..Facts::default()
            },
            timers: Timers::default(),
            answered: Answered::default(),
            stage: Stage::Open,
            code: Code::CallMalformed,
        }
    }

    /// The ID of this decision.
    pub fn id(&self) -> DecisionId {
        self.id
    }

    /// When the call arrived, on the clock of this process.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// When the call arrived.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// Keeps something until the call has ended: places of concurrency limits.
    pub fn hold(&mut self, held: impl Any + Send) {
        self.held = Some(Box::new(held));
    }

    /// The code of this call as it stands.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Puts the ruling into the log; nothing may act on it before.
    ///
    /// # Errors
    /// The log cannot be written: the call is refused and counted, and that refusal alone may go
    /// unrecorded.
    pub async fn record(&mut self, ruling: Ruling) -> Result<Recorded, Rejection> {
        let started = Instant::now();
        if let Some(id) = self.recorder.share(self, &ruling) {
            return Ok(self.shared(id, ruling));
        }
        match self.put(&ruling, Log::record) {
            Ok(None) => self.recorded(ruling, started, Ok(())),
            Ok(Some(receipt)) => Underway::new(self, ruling, started, receipt).end().await,
            Err(unwritable) => self.recorded(ruling, started, Err(unwritable)),
        }
    }

    /// Composes the line and hands it over.
    fn put<T>(&self, ruling: &Ruling, hand: impl FnOnce(&Log, &[u8]) -> T) -> T {
        compose::with_buffer(|line| {
            compose::decision(self, ruling, line);
            hand(&self.recorder.log, line)
        })
    }

    /// Goes on under the decision of refusals like this one.
    fn shared(&mut self, id: DecisionId, ruling: Ruling) -> Recorded {
        self.id = id;
        self.recorder.forgeries(self);
        self.settled(ruling)
    }

    /// Goes on as what became of the line says.
    pub(super) fn recorded(
        &mut self,
        ruling: Ruling,
        started: Instant,
        written: Result<(), Unwritable>,
    ) -> Result<Recorded, Rejection> {
        self.timers.record = started.elapsed();
        if written.is_err() {
            self.code = Code::RecordUnavailable;
            self.finish(Stage::Refused);
            self.recorder.metrics.record_refused();
            return Err(Rejection::RecordUnavailable);
        }
        self.recorder.metrics.record_written();
        self.recorder.notice(self, &ruling);
        Ok(self.settled(ruling))
    }

    fn settled(&mut self, ruling: Ruling) -> Recorded {
        self.code = ruling.code();
        self.timers.decided = self.opened.elapsed();
        self.recorder.decided(self, &ruling);
        match ruling.refusal {
            None => self.stage = Stage::Permitted,
            Some(_) => self.finish(Stage::Refused),
        }
        // The line holds it; a call that runs for long need not.
        self.facts.input = None;
        Recorded {
            refusal: ruling.refusal,
        }
    }

    /// Closes a permitted call. The first close counts, later ones do nothing.
    pub fn close(&mut self, ended: Ended, code: Code) {
        if self.stage != Stage::Permitted {
            return;
        }
        self.code = code;
        let written = compose::with_buffer(|line| {
            compose::outcome(self, ended, line);
            self.recorder.log.defer(line)
        });
        match written {
            Ok(()) => self.recorder.metrics.record_written(),
            Err(_) => self.recorder.metrics.record_refused(),
        }
        self.finish(Stage::Closed);
    }

    /// Leaves the ruling to the log: nobody acts on it.
    fn abandon(&mut self, ruling: Ruling) {
        let started = Instant::now();
        if let Some(id) = self.recorder.share(self, &ruling) {
            self.shared(id, ruling);
            return;
        }
        let written = self.put(&ruling, Log::defer);
        // Nobody is there to be refused.
        self.recorded(ruling, started, written).ok();
    }

    /// Counts the call, once.
    fn finish(&mut self, stage: Stage) {
        let refused = stage == Stage::Refused;
        self.stage = stage;
        self.recorder.count(self, refused);
    }
}

impl Drop for Entry {
    /// INVARIANT: every call leaves exactly one decision, and one outcome if it was permitted.
    fn drop(&mut self) {
        match self.stage {
            Stage::Open => {
                let gone = Rejection::CallMalformed(crate::rejection::Malformed::Request(
                    "the agent went away before the call was decided",
                ));
                self.abandon(Ruling::refused(gone));
            }
            Stage::Permitted => self.close(Ended::AgentGone, Code::Ok),
            Stage::Refused | Stage::Closed => {}
        }
    }
}
