//! The order of enforcement, readable from top to bottom.
//!
//! [`judge`] decides and [`act`] acts; between them stands the record. A stage is a function, its
//! error is a refusal, and no stage can be left out: `authorize::input` takes what only `validate`
//! makes, and `upstream` takes the permit that only a recorded, allowing ruling yields.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header, request::Parts};
use hyper::body::Incoming;
use outrider_policy::input::CallFacts;

use crate::{
    authorize,
    call::{DecisionId, ToolCall, Trace},
    catalogue::{Service, Tool},
    classify::classify,
    identify,
    limit::{Admitted, Subjects},
    listen::{self, Connection, path, reverse},
    outrider::{Outrider, Snapshot},
    protocol::{Exchange, Kind, Message},
    record::{Entry, Facts, Permit, Ruling, Timers},
    rejection::{Malformed, Rejection, Unknown},
    respond::{self, Accepted, Answer, Expected},
    tag,
    task::Task,
    upstream::{Pool, RequestBody, Uncollected, collect_request, forward},
    validate::{Misfit, validate},
    workers::Tasks,
};

/// From the first to the last byte of a request's body.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Bodies larger than this are judged off the event loop.
const LARGE: usize = 32 * 1024;

/// The pipeline of one worker.
#[derive(Debug)]
pub struct Pipeline {
    /// What all workers share.
    pub outrider: Arc<Outrider>,
    /// This worker's connections to upstreams.
    pub pool: Pool,
    /// Where streams run beside their connections.
    pub streams: Tasks,
}

impl listen::Service for Pipeline {
    type Body = Answer;

    async fn call(
        self: Rc<Self>,
        connection: Rc<Connection>,
        request: Request<Incoming>,
    ) -> Response<Answer> {
        let mut entry = Entry::open(
            &self.outrider.recorder,
            &connection.listener.name,
            connection.peer,
        );
        let mut said = None;
        match self
            .enforce(&connection, request, &mut entry, &mut said)
            .await
        {
            Ok(accepted) => respond::answer(accepted, entry, &self.streams),
            Err(rejection) => {
                let form = said
                    .as_ref()
                    .map(|(service, exchange)| (service.protocol, exchange));
                respond::refuse(entry, form, &rejection)
            }
        }
    }
}

/// In whose words a refusal is said, once that is known.
type Said = Option<(Arc<Service>, Exchange)>;

impl Pipeline {
    /// One call, from its head to an answer that may pass.
    async fn enforce(
        &self,
        connection: &Connection,
        request: Request<Incoming>,
        entry: &mut Entry,
        said: &mut Said,
    ) -> Result<Accepted, Rejection> {
        let (case, ruling) = match self.open(connection, request, entry).await {
            Ok(case) => judged(case).await,
            Err(rejection) => (None, Ruling::refused(rejection)),
        };
        let (ruling, errand) = match case {
            Some(case) => case.settle(ruling, entry, said),
            None => (ruling, None),
        };
        let recorded = entry.record(ruling)?;
        let permit = recorded.permit()?;
        self.act(permit, errand.ok_or(Rejection::PolicyError)?, entry)
            .await
    }

    /// What is decided by head and size alone; then the body, in one buffer.
    async fn open(
        &self,
        connection: &Connection,
        request: Request<Incoming>,
        entry: &mut Entry,
    ) -> Result<Case, Rejection> {
        let snapshot = self.outrider.snapshot();
        let (mut head, body) = request.into_parts();
        let target = reverse::admit(&connection.listener, &head)?;
        self.outrider.admit(connection)?;
        let service = snapshot.service(target.service)?;
        entry.facts.service = Some(service.name.clone());
        let rest = target
            .rest(path::EncodedSlash::Refused)
            .map_err(|_| malformed("the path is not one that is judged as it is sent"))?;
        if !rest.is_empty() || target.query.is_some() {
            return Err(malformed("the path is the service's name and nothing else"));
        }
        // What the agent says of itself goes first: nothing is judged that a `Connection` header
        // would then take out.
        let tokens = identify::presented(&head.headers);
        entry.facts.forged = identify::strip(&mut head.headers, &service.passthrough);
        service.protocol.admit(&head)?;
        let body = collect_request(body, snapshot.max_request, BODY_TIME)
            .await
            .map_err(unread)?;
        // A body may take its time: what counts is what holds when it is there.
        let snapshot = self.outrider.snapshot();
        let service = snapshot.service(service.name.as_str())?;
        Ok(Case {
            outrider: Arc::clone(&self.outrider),
            listener: Arc::clone(&connection.listener.name),
            known: Known {
                facts: Facts {
                    service: Some(service.name.clone()),
                    task_source: "none",
                    forged: std::mem::take(&mut entry.facts.forged),
                    ..Facts::default()
                },
                tokens,
                ..Known::default()
            },
            id: entry.id(),
            now: jiff::Timestamp::now(),
            snapshot,
            service,
            head,
            body,
        })
    }

