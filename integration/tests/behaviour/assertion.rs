//! The signed assertion, verified by other means than ours (RFC 8037, RFC 7638).

use std::collections::BTreeSet;

use outrider_integration::{Agent, Claims, Request, Sidecar, sha256_base64url, verify_with_jwks};
use serde_json::{Value, json};

use crate::support::{before, echo, hi};

fn jwks(sidecar: &Sidecar) -> Value {
    sidecar.get("/.well-known/jwks.json").json()
}

#[test]
fn an_assertion_binds_the_call_and_is_signed_by_the_published_key() {
    let server = echo();
    let sidecar = before(&server);
    let task = sidecar.open_task(&[]);
    let request = Request::call("echo", &hi());
    let answer = sidecar.stranger().with_token(&task.token).send(&request);
    let call = server.calls().remove(0);
    let token = call.head.get("outrider-assertion").unwrap().to_owned();
    let Claims { header, claims } = verify_with_jwks(&token, &jwks(&sidecar));
    assert_eq!(header["typ"], "outrider-assertion+jwt");
    assert_eq!(header["alg"], "EdDSA");
    for (claim, value) in [
        ("iss", json!("spiffe://example.org/agent/test")),
        ("aud", json!(format!("http://{}", server.address()))),
        ("txn", json!(answer.decision_id())),
        ("task", json!(task.id)),
        ("intent", json!("work")),
        ("tool", json!("tools/echo")),
        ("cls", json!("internal")),
        ("htm", json!("POST")),
        ("htu", json!(server.url())),
        ("bsh", json!(sha256_base64url(&request.body))),
    ] {
        assert_eq!(claims[claim], value, "{claim} of {claims}");
    }
    let (iat, exp) = (
        claims["iat"].as_i64().unwrap(),
        claims["exp"].as_i64().unwrap(),
    );
    assert!(exp > iat && exp - iat <= 60, "{claims}");
}

#[test]
fn each_call_has_an_assertion_of_its_own() {
    let server = echo();
    let sidecar = before(&server);
    let mut agent: Agent = sidecar.agent();
    for _ in 0..5 {
        agent.call("echo", &hi());
    }
    let jwks = jwks(&sidecar);
    let calls = server.calls();
    let tokens = calls
        .iter()
        .map(|call| call.head.get("outrider-assertion").unwrap());
    let ids: BTreeSet<String> = tokens
        .map(|token| verify_with_jwks(token, &jwks).claims["jti"].to_string())
        .collect();
    assert_eq!(ids.len(), 5);
}
