//! Come back: the upstream's answer is checked, cleaned and passed on; or a refusal is said.
//!
//! In: a response head and its body. Out: an [`Answer`], whose body holds the call's `Entry` to
//! the last byte, so that whatever ends the call is what the outcome line says.

mod body;
mod flow;
mod headers;
mod relay;
mod single;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header, response::Parts};
use http_body::Body as _;

pub use body::Answer;

use crate::{
    call::DecisionId,
    catalogue::Service,
    followup::Origin,
    memory::Memory,
    protocol::{Answers, Called, Exchange, Form, Held, Passed, Protocol, Session},
    record::{Ended, Entry},
    rejection::Rejection,
    session::Owner,
    state::{Severed, Tether},
    tag::DECISION_ID,
    task::State,
    upstream::{Uncollected, UpstreamBody, collect},
    websocket,
    workers::Tasks,
};

/// The name of a session.
pub(crate) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

/// Where a stream is taken up again.
pub(crate) const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");

/// Answers larger than this are inspected off the event loop, and so is every list.
const LARGE: usize = 32 * 1024;

/// Whether a tool may be shown; shared with the thread that inspects a list.
pub type Shown = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What an answer is held against.
#[derive(Clone)]
pub struct Expected {
    /// The service that answers.
    pub service: Arc<Service>,
    /// The message it answers.
    pub exchange: Exchange,
    /// It has no body, and its head tells the length of the one that it would have.
    pub bodiless: bool,
    /// Which tools a list may show.
    pub shown: Shown,
    /// Bytes of a buffered answer, or of one event.
    pub max: usize,
    /// For whom it was asked.
    pub owner: Owner,
    /// What may end it before its time.
    pub tether: Tether,
    /// The session in which it was asked, or that it opens.
    pub session: Option<Arc<Session>>,
    /// The operation and arguments of a call, which work that goes on inherits.
    pub call: Option<Called>,
    /// Sessions, and what services go on working at.
    pub memory: Arc<Memory>,
}

impl std::fmt::Debug for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Expected")
            .field("exchange", &self.exchange)
            .finish_non_exhaustive()
    }
}

impl Expected {
    fn inspect(&self, message: Bytes) -> Result<Passed, Rejection> {
        let held = Held {
            operation: self.call.as_ref().map(|call| &*call.operation),
            shown: &*self.shown,
            session: self.session.as_deref(),
            call: self.call.as_ref(),
            goes_on: &|id, call| self.goes_on(id, call),
        };
        let protocol = &self.service.protocol;
        protocol.inspect(&self.exchange, message, &held)
    }

    /// Work of that name goes on after the answer, and inherits this call.
    fn goes_on(&self, id: &str, call: Option<&Called>) {
        if let Some(call) = call {
            let origin = Origin {
                owner: self.owner.clone(),
                call: call.clone(),
            };
            let followups = &self.memory.followups;
            followups.remember(&self.service.name, id, origin);
        }
    }

    /// Opens the session that an answer names, and closes the one that is over.
    fn enter(&mut self, head: &mut Parts, named: Option<HeaderValue>) -> Result<(), Rejection> {
        let (sessions, service) = (&self.memory.sessions, &self.service.name);
        if let Some(session) = &self.session {
            let ended = self.exchange.form == Form::Ending && head.status.is_success();
            if ended || head.status == StatusCode::NOT_FOUND {
                sessions.close(service, session.id());
            }
        }
        let opens = self.exchange.form == Form::Opening && head.status.is_success();
        if let Some(named) = named.filter(|_| opens) {
            let id = named.to_str().unwrap_or_default();
            let session = sessions.open(service, id, self.owner.clone());
            self.session = Some(session.ok_or(refused(
                "the service gave a session a name that cannot be used",
            ))?);
            head.headers.insert(SESSION, named);
        }
        Ok(())
    }

    /// Nothing more is to come for a request that was refused; an opening whose answer is refused
    /// opens nothing.
    fn abandon(&self) {
        if let (Some(session), Some(id)) = (&self.session, &self.exchange.id) {
            session.answered(id);
        }
        if let (Form::Opening, Some(session)) = (self.exchange.form, &self.session) {
            let sessions = &self.memory.sessions;
            sessions.close(&self.service.name, session.id());
        }
    }
}

/// An answer that may pass, not yet tied to its entry.
#[derive(Debug)]
pub enum Accepted {
    /// One message, or none.
    Whole(Parts, Bytes),
    /// A stream of events that has begun.
    Events(Parts, UpstreamBody, Expected),
    /// A body that passes as it comes, unread.
    Flow(Parts, UpstreamBody, Expected),
}

