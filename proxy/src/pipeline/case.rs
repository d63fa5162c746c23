//! One call on its way to a ruling: what is known of it so far, and what each stage adds.
//!
//! The order of the stages is `prove`, one level up; here is what a stage reads and leaves behind.

use std::{sync::Arc, time::Instant};

use http::{HeaderMap, HeaderValue, Method, Request, request::Parts};
use outrider_policy::{Decision, Value, input::CallFacts};

use super::{
    outgoing::{Body, Target, Way},
    totals,
};
use crate::{
    authorize,
    call::{DecisionId, ToolCall, Trace},
    catalogue::{Service, Tool},
    credentials::{Use, Wanted},
    identify::{
        self, Proof, Unproven,
        issuers::{Bearer, Untrusted},
    },
    limit::{Admitted, Subjects},
    outrider::{Outrider, Snapshot},
    protocol::{Answers, Called, Exchange, Form, Kept, Kind, Message, Pending, Session},
    record::{Distrusted, Entry, Facts, Ruling, Timers},
    rejection::{Malformed, Rejection, Unknown},
    respond::{self, Expected},
    session::Owner,
    state::Tether,
    tag,
    task::{Source, State, Task},
    upstream::{RequestBody, Upstream},
    validate::{Misfit, ValidCall},
};

/// Bytes of a call that a session remembers until it is answered.
const MOST_REMEMBERED: usize = 16 * 1024;

/// How a task reached us, and the task.
type Proved = (Source, Option<Arc<Task>>);

/// In whose words a refusal is said, once that is known.
pub(super) type Said = Option<(Arc<Service>, Exchange)>;

/// A request with its body, on its way to a ruling.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) outrider: Arc<Outrider>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) service: Arc<Service>,
    /// Where it is for this caller.
    pub(super) upstream: Upstream,
    pub(super) listener: Arc<str>,
    pub(super) id: DecisionId,
    pub(super) now: jiff::Timestamp,
    pub(super) head: Parts,
    pub(super) target: Target,
    pub(super) body: Body,
    pub(super) known: Known,
}

/// What becomes known on the way.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) exchange: Option<Exchange>,
    pub(super) facts: Facts,
    pub(super) timers: Timers,
    pub(super) admitted: Option<Admitted>,
    pub(super) level: Option<outrider_policy::Level>,
    /// None of a body that passes unread.
    pub(super) body_hash: Option<[u8; 32]>,
    pub(super) tokens: Vec<HeaderValue>,
    pub(super) request: Option<Request<RequestBody>>,
    pub(super) session: Option<Arc<Session>>,
    /// The task whose end ends the call.
    pub(super) until: Option<Arc<Task>>,
    /// The operation and arguments of a call.
    pub(super) call: Option<Called>,
    /// The tool of a call.
    pub(super) tool: Option<Arc<Tool>>,
}

/// A call that satisfies its schema and its limits, and what stands behind it.
#[derive(Debug)]
pub(super) struct Proven {
    pub(super) call: ValidCall,
    pub(super) admitted: Admitted,
    pub(super) task: Option<Arc<Task>>,
}

impl Proven {
    /// Whether the fleet's store is to be asked about it.
    pub(super) fn is_shared(&self) -> bool {
        self.admitted.asked().len() > 0
    }
}

/// What is to be sent, and what is expected back.
pub(super) struct Errand {
    pub(super) request: Request<RequestBody>,
    pub(super) service: Arc<Service>,
    pub(super) upstream: Upstream,
    pub(super) expected: Expected,
    /// The credential that goes with it.
    pub(super) wanted: Option<Wanted>,
    /// What becomes of it.
    pub(super) way: Way,
}

/// Which revision of MCP a message says it is of; other protocols have no such header, and a message
/// that was read has one that is served.
fn revision(headers: &HeaderMap) -> Option<Box<str>> {
    let told = headers.get("mcp-protocol-version")?.to_str().ok()?;
    (told.len() <= 16).then(|| told.into())
}

