//! The order of enforcement, readable from top to bottom.
//!
//! [`judge`] decides and [`act`] acts; between them stands the record. A stage is a function, its
//! error is a refusal, and no stage can be left out: `authorize::input` takes what only `validate`
//! makes, and `upstream` takes the permit that only a recorded, allowing ruling yields.

mod case;
mod outgoing;
mod passage;
mod relay;
mod totals;
mod turns;
mod upgrade;

use std::{
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header, request::Parts};
use hyper::body::{Body as _, Incoming};
use tokio::sync::oneshot;

pub use self::turns::Turns;
use self::{
    case::{Case, Errand, Known, Proven, Said},
    outgoing::{Body, Target, Way},
};
use crate::{
    authorize,
    catalogue::Service,
    classify::classify,
    credentials::{Carried, Wanted},
    identify,
    listen::{self, Connection, Named, Redirected, Reply},
    outrider::Outrider,
    overload::Load,
    protocol::{self, BodyManner, Hangup, Kind, Manner},
    record::{Entry, Facts, Permit, Ruling},
    rejection::{Malformed, Rejection},
    respond::{self, Accepted, Answer},
    upstream::{Pool, RequestBody, Uncollected, Upstream, Wrapper, collect_request, forward},
    validate::validate,
    websocket,
    workers::Tasks,
};

/// From the first to the last byte of a request's body.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Bodies larger than this are judged off the event loop, one at a time.
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
    /// How much this worker has to do.
    pub load: Load,
    /// When it is a large body's turn.
    pub turns: Turns,
}

impl listen::Service for Pipeline {
    type Body = Answer;

    async fn call(
        self: Rc<Self>,
        connection: Rc<Connection>,
        request: Request<Incoming>,
    ) -> Reply<Answer> {
        let (head, body) = request.into_parts();
        if let Some(origin) = self.opening(&connection, &head) {
            return passage::opened(origin);
        }
        self.answered(&connection, head, body).await
    }

    async fn redirected(
        self: Rc<Self>,
        connection: Rc<Connection>,
        host: Box<str>,
        port: u16,
    ) -> Option<Redirected> {
        self.passed_on(&connection, &host, port).await
    }
}

impl Pipeline {
    /// One call, from its head to its answer.
    async fn answered(
        self: Rc<Self>,
        connection: &Connection,
        head: Parts,
        body: Incoming,
    ) -> Reply<Answer> {
        let mut entry = self.entry(connection);
        let mut said = None;
        let (bodied, mut body) = (!body.is_end_stream(), Some(body));
        let request = Request::from_parts(head, &mut body);
        let decided = self
            .decide(connection, request, &mut entry, &mut said)
            .await;
        connection.decided();
        match decided {
            Ok((permit, errand)) => match (&errand.way, errand.expected.exchange.hangup) {
                (Way::Tunnel(_), _) => self.tunnel(permit, errand, entry, said).await,
                (Way::WebSocket, _) => self.upgrade(permit, errand, entry, said).await,
                (Way::Request, Hangup::Cancels) => {
                    self.carry(permit, errand, entry, said).await.into()
                }
                (Way::Request, Hangup::Outlived) => {
                    self.outlived(permit, errand, entry, said).await.into()
                }
            },
            Err(rejection) => {
                let mut response = refusal(entry, &said, &rejection);
                if bodied && leaves_unread(body) {
                    let headers = response.headers_mut();
                    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                response.into()
            }
        }
    }

    /// Opens the record of a call that has just arrived.
    fn entry(&self, connection: &Connection) -> Box<Entry> {
        Box::new(Entry::open(
            &self.outrider.recorder,
            &connection.listener.name,
            &connection.peer,
        ))
    }
}

/// Where a service is that each caller starts for himself: in his wrapper, which he names.
fn wrapper(
    upstream: &Upstream,
    connection: &Connection,
    headers: &mut HeaderMap,
) -> Result<Option<Wrapper>, Rejection> {
    if !upstream.is_stdio() {
        return Ok(None);
    }
    let wrapper = connection
        .caller()
        .and_then(|caller| Wrapper::take(headers, caller));
    wrapper.map(Some).ok_or(Rejection::DestinationRefused(
        "this service is called through `outrider stdio`, by a user of this machine",
    ))
}

/// Whether a refused call leaves bytes of its body unread, which are not here yet or were to be
/// streamed: the engine then closes the connection, of which the agent must be told (RFC 9112 §9.6),
/// or its next call is lost there.
fn leaves_unread(body: Option<Incoming>) -> bool {
    let Some(mut body) = body else { return true };
    let mut now = Context::from_waker(Waker::noop());
    loop {
        match Pin::new(&mut body).poll_frame(&mut now) {
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(None) => return false,
            Poll::Ready(Some(Err(_))) | Poll::Pending => return true,
        }
    }
}

impl Pipeline {
    /// One call, from its head to the permit to carry it out.
    async fn decide(
        &self,
        connection: &Connection,
        request: Request<&mut Option<Incoming>>,
        entry: &mut Entry,
        said: &mut Said,
    ) -> Result<(Permit, Box<Errand>), Rejection> {
        let (case, ruling) = match self.open(connection, request, entry).await {
            Ok(case) => self.judged(case).await,
            Err(rejection) => (None, Ruling::refused(rejection)),
        };
        let (ruling, errand) = match case {
            Some(mut case) => {
                let ruling = case.spend(ruling).await;
                case.settle(ruling, entry, said)
            }
            None => (ruling, None),
        };
        let recorded = entry.record(ruling).await?;
        let permit = recorded.permit()?;
        Ok((permit, errand.ok_or(Rejection::PolicyError)?))
    }

