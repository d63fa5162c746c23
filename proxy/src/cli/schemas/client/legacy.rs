//! The handshake and the session of MCP revisions before 2026-07-28 (streamable HTTP).

use anyhow::{Context, bail, ensure};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use serde_json::{Map, Value, json};

use super::{Client, PATIENCE, Reply, client_info};
use crate::{protocol::mcp::LEGACY as REVISIONS, upstream::RequestBody};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// What was agreed by `initialize`; nothing yet while it is under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    revision: Option<&'static str>,
    id: Option<HeaderValue>,
}

/// A handshake that came to nothing.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum NotInitialized {
    /// No result.
    #[error(
        "it did not answer `initialize` (HTTP status {}{})",
        .0.status.as_u16(),
        .0.code().map(|code| format!(", code {code}")).unwrap_or_default()
    )]
    Refused(Box<Reply>),
    /// A revision that is not spoken.
    #[error("it speaks MCP `{revision}`, and none of 2026-07-28, {}", REVISIONS.join(", "))]
    Revision {
        /// The one it chose.
        revision: String,
    },
    /// No exchange at all.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

impl Client {
    /// Makes the handshake: from here on the client speaks the revision that comes back, with
    /// the server's capabilities.
    ///
    /// # Errors
    /// When the server does not take part, or chose another revision.
    pub(in crate::cli) async fn initialize(&self) -> Result<(&'static str, Value), NotInitialized> {
        self.session.replace(Some(Session::default()));
        let params = Map::from_iter([
            ("protocolVersion".to_owned(), REVISIONS[0].into()),
            ("capabilities".to_owned(), json!({})),
            ("clientInfo".to_owned(), client_info()),
        ]);
        let reply = self.ask("initialize", params).await?;
        let Some(result) = reply.result() else {
            return Err(NotInitialized::Refused(Box::new(reply)));
        };
        let chosen = result.get("protocolVersion").and_then(Value::as_str);
        let chosen = chosen.unwrap_or_default();
        let known = REVISIONS.into_iter().find(|known| *known == chosen);
        let revision = known.ok_or_else(|| NotInitialized::Revision {
            revision: shown(chosen),
        })?;
        self.session.replace(Some(Session {
            revision: Some(revision),
            id: session_id(&reply.headers)?,
        }));
        self.notify("notifications/initialized").await?;
        let capabilities = result.get("capabilities").cloned();
        Ok((revision, capabilities.unwrap_or_default()))
    }

    async fn notify(&self, method: &'static str) -> anyhow::Result<()> {
        let session = self.session.borrow().clone().unwrap_or_default();
        let request = self.legacy_request(&session, None, method, Map::new())?;
        let status = self.status(request).await?;
        ensure!(
            status.is_success(),
            "the server refuses `{method}` (HTTP status {})",
            status.as_u16()
        );
        Ok(())
    }

    /// Ends the session, if the server gave one. A server may not let it be ended.
    ///
    /// # Errors
    /// When the server says anything else.
    pub(in crate::cli) async fn end(&self) -> anyhow::Result<()> {
        let session = self.session.borrow().clone().unwrap_or_default();
        if session.id.is_none() {
            return Ok(());
        }
        let mut request = Request::delete(self.upstream.target()).body(RequestBody::Empty)?;
        request.headers_mut().clone_from(&self.headers);
        session.inject(request.headers_mut());
        let status = self.status(request).await?;
        let over = [StatusCode::METHOD_NOT_ALLOWED, StatusCode::NOT_FOUND];
        ensure!(
            status.is_success() || over.contains(&status),
            "HTTP status {}",
            status.as_u16()
        );
        Ok(())
    }

    /// The status alone of an exchange whose answer has no message.
    async fn status(&self, request: Request<RequestBody>) -> anyhow::Result<StatusCode> {
        let exchange = tokio::time::timeout(PATIENCE, self.send(request)).await;
        let (head, _) = exchange.context("no answer within 30 seconds")??;
        Ok(head.status)
    }

    /// A request, or without `id` a notification.
    pub(super) fn legacy_request(
        &self,
        session: &Session,
        id: Option<u64>,
        method: &'static str,
        params: Map<String, Value>,
    ) -> anyhow::Result<Request<RequestBody>> {
        let mut message = Map::from_iter([
            ("jsonrpc".to_owned(), "2.0".into()),
            ("method".to_owned(), method.into()),
        ]);
        message.extend(id.map(|id| ("id".to_owned(), id.into())));
        if !params.is_empty() {
            message.insert("params".to_owned(), params.into());
        }
        let mut request = self.post(&message.into())?;
        session.inject(request.headers_mut());
        Ok(request)
    }
}

impl Session {
    fn inject(&self, headers: &mut HeaderMap) {
        if let Some(revision) = self.revision {
            headers.insert(VERSION, HeaderValue::from_static(revision));
        }
        if let Some(id) = &self.id {
            headers.insert(SESSION, id.clone());
        }
    }
}

fn session_id(headers: &HeaderMap) -> anyhow::Result<Option<HeaderValue>> {
    let mut given = headers.get_all(SESSION).iter();
    let Some(id) = given.next() else {
        return Ok(None);
    };
    let visible = |byte: &u8| (0x21..=0x7e).contains(byte);
    if given.next().is_some() || id.is_empty() || !id.as_bytes().iter().all(visible) {
        bail!("the server's `Mcp-Session-Id` is not one word of visible ASCII");
    }
    let mut id = id.clone();
    id.set_sensitive(true);
    Ok(Some(id))
}

/// What a server says of itself, fit for a terminal.
fn shown(text: &str) -> String {
    let short = text.chars().take(40);
    short.flat_map(char::escape_default).collect()
}
