//! One request of an agent → one [`Message`] (MCP streamable HTTP of all served revisions).

use std::{borrow::Cow, sync::Arc};

use http::{Method as Verb, request::Parts};
use outrider_policy::Value;
use outrider_schemas::{json, lock::Section};

use super::{
    Mcp,
    envelope::{self, Envelope, object, params},
    headers,
    methods::{Asks, Method},
    revision::{self, Era},
};
use crate::{
    call::{ToolCall, Trace},
    protocol::{
        Asked, Exchange, Form, Hangup, InSession, Kind, Message, Unreadable,
        rpc::{invalid, member, text},
    },
    rejection::{Malformed, Rejection, Unknown},
    session::Changes,
};

/// The method whose stream tells of changes.
const LISTEN: &str = "subscriptions/listen";

impl Mcp {
    /// Reads one message.
    ///
    /// # Errors
    /// Anything but one request, notification or answer of a served revision whose mirrored headers
    /// equal its body; the stream or the end of a session that is named.
    pub(super) fn message(&self, asked: &Asked<'_>) -> Result<Message, Unreadable> {
        let mut message = Message {
            exchange: Exchange {
                id: None,
                form: Form::Request,
                hangup: Hangup::Cancels,
            },
            method: Cow::Borrowed(""),
            kind: Kind::Plain,
            trace: None,
            session: None,
        };
        let read = match asked.head.method {
            Verb::GET => of_session(asked, &mut message, Form::Feed),
            Verb::DELETE => of_session(asked, &mut message, Form::Ending),
            _ => self.posted(asked, &mut message),
        };
        match read {
            Ok(()) => Ok(message),
            Err(rejection) => Err(Unreadable {
                exchange: message.exchange,
                rejection,
            }),
        }
    }

    fn posted(&self, asked: &Asked<'_>, message: &mut Message) -> Result<(), Rejection> {
        let tree = json::parse(asked.body)
            .map_err(|malformed| Rejection::CallMalformed(Malformed::Json(malformed)))?;
        let headers = &asked.head.headers;
        headers::no_twins(headers)?;
        match Envelope::open(&tree)? {
            Envelope::Asks(asks) => self.asks(asked.head, &asks, message),
            Envelope::Answers(id) => {
                message.exchange.form = Form::Notification;
                message.exchange.hangup = Hangup::Outlived;
                headers::no_method(headers)?;
                message.session = session(asked.head, Some(id))?;
                message.kind = Kind::Own;
                if message.session.is_none() {
                    return Err(invalid("an answer belongs to a session, and names none"));
                }
                Ok(())
            }
        }
    }

    fn asks(
        &self,
        head: &Parts,
        asks: &envelope::Asks<'_>,
        message: &mut Message,
    ) -> Result<(), Rejection> {
        message.exchange.id.clone_from(&asks.id);
        message.exchange.form = form(asks);
        let era = revision::era(&head.headers, asks)?;
        let mirrored = self.mirrored(era);
        headers::method_agrees(&head.headers, asks.method, mirrored, message.exchange.form)?;
        let method = Method::served(asks.method, era, asks.id.is_some())?;
        headers::name_agrees(&head.headers, mirrored, name(method, asks)?)?;
        message.method = Cow::Borrowed(method.name);
        message.kind = self.kind(method, asks, &mut message.exchange)?;
        message.trace = asks
            .meta()
            .and_then(|meta| text(meta, "traceparent"))
            .and_then(Trace::parse);
        if era == Era::Legacy {
            message.exchange.hangup = Hangup::Outlived;
            if method.asks != Asks::Opening {
                message.session = session(head, None)?;
            }
        }
        Ok(())
    }

    /// What a request asks for, and with it the form of its answer.
    fn kind(
        &self,
        method: &'static Method,
        asks: &envelope::Asks<'_>,
        exchange: &mut Exchange,
    ) -> Result<Kind, Rejection> {
        let call = |operation: Arc<str>, arguments: Value| {
            Ok(Kind::Call(ToolCall {
                operation,
                arguments,
                input_responses: asks.params.map_or_else(
                    || Ok(Value::new_object()),
                    |params| object(params, "inputResponses"),
                )?,
                opaque: false,
                unread: Vec::new(),
            }))
        };
        match method.asks {
            Asks::Housekeeping | Asks::Notes => Ok(Kind::Plain),
            Asks::Opening => Ok(Kind::Opening),
            Asks::List(_) => Ok(Kind::Own),
            Asks::Tool => {
                let name = needed(asks, "name")?;
                // What is locked as something else is not to be had as a tool of its name.
                Section::Tools
                    .admit(name)
                    .map_err(|_| Rejection::ToolUnknown(Unknown::Tool))?;
                call(name.into(), arguments(asks)?)
            }
            Asks::Prompt => {
                let name = needed(asks, "name")?;
                call(format!("prompt:{name}").into(), arguments(asks)?)
            }
            Asks::Resource => {
                let uri = needed(asks, "uri")?;
                let operation = self
                    .resource(uri)
                    .ok_or(Rejection::ToolUnknown(Unknown::Tool))?;
                call(operation, uri_alone(uri))
            }
            Asks::Itself => call(method.name.into(), without_meta(asks.params)),
            Asks::Listening => {
                let wanted = asks.params.map_or_else(
                    || Ok(Value::new_object()),
                    |params| object(params, "notifications"),
                )?;
                exchange.form = Form::Listening(changes(&wanted));
                call(method.name.into(), wanted)
            }
            Asks::Again => Ok(Kind::Again {
                id: needed(asks, "taskId")?.into(),
                input_responses: asks.params.map_or_else(
                    || Ok(Value::new_object()),
                    |params| object(params, "inputResponses"),
                )?,
            }),
        }
    }
}