    /// Carries out what was permitted, and answers.
    async fn carry(
        &self,
        permit: Permit,
        errand: Box<Errand>,
        mut entry: Box<Entry>,
        said: Said,
    ) -> Response<Answer> {
        match self.act(permit, errand, &mut entry).await {
            Ok(accepted) => respond::answer(accepted, entry, &self.streams),
            Err(rejection) => refusal(entry, &said, &rejection),
        }
    }

    /// As [`carry`](Self::carry), beside the connection: legacy MCP does not take the end of a
    /// connection for a cancellation.
    async fn outlived(
        self: Rc<Self>,
        permit: Permit,
        errand: Box<Errand>,
        entry: Box<Entry>,
        said: Said,
    ) -> Response<Answer> {
        let (mut tell, told) = oneshot::channel();
        let streams = self.streams.clone();
        streams.spawn(async move {
            let memory = Arc::clone(&self.outrider.memory);
            let mut work = pin!(self.carry(permit, errand, entry, said));
            let gone = async {
                tell.closed().await;
                memory.abandoned.try_acquire()
            };
            let place = tokio::select! {
                biased;
                response = &mut work => {
                    // An agent that is gone is in the record: the entry goes with the answer.
                    tell.send(response).ok();
                    return;
                }
                place = gone => place,
            };
            // Too many are left already: this one is cancelled.
            if place.is_ok() {
                work.await;
            }
        });
        told.await.unwrap_or_else(|_| respond::unanswered())
    }

