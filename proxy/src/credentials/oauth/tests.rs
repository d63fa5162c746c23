use bytes::Bytes;
use http::{Response, StatusCode};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{
    answer::{Asked, read},
    *,
};

fn config(grant: Grant, keys: &Value) -> Result<Config, String> {
    let mut whole = json!({"token_url": "http://127.0.0.1:1/token"});
    for (key, value) in keys.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let config: Config = serde_json::from_value(whole).map_err(|error| error.to_string())?;
    config.check(grant).map_err(|error| error.to_string())?;
    Ok(config)
}

fn answer(status: u16, kind: &str, body: &str) -> Response<Bytes> {
    Response::builder()
        .status(status)
        .header("content-type", kind)
        .body(Bytes::copy_from_slice(body.as_bytes()))
        .unwrap()
}

fn asked(scope: Option<&str>) -> Asked<'_> {
    Asked {
        scope,
        issued: None,
        ttl: None,
    }
}

fn got(body: &Value, asked: &Asked<'_>) -> Result<(String, u64), Fault> {
    let got = read(answer(200, "application/json", &body.to_string()), asked)?;
    Ok((
        got.secret.expose_secret().to_owned(),
        got.lifetime.as_secs(),
    ))
}

fn good() -> Value {
    json!({"access_token": "t0ken", "token_type": "Bearer", "expires_in": 300})
}

fn with(key: &str, value: Value) -> Value {
    let mut body = good();
    body[key] = value;
    body
}

#[test]
fn a_token_is_taken_with_its_lifetime() {
    assert_eq!(got(&good(), &asked(None)), Ok(("t0ken".into(), 300)));
    let lower = with("token_type", json!("bearer"));
    assert_eq!(got(&lower, &asked(None)), Ok(("t0ken".into(), 300)));
    let year = with("expires_in", json!(31_536_000));
    assert_eq!(got(&year, &asked(None)), Ok(("t0ken".into(), 86_400)));
    let refresh = with("refresh_token", json!("r"));
    assert!(got(&refresh, &asked(None)).is_ok());
}

#[test]
fn what_cannot_be_used_is_no_token() {
    let none = asked(None);
    for body in [
        json!({}),
        json!([]),
        with("access_token", json!("")),
        with("access_token", json!(1)),
        with("access_token", json!("a b")),
        with("access_token", json!("a\r\nx: y")),
        with("token_type", json!("DPoP")),
        with("token_type", json!("N_A")),
        with("token_type", json!(1)),
        with("token_type", Value::Null),
        with("expires_in", json!(0)),
        with("expires_in", json!(-1)),
        with("expires_in", json!(1.5)),
        with("expires_in", json!("300")),
        with("expires_in", Value::Null),
    ] {
        let got = got(&body, &none);
        assert!(matches!(got, Err(Fault::Unusable(_))), "{body}: {got:?}");
    }
    let twice = r#"{"access_token":"a","access_token":"b","token_type":"Bearer","expires_in":9}"#;
    let text = good().to_string();
    for (kind, body) in [
        ("application/json", twice),
        ("text/html", text.as_str()),
        ("application/json", "<html>"),
    ] {
        assert!(
            read(answer(200, kind, body), &none).is_err(),
            "{kind} {body}"
        );
    }
}

#[test]
fn a_scope_may_be_narrower_than_asked_and_never_wider() {
    let asked = asked(Some("read tools:crm/lookup"));
    for scope in ["read", "tools:crm/lookup read", "read tools:crm/lookup", ""] {
        assert!(got(&with("scope", json!(scope)), &asked).is_ok(), "{scope}");
    }
    assert!(got(&good(), &asked).is_ok());
    for scope in [
        json!("read admin"),
        json!("tools:crm/*"),
        json!(["read"]),
        Value::Null,
    ] {
        assert!(
            got(&with("scope", scope.clone()), &asked).is_err(),
            "{scope}"
        );
    }
}

#[test]
fn an_exchange_brings_what_was_asked_for() {
    let exchange = |kind: &str| Asked {
        scope: None,
        issued: Some(TokenType::registered(kind)),
        ttl: None,
    };
    let urn = |kind: &str| json!(format!("urn:ietf:params:oauth:token-type:{kind}"));
    let access = with("issued_token_type", urn("access_token"));
    assert!(got(&access, &exchange("access_token")).is_ok());
    assert!(got(&access, &exchange("jwt")).is_err());
    assert!(got(&good(), &exchange("access_token")).is_err());
    let mut txn = with("issued_token_type", urn("txn_token"));
    txn["token_type"] = json!("N_A");
    assert!(got(&txn, &exchange("txn_token")).is_ok());
    let mut access = access;
    access["token_type"] = json!("N_A");
    assert!(got(&access, &exchange("access_token")).is_err());
}

