//! A small MCP client: one request, one answer, both bounded (streamable HTTP).
//!
//! It speaks MCP 2026-07-28, and after [`Client::initialize`] the older revisions with a handshake.

mod legacy;

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header, response};
use http_body_util::BodyExt as _;
use outrider_schemas::json;
use serde_json::{Map, Value, json};

pub(in crate::cli) use self::legacy::NotInitialized;
use self::legacy::Session;
use crate::{
    protocol::{
        mcp::MODERN,
        sse::{self, Decoder},
    },
    upstream::{Pool, PoolConfig, RequestBody, TlsRoots, Upstream, UpstreamBody, collect},
};

/// Bytes of one answer.
const MOST_BYTES: usize = 10 << 20;

/// Time of one exchange.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client of one endpoint. It follows no redirect and opens nothing but that endpoint.
#[derive(Debug)]
pub(in crate::cli) struct Client {
    pool: Pool,
    upstream: Upstream,
    headers: HeaderMap,
    last: Cell<u64>,
    /// What was agreed with a server of an older revision.
    session: RefCell<Option<Session>>,
}

/// The answer to one request.
#[derive(Debug)]
pub(in crate::cli) struct Reply {
    /// The HTTP status.
    pub(in crate::cli) status: StatusCode,
    /// The HTTP headers.
    pub(in crate::cli) headers: HeaderMap,
    /// The JSON that answers; null when the answer was none.
    pub(in crate::cli) message: Value,
    /// Messages that came before it on a stream.
    pub(in crate::cli) interim: usize,
}

impl Reply {
    /// The JSON-RPC result of an exchange that went well.
    pub(in crate::cli) fn result(&self) -> Option<&Value> {
        let result = self.message.get("result");
        result.filter(|_| self.status.is_success())
    }

    /// The code of a JSON-RPC error.
    pub(in crate::cli) fn code(&self) -> Option<i64> {
        self.message.pointer("/error/code").and_then(Value::as_i64)
    }
}

impl Client {
    /// A client of the endpoint at `url`; `headers` go with each request.
    ///
    /// # Errors
    /// When it is no `http` or `https` URL, or no certificate authority is known for the latter.
    pub(in crate::cli) fn new(url: &str, headers: HeaderMap) -> anyhow::Result<Self> {
        let upstream = Upstream::parse(url).with_context(|| format!("`{url}`"))?;
        Self::of(upstream, headers)
    }

    /// A client of that upstream.
    ///
    /// # Errors
    /// When no certificate authority is known for one that needs it.
    pub(in crate::cli) fn of(upstream: Upstream, headers: HeaderMap) -> anyhow::Result<Self> {
        let roots = TlsRoots::needed_by(&upstream)?;
        Ok(Self {
            pool: Pool::new(PoolConfig::default(), roots),
            upstream,
            headers,
            last: Cell::new(0),
            session: RefCell::new(None),
        })
    }

    /// Sends one request and reads its answer.
    ///
    /// # Errors
    /// When there is no answer in time, none within the bounds, or a redirect.
    pub(in crate::cli) async fn ask(
        &self,
        method: &'static str,
        params: Map<String, Value>,
    ) -> anyhow::Result<Reply> {
        let exchange = tokio::time::timeout(PATIENCE, self.exchange(method, params));
        exchange
            .await
            .unwrap_or_else(|_| bail!("`{method}` was not answered within 30 seconds"))
    }

    async fn exchange(
        &self,
        method: &'static str,
        params: Map<String, Value>,
    ) -> anyhow::Result<Reply> {
        let id = self.last.get() + 1;
        self.last.set(id);
        let session = self.session.borrow().clone();
        let request = match session {
            None => self.request(id, method, params)?,
            Some(session) => self.legacy_request(&session, Some(id), method, params)?,
        };
        let (head, body) = self.send(request).await?;
        let (message, interim) = if is_stream(&head.headers) {
            streamed(body, id).await?
        } else {
            (whole(body).await?, 0)
        };
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            message,
            interim,
        })
    }

    async fn send(
        &self,
        request: Request<RequestBody>,
    ) -> anyhow::Result<(response::Parts, UpstreamBody)> {
        let answer = self.pool.send(&self.upstream, request, PATIENCE).await?;
        let (head, body) = answer.into_parts();
        if head.status.is_redirection() {
            bail!(
                "the server redirects ({}), which is not followed: name its final URL",
                head.status.as_u16()
            );
        }
        Ok((head, body))
    }

    /// A POST of that message with what both eras send.
    fn post(&self, message: &Value) -> anyhow::Result<Request<RequestBody>> {
        let mut request = Request::post(self.upstream.target())
            .body(RequestBody::from(Bytes::from(message.to_string())))?;
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_static("application/json, text/event-stream"),
        );
        Ok(request)
    }

    fn request(
        &self,
        id: u64,
        method: &'static str,
        mut params: Map<String, Value>,
    ) -> anyhow::Result<Request<RequestBody>> {
        let name = params
            .get("name")
            .and_then(Value::as_str)
            .map(HeaderValue::try_from)
            .transpose()?;
        params.insert("_meta".into(), meta(id));
        let mut request =
            self.post(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))?;
        let headers = request.headers_mut();
        headers.insert(
            HeaderName::from_static("mcp-protocol-version"),
            HeaderValue::from_static(MODERN),
        );
        headers.insert(
            HeaderName::from_static("mcp-method"),
            HeaderValue::from_static(method),
        );
        if let Some(name) = name {
            headers.insert(HeaderName::from_static("mcp-name"), name);
        }
        Ok(request)
    }
}

fn meta(id: u64) -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": client_info(),
        "progressToken": id,
    })
}

fn client_info() -> Value {
    json!({"name": "outrider", "version": env!("CARGO_PKG_VERSION")})
}

fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    kind.split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .eq_ignore_ascii_case("text/event-stream")
}

async fn whole(body: UpstreamBody) -> anyhow::Result<Value> {
    let bytes = collect(body, MOST_BYTES, PATIENCE)
        .await
        .context("the answer cannot be read")?;
    Ok(json::parse_document(&bytes).unwrap_or_default())
}

/// Reads a stream up to the message that answers `id`, and how many came before it.
async fn streamed(mut body: UpstreamBody, id: u64) -> anyhow::Result<(Value, usize)> {
    let mut decoder = Decoder::new(MOST_BYTES);
    let (mut room, mut interim) = (MOST_BYTES, 0);
    while let Some(frame) = body.frame().await {
        let Ok(mut bytes) = frame.context("the answer cannot be read")?.into_data() else {
            continue;
        };
        room = room
            .checked_sub(bytes.len())
            .context("the answer is larger than 10 MiB")?;
        while let Some(item) = decoder.push(&mut bytes)? {
            let sse::Item::Event(sse::Event {
                data: Some(data), ..
            }) = item
            else {
                continue;
            };
            if data.is_empty() {
                // MCP 2025-11-25 opens a stream with an event that only has an ID.
                continue;
            }
            let message = json::parse_document(&data).context("an event is not strict JSON")?;
            if message.get("id").and_then(Value::as_u64) == Some(id) {
                return Ok((message, interim));
            }
            interim += 1;
        }
    }
    bail!("the stream ended without an answer")
}