    /// What is decided by head and size alone; then the body, in one buffer.
    async fn open(
        &self,
        connection: &Connection,
        request: Request<&mut Option<Incoming>>,
        entry: &mut Entry,
    ) -> Result<Box<Case>, Rejection> {
        let snapshot = self.outrider.snapshot();
        let (mut head, body) = request.into_parts();
        let target = listen::admit(connection, &head)?;
        passage::admit(&connection.listener, &target)?;
        self.outrider.admit(connection)?;
        self.outrider.identity.check()?;
        let (service, rest) = snapshot.called(&target)?;
        entry.facts.service = Some(service.name.clone());
        self.load.admit(snapshot.overload, entry.opened())?;
        let manner = service.protocol.manner();
        let websocket = is_websocket(&head, manner)?;
        target
            .check(manner.encoded_slash)
            .map_err(|_| malformed("the path is not one that is judged as it is sent"))?;
        let target = match target.named {
            Named::Tunnel(to) => Target::through(to),
            Named::Service { .. } | Named::Host(_) => {
                route(manner.target, rest, target.query)?.upgraded(websocket)
            }
        };
        // What the agent says of itself goes first: nothing is judged that a `Connection` header
        // would then take out.
        let tokens = passage::tokens(connection, &head.headers);
        let wrapper = wrapper(&service.upstream, connection, &mut head.headers)?;
        entry.facts.forged = identify::strip(&mut head.headers, &service.passthrough);
        service.protocol.admit(&target.asked(&head, &[]))?;
        let gone = || unread(Uncollected::Broken);
        let body = match manner.body {
            BodyManner::Buffered => {
                let body = body.as_mut().ok_or_else(gone)?;
                let read = collect_request(body, snapshot.max_request, BODY_TIME).await;
                Body::Whole(read.map_err(unread)?)
            }
            BodyManner::Streamed => Body::Stream(body.take().ok_or_else(gone)?),
            BodyManner::Absent => Body::Whole(Bytes::new()),
        };
        self.outrider.issuers.prepare(&tokens).await;
        // A body may take its time: what counts is what holds when it is there.
        let snapshot = self.outrider.snapshot();
        let read = service;
        let service = snapshot.service(read.name.as_str())?;
        if !read.reads_as(&service) {
            return Err(Rejection::DependencyUnavailable);
        }
        let upstream = match &wrapper {
            Some(wrapper) => service.upstream.of_wrapper(wrapper),
            None => service.upstream.clone(),
        };
        Ok(Box::new(Case {
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
            upstream,
            head,
            target,
            body,
        }))
    }

    /// Judges a case; where limits are shared, the fleet's store is asked half-way.
    async fn judged(&self, case: Box<Case>) -> (Option<Box<Case>>, Ruling) {
        let (case, proven) = match self.step(case, judge).await {
            Some((case, Judged::Ruled(ruling))) => return (Some(case), ruling),
            Some((case, Judged::Shared(proven))) => (case, proven),
            None => return (None, Ruling::refused(Rejection::PolicyError)),
        };
        let mut case = case;
        match case.count(*proven).await {
            Err(rejection) => (Some(case), Ruling::refused(rejection)),
            Ok(proven) => match self.step(case, |case| weigh(case, proven)).await {
                Some((case, ruling)) => (Some(case), ruling),
                None => (None, Ruling::refused(Rejection::PolicyError)),
            },
        }
    }

    /// Works on a case, off the event loop when its body is large; without it if that fails.
    async fn step<T: Send + 'static>(
        &self,
        mut case: Box<Case>,
        work: impl FnOnce(&mut Case) -> T + Send + 'static,
    ) -> Option<(Box<Case>, T)> {
        if case.body.bytes().len() <= LARGE {
            let done = work(&mut case);
            return Some((case, done));
        }
        let turn = self.turns.take(move || {
            let done = work(&mut case);
            (case, done)
        });
        turn.await.ok()
    }

    /// Sends what was permitted and receives what may pass, unless the task ends first.
    async fn act(
        &self,
        permit: Permit,
        errand: Box<Errand>,
        entry: &mut Entry,
    ) -> Result<Accepted, Rejection> {
        let Errand {
            mut request,
            service,
            upstream,
            expected,
            wanted,
            way: _,
        } = *errand;
        let tether = expected.tether.clone();
        let asked = expected.session.clone().zip(expected.exchange.id.clone());
        let started = Instant::now();
        let exchange = async {
            let carried = self.provide(wanted, &service, &mut request).await?;
            let answer = forward(permit, &self.pool, &upstream, request, service.timeout).await?;
            if let Some(carried) = carried {
                carried.answered(answer.status());
            }
            respond::receive(answer, expected).await
        };
        let accepted = tokio::select! {
            biased;
            why = tether.severed() => Err(respond::over(why)),
            accepted = exchange => accepted,
        };
        entry.timers.upstream = started.elapsed();
        if let (Some((session, id)), false) = (asked, matches!(accepted, Ok(Accepted::Events(..))))
        {
            session.answered(&id);
        }
        accepted
    }
}

impl Pipeline {
    /// Gives a request its credential, if it has one.
    async fn provide(
        &self,
        wanted: Option<Wanted>,
        service: &Service,
        request: &mut Request<RequestBody>,
    ) -> Result<Option<Carried>, Rejection> {
        let Some(wanted) = wanted else {
            return Ok(None);
        };
        let (fetching, headers) = (&self.outrider.fetching, request.headers_mut());
        let carried = wanted.provide(fetching, service.timeout, headers).await?;
        Ok(Some(carried))
    }
}

