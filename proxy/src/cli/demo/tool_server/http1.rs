//! The wire of the tool server: HTTP/1.1 in, JSON or an event stream out.

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::TcpListener,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::oneshot,
    task::JoinSet,
    time::{Interval, interval},
};

use super::{Answer, Mirrored, Server};

/// Bytes of a request.
const MOST_BYTES: usize = 1 << 20;

/// Work between two steps of a call that reports progress.
const STEP: Duration = Duration::from_millis(20);

/// Serves connections until `stopped` ends.
pub(super) async fn serve(
    listener: TcpListener,
    server: Arc<Server>,
    mut stopped: oneshot::Receiver<()>,
) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, Arc::clone(&server)))),
                // Out of descriptors: a connection that ends gives one back.
                Err(_) => tokio::time::sleep(STEP).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, server: Arc<Server>) {
    // Without it, small events wait for one another.
    stream.set_nodelay(true).ok();
    let service = service_fn(|request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(respond(&server, request).await) }
    });
    // A client that goes away is no failure of the server.
    drop(
        http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await,
    );
}

async fn respond(server: &Server, request: Request<Incoming>) -> Response<Sent> {
    let (head, body) = request.into_parts();
    // A page in a browser has no business here (DNS rebinding).
    if head.headers.contains_key(header::ORIGIN) {
        return bare(StatusCode::FORBIDDEN);
    }
    if let Some(id) = head.uri.path().strip_prefix("/crm/customers/") {
        return match head.method {
            Method::GET => json_body(StatusCode::OK, &server.customer(id)),
            _ => bare(StatusCode::METHOD_NOT_ALLOWED),
        };
    }
    if head.uri.path() != "/mcp" {
        return bare(StatusCode::NOT_FOUND);
    }
    if head.method != Method::POST {
        let mut refused = bare(StatusCode::METHOD_NOT_ALLOWED);
        refused
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static("POST"));
        return refused;
    }
    let Ok(body) = Limited::new(body, MOST_BYTES).collect().await else {
        return bare(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let message: Value = match serde_json::from_slice(&body.to_bytes()) {
        Ok(message) => message,
        Err(_) => {
            return error(
                StatusCode::BAD_REQUEST,
                &Value::Null,
                -32700,
                "not JSON",
                &Value::Null,
            );
        }
    };
    say(server.answer(mirrored(&head.headers), &message), &message)
}

fn mirrored(headers: &HeaderMap) -> Mirrored<'_> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    Mirrored {
        revision: text("mcp-protocol-version"),
        method: text("mcp-method"),
        name: text("mcp-name"),
    }
}

fn say(answer: Answer, message: &Value) -> Response<Sent> {
    let id = message.get("id").cloned().unwrap_or_default();
    let whole = |result: Value| json!({"jsonrpc": "2.0", "id": id, "result": result});
    match answer {
        Answer::Accepted => bare(StatusCode::ACCEPTED),
        Answer::Result(result) => json_body(StatusCode::OK, &whole(result)),
        Answer::Session(result) => {
            let mut response = json_body(StatusCode::OK, &whole(result));
            let id = uuid::Uuid::new_v4().simple().to_string();
            if let Ok(id) = HeaderValue::try_from(id) {
                response.headers_mut().insert("mcp-session-id", id);
            }
            response
        }
        Answer::Stream(progress, result) => stream(progress.into_iter().chain([whole(result)])),
        Answer::Error(status, code, message, data) => error(
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            &id,
            code,
            message,
            &data,
        ),
    }
}

fn error(status: StatusCode, id: &Value, code: i64, message: &str, data: &Value) -> Response<Sent> {
    let error = json!({"code": code, "message": message, "data": data});
    json_body(status, &json!({"jsonrpc": "2.0", "id": id, "error": error}))
}

fn bare(status: StatusCode) -> Response<Sent> {
    let mut response = Response::new(Sent::Whole(None));
    *response.status_mut() = status;
    response
}

fn json_body(status: StatusCode, value: &Value) -> Response<Sent> {
    let mut response = Response::new(Sent::Whole(Some(value.to_string().into())));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

fn stream(messages: impl Iterator<Item = Value>) -> Response<Sent> {
    let events = messages
        .map(|message| Bytes::from(format!("event: message\ndata: {message}\n\n")))
        .collect();
    let mut response = Response::new(Sent::Events(events, interval(STEP)));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    response
        .headers_mut()
        .insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// The body of an answer.
#[derive(Debug)]
enum Sent {
    /// At once.
    Whole(Option<Bytes>),
    /// One event at a time, with work in between.
    Events(VecDeque<Bytes>, Interval),
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match &mut *self {
            Self::Whole(bytes) => bytes.take(),
            Self::Events(events, work) => {
                ready!(work.poll_tick(cx));
                events.pop_front()
            }
        };
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Events(events, _) => events.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Events(..) => SizeHint::default(),
        }
    }
}
