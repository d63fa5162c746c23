//! A tunnel: bytes for a host that nobody looks into.
//!
//! Its one tool is `service/CONNECT`, decided by host and port; TLS inside names the same host.
//! Policy and record are told that the rest was not seen (`content.opaque`).

use std::{borrow::Cow, sync::Arc};

use http::Method;
use outrider_policy::{Problem, Value};
use outrider_schemas::{catalogue::Tool, json_schema::Schema};

use super::{
    Answers, Asked, BodyManner, Exchange, Kind, Manner, Message, Protocol, Published, Row, Spoken,
    Target, Unreadable,
};
use crate::{
    call::ToolCall,
    listen::path::EncodedSlash,
    rejection::{Rejection, Unknown},
};

/// The protocol's line in the table.
pub const ROW: Row = Row {
    name: "tunnel",
    keys: &["addresses"],
    load,
};

/// The only thing that can be asked of a tunnel.
const CONNECT: &str = "CONNECT";

/// Bytes, unread.
#[derive(Debug)]
struct Tunnel;

fn load(published: &mut Published<'_>) -> Result<Spoken, Vec<Problem>> {
    if let Some(document) = &published.document {
        return Err(vec![document.problem(
            "a service of `protocol: tunnel` has no `schemas`: leave the key out".into(),
        )]);
    }
    Ok(Spoken {
        protocol: Arc::new(Tunnel),
        contract: Arc::new(tool().into_iter().collect()),
        notes: Vec::new(),
    })
}

fn tool() -> Option<Tool> {
    Some(Tool {
        operation: CONNECT.into(),
        owner: "".into(),
        version: "".into(),
        digest: "".into(),
        classification: None,
        labels: Vec::new(),
        read_only: false,
        destructive: true,
        idempotent: false,
        open_world: true,
        // Never absent: any value satisfies `true`.
        input: Schema::compile(&serde_json::Value::Bool(true)).ok()?,
        output: None,
        headers: Vec::new(),
    })
}

impl Protocol for Tunnel {
    fn name(&self) -> &'static str {
        ROW.name
    }

    fn manner(&self) -> Manner {
        Manner {
            target: Target::Fixed,
            encoded_slash: EncodedSlash::Refused,
            body: BodyManner::Absent,
            answers: Answers::Streamed,
        }
    }

    fn admit(&self, asked: &Asked<'_>) -> Result<(), Rejection> {
        connect(&asked.head.method)
    }

    fn read(&self, asked: &Asked<'_>) -> Result<Message, Unreadable> {
        connect(&asked.head.method).map_err(|rejection| Unreadable {
            exchange: Exchange::opaque(),
            rejection,
        })?;
        Ok(Message {
            exchange: Exchange::opaque(),
            method: Cow::Borrowed(CONNECT),
            kind: Kind::Call(ToolCall {
                operation: CONNECT.into(),
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

/// Refuses every other method: a tunnel's service answers no requests.
fn connect(method: &Method) -> Result<(), Rejection> {
    if *method == Method::CONNECT {
        Ok(())
    } else {
        Err(Rejection::ToolUnknown(Unknown::Tool))
    }
}