/// Whether a WebSocket is asked for, of a service that has some.
fn is_websocket(head: &Parts, manner: Manner) -> Result<bool, Rejection> {
    match websocket::is_asked(head) {
        Ok(true) if !manner.websocket => Err(Rejection::DestinationRefused(
            "no WebSocket is opened to this service",
        )),
        Ok(asked) => Ok(asked),
        Err(_) => Err(malformed(
            "a WebSocket is opened by GET over HTTP/1.1 with one key, version 13 and no body",
        )),
    }
}

/// Says a refusal in the words of those who can read it.
fn refusal(entry: Box<Entry>, said: &Said, rejection: &Rejection) -> Response<Answer> {
    let form = said
        .as_ref()
        .map(|(service, exchange)| (&*service.protocol, exchange));
    respond::refuse(entry, form, rejection)
}

/// How far a case was judged.
#[expect(
    clippy::large_enum_variant,
    reason = "nothing is allocated where limits are not shared"
)]
enum Judged {
    /// To its end.
    Ruled(Ruling),
    /// To where the fleet's store is asked.
    Shared(Box<Proven>),
}

/// The ruling on one case; every error of a stage is a refusal.
fn judge(case: &mut Case) -> Judged {
    match prove(case) {
        Ok(Proved::Message) => Judged::Ruled(case.prepare(Ruling::passed())),
        Ok(Proved::Call(proven)) if proven.is_shared() => Judged::Shared(Box::new(proven)),
        Ok(Proved::Call(proven)) => Judged::Ruled(weigh(case, proven)),
        Err(rejection) => Judged::Ruled(Ruling::refused(rejection)),
    }
}

/// What a message was proved to be.
enum Proved {
    /// One that nothing more is asked about.
    Message,
    /// A call within its limits, as far as they are counted here.
    Call(Proven),
}

/// The order of the stages, up to the limits.
fn prove(case: &mut Case) -> Result<Proved, Rejection> {
    let message = case.read()?;
    // A body may take its time, and the identity may have gone meanwhile.
    case.outrider.identity.check()?;
    let task = case.authority(&message)?;
    case.session(&message)?;
    let (call, mirrored) = match message.kind {
        Kind::Call(call) => (call, true),
        Kind::Again {
            id,
            input_responses,
        } => {
            let call = case.again(&id, input_responses, task.as_deref())?;
            (call, false)
        }
        Kind::Own | Kind::Plain | Kind::Opening => return Ok(Proved::Message),
    };
    case.own_work(&call, task.as_deref())?;
    let tool = case.resolve(&call)?;
    if mirrored {
        case.service
            .protocol
            .agree(&case.head, &call, &tool.contract)?;
    }
    let started = Instant::now();
    let call =
        validate(call, &tool).map_err(|misfit| case.misfit(misfit, task.as_deref(), &tool))?;
    case.known.timers.schema = started.elapsed();
    let admitted = case.admit(task.as_deref(), &tool)?;
    Ok(Proved::Call(Proven {
        call,
        admitted,
        task,
    }))
}

/// The stages after the limits: what the data is, and what policy says.
fn weigh(case: &mut Case, proven: Proven) -> Ruling {
    let Proven {
        call,
        admitted,
        task,
    } = proven;
    let content = classify(&call);
    let facts = case.facts(task.as_deref());
    let input = Box::new(authorize::input(facts, &call, content, &admitted));
    let started = Instant::now();
    let decision = case.snapshot.policy.decide(&input);
    case.known.timers.policy = started.elapsed();
    case.known.facts.input = Some(input);
    case.known.admitted = Some(admitted);
    case.prepare(authorize::settle(decision))
}

/// Where at its upstream a request goes.
fn route(manner: protocol::Target, rest: &str, query: Option<&str>) -> Result<Target, Rejection> {
    match manner {
        protocol::Target::Appended => Ok(Target::appended(rest, query)),
        protocol::Target::Fixed if rest.is_empty() && query.is_none() => Ok(Target::default()),
        protocol::Target::Fixed => {
            Err(malformed("the path is the service's name and nothing else"))
        }
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