/// Checks an answer as far as it must be read before the agent sees its head.
///
/// # Errors
/// A redirect, an encoding, another media type, a message that is not the answer, or one that
/// breaks a bound.
pub async fn receive(
    response: Response<UpstreamBody>,
    expected: Expected,
) -> Result<Accepted, Rejection> {
    let (mut head, body) = response.into_parts();
    let session = head.headers.remove(SESSION);
    let bodiless = expected.bodiless || head.status == StatusCode::NOT_MODIFIED;
    let length = bodiless.then(|| head.headers.remove(header::CONTENT_LENGTH));
    headers::clean(&mut head.headers, &expected.service.passthrough);
    if let Some(length) = length.flatten() {
        head.headers.insert(header::CONTENT_LENGTH, length);
    }
    match expected.service.protocol.manner().answers {
        // The HTTP engine asks no frames of an empty body.
        Answers::Opaque | Answers::Streamed if body.is_end_stream() => {
            Ok(Accepted::Whole(head, Bytes::new()))
        }
        Answers::Messages => messages(head, body, session, expected).await,
        Answers::Message => single::receive(head, body, &expected).await,
        Answers::Opaque if !matches!(media(&head), Media::Events) => {
            let bytes = collect(body, expected.max, expected.service.timeout).await?;
            Ok(Accepted::Whole(head, bytes))
        }
        Answers::Opaque | Answers::Streamed => Ok(Accepted::Flow(head, body, expected)),
    }
}

/// Checks an answer of JSON-RPC messages.
async fn messages(
    mut head: Parts,
    body: UpstreamBody,
    session: Option<HeaderValue>,
    mut expected: Expected,
) -> Result<Accepted, Rejection> {
    readable(&head)?;
    expected.enter(&mut head, session)?;
    let form = expected.exchange.form;
    if form == Form::Ending || (form == Form::Feed && !head.status.is_success()) {
        // A status says it all.
        head.headers.remove(header::CONTENT_TYPE);
        return Ok(Accepted::Whole(head, Bytes::new()));
    }
    let over = head.status == StatusCode::NOT_FOUND && expected.session.is_some();
    let accepted = match media(&head) {
        Media::Events if head.status.is_success() && form != Form::Notification => {
            labelled(&mut head, "text/event-stream");
            return Ok(Accepted::Events(head, body, expected));
        }
        Media::Json => whole(head, body, &expected).await,
        // To start anew, clients need no more than the status.
        Media::Events | Media::Other if over => {
            head.headers.remove(header::CONTENT_TYPE);
            Ok(Accepted::Whole(head, Bytes::new()))
        }
        _ if form == Form::Notification => empty(head, body, &expected).await,
        _ => Err(refused("the service's answer is not JSON")),
    };
    if accepted.is_err() {
        expected.abandon();
    }
    accepted
}

/// Refuses an answer that nobody could read.
fn readable(head: &Parts) -> Result<(), Rejection> {
    if head.status.is_redirection() {
        return Err(refused("the service redirected the call"));
    }
    let mut codings = head.headers.get_all(header::CONTENT_ENCODING).iter();
    if codings.any(|coding| coding != "identity") {
        return Err(refused("the service encoded its answer"));
    }
    Ok(())
}

/// Names what was read by its bare type: a client that follows another `charset` would read other
/// messages than were inspected.
fn labelled(head: &mut Parts, media_type: &'static str) {
    let value = HeaderValue::from_static(media_type);
    head.headers.insert(header::CONTENT_TYPE, value);
}

async fn whole(
    mut head: Parts,
    body: UpstreamBody,
    expected: &Expected,
) -> Result<Accepted, Rejection> {
    labelled(&mut head, "application/json");
    let message = collect(body, expected.max, expected.service.timeout).await?;
    // Some servers call an empty body JSON.
    let over = head.status == StatusCode::NOT_FOUND && expected.session.is_some();
    if message.is_empty() && (over || expected.exchange.form == Form::Notification) {
        return Ok(Accepted::Whole(head, message));
    }
    let failed = head.status.is_client_error() || head.status.is_server_error();
    match inspect(expected, message.clone()).await? {
        Passed::Final(message) => Ok(Accepted::Whole(head, message)),
        Passed::Interim(_) | Passed::Dropped => {
            let protocol = &expected.service.protocol;
            let adopted = failed.then(|| protocol.adopt(&expected.exchange, &message));
            adopted
                .flatten()
                .map(|message| Accepted::Whole(head, message))
                .ok_or(refused("the service's answer is for another request"))
        }
    }
}

/// The answer to a notification: a status.
async fn empty(
    head: Parts,
    body: UpstreamBody,
    expected: &Expected,
) -> Result<Accepted, Rejection> {
    let rest = collect(body, expected.max, expected.service.timeout).await?;
    if rest.is_empty() {
        Ok(Accepted::Whole(head, rest))
    } else {
        Err(refused("the service answered a notification"))
    }
}

