//! HTTP without a published contract: a call is decided by its method, host and path alone.
//!
//! A tool of such a service is a method, `service/GET`; rules in Rego see the path. Nobody looks
//! into bodies or answers, which policy and record are told (`content.opaque`).

use std::{borrow::Cow, sync::Arc};

use http::Method;
use outrider_policy::{Problem, Value};
use outrider_schemas::{catalogue::Tool, json_schema::Schema};

use super::{
    Answers, Asked, BodyManner, Exchange, Kind, Manner, Message, Protocol, Published, Row, Spoken,
    Target, Unreadable, uncoded,
};
use crate::{
    call::ToolCall,
    listen::path::EncodedSlash,
    rejection::{Rejection, Unknown},
};

/// The protocol's line in the table.
pub const ROW: Row = Row {
    name: "http",
    keys: &["body", "encoded_slash"],
    load,
};

/// The methods that are served (RFC 9110 §9.3, RFC 5789), and whether each is safe and idempotent
/// (RFC 9110 §9.2).
const METHODS: [(&str, bool, bool); 7] = [
    ("GET", true, true),
    ("HEAD", true, true),
    ("OPTIONS", true, true),
    ("POST", false, false),
    ("PUT", false, true),
    ("PATCH", false, false),
    ("DELETE", false, true),
];

/// HTTP, unread.
#[derive(Debug)]
pub struct Http {
    encoded_slash: EncodedSlash,
    streamed: bool,
}

fn load(published: &mut Published<'_>) -> Result<Spoken, Vec<Problem>> {
    if let Some(document) = &published.document {
        return Err(vec![document.problem(
            "a service of `protocol: http` has no `schemas`: leave the key out, or say `openapi`"
                .into(),
        )]);
    }
    let settings = &published.settings;
    Ok(Spoken {
        protocol: Arc::new(Http {
            encoded_slash: settings.encoded_slash.unwrap_or(EncodedSlash::Refused),
            streamed: settings.streamed,
        }),
        contract: Arc::new(METHODS.iter().filter_map(tool).collect()),
        notes: Vec::new(),
    })
}

fn tool(&(method, safe, idempotent): &(&str, bool, bool)) -> Option<Tool> {
    Some(Tool {
        operation: method.into(),
        owner: "".into(),
        version: "".into(),
        digest: "".into(),
        classification: None,
        labels: Vec::new(),
        read_only: safe,
        destructive: !safe,
        idempotent,
        open_world: true,
        // Never absent: any value satisfies `true`.
        input: Schema::compile(&serde_json::Value::Bool(true)).ok()?,
        output: None,
        headers: Vec::new(),
    })
}

impl Protocol for Http {
    fn name(&self) -> &'static str {
        ROW.name
    }

    fn manner(&self) -> Manner {
        Manner {
            target: Target::Appended,
            encoded_slash: self.encoded_slash,
            body: if self.streamed {
                BodyManner::Streamed
            } else {
                BodyManner::Buffered
            },
            answers: if self.streamed {
                Answers::Streamed
            } else {
                Answers::Opaque
            },
        }
    }

    fn admit(&self, asked: &Asked<'_>) -> Result<(), Rejection> {
        uncoded(asked.head)
    }

    fn read(&self, asked: &Asked<'_>) -> Result<Message, Unreadable> {
        let method = served(&asked.head.method).ok_or_else(|| Unreadable {
            exchange: Exchange::opaque(),
            rejection: Rejection::ToolUnknown(Unknown::Tool),
        })?;
        Ok(Message {
            exchange: Exchange::opaque(),
            method: Cow::Borrowed(method),
            kind: Kind::Call(ToolCall {
                operation: method.into(),
                arguments: Value::new_object(),
                input_responses: Value::new_object(),
                opaque: true,
                unread: Vec::new(),
            }),
            trace: None,
            session: None,
        })
    }
}

/// The method's name, if it is one that is served.
fn served(method: &Method) -> Option<&'static str> {
    let (name, ..) = METHODS.iter().find(|(name, ..)| *name == method.as_str())?;
    Some(name)
}
