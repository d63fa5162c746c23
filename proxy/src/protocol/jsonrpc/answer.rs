//! The answer to a JSON-RPC request: exactly one response to it, and a result as published.

use outrider_policy::Value;
use outrider_schemas::{json, json_schema::Schema};

use crate::{
    protocol::{
        Exchange,
        rpc::{member, text},
    },
    rejection::Rejection,
};

/// Checks a response (JSON-RPC 2.0 §5), its result against `schema` where there is one.
pub(super) fn check(
    exchange: &Exchange,
    message: &[u8],
    schema: Option<&Schema>,
) -> Result<(), Rejection> {
    let tree = json::parse(message).map_err(|malformed| match malformed.reason {
        json::Reason::TooMany => refused("the service's answer has too many values"),
        _ => refused("the service's answer is not strict JSON"),
    })?;
    if text(&tree, "jsonrpc") != Some("2.0") || member(&tree, "method").is_some() {
        return Err(refused("the service's answer is not one JSON-RPC response"));
    }
    let id = member(&tree, "id").and_then(|id| id.to_json_str().ok());
    if id.is_none() || id.as_deref() != exchange.id.as_deref() {
        return Err(refused("the service's answer is for another request"));
    }
    match (member(&tree, "result"), member(&tree, "error")) {
        (Some(result), None) if schema.is_none_or(|schema| schema.is_valid(result)) => Ok(()),
        (Some(_), None) => Err(refused(
            "the service's result does not fit the method's schema",
        )),
        (None, Some(error)) if is_error(error) => Ok(()),
        _ => Err(refused("the service's answer is not one JSON-RPC response")),
    }
}

/// An error has an integer for a code and a text (JSON-RPC 2.0 §5.1).
fn is_error(error: &Value) -> bool {
    let code =
        matches!(member(error, "code"), Some(Value::Number(code)) if code.as_i64().is_some());
    code && text(error, "message").is_some()
}

fn refused(why: &'static str) -> Rejection {
    Rejection::ResponseRefused(why)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol::{Form, Hangup};

    fn passes(id: &str, message: &str, schema: Option<serde_json::Value>) -> bool {
        let exchange = Exchange {
            id: Some(id.into()),
            form: Form::Request,
            hangup: Hangup::Cancels,
        };
        let schema = schema.map(|schema| Schema::compile(&schema).unwrap());
        check(&exchange, message.as_bytes(), schema.as_ref()).is_ok()
    }

    #[test]
    fn exactly_one_response_to_this_request_passes() {
        for (id, message) in [
            ("1", r#"{"jsonrpc":"2.0","id":1,"result":null}"#),
            (r#""a""#, r#"{"jsonrpc":"2.0","result":[1],"id":"a"}"#),
            (
                "1",
                r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"m","data":{}}}"#,
            ),
        ] {
            assert!(passes(id, message, None), "{message}");
        }
        for message in [
            "",
            "null",
            r#"[{"jsonrpc":"2.0","id":1,"result":1}]"#,
            r#"{"id":1,"result":1}"#,
            r#"{"jsonrpc":"1.0","id":1,"result":1}"#,
            r#"{"jsonrpc":"2.0","id":2,"result":1}"#,
            r#"{"jsonrpc":"2.0","id":"1","result":1}"#,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m"}}"#,
            r#"{"jsonrpc":"2.0","result":1}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":1,"error":null}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":1,"result":2}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":1,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":null}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1.5,"message":"m"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":1} {}"#,
        ] {
            assert!(!passes("1", message, None), "{message}");
        }
    }

    #[test]
    fn a_result_is_held_against_its_schema_and_an_error_is_not() {
        let schema = serde_json::json!({"type": "string"});
        let with = |message: &str| passes("1", message, Some(schema.clone()));
        assert!(with(r#"{"jsonrpc":"2.0","id":1,"result":"x"}"#));
        assert!(!with(r#"{"jsonrpc":"2.0","id":1,"result":1}"#));
        assert!(with(
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}"#
        ));
    }
}