#[test]
fn a_server_that_names_no_lifetime_needs_ours() {
    let mut body = good();
    body.as_object_mut().unwrap().remove("expires_in");
    assert!(got(&body, &asked(None)).is_err());
    let ours = Asked {
        ttl: Some(Duration::from_mins(1)),
        ..asked(None)
    };
    assert_eq!(got(&body, &ours), Ok(("t0ken".into(), 60)));
}

#[test]
fn a_refusal_is_told_in_the_standards_words_only() {
    let fault = |status, body: &str| {
        let answer = answer(status, "application/json;charset=utf-8", body);
        read(answer, &asked(None)).unwrap_err()
    };
    let refused = fault(
        400,
        r#"{"error":"invalid_target","error_description":"s3cret"}"#,
    );
    assert_eq!(refused, Fault::Refused("invalid_target"));
    for body in [r#"{"error":"s3cret"}"#, "s3cret", "{}"] {
        let fault = fault(400, body);
        assert_eq!(fault, Fault::Status(StatusCode::BAD_REQUEST));
        assert!(!fault.to_string().contains("s3cret"));
    }
    assert_eq!(fault(302, "{}"), Fault::Status(StatusCode::FOUND));
    let ill = fault(503, r#"{"error":"invalid_grant"}"#);
    assert_eq!(ill, Fault::Status(StatusCode::SERVICE_UNAVAILABLE));
}

#[test]
fn keys_that_do_not_go_together_are_refused() {
    use Grant::{Client, Exchange};
    for (grant, keys, said) in [
        (Client, json!({"key": "k"}), "client_id"),
        (Client, json!({"client_id": "a"}), "`key`"),
        (
            Client,
            json!({"client_id": "a", "client_auth": "client_secret_post"}),
            "`secret`",
        ),
        (
            Client,
            json!({"client_id": "a", "client_auth": "private_key_jwt"}),
            "`key`",
        ),
        (
            Client,
            json!({"client_id": "a", "key": "k", "issuer": "i"}),
            "`exchange`",
        ),
        (
            Client,
            json!({"client_id": "a", "secret": "${token}"}),
            "`secret`",
        ),
        (
            Client,
            json!({"client_id": "a", "key": "k", "scope": "a  b"}),
            "one space",
        ),
        (
            Client,
            json!({"client_id": "a", "key": "k", "colour": 1}),
            "colour",
        ),
        (
            Client,
            json!({"token_url": "http://192.0.2.1/t", "client_id": "a", "key": "k"}),
            "https",
        ),
        (
            Client,
            json!({"client_id": "a", "key": "k", "resource": ["crm"]}),
            "`resource`",
        ),
        (
            Client,
            json!({"client_id": "a", "key": "k", "resource": "https://a/#b"}),
            "`resource`",
        ),
        (
            Client,
            json!({"client_id": "a", "key": "k", "parameters": {"scope": "x"}}),
            "`scope`",
        ),
        (
            Client,
            json!({"client_id": "a", "key": "k", "parameters": {"a&b": "x"}}),
            "`a&b`",
        ),
        (Exchange, json!({}), "`key`"),
        (
            Exchange,
            json!({"key": "k", "client_auth": "private_key_jwt"}),
            "`client_id`",
        ),
        (Exchange, json!({"subject_token": "task_token"}), "`key`"),
        (
            Exchange,
            json!({"key": "k", "requested_token_type": "x"}),
            "URN",
        ),
    ] {
        let error = config(grant, &keys).unwrap_err();
        assert!(error.contains(said), "{keys}: {error}");
    }
    for (grant, keys) in [
        (Client, json!({"client_id": "a", "key": "k"})),
        (
            Client,
            json!({"client_id": "a", "secret": "${file:s}", "scope": "a {service}"}),
        ),
        (
            Client,
            json!({"client_id": "a", "key": "k", "parameters": {"tenant": "x"}}),
        ),
        (Exchange, json!({"key": "k", "audience": ["a", "b"]})),
        (
            Exchange,
            json!({"subject_token": "task_token", "actor_token": "none"}),
        ),
        (
            Exchange,
            json!({"key": "k", "client_id": "a", "secret": "${file:s}"}),
        ),
    ] {
        config(grant, &keys).unwrap_or_else(|error| panic!("{keys}: {error}"));
    }
}

#[test]
fn nothing_that_is_printed_holds_the_secret() {
    let keys = json!({"client_id": "a", "secret": "hunter2"});
    let config = config(Grant::Client, &keys).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}