/// The form of the answer as far as the method's name alone tells it.
fn form(asks: &envelope::Asks<'_>) -> Form {
    if asks.id.is_none() {
        return Form::Notification;
    }
    let known = |era| Method::served(asks.method, era, true).ok();
    match known(Era::Legacy)
        .or_else(|| known(Era::Modern))
        .map(|method| method.asks)
    {
        Some(Asks::Tool) => Form::ToolResult,
        Some(Asks::List(listed)) => Form::List(listed),
        Some(Asks::Opening) => Form::Opening,
        _ => Form::Request,
    }
}

/// The stream or the end of a session: a request without a body.
fn of_session(asked: &Asked<'_>, message: &mut Message, form: Form) -> Result<(), Rejection> {
    let head = asked.head;
    message.exchange.form = form;
    message.method = Cow::Borrowed(if form == Form::Feed { "GET" } else { "DELETE" });
    message.kind = Kind::Own;
    headers::no_twins(&head.headers)?;
    if headers::once(&head.headers, headers::VERSION)? == Some(revision::MODERN) {
        return Err(Rejection::CallMalformed(Malformed::Method));
    }
    // Nobody reads it here; what nobody reads is not sent.
    if !asked.body.is_empty() {
        return Err(invalid("this method has no body"));
    }
    message.session = session(head, None)?;
    match message.session {
        Some(_) => Ok(()),
        None => Err(Rejection::CallMalformed(Malformed::Method)),
    }
}

fn session(head: &Parts, answers: Option<Arc<str>>) -> Result<Option<InSession>, Rejection> {
    revision::legacy(headers::once(&head.headers, headers::VERSION)?)?;
    let id = headers::once(&head.headers, headers::SESSION)?;
    Ok(id.map(|id| InSession {
        id: id.into(),
        answers,
    }))
}

/// What `Mcp-Name` mirrors, where the method has that.
fn name<'a>(method: &Method, asks: &envelope::Asks<'a>) -> Result<Option<&'a str>, Rejection> {
    method.named.map(|member| needed(asks, member)).transpose()
}

fn needed<'a>(asks: &envelope::Asks<'a>, name: &'static str) -> Result<&'a str, Rejection> {
    let given = asks.params.ok_or(params("`params` is missing"))?;
    text(given, name).ok_or(params(match name {
        "uri" => "`params.uri` is missing",
        "taskId" => "`params.taskId` is missing",
        _ => "`params.name` is missing",
    }))
}

fn arguments(asks: &envelope::Asks<'_>) -> Result<Value, Rejection> {
    asks.params.map_or_else(
        || Ok(Value::new_object()),
        |params| object(params, "arguments"),
    )
}

fn uri_alone(uri: &str) -> Value {
    let member = (Value::from("uri"), Value::from(uri));
    Value::from(std::collections::BTreeMap::from([member]))
}

/// What a method is asked with, beside what belongs to the protocol.
fn without_meta(params: Option<&Value>) -> Value {
    match params {
        Some(Value::Object(members)) => {
            let plain = |name: &Value| !matches!(name, Value::String(name) if matches!(&**name, "_meta" | "inputResponses" | "requestState"));
            let kept = members.iter().filter(|(name, _)| plain(name));
            let kept: std::collections::BTreeMap<Value, Value> = kept
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            Value::from(kept)
        }
        _ => Value::new_object(),
    }
}

/// The MCP tasks that a stream of changes is to tell of; to hear of one is to have its result.
pub(super) fn works<'a>(call: &'a ToolCall) -> Result<Vec<&'a str>, Rejection> {
    if &*call.operation != LISTEN {
        return Ok(Vec::new());
    }
    let Some(ids) = member(&call.arguments, "taskIds") else {
        return Ok(Vec::new());
    };
    let Value::Array(ids) = ids else {
        return Err(params("`taskIds` is a list of texts"));
    };
    let text = |id: &'a Value| match id {
        Value::String(id) => Ok(&**id),
        _ => Err(params("`taskIds` is a list of texts")),
    };
    ids.iter().map(text).collect()
}

/// Which lists a stream of changes is to tell of.
fn changes(wanted: &Value) -> Changes {
    let wants = |name| matches!(member(wanted, name), Some(Value::Bool(true)));
    Changes {
        tools: wants("toolsListChanged"),
        prompts: wants("promptsListChanged"),
        resources: wants("resourcesListChanged"),
    }
}
