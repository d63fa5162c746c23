//! Just enough gRPC to ask something: one request message, then the messages of the answer.
//!
//! A connection comes in, messages go out, each bounded. The
//! connection ends when its [`Channel`] is dropped.

use std::{collections::VecDeque, fmt};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::workers::Beside;

/// Bytes of one message: many SVIDs and bundles fit.
const LARGEST: usize = 4 << 20;

/// Why there is no (further) message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// The endpoint answered with a status (gRPC status codes).
    #[error("status {0}: {1}")]
    Status(u32, String),
    /// The endpoint is not there, or broke off.
    #[error("it cannot be reached")]
    Away,
    /// What came is no gRPC, or too large.
    #[error("its answer is not understood")]
    Garbled,
}

/// The status codes that mean something to us.
pub(crate) const INVALID_ARGUMENT: u32 = 3;
pub(crate) const PERMISSION_DENIED: u32 = 7;
const OK: u32 = 0;
const UNKNOWN: u32 = 2;

/// A connection to the endpoint.
pub(crate) struct Channel {
    sender: SendRequest<Full<Bytes>>,
    _beside: Beside,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}

impl Channel {
    /// Speaks HTTP/2 over `io`; runs on a [`tokio::task::LocalSet`].
    pub(crate) async fn over<IO>(io: IO) -> Result<Self, Failed>
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let beside = Beside::default();
        let shake = http2::Builder::new(beside.starts()).handshake(TokioIo::new(io));
        let (sender, connection) = shake.await.map_err(|_| Failed::Away)?;
        beside.spawn(async move {
            // Whoever waits for a message is told how the connection ended.
            connection.await.ok();
        });
        Ok(Self {
            sender,
            _beside: beside,
        })
    }

    /// Asks the method at `target`, with further headers; the messages of the answer come one by one.
    pub(crate) async fn call(
        &mut self,
        target: Uri,
        headers: &HeaderMap,
        message: &Bytes,
    ) -> Result<Messages, Failed> {
        let mut request = request(target, message)?;
        request.headers_mut().extend(headers.clone());
        let answer = self.sender.send_request(request).await;
        let answer: Response<Incoming> = answer.map_err(|_| Failed::Away)?;
        let (head, body) = answer.into_parts();
        if head.status != http::StatusCode::OK {
            return Err(Failed::Garbled);
        }
        // An answer that is a status alone has it in its head.
        if let Some(failed) = status(&head.headers) {
            return Err(failed.err().unwrap_or(Failed::Away));
        }
        Ok(Messages {
            body,
            buffer: BytesMut::new(),
            ready: VecDeque::new(),
        })
    }
}

fn request(target: Uri, message: &Bytes) -> Result<Request<Full<Bytes>>, Failed> {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.extend_from_slice(&[0]);
    let length = u32::try_from(message.len()).map_err(|_| Failed::Garbled)?;
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    Request::builder()
        .method(Method::POST)
        .uri(target)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(Full::new(framed.freeze()))
        .map_err(|_| Failed::Garbled)
}

/// The status in a head or trailer, if there is one.
fn status(headers: &HeaderMap) -> Option<Result<(), Failed>> {
    let code = headers.get("grpc-status")?;
    let code = code.to_str().ok().and_then(|code| code.parse().ok());
    Some(match code.unwrap_or(UNKNOWN) {
        OK => Ok(()),
        code => Err(Failed::Status(code, said(headers))),
    })
}

/// What the endpoint says of a failure: for the log, so short and printable.
fn said(headers: &HeaderMap) -> String {
    let said = headers.get("grpc-message").map(HeaderValue::as_bytes);
    let said = String::from_utf8_lossy(said.unwrap_or_default());
    let plain = said.chars().filter(|c| !c.is_control());
    plain.take(200).collect()
}

/// The messages of an answer.
pub(crate) struct Messages {
    body: Incoming,
    buffer: BytesMut,
    ready: VecDeque<Bytes>,
}

impl Messages {
    /// The next message; none when the answer has ended well. May be dropped at any time.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failed> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(Some(message));
            }
            let Some(frame) = self.body.frame().await else {
                return Err(Failed::Away);
            };
            let frame = frame.map_err(|_| Failed::Away)?;
            match frame.into_data() {
                Ok(data) => self.add(&data)?,
                Err(frame) => {
                    let trailers = frame.into_trailers().map_err(|_| Failed::Garbled)?;
                    return match status(&trailers) {
                        Some(Ok(())) => Ok(None),
                        Some(Err(failed)) => Err(failed),
                        None => Err(Failed::Garbled),
                    };
                }
            }
        }
    }

    fn add(&mut self, data: &[u8]) -> Result<(), Failed> {
        self.buffer.extend_from_slice(data);
        while let Some((head, _)) = self.buffer.split_first_chunk::<5>() {
            let [compressed, length @ ..] = *head;
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if compressed != 0 || length > LARGEST {
                return Err(Failed::Garbled);
            }
            if self.buffer.len() < length + 5 {
                break;
            }
            let message = self.buffer.split_to(length + 5).freeze().slice(5..);
            self.ready.push_back(message);
        }
        Ok(())
    }
}