/// Inspects one message, off the event loop when that takes long.
async fn inspect(expected: &Expected, message: Bytes) -> Result<Passed, Rejection> {
    let lists = matches!(expected.exchange.form, Form::List(_) | Form::Feed);
    if !lists && message.len() <= LARGE {
        return expected.inspect(message);
    }
    let expected = expected.clone();
    let work = move || expected.inspect(message);
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(refused("the service's answer could not be read")))
}

/// Ties an accepted answer to its entry.
pub fn answer(accepted: Accepted, mut entry: Box<Entry>, streams: &Tasks) -> Response<Answer> {
    let id = entry.id();
    let (Accepted::Whole(head, _) | Accepted::Events(head, ..) | Accepted::Flow(head, ..)) =
        &accepted;
    entry.answered.status = head.status.as_u16();
    let response = match accepted {
        Accepted::Whole(head, bytes) => Response::from_parts(head, Answer::whole(bytes, entry)),
        Accepted::Events(head, body, expected) => {
            let (relay, events) = relay::Relay::new(body, expected, entry);
            streams.spawn(relay.run());
            Response::from_parts(head, Answer::events(events, None))
        }
        Accepted::Flow(head, body, expected) => {
            let length = body.size_hint().exact();
            let (flow, pieces) = flow::Flow::new(body, expected, entry);
            streams.spawn(flow.run());
            Response::from_parts(head, Answer::events(pieces, length))
        }
    };
    stamped(response, id)
}

/// The agreement of a service to open a WebSocket, as the agent is told.
pub fn switched(head: Response<()>, service: &Service, id: DecisionId) -> Response<Answer> {
    let (mut head, ()) = head.into_parts();
    headers::clean(&mut head.headers, &service.passthrough);
    websocket::ask(&mut head.headers);
    stamped(Response::from_parts(head, Answer::none()), id)
}

/// Says a refusal and ends the entry's call with it.
pub fn refuse(
    mut entry: Box<Entry>,
    said: Option<(&dyn Protocol, &Exchange)>,
    rejection: &Rejection,
) -> Response<Answer> {
    let id = entry.id();
    let refusal = said.and_then(|(protocol, exchange)| protocol.refuse(exchange, rejection, id));
    let mut response = match refusal {
        Some(refusal) => {
            let mut response = Response::new(Answer::bytes(refusal.body));
            *response.status_mut() = refusal.status;
            *response.headers_mut() = refusal.headers;
            response.headers_mut().insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static(refusal.media_type),
            );
            response
        }
        None => headers::problem(rejection, id),
    };
    headers::advise(&mut response, rejection);
    entry.answered.status = response.status().as_u16();
    entry.close(ended(rejection), rejection.code());
    stamped(response, id)
}

/// What is said when the work behind an answer was cut by our own end.
pub fn unanswered() -> Response<Answer> {
    let mut response = Response::new(Answer::bytes(Bytes::new()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

/// How a permitted call ended that ends with this refusal.
pub(crate) fn ended(rejection: &Rejection) -> Ended {
    match rejection {
        Rejection::TaskExpired
        | Rejection::TaskRevoked
        | Rejection::TaskSuspended
        | Rejection::AgentRevoked => Ended::Cut,
        // Its body broke off while it was sent on.
        Rejection::CallMalformed(_) => Ended::AgentGone,
        _ => Ended::UpstreamFailed,
    }
}

/// Every answer carries the decision's ID.
pub(crate) fn stamped(mut response: Response<Answer>, id: DecisionId) -> Response<Answer> {
    if let Ok(value) = HeaderValue::from_str(id.encode(&mut [0; 36])) {
        response.headers_mut().insert(DECISION_ID, value);
    }
    response
}

enum Media {
    Json,
    Events,
    Other,
}

fn media(head: &Parts) -> Media {
    let mut types = head.headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(one), None) = (types.next(), types.next()) else {
        return Media::Other;
    };
    let essence = one
        .as_bytes()
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    if essence.eq_ignore_ascii_case(b"application/json") {
        Media::Json
    } else if essence.eq_ignore_ascii_case(b"text/event-stream") {
        Media::Events
    } else {
        Media::Other
    }
}

impl From<Uncollected> for Rejection {
    fn from(uncollected: Uncollected) -> Self {
        match uncollected {
            Uncollected::TooLarge => refused("the service's answer is too large"),
            Uncollected::Timeout => Self::UpstreamTimeout,
            Uncollected::Broken => refused("the service's answer broke off"),
        }
    }
}

/// The refusal that follows from the end of a task.
pub(crate) fn over(why: Severed) -> Rejection {
    match why {
        Severed::Agent => Rejection::AgentRevoked,
        Severed::Task(State::Expired) => Rejection::TaskExpired,
        Severed::Task(State::Suspended) => Rejection::TaskSuspended,
        Severed::Task(State::Active | State::Closed | State::Revoked) => Rejection::TaskRevoked,
    }
}

fn refused(why: &'static str) -> Rejection {
    Rejection::ResponseRefused(why)
}
