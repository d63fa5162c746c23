//! What a call says. A [`Protocol`] reads a request into a [`Message`], says a refusal in the
//! words of its clients, and checks the answer on its way back.
//!
//! Another protocol is one more implementation and one more line in [`PROTOCOLS`].

pub mod grpc;
pub mod http;
pub mod jsonrpc;
mod kept;
pub mod mcp;
pub mod openapi;
mod rpc;
pub mod sse;
pub mod tunnel;
mod unread;

use std::{borrow::Cow, fmt, sync::Arc};

pub use self::kept::Kept;
use ::http::{HeaderMap, StatusCode, request::Parts};
use bytes::Bytes;
use outrider_policy::{Problem, Value};
use outrider_schemas::{
    catalogue::{Contract, Tool},
    openapi::Loaded,
};

use crate::{
    call::{DecisionId, ServiceName, ToolCall, Trace},
    listen::path::EncodedSlash,
    rejection::Rejection,
    session::{self, Changes},
};

/// Every protocol a service can speak.
pub static PROTOCOLS: &[Row] = &[
    mcp::ROW,
    openapi::ROW,
    jsonrpc::ROW,
    grpc::ROW,
    http::ROW,
    tunnel::ROW,
];

/// One line of the table.
#[derive(Debug)]
pub struct Row {
    /// The name in configuration, policy input and records.
    pub name: &'static str,
    /// The keys of a service's section that only some protocols know, and this one does.
    pub keys: &'static [&'static str],
    /// Makes it of what a service's API team published.
    pub load: Load,
}

/// Makes a protocol of one service's section and documents.
pub type Load = fn(&mut Published<'_>) -> Result<Spoken, Vec<Problem>>;

/// What a service's section and its documents say of what is spoken there.
pub struct Published<'a> {
    /// The service.
    pub service: &'a ServiceName,
    /// What its section says beside the document.
    pub settings: Settings,
    /// What its API team published, where the section names that.
    pub document: Option<&'a mut dyn Document>,
}

/// What an API team published, in a file that is read when a protocol asks for it.
pub trait Document {
    /// What the file says.
    ///
    /// # Errors
    /// It cannot be read.
    fn text(&mut self) -> Result<String, Vec<Problem>>;

    /// The file itself.
    ///
    /// # Errors
    /// It cannot be read, or is larger than any description is.
    fn bytes(&mut self) -> Result<Vec<u8>, Vec<Problem>>;

    /// The OpenAPI description in the file and those beside it.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    fn description(&mut self) -> Result<Loaded, Vec<Problem>>;

    /// A problem with what the file says.
    fn problem(&self, message: String) -> Problem;
}

/// Keys of a service's section that only some protocols know.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Bodies pass as they come.
    pub streamed: bool,
    /// Whether a path may hold an encoded slash.
    pub encoded_slash: Option<EncodedSlash>,
    /// Requests that the service may send to the agent.
    pub server_requests: Vec<String>,
    /// It is on somebody's standard input, where there are no headers.
    pub stdio: bool,
    /// A WebSocket may be opened.
    pub websocket: bool,
}

/// A protocol made ready for one service, and what can be called there.
#[derive(Debug, Clone)]
pub struct Spoken {
    /// The protocol.
    pub protocol: Arc<dyn Protocol>,
    /// What can be called.
    pub contract: Arc<Contract>,
    /// What was understood only in part.
    pub notes: Vec<String>,
}

/// One request as a protocol sees it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its head, without what the agent may not say.
    pub head: &'a Parts,
    /// The path behind the service's name, as sent: empty, or it starts with `/`.
    pub rest: &'a str,
    /// The query without its `?`.
    pub query: Option<&'a str>,
    /// The body; empty when it is streamed.
    pub body: &'a [u8],
    /// It asks for a WebSocket.
    pub websocket: bool,
}

/// One protocol between agent and service.
pub trait Protocol: fmt::Debug + Send + Sync {
    /// The name in configuration, policy input and records.
    fn name(&self) -> &'static str;

    /// How paths, bodies and answers of this service are dealt with.
    fn manner(&self) -> Manner;

