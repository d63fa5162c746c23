//! HTTP without a published contract: a call is decided by its method, host and path alone.
//!
//! A tool of such a service is a method, `service/GET`, or `service/WEBSOCKET`; rules in Rego see the path. Nobody looks
//! into bodies or answers, which policy and record are told (`content.opaque`).

use std::sync::Arc;

use outrider_policy::Problem;

use super::{
    Answers, Asked, BodyManner, Manner, Message, Protocol, Published, Row, Spoken, Target,
    Unreadable, uncoded,
    unread::{self, Unread},
};
use crate::{listen::path::EncodedSlash, rejection::Rejection};

/// The protocol's line in the table.
pub const ROW: Row = Row {
    name: "http",
    keys: &["body", "encoded_slash", "websocket"],
    load,
};

/// The methods that are served (RFC 9110 §9.3, RFC 5789), and whether each is safe and idempotent
/// (RFC 9110 §9.2).
const METHODS: [Unread; 7] = [
    ("GET", true, true),
    ("HEAD", true, true),
    ("OPTIONS", true, true),
    ("POST", false, false),
    ("PUT", false, true),
    ("PATCH", false, false),
    ("DELETE", false, true),
];

/// What a WebSocket is called by, which is no method.
const WEBSOCKET: Unread = ("WEBSOCKET", false, false);

/// HTTP, unread.
#[derive(Debug)]
pub struct Http {
    encoded_slash: EncodedSlash,
    streamed: bool,
    websocket: bool,
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
            websocket: settings.websocket,
        }),
        contract: Arc::new(
            METHODS
                .iter()
                .chain(settings.websocket.then_some(&WEBSOCKET))
                .filter_map(unread::tool)
                .collect(),
        ),
        notes: Vec::new(),
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
            websocket: self.websocket,
        }
    }

    fn admit(&self, asked: &Asked<'_>) -> Result<(), Rejection> {
        uncoded(asked.head)
    }

    fn read(&self, asked: &Asked<'_>) -> Result<Message, Unreadable> {
        if asked.websocket {
            return Ok(unread::used(WEBSOCKET.0.into()));
        }
        unread::call(&asked.head.method, &METHODS)
    }
}