    /// Sends what was permitted and receives what may pass, unless the task ends first.
    async fn act(
        &self,
        permit: Permit,
        errand: Errand,
        entry: &mut Entry,
    ) -> Result<Accepted, Rejection> {
        let Errand {
            request,
            service,
            expected,
        } = errand;
        let task = expected.task.clone();
        let started = Instant::now();
        let exchange = async {
            let answer = forward(
                permit,
                &self.pool,
                &service.upstream,
                request,
                service.timeout,
            )
            .await?;
            respond::receive(answer, expected).await
        };
        let over = async {
            match &task {
                Some(task) => task.ended().await,
                None => std::future::pending().await,
            }
        };
        let accepted = tokio::select! {
            biased;
            state = over => Err(respond::over(state)),
            accepted = exchange => accepted,
        };
        entry.timers.upstream = started.elapsed();
        accepted
    }
}

/// A request with its body, on its way to a ruling.
#[derive(Debug)]
struct Case {
    outrider: Arc<Outrider>,
    snapshot: Arc<Snapshot>,
    service: Arc<Service>,
    listener: Arc<str>,
    id: DecisionId,
    now: jiff::Timestamp,
    head: Parts,
    body: Bytes,
    known: Known,
}

/// What becomes known on the way.
#[derive(Debug, Default)]
struct Known {
    exchange: Option<Exchange>,
    facts: Facts,
    timers: Timers,
    admitted: Option<Admitted>,
    level: Option<outrider_policy::Level>,
    body_hash: [u8; 32],
    tokens: Vec<HeaderValue>,
    request: Option<Request<RequestBody>>,
}

/// What is to be sent, and what is expected back.
struct Errand {
    request: Request<RequestBody>,
    service: Arc<Service>,
    expected: Expected,
}

/// Judges a case, off the event loop when its body is large.
async fn judged(case: Case) -> (Option<Case>, Ruling) {
    let (case, ruling) = if case.body.len() <= LARGE {
        judge(case)
    } else {
        match tokio::task::spawn_blocking(move || judge(case)).await {
            Ok(judged) => judged,
            Err(_) => return (None, Ruling::refused(Rejection::PolicyError)),
        }
    };
    (Some(case), ruling)
}

/// The ruling on one case; every error of a stage is a refusal.
fn judge(mut case: Case) -> (Case, Ruling) {
    let ruling = prove(&mut case).unwrap_or_else(Ruling::refused);
    let ruling = case.prepare(ruling);
    (case, ruling)
}

/// The order of the stages.
fn prove(case: &mut Case) -> Result<Ruling, Rejection> {
    let message = case.read()?;
    if matches!(message.kind, Kind::Plain) {
        return Ok(Ruling::passed());
    }
    let task = case.task()?;
    let Kind::Call(call) = message.kind else {
        return Ok(Ruling::passed());
    };
    let tool = case.resolve(&call)?;
    case.service
        .protocol
        .agree(&case.head, &call, &tool.contract)?;
    let started = Instant::now();
    let call =
        validate(call, &tool).map_err(|misfit| case.misfit(misfit, task.as_deref(), &tool))?;
    case.known.timers.schema = started.elapsed();
    let admitted = case.admit(task.as_deref(), &tool)?;
    let content = classify(&call);
    let facts = case.facts(task.as_deref());
    let input = Box::new(authorize::input(facts, &call, content, &admitted));
    let started = Instant::now();
    let decision = case.snapshot.policy.decide(&input);
    case.known.timers.policy = started.elapsed();
    case.known.facts.input = Some(input);
    case.known.admitted = Some(admitted);
    Ok(authorize::settle(decision))
}

impl Case {
    fn read(&mut self) -> Result<Message, Rejection> {
        let started = Instant::now();
        self.known.body_hash = tag::body_hash(&self.body);
        self.known.facts.request_digest =
            self.outrider.recorder.digests.keyed(&self.known.body_hash);
        self.known.facts.revision = Some(Arc::clone(self.snapshot.policy.revision()));
        let read = self.service.protocol.read(&self.head, &self.body);
        let header = || {
            self.head
                .headers
                .get("traceparent")?
                .to_str()
                .ok()
                .and_then(Trace::parse)
        };
        let (exchange, read) = match read {
            Ok(message) => {
                self.known.facts.method = message.method;
                self.known.facts.trace =
                    Some(message.trace.or_else(header).unwrap_or_else(Trace::start));
                (message.exchange.clone(), Ok(message))
            }
            Err(unreadable) => (unreadable.exchange, Err(unreadable.rejection)),
        };
        self.known.exchange = Some(exchange);
        self.known.timers.parse = started.elapsed();
        read
    }

    fn task(&mut self) -> Result<Option<Arc<Task>>, Rejection> {
        let (source, task) = identify::task(
            &self.known.tokens,
            &self.listener,
            &self.outrider.tasks,
            self.snapshot.required,
            self.now,
        )?;
        self.known.facts.task_source = source.as_str();
        self.known.facts.task.clone_from(&task);
        Ok(task)
    }

    fn resolve(&mut self, call: &ToolCall) -> Result<Arc<Tool>, Rejection> {
        let tool = self
            .service
            .tool(&call.operation)
            .ok_or(Rejection::ToolUnknown(Unknown::Tool))?;
        self.known.facts.tool = Some(tool.id.clone());
        self.known.facts.classification = tool.level.as_str();
        self.known.level = Some(tool.level);
        Ok(Arc::clone(tool))
    }

