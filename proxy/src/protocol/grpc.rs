//! gRPC: a tool is a method, `service/package.Service/Method`; unary and streaming alike.
//!
//! What can be called stands in the descriptors that the API team publishes. Messages pass unread, as
//! they come, which policy and record are told (`content.opaque`). Refusals are gRPC statuses
//! (gRPC over HTTP/2; "Status codes and their use in gRPC").

use std::{borrow::Cow, fmt::Write as _, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header::CONTENT_TYPE,
    request::Parts,
};
use outrider_policy::Problem;
use outrider_schemas::{catalogue::Contract, grpc};

use super::{
    Answers, Asked, BodyManner, Exchange, Manner, Message, Protocol, Published, Refusal, Row,
    Spoken, Target, Unreadable, rpc::sentence, uncoded, unread,
};
use crate::{
    call::DecisionId,
    headers::{begins_loosely, no_twins},
    listen::path::EncodedSlash,
    rejection::{Malformed, Rejection, Unknown},
};

/// The protocol's line in the table.
pub const ROW: Row = Row {
    name: "grpc",
    keys: &[],
    load,
};

const MEDIA_TYPE: &str = "application/grpc";
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// gRPC.
#[derive(Debug)]
struct Grpc {
    contract: Arc<Contract>,
}

fn load(published: &mut Published<'_>) -> Result<Spoken, Vec<Problem>> {
    let document = published.document()?;
    let methods =
        grpc::methods(&document.bytes()?).map_err(|bad| vec![document.problem(bad.to_string())])?;
    let tools = methods
        .iter()
        .filter_map(|(path, method)| unread::published(path, method.read_only, method.idempotent));
    let contract = Arc::new(tools.collect::<Contract>());
    Ok(Spoken {
        protocol: Arc::new(Grpc {
            contract: Arc::clone(&contract),
        }),
        contract,
        notes: Vec::new(),
    })
}

impl Protocol for Grpc {
    fn name(&self) -> &'static str {
        ROW.name
    }

    fn manner(&self) -> Manner {
        Manner {
            target: Target::Appended,
            encoded_slash: EncodedSlash::Refused,
            body: BodyManner::Streamed,
            answers: Answers::Streamed,
            websocket: false,
        }
    }

    fn admit(&self, asked: &Asked<'_>) -> Result<(), Rejection> {
        let head = asked.head;
        if head.version != Version::HTTP_2 {
            return Err(Rejection::CallMalformed(Malformed::Request(
                "gRPC is spoken over HTTP/2",
            )));
        }
        if head.method != Method::POST {
            return Err(Rejection::CallMalformed(Malformed::Method));
        }
        no_twins(&head.headers, |name| {
            begins_loosely(name, "content-") || begins_loosely(name, "grpc-")
        })?;
        uncoded(head)?;
        if is_grpc(head) && asked.query.is_none() {
            Ok(())
        } else {
            Err(Rejection::MediaTypeRefused(
                "a call of gRPC is `application/grpc` and has no query",
            ))
        }
    }

    fn read(&self, asked: &Asked<'_>) -> Result<Message, Unreadable> {
        let path = asked.rest.strip_prefix('/').unwrap_or_default();
        let tool = self.contract.tool(path).ok_or_else(|| Unreadable {
            exchange: Exchange::opaque(),
            rejection: Rejection::ToolUnknown(Unknown::Tool),
        })?;
        Ok(unread::used(Cow::Owned(tool.operation.to_string())))
    }

    fn refuse(&self, _: &Exchange, rejection: &Rejection, id: DecisionId) -> Option<Refusal> {
        let mut headers = HeaderMap::new();
        headers.insert(STATUS, HeaderValue::from(status(rejection)));
        let message = HeaderValue::from_str(&encoded(&sentence(rejection, id)));
        if let Ok(message) = message {
            headers.insert(MESSAGE, message);
        }
        Some(Refusal {
            status: StatusCode::OK,
            media_type: MEDIA_TYPE,
            headers,
            body: Bytes::new(),
        })
    }
}

fn is_grpc(head: &Parts) -> bool {
    let mut lines = head.headers.get_all(CONTENT_TYPE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return false;
    };
    let rest = line.as_bytes().strip_prefix(MEDIA_TYPE.as_bytes());
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The status that says a refusal.
fn status(rejection: &Rejection) -> u16 {
    match rejection {
        Rejection::ToolUnknown(_) | Rejection::ServiceUnknown => 12, // UNIMPLEMENTED
        _ => match rejection.row().status {
            StatusCode::UNAUTHORIZED => 16, // UNAUTHENTICATED
            StatusCode::FORBIDDEN => 7,     // PERMISSION_DENIED
            StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE => 8, // RESOURCE_EXHAUSTED
            StatusCode::GATEWAY_TIMEOUT => 4,                                   // DEADLINE_EXCEEDED
            status if status.is_server_error() => 14,                           // UNAVAILABLE
            _ => 3,                                                             // INVALID_ARGUMENT
        },
    }
}

/// A message as a header has it: other bytes than printable ones, and `%`, percent-encoded.
fn encoded(message: &str) -> String {
    message.bytes().fold(String::new(), |mut text, byte| {
        if matches!(byte, 0x20..=0x7e) && byte != b'%' {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _infallible = write!(text, "%{byte:02X}");
        }
        text
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_by_its_media_type() {
        let is = |lines: &[&str]| {
            let mut request = http::Request::post("/a.S/M");
            for line in lines {
                request = request.header(CONTENT_TYPE, *line);
            }
            is_grpc(&request.body(()).unwrap().into_parts().0)
        };
        for good in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc;a=b",
        ] {
            assert!(is(&[good]), "{good}");
        }
        for bad in [
            "application/grpc-web",
            "application/grp",
            "application/json",
            "",
        ] {
            assert!(!is(&[bad]), "{bad}");
        }
        assert!(!is(&["application/grpc", "application/grpc"]) && !is(&[]));
    }

    #[test]
    fn refusals_are_statuses_that_clients_know() {
        for (rejection, expected) in [
            (Rejection::TaskMissing, 16),
            (Rejection::PolicyError, 14),
            (Rejection::ToolUnknown(Unknown::Tool), 12),
            (Rejection::BudgetExhausted, 8),
            (Rejection::UpstreamTimeout, 4),
            (Rejection::UpstreamUnreachable, 14),
            (Rejection::DestinationRefused("no"), 7),
            (Rejection::CallMalformed(Malformed::Method), 3),
        ] {
            assert_eq!(status(&rejection), expected, "{rejection:?}");
        }
        assert_eq!(encoded("50 % of\n\u{fc}"), "50 %25 of%0A%C3%BC");
    }
}
