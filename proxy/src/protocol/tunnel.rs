//! A tunnel: bytes for a host that nobody looks into.
//!
//! Its one tool is `service/CONNECT`, decided by host and port; TLS inside names the same host.
//! Policy and record are told that the rest was not seen (`content.opaque`).

use std::sync::Arc;

use outrider_policy::Problem;

use super::{
    Answers, Asked, BodyManner, Manner, Message, Protocol, Published, Row, Spoken, Target,
    Unreadable,
    unread::{self, Unread},
};
use crate::{listen::path::EncodedSlash, rejection::Rejection};

/// The protocol's line in the table.
pub const ROW: Row = Row {
    name: "tunnel",
    keys: &["addresses"],
    load,
};

/// The only thing that can be asked of a tunnel.
const METHODS: [Unread; 1] = [("CONNECT", false, false)];

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
        contract: Arc::new(METHODS.iter().filter_map(unread::tool).collect()),
        notes: Vec::new(),
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
            websocket: false,
        }
    }

    fn admit(&self, _: &Asked<'_>) -> Result<(), Rejection> {
        Ok(())
    }

    fn read(&self, asked: &Asked<'_>) -> Result<Message, Unreadable> {
        unread::call(&asked.head.method, &METHODS)
    }
}
