//! The scripted agent: it calls tools through the sidecar as any client of their protocols would.

use std::time::Duration;

use anyhow::Context;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use serde_json::{Map, Value};

use super::script::{How, OK};
use crate::{
    cli::schemas::{Client, Reply},
    upstream::{Pool, PoolConfig, RequestBody, TlsRoots, Upstream, collect},
};

/// An agent with one task.
#[derive(Debug)]
pub(super) struct Agent {
    url: String,
    headers: HeaderMap,
    modern: Client,
    /// Made with its first call.
    legacy: Option<Client>,
    pool: Pool,
}

/// Time for one call.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of one answer of the REST API.
const MOST_BYTES: usize = 1 << 20;

/// What the agent learned of one call.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answered {
    /// `ok`, or why it was refused.
    pub(super) code: String,
    /// Under what it is recorded.
    pub(super) decision_id: String,
    /// Messages that came on a stream before the answer.
    pub(super) progress: usize,
}

impl Agent {
    /// An agent that calls services at `url` under the task of that token.
    ///
    /// # Errors
    /// When the URL or the token cannot be sent.
    pub(super) fn new(url: &str, token: &str) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        let mut token = HeaderValue::try_from(token).context("the token is no header value")?;
        token.set_sensitive(true);
        headers.insert(HeaderName::from_static("outrider-task-token"), token);
        Ok(Self {
            modern: Client::new(&format!("{url}/tickets"), headers.clone())?,
            legacy: None,
            pool: Pool::new(PoolConfig::default(), TlsRoots::none()?),
            url: url.to_owned(),
            headers,
        })
    }

    /// Calls a tool.
    ///
    /// # Errors
    /// When nobody answers, or not in the words of the sidecar.
    pub(super) async fn call(&mut self, tool: &str, how: &How) -> anyhow::Result<Answered> {
        let (service, operation) = tool.split_once('/').unwrap_or((tool, ""));
        let (client, arguments) = match how {
            How::Rest(target) => return self.get(&format!("{}/{service}{target}", self.url)).await,
            How::Modern(arguments) => (&self.modern, arguments),
            How::Legacy(arguments) => (self.legacy().await?, arguments),
        };
        let params = Map::from_iter([
            ("name".to_owned(), operation.into()),
            ("arguments".to_owned(), arguments.clone()),
        ]);
        answered(&client.ask("tools/call", params).await?, Said::JsonRpc)
    }

    /// The client that begins with `initialize`, which it does once.
    async fn legacy(&mut self) -> anyhow::Result<&Client> {
        if self.legacy.is_none() {
            let client = Client::new(&format!("{}/tickets", self.url), self.headers.clone())?;
            client.initialize().await?;
            self.legacy = Some(client);
        }
        self.legacy.as_ref().context("a client")
    }

    async fn get(&self, url: &str) -> anyhow::Result<Answered> {
        let upstream = Upstream::parse(url)?;
        let mut request = Request::get(upstream.target()).body(RequestBody::Empty)?;
        request.headers_mut().clone_from(&self.headers);
        let answer = self.pool.send(&upstream, request, PATIENCE).await?;
        let (head, body) = answer.into_parts();
        let bytes = collect(body, MOST_BYTES, PATIENCE).await?;
        let reply = Reply {
            status: head.status,
            headers: head.headers,
            message: serde_json::from_slice(&bytes).unwrap_or_default(),
            interim: 0,
        };
        answered(&reply, Said::Rest)
    }
}

/// How an answer says that a call went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// With a result.
    JsonRpc,
    /// With its status.
    Rest,
}

/// Reads what became of a call: a tool result, a JSON-RPC error or problem details.
fn answered(reply: &Reply, said: Said) -> anyhow::Result<Answered> {
    let decision_id = reply
        .headers
        .get("outrider-decision-id")
        .and_then(|id| id.to_str().ok());
    let decision_id = decision_id
        .context("an answer without a decision ID")?
        .to_owned();
    let places = [
        "/result/_meta/outrider~1decision/code",
        "/error/data/code",
        "/code",
    ];
    let code = places
        .iter()
        .find_map(|place| reply.message.pointer(place))
        .and_then(Value::as_str);
    let code = match code {
        Some(code) => code,
        None if reply.status.is_success()
            && (said == Said::Rest || reply.message.get("result").is_some()) =>
        {
            OK
        }
        None => anyhow::bail!(
            "an answer without a code (HTTP status {})",
            reply.status.as_u16()
        ),
    };
    Ok(Answered {
        code: code.to_owned(),
        decision_id,
        progress: reply.interim,
    })
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::json;

    use super::*;

    const ID: &str = "0198c6f4-0000-7000-8000-000000000001";

    fn reply(status: u16, message: Value) -> Reply {
        let headers = HeaderMap::from_iter([(
            "outrider-decision-id".parse().unwrap(),
            HeaderValue::from_static(ID),
        )]);
        Reply {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            message,
            interim: 0,
        }
    }

    #[test]
    fn every_form_of_an_answer_gives_its_code() {
        let cases = [
            (200, json!({"result": {"content": []}}), "ok"),
            (
                200,
                json!({"result": {"isError": true, "_meta": {"outrider/decision": {"code": "rate_limited"}}}}),
                "rate_limited",
            ),
            (
                200,
                json!({"error": {"code": 4030, "data": {"code": "task_revoked"}}}),
                "task_revoked",
            ),
            (413, json!({"code": "body_too_large"}), "body_too_large"),
        ];
        for (status, message, code) in cases {
            let expected = Answered {
                code: code.into(),
                decision_id: ID.into(),
                progress: 0,
            };
            let reply = reply(status, message);
            assert_eq!(answered(&reply, Said::JsonRpc).unwrap(), expected);
        }
    }

    #[test]
    fn what_the_sidecar_did_not_say_is_no_answer() {
        assert!(answered(&reply(502, Value::Null), Said::JsonRpc).is_err());
        assert!(answered(&reply(502, Value::Null), Said::Rest).is_err());
        let mut reply = reply(200, json!({"result": {}}));
        reply.headers.clear();
        assert!(answered(&reply, Said::JsonRpc).is_err());
    }
}