    /// Refuses by the head alone, before a body is read.
    ///
    /// # Errors
    /// A method, path, media type or encoding which the protocol does not take.
    fn admit(&self, asked: &Asked<'_>) -> Result<(), Rejection>;

    /// Reads one message; well-formed, nothing proved.
    ///
    /// # Errors
    /// The refusal, with as much of the exchange as was readable.
    fn read(&self, asked: &Asked<'_>) -> Result<Message, Unreadable>;

    /// Checks what can only be checked once the tool is known.
    ///
    /// # Errors
    /// A mirrored header that differs from the arguments.
    fn agree(&self, head: &Parts, call: &ToolCall, tool: &Tool) -> Result<(), Rejection> {
        let _ = (head, call, tool);
        Ok(())
    }

    /// Says a refusal in the form which this protocol's clients understand; `None` where that is
    /// problem details.
    fn refuse(
        &self,
        exchange: &Exchange,
        rejection: &Rejection,
        id: DecisionId,
    ) -> Option<Refusal> {
        let _ = (exchange, rejection, id);
        None
    }

    /// Checks one whole message of the answer and gives what may pass on. Not asked where answers
    /// are opaque.
    ///
    /// # Errors
    /// Why the message may not reach the agent.
    fn inspect(
        &self,
        exchange: &Exchange,
        message: Bytes,
        held: &Held<'_>,
    ) -> Result<Passed, Rejection> {
        let _ = (exchange, message, held);
        Err(Rejection::ResponseRefused("nobody can read the answer"))
    }

    /// The names of work that this call is about, which calls before it left going on.
    ///
    /// # Errors
    /// They cannot be read.
    fn works<'a>(&self, call: &'a ToolCall) -> Result<Vec<&'a str>, Rejection> {
        let _ = call;
        Ok(Vec::new())
    }

    /// An error that the service could not tie to the request, tied to it.
    fn adopt(&self, exchange: &Exchange, message: &Bytes) -> Option<Bytes> {
        let _ = (exchange, message);
        None
    }

    /// What the agent is told on this stream when what it may use has changed.
    fn changed(&self, exchange: &Exchange, session: Option<&Session>) -> Vec<Bytes> {
        let _ = (exchange, session);
        Vec::new()
    }
}

/// How paths, bodies and answers of a service are dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// Where a request goes.
    pub target: Target,
    /// Whether a path may hold an encoded slash.
    pub encoded_slash: EncodedSlash,
    /// How a request's body passes.
    pub body: BodyManner,
    /// How an answer passes.
    pub answers: Answers,
    /// Whether it may be asked for a WebSocket.
    pub websocket: bool,
}

/// Where at its upstream a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// To the upstream as it is written; the agent's path is the service's name alone.
    Fixed,
    /// What follows the service's name is appended.
    Appended,
}

/// How a request's body passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyManner {
    /// It is read whole before the call is judged.
    Buffered,
    /// It passes as it comes, unread.
    Streamed,
    /// There is none: what follows the head is no body.
    Absent,
}

/// How an answer passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// JSON-RPC messages, one whole or several as events; each is inspected.
    Messages,
    /// One JSON-RPC message, whole, or none; it is inspected.
    Message,
    /// Of any type, unread: whole within its bound, or as it comes when it is a stream of events.
    Opaque,
    /// Of any type, unread, as it comes.
    Streamed,
}

impl Answers {
    /// Whether they are read, and so must come without content coding.
    pub fn inspected(self) -> bool {
        matches!(self, Self::Messages | Self::Message)
    }
}

/// What an answer is held against.
#[derive(Clone, Copy)]
pub struct Held<'a> {
    /// The operation that was called, if one was.
    pub operation: Option<&'a str>,
    /// Whether a tool, by its operation's name, may be shown to this task.
    pub shown: &'a dyn Fn(&str) -> bool,
    /// The session in which it came.
    pub session: Option<&'a Session>,
    /// Takes the name of work that goes on after the answer to that call.
    pub goes_on: &'a dyn Fn(&str, Option<&Called>),
    /// The call that is answered, if it is one.
    pub call: Option<&'a Called>,
}

/// A call, as work that goes on after it inherits it.
#[derive(Debug, Clone)]
pub struct Called {
    /// The operation.
    pub operation: Arc<str>,
    /// Its arguments.
    pub arguments: Kept,
    /// Bytes of the message that brought them.
    pub bytes: usize,
}

/// A request that is not answered yet.
#[derive(Debug, Clone)]
pub struct Pending {
    /// The form of its answer.
    pub form: Form,
    /// The call it is, if it is one.
    pub call: Option<Called>,
}

/// A session, which knows each request that is outstanding.
pub type Session = session::Session<Pending>;

/// The sessions of all services.
pub type Sessions = session::Sessions<Pending>;

