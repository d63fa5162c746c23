//! The scripted agent: it calls tools through the sidecar as any MCP client would.

use anyhow::Context;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::script::OK;
use crate::cli::schemas::{Client, Reply};

/// An agent with one task.
#[derive(Debug)]
pub(super) struct Agent {
    client: Client,
}

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
    /// An agent that calls at `url` under the task of that token.
    ///
    /// # Errors
    /// When the URL or the token cannot be sent.
    pub(super) fn new(url: &str, token: &str) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        let mut token = HeaderValue::try_from(token).context("the token is no header value")?;
        token.set_sensitive(true);
        headers.insert(HeaderName::from_static("outrider-task-token"), token);
        Ok(Self {
            client: Client::new(url, headers)?,
        })
    }

    /// Calls a tool.
    ///
    /// # Errors
    /// When nobody answers, or not in the words of the sidecar.
    pub(super) async fn call(
        &self,
        operation: &str,
        arguments: &Value,
    ) -> anyhow::Result<Answered> {
        let params = Map::from_iter([
            ("name".to_owned(), operation.into()),
            ("arguments".to_owned(), arguments.clone()),
        ]);
        answered(&self.client.ask("tools/call", params).await?)
    }
}

/// Reads what became of a call: a tool result, a JSON-RPC error or problem details.
fn answered(reply: &Reply) -> anyhow::Result<Answered> {
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
        None if reply.status.is_success() && reply.message.get("result").is_some() => OK,
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
            assert_eq!(answered(&reply(status, message)).unwrap(), expected);
        }
    }

    #[test]
    fn what_the_sidecar_did_not_say_is_no_answer() {
        assert!(answered(&reply(502, Value::Null)).is_err());
        let mut reply = reply(200, json!({"result": {}}));
        reply.headers.clear();
        assert!(answered(&reply).is_err());
    }
}
