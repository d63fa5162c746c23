//! An answer of one JSON-RPC message, or of none to a notification: never a stream.

use http::{StatusCode, response::Parts};

use super::{Accepted, Expected, Media, empty, media, readable, refused, whole};
use crate::{protocol::Form, rejection::Rejection, upstream::UpstreamBody};

/// Checks the answer whole.
pub(super) async fn receive(
    head: Parts,
    body: UpstreamBody,
    expected: &Expected,
) -> Result<Accepted, Rejection> {
    readable(&head)?;
    if expected.exchange.form == Form::Notification {
        return match head.status {
            StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT => {
                empty(head, body, expected).await
            }
            _ => Err(refused("the service did not take the notification")),
        };
    }
    match media(&head) {
        Media::Json => whole(head, body, expected).await,
        Media::Events | Media::Other => Err(refused("the service's answer is not JSON")),
    }
}