impl Case {
    pub(super) fn read(&mut self) -> Result<Message, Rejection> {
        let started = Instant::now();
        if let Body::Whole(bytes) = &self.body {
            let hash = tag::body_hash(bytes);
            self.known.facts.request_digest = self.outrider.recorder.digests.keyed(&hash);
            self.known.body_hash = Some(hash);
        }
        self.known.facts.revision = Some(Arc::clone(self.snapshot.policy.revision()));
        let read = {
            let asked = self.target.asked(&self.head, self.body.bytes());
            self.service.protocol.read(&asked)
        };
        let header = || {
            self.head
                .headers
                .get("traceparent")?
                .to_str()
                .ok()
                .and_then(Trace::parse)
        };
        let start = || Trace::start(self.outrider.traces);
        let (exchange, read) = match read {
            Ok(message) => {
                self.known.facts.method.clone_from(&message.method);
                self.known.facts.protocol = self.service.protocol.name();
                self.known.facts.revision_spoken = (self.service.protocol.name() == "mcp")
                    .then(|| revision(&self.head.headers))
                    .flatten();
                self.known.facts.trace = Some(message.trace.or_else(header).unwrap_or_else(start));
                (message.exchange.clone(), Ok(message))
            }
            Err(unreadable) => (unreadable.exchange, Err(unreadable.rejection)),
        };
        self.known.exchange = Some(exchange);
        self.known.timers.parse = started.elapsed();
        read
    }

    /// The task under which a message stands. Housekeeping needs none; where it names a session, or
    /// opens one, it is still somebody's.
    pub(super) fn authority(&mut self, message: &Message) -> Result<Option<Arc<Task>>, Rejection> {
        if self.outrider.authority.standing.is_revoked() {
            return Err(Rejection::AgentRevoked);
        }
        if let Some(named) = &message.session {
            // Whose session it is comes first: a client starts anew where it is not its own.
            let holder = self.holder()?;
            let sessions = &self.outrider.memory.sessions;
            let owner = Owner::of(holder.as_deref());
            let session = sessions.find(&self.service.name, &named.id, &owner);
            let unknown = Rejection::CallMalformed(Malformed::Session);
            self.known.session = Some(session.ok_or(unknown)?);
        }
        match (&message.kind, &message.session) {
            (Kind::Plain, None) => Ok(None),
            (Kind::Plain | Kind::Opening, _) => self.holder(),
            _ => {
                let task = self.task()?;
                if let Some(fleet) = self.outrider.store.fleet() {
                    fleet.ready()?;
                }
                Ok(task)
            }
        }
    }

    /// The session of a message: what it answers there was asked. One that is not judged by its
    /// session names none to the service either.
    pub(super) fn session(&mut self, message: &Message) -> Result<(), Rejection> {
        let messages = self.service.protocol.manner().answers == Answers::Messages;
        let Some(named) = &message.session else {
            if messages {
                for name in [respond::SESSION, respond::LAST_EVENT] {
                    self.head.headers.remove(name);
                }
            }
            return Ok(());
        };
        let asked = |answered: &Arc<str>| {
            let session = self.known.session.as_ref();
            session.is_some_and(|session| session.answers(answered))
        };
        match &named.answers {
            Some(answered) if !asked(answered) => Err(Rejection::CallMalformed(
                Malformed::Message("the answer is to no request of the service"),
            )),
            _ => Ok(()),
        }
    }

    /// Who presents a message that stands without a task. The end of a task that was over already
    /// does not end it.
    fn holder(&mut self) -> Result<Option<Arc<Task>>, Rejection> {
        let (source, task) = self.prove(identify::holder)?;
        self.known.facts.task_source = source.as_str();
        self.known.facts.task.clone_from(&task);
        let active = |task: &Arc<Task>| task.state(self.now) == State::Active;
        self.known.until = task.clone().filter(active);
        Ok(task)
    }

    /// The call that left work going on, to be decided again.
    pub(super) fn again(
        &self,
        id: &str,
        input_responses: Value,
        task: Option<&Task>,
    ) -> Result<ToolCall, Rejection> {
        let followups = &self.outrider.memory.followups;
        let origin = followups.find(&self.service.name, id, &Owner::of(task));
        let origin = origin.ok_or(Rejection::ToolUnknown(Unknown::Work))?;
        Ok(ToolCall {
            operation: origin.call.operation,
            arguments: origin.call.arguments.values(),
            input_responses,
            opaque: false,
            unread: Vec::new(),
        })
    }