    fn admit(&mut self, task: Option<&Task>, tool: &Tool) -> Result<Admitted, Rejection> {
        let started = Instant::now();
        let who = Subjects {
            agent: &self.outrider.agent,
            subject: task.map_or("", |task| &task.subject),
            task: task.map_or("", |task| &task.id),
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

    /// Violations are told only where the call itself would have been permitted.
    fn misfit(&self, misfit: Misfit, task: Option<&Task>, tool: &Tool) -> Rejection {
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

    fn facts<'a>(&'a self, task: Option<&'a Task>) -> authorize::Facts<'a> {
        let nothing = outrider_policy::Value::new_object();
        authorize::Facts {
            call: CallFacts {
                id: self.id.encode(&mut [0; 36]).into(),
                time: self.now,
                protocol: self.service.protocol.name(),
                method: self.head.method.as_str().into(),
                path: Arc::clone(self.service.upstream.path()),
                host: Arc::clone(self.service.upstream.host()),
                port: self.service.upstream.port(),
                listener: Arc::clone(&self.listener),
                arguments: nothing.clone(),
                arguments_bytes: self.body.len() as u64,
                body_sha256: Some(self.known.body_hash),
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

    /// Makes the request that a passing ruling sends; one that cannot be made is refused.
    fn prepare(&mut self, ruling: Ruling) -> Ruling {
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

    fn request(&mut self) -> Result<Request<RequestBody>, crate::keys::Unsigned> {
        let upstream = &self.service.upstream;
        let mut headers = std::mem::take(&mut self.head.headers);
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
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
            agent: &self.outrider.agent,
            task: facts.task.as_deref(),
            tool: facts.tool.as_ref().map_or("", |tool| tool.as_str()),
            classification: facts.classification,
            audience: upstream.origin(),
            method: self.head.method.as_str(),
            uri: upstream.uri(),
            body_hash: Some(&self.known.body_hash),
            now_s: self.now.as_second(),
        };
        tag::write(
            self.service.identity,
            &said,
            &self.outrider.signer,
            &mut headers,
        )?;
        if let Some(credentials) = &self.service.credentials {
            credentials.inject(&mut headers);
        }
        let mut request = Request::new(RequestBody::from(self.body.clone()));
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = upstream.target().clone();
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Spends what a passing ruling spends, hands what became known to the entry, and gives the
    /// errand of a passing case.
    fn settle(
        self,
        ruling: Ruling,
        entry: &mut Entry,
        said: &mut Said,
    ) -> (Ruling, Option<Errand>) {
        let ruling = self.spend(ruling);
        (ruling, self.errand(entry, said))
    }

    fn spend(&self, ruling: Ruling) -> Ruling {
        let Some(decision) = ruling.decision().filter(|_| ruling.passes()) else {
            return ruling;
        };
        let task = self.known.facts.task.as_deref();
        if let Err(rejection) = authorize::spend(decision, task, &self.outrider.uses) {
            return ruling.overruled(rejection);
        }
        if let (Some(task), Some(level)) = (task, self.known.level) {
            task.raise_high_water(level);
        }
        ruling
    }

    fn errand(self, entry: &mut Entry, said: &mut Said) -> Option<Errand> {
        let shown = self.shown();
        let Known {
            exchange,
            facts,
            timers,
            admitted,
            request,
            ..
        } = self.known;
        entry.facts = facts;
        entry.timers = timers;
        entry.hold(admitted);
        let exchange = exchange?;
        *said = Some((Arc::clone(&self.service), exchange.clone()));
        Some(Errand {
            request: request?,
            expected: Expected {
                protocol: self.service.protocol,
                exchange,
                shown,
                max: self.snapshot.max_response,
                timeout: self.service.timeout,
                idle: self.service.stream_idle,
                task: entry.facts.task.clone(),
            },
            service: self.service,
        })
    }

    /// Which tools a list may show this task: those it could call with some arguments.
    fn shown(&self) -> respond::Shown {
        if self.known.facts.method != "tools/list" {
            return Arc::new(|_| false);
        }
        let (outrider, snapshot, service) = (
            Arc::clone(&self.outrider),
            Arc::clone(&self.snapshot),
            Arc::clone(&self.service),
        );
        let (task, source) = (self.known.facts.task.clone(), self.known.facts.task_source);
        let (call, now) = (self.facts(None).call, self.now);
        Arc::new(move |operation| {
            let Some(tool) = service.tool(operation) else {
                return false;
            };
            let facts = authorize::Facts {
                call: call.clone(),
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

fn malformed(why: &'static str) -> Rejection {
    Rejection::CallMalformed(Malformed::Request(why))
}

fn unread(uncollected: Uncollected) -> Rejection {
    match uncollected {
        Uncollected::TooLarge => Rejection::BodyTooLarge,
        Uncollected::Timeout => malformed("the body did not arrive in time"),
        Uncollected::Broken => malformed("the body did not arrive whole"),
    }
}