/// What a message is and how it wants to be answered.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The request's ID as JSON text; absent for a notification and where it could not be read.
    pub id: Option<Arc<str>>,
    /// How an answer is said.
    pub form: Form,
    /// What becomes of it when the agent goes away.
    pub hangup: Hangup,
}

impl Exchange {
    /// Of a request that is no message.
    pub fn opaque() -> Self {
        Self {
            id: None,
            form: Form::Opaque,
            hangup: Hangup::Cancels,
        }
    }
}

/// What becomes of a call whose agent goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hangup {
    /// It is cancelled.
    Cancels,
    /// It goes on: its answer is read to its bound, recorded and discarded.
    Outlived,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A tool's result: refusals are results which the model reads.
    ToolResult,
    /// A list: what is hidden is taken out.
    List(Listed),
    /// Any other request.
    Request,
    /// What opens a session.
    Opening,
    /// A stream that stays open and tells what changes.
    Listening(Changes),
    /// The stream of a session on which its service speaks first.
    Feed,
    /// The end of a session.
    Ending,
    /// Nothing but a status.
    Notification,
    /// Whatever HTTP carries; refusals are problem details.
    Opaque,
}

/// What a list lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// Tools.
    Tools,
    /// Resources.
    Resources,
    /// Templates of resources.
    Templates,
    /// Prompts.
    Prompts,
}

impl Form {
    /// Whether silence on its stream is no fault.
    pub fn may_be_silent(self) -> bool {
        matches!(self, Self::Listening(_) | Self::Feed)
    }
}

/// One message as the agent sent it.
#[derive(Debug)]
pub struct Message {
    /// How to answer it.
    pub exchange: Exchange,
    /// The method, which is one of those the protocol serves.
    pub method: Cow<'static, str>,
    /// What it asks for.
    pub kind: Kind,
    /// The trace it continues, when it says so itself.
    pub trace: Option<Trace>,
    /// The session it names, and what it says there.
    pub session: Option<InSession>,
}

/// What a message says of its session.
#[derive(Debug, Clone)]
pub struct InSession {
    /// The session's name.
    pub id: Arc<str>,
    /// The question of the service that it answers.
    pub answers: Option<Arc<str>>,
}

/// What a message asks for.
#[derive(Debug)]
pub enum Kind {
    /// The use of a tool: the whole pipeline.
    Call(ToolCall),
    /// The use of a tool again: what is said of work that a call left going on.
    Again {
        /// The name of that work.
        id: Arc<str>,
        /// MCP `inputResponses`, else an empty object.
        input_responses: Value,
    },
    /// What could be used, or what belongs to a session: needs a task, and no policy.
    Own,
    /// Housekeeping of the protocol: needs an agent only.
    Plain,
    /// What opens a session for the task that is presented, if one is.
    Opening,
}

/// A message that could not be read.
#[derive(Debug)]
pub struct Unreadable {
    /// As much as was readable.
    pub exchange: Exchange,
    /// Why.
    pub rejection: Rejection,
}

/// A refusal in the words of a protocol.
#[derive(Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// The media type of the body.
    pub media_type: &'static str,
    /// Other headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// A message of an answer after inspection.
#[derive(Debug)]
pub enum Passed {
    /// It goes to the agent and others may follow.
    Interim(Bytes),
    /// It goes to the agent and ends the exchange.
    Final(Bytes),
    /// It is not for the agent and is left out.
    Dropped,
}

impl fmt::Debug for Held<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Published<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

impl Published<'_> {
    /// The document of a protocol that cannot do without one.
    ///
    /// # Errors
    /// There is none.
    pub fn document(&mut self) -> Result<&mut dyn Document, Vec<Problem>> {
        match &mut self.document {
            Some(document) => Ok(&mut **document),
            None => Err(vec![Problem {
                file: String::new(),
                line: 0,
                column: 0,
                message: format!("service `{}`: `schemas` is missing", self.service),
            }]),
        }
    }
}

/// The line of that name.
pub fn row(name: &str) -> Option<&'static Row> {
    PROTOCOLS.iter().find(|row| row.name == name)
}

/// Header and trailing checks that every protocol shares: a coded body is never judged.
///
/// # Errors
/// A `Content-Encoding` other than identity.
pub(crate) fn uncoded(head: &Parts) -> Result<(), Rejection> {
    let mut codings = head
        .headers
        .get_all(::http::header::CONTENT_ENCODING)
        .iter();
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Rejection::MediaTypeRefused(
            "send the body without content encoding",
        ));
    }
    Ok(())
}