    /// A call that is about work is about that of its own task.
    pub(super) fn own_work(&self, call: &ToolCall, task: Option<&Task>) -> Result<(), Rejection> {
        let works = self.service.protocol.works(call)?;
        if works.is_empty() {
            return Ok(());
        }
        let (followups, owner) = (&self.outrider.memory.followups, Owner::of(task));
        let own = |id: &&str| followups.find(&self.service.name, id, &owner).is_some();
        if works.iter().all(own) {
            Ok(())
        } else {
            Err(Rejection::ToolUnknown(Unknown::Work))
        }
    }

    fn task(&mut self) -> Result<Option<Arc<Task>>, Rejection> {
        let required = self.snapshot.required;
        let (source, task) = self
            .prove(|tokens, listener, proof| identify::task(tokens, listener, proof, required))?;
        self.known.facts.task_source = source.as_str();
        self.known.facts.task.clone_from(&task);
        self.known.until.clone_from(&task);
        Ok(task)
    }

    fn proved(
        &self,
        ask: impl Fn(&[HeaderValue], &str, &Proof<'_>) -> Result<Proved, Unproven>,
    ) -> Result<Proved, Unproven> {
        let proof = Proof {
            authority: &self.outrider.authority,
            issuers: &self.outrider.issuers,
            bearer: Bearer {
                agent: &self.outrider.agent,
                depth: self.snapshot.max_depth.get(),
            },
            reach: &|intent| self.snapshot.reach(intent),
            now: self.now,
        };
        ask(&self.known.tokens, &self.listener, &proof)
    }

    /// Asks for the task by what is believed here; why it is not is for the security log.
    fn prove(
        &mut self,
        ask: impl Fn(&[HeaderValue], &str, &Proof<'_>) -> Result<Proved, Unproven>,
    ) -> Result<Proved, Rejection> {
        let proved = self.proved(ask);
        proved.map_err(|why| {
            self.known.facts.distrusted = match why {
                Unproven::Untrusted(why) => Some(Distrusted::Token(why.to_string())),
                Unproven::Widened(why) => Some(Distrusted::Widened(why.to_string())),
                _ => None,
            };
            why.into()
        })
    }

    pub(super) fn resolve(&mut self, call: &ToolCall) -> Result<Arc<Tool>, Rejection> {
        let tool = self
            .service
            .tool(&call.operation)
            .ok_or(Rejection::ToolUnknown(Unknown::Tool))?;
        self.known.facts.tool = Some(tool.id.clone());
        self.known.facts.classification = tool.level.as_str();
        self.known.level = Some(tool.level);
        self.known.tool = Some(Arc::clone(tool));
        self.known.call = Some(Called {
            operation: Arc::clone(&call.operation),
            arguments: Kept::of(&call.arguments, self.body.bytes().len()),
            bytes: self.body.bytes().len(),
        });
        Ok(Arc::clone(tool))
    }

    pub(super) fn admit(
        &mut self,
        task: Option<&Task>,
        tool: &Tool,
    ) -> Result<Admitted, Rejection> {
        let started = Instant::now();
        let who = Subjects {
            agent: &self.outrider.agent,
            subject: task.map_or("", |task| &task.subject),
            task: task.map_or("", |task| &task.counted),
            service: self.service.name.as_str(),
            tool: tool.id.as_str(),
        };
        let admitted = self.snapshot.limits.check(&who, tool.traits())?;
        self.known.timers.limit = started.elapsed();
        if task.is_some_and(Task::exhausted) {
            return Err(Rejection::BudgetExhausted);
        }
        Ok(admitted)
    }

    /// Spends the limits that a fleet shares, unless the task ends first.
    pub(super) async fn count(&mut self, mut proven: Proven) -> Result<Proven, Rejection> {
        let fleet = self.outrider.store.fleet();
        let fleet = fleet.ok_or(Rejection::DependencyUnavailable)?;
        let started = Instant::now();
        let cells: Vec<_> = proven.admitted.asked().copied().collect();
        let counted = tokio::select! {
            biased;
            why = self.tether().severed() => return Err(respond::over(why)),
            counted = fleet.admit(&cells) => counted?,
        };
        proven.admitted.counted(&counted)?;
        self.known.timers.limit += started.elapsed();
        Ok(proven)
    }

    /// Violations are told only where the call itself would have been permitted.
    pub(super) fn misfit(&self, misfit: Misfit, task: Option<&Task>, tool: &Tool) -> Rejection {
        let reachable = self
            .snapshot
            .policy
            .listable(&authorize::listing(self.facts(task), tool));
        Rejection::SchemaViolation(if reachable {
            misfit.violations
        } else {
            Vec::new()
        })
    }

    pub(super) fn facts<'a>(&'a self, task: Option<&'a Task>) -> authorize::Facts<'a> {
        let nothing = Value::new_object();
        let (host, port) = self.place();
        authorize::Facts {
            call: CallFacts {
                id: self.id.encode(&mut [0; 36]).into(),
                time: self.now,
                protocol: self.service.protocol.name(),
                method: self.head.method.as_str().into(),
                path: self.path(),
                host,
                port,
                listener: Arc::clone(&self.listener),
                arguments: nothing.clone(),
                arguments_bytes: self.body.bytes().len() as u64,
                body_sha256: self.known.body_hash,
                input_responses: nothing,
                trace_id: self.known.facts.trace.map(|trace| trace.trace_id),
            },
            now: self.now,
            agent: &self.snapshot.agent,
            task,
            task_source: self.known.facts.task_source,
            data: &self.snapshot.data,
            spent: self.outrider.uses.spent(),
        }
    }

    /// Hands what became known to the entry, and gives the errand of a passing case.
    pub(super) fn settle(
        self: Box<Self>,
        ruling: Ruling,
        entry: &mut Entry,
        said: &mut Said,
    ) -> (Ruling, Option<Box<Errand>>) {
        if ruling.passes() {
            self.ask();
        }
        (ruling, self.errand(entry, said))
    }

    /// What may end the call before its time.
    fn tether(&self) -> Tether {
        Tether {
            authority: Arc::clone(&self.outrider.authority),
            task: self.known.until.clone(),
        }
    }

    /// Spends what a passing ruling spends.
    pub(super) async fn spend(&mut self, ruling: Ruling) -> Ruling {
        let Some(decision) = ruling.decision().filter(|_| ruling.passes()) else {
            return ruling;
        };
        match self.spent(decision).await {
            Ok(()) => ruling,
            Err(rejection) => {
                if rejection == Rejection::TaskInvalid {
                    let why = Distrusted::Token(Untrusted::Used.to_string());
                    self.known.facts.distrusted = Some(why);
                }
                ruling.overruled(rejection)
            }
        }
    }

    async fn spent(&self, decision: &Decision) -> Result<(), Rejection> {
        let task = self.known.facts.task.as_deref();
        let Outrider {
            uses,
            store,
            issuers,
            authority,
            ..
        } = &*self.outrider;
        let once = task.filter(|task| issuers.single_use(&task.issuer));
        let Some(fleet) = store.fleet() else {
            if let Some(task) = once {
                self.use_up(task)?;
            }
            return authorize::spend(decision, task, uses, store, self.known.level);
        };
        let spending = totals::spend(fleet, decision, task, once, uses, self.known.level);
        tokio::select! {
            biased;
            why = self.tether().severed() => return Err(respond::over(why)),
            spent = spending => spent?,
        }
        if let Some(task) = once {
            // The fleet has said that it is ours; here it is remembered.
            authority.used.take(task.terms(), self.now);
        }
        Ok(())
    }

    /// Takes the one call that a token serves.
    fn use_up(&self, task: &Task) -> Result<(), Rejection> {
        let Outrider {
            store, authority, ..
        } = &*self.outrider;
        if !authority.used.take(task.terms(), self.now) {
            return Err(Untrusted::Used.into());
        }
        store.used_up(task.terms()).map_err(|error| {
            tracing::error!(%error, "a call is refused because that cannot be kept");
            Rejection::DependencyUnavailable
        })
    }

    fn errand(mut self: Box<Self>, entry: &mut Entry, said: &mut Said) -> Option<Box<Errand>> {
        let shown = self.shown();
        let wanted = self.known.request.as_ref().and_then(|_| self.wanted());
        let Known {
            exchange,
            facts,
            timers,
            admitted,
            request,
            session,
            until,
            call,
            ..
        } = self.known;
        entry.facts = facts;
        entry.timers = timers;
        entry.hold(admitted);
        let way = self.target.take_way();
        let exchange = exchange?;
        *said = Some((Arc::clone(&self.service), exchange.clone()));
        Some(Box::new(Errand {
            request: request?,
            expected: Expected {
                service: Arc::clone(&self.service),
                exchange,
                bodiless: self.head.method == Method::HEAD,
                shown,
                max: self.snapshot.max_response,
                owner: Owner::of(entry.facts.task.as_deref()),
                tether: Tether {
                    authority: Arc::clone(&self.outrider.authority),
                    task: until,
                },
                session,
                call,
                memory: Arc::clone(&self.outrider.memory),
            },
            service: self.service,
            upstream: self.upstream,
            wanted,
            way,
        }))
    }

    /// The credential of a message: as its task and its tool have it, where that counts.
    fn wanted(&self) -> Option<Wanted> {
        let credential = self.service.credentials.as_ref()?;
        if !credential.is_particular() {
            return Some(credential.wanted(Use {
                task: None,
                token: None,
                tool: None,
            }));
        }
        let task = self.known.facts.task.clone().or_else(|| self.presenter());
        let token = match self.known.tokens.as_slice() {
            [token] if task.as_ref().is_some_and(|task| task.is_from_elsewhere()) => Some(token),
            _ => None,
        };
        Some(
            credential.wanted(Use {
                task: task
                    .as_ref()
                    .filter(|task| task.state(self.now) == State::Active),
                token: token.map(HeaderValue::as_bytes),
                tool: self.known.tool.as_ref().map(|tool| &tool.id),
            }),
        )
    }

    /// The task that a message presents which needs none.
    fn presenter(&self) -> Option<Arc<Task>> {
        let (_, task) = self.proved(identify::holder).ok()?;
        task
    }

    /// The session knows what is asked in it, so that the answer can also come on its stream.
    fn ask(&self) {
        if let (Some(session), Some(exchange)) = (&self.known.session, &self.known.exchange)
            && let Some(id) = &exchange.id
            && self.known.request.is_some()
        {
            let call = self.known.call.clone();
            let call = call
                .filter(|call| exchange.form == Form::ToolResult && call.bytes <= MOST_REMEMBERED);
            let bytes = call.as_ref().map_or(0, |call| call.bytes);
            let pending = Pending {
                form: exchange.form,
                call,
            };
            session.ask(id, pending, bytes);
        }
    }

    /// Which tools a list may show this task: those it could call with some arguments.
    fn shown(&self) -> respond::Shown {
        let form = self.known.exchange.as_ref().map(|exchange| exchange.form);
        if !matches!(form, Some(Form::List(_) | Form::Feed)) {
            return Arc::new(|_| false);
        }
        let (outrider, service) = (Arc::clone(&self.outrider), self.service.name.clone());
        let (task, source) = (self.known.facts.task.clone(), self.known.facts.task_source);
        let call = self.facts(None).call;
        Arc::new(move |operation| {
            // A list may come long after it was asked for: what counts is what holds then.
            let (snapshot, now) = (outrider.snapshot(), jiff::Timestamp::now());
            let Ok(service) = snapshot.service(service.as_str()) else {
                return false;
            };
            let Some(tool) = service.tool(operation) else {
                return false;
            };
            let facts = authorize::Facts {
                call: CallFacts {
                    time: now,
                    ..call.clone()
                },
                now,
                agent: &snapshot.agent,
                task: task.as_deref(),
                task_source: source,
                data: &snapshot.data,
                spent: outrider.uses.spent(),
            };
            snapshot.policy.listable(&authorize::listing(facts, tool))
        })
    }
}
