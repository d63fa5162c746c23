//! Tokens that transmitters deliver (RFC 8935): one request each, acknowledged with 202 when what it
//! says is done and kept.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use secrecy::{ExposeSecret as _, SecretSlice};
use tokio::time::timeout;

use super::{
    intake::{Intake, NotTaken, Refused, Transmitter},
    set::{self, BadSet},
};
use crate::server::{Answer, empty, text};

/// How long a request's body may take.
const BODY: Duration = Duration::from_secs(10);

/// How long a token may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A transmitter that delivers, and what it proves itself by.
#[derive(Debug)]
pub struct Sender {
    /// The transmitter.
    pub transmitter: Arc<Transmitter>,
    /// The bearer token of its requests.
    pub bearer: SecretSlice<u8>,
}

/// Takes deliveries.
#[derive(Debug)]
pub(super) struct Push {
    pub(super) path: String,
    pub(super) senders: Vec<Sender>,
    pub(super) intake: Arc<Intake>,
}

impl Push {
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Answer {
        if request.uri().path() != self.path {
            return empty(StatusCode::NOT_FOUND);
        }
        if *request.method() != Method::POST {
            let mut answer = empty(StatusCode::METHOD_NOT_ALLOWED);
            let post = HeaderValue::from_static("POST");
            answer.headers_mut().insert(header::ALLOW, post);
            return answer;
        }
        let Some(sender) = self.sender(request.headers().get(header::AUTHORIZATION)) else {
            let why = "the bearer token is missing or wrong";
            let mut answer = failed(StatusCode::UNAUTHORIZED, "authentication_failed", why);
            let bearer = HeaderValue::from_static("Bearer");
            answer
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, bearer);
            return answer;
        };
        if !is_set(request.headers().get(header::CONTENT_TYPE)) {
            let why = "expected `Content-Type: application/secevent+jwt`";
            return failed(StatusCode::BAD_REQUEST, "invalid_request", why);
        }
        let body = Limited::new(request.into_body(), set::LONGEST).collect();
        let token = match timeout(BODY, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let why = "a security event token has at most 64 KiB";
                return failed(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request", why);
            }
            Ok(Err(_)) => return empty(StatusCode::BAD_REQUEST),
            Err(_) => return empty(StatusCode::REQUEST_TIMEOUT),
        };
        match timeout(PATIENCE, self.take(sender, token)).await {
            Ok(Ok(())) => empty(StatusCode::ACCEPTED),
            Ok(Err(NotTaken::Refused(refused))) => {
                let why = refused.to_string();
                failed(StatusCode::BAD_REQUEST, refused.code(), &why)
            }
            Ok(Err(NotTaken::Later)) | Err(_) => {
                let mut answer = empty(StatusCode::SERVICE_UNAVAILABLE);
                let soon = HeaderValue::from_static("1");
                answer.headers_mut().insert(header::RETRY_AFTER, soon);
                answer
            }
        }
    }

    async fn take(&self, sender: &Sender, token: Bytes) -> Result<(), NotTaken> {
        let from = &sender.transmitter;
        let token = token.trim_ascii();
        let issuer = set::unverified_issuer(token).map_err(|bad| Refused::Set(BadSet::Token(bad)));
        if issuer.is_ok_and(|issuer| *issuer != *from.issuer) {
            return Err(self.intake.stray(from));
        }
        self.intake.take(from, token).await
    }

    /// Whose bearer token it is. Every one is looked at, so that time tells nothing.
    fn sender(&self, given: Option<&HeaderValue>) -> Option<&Sender> {
        let given = given?.as_bytes();
        let (scheme, token) = given.split_at_checked(7)?;
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return None;
        }
        let mut found = None;
        for sender in &self.senders {
            if verify_slices_are_equal(sender.bearer.expose_secret(), token).is_ok() {
                found = Some(sender);
            }
        }
        found
    }
}

/// Whether a body is a security event token by its type; parameters say nothing more.
fn is_set(given: Option<&HeaderValue>) -> bool {
    let essence = given
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(str::trim);
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/secevent+jwt"))
}

fn failed(status: StatusCode, err: &str, description: &str) -> Answer {
    let body = serde_json::json!({ "err": err, "description": description });
    text(status, "application/json", body.to_string())
}
