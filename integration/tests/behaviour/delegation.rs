//! Chains of actors: what is handed on is never more than what everybody in the chain may do.

use outrider_integration::{
    IssuerKey, Setup, Sidecar, Tool, ToolServer, act, key_set, task_claims,
};
use serde_json::{Value, json};

use crate::support::{Form::ToolResult, OUTRIDER, hi, refused};

const ISSUER: &str = "https://iam.example.org";
const EXECUTOR: &str = "spiffe://example.org/agent/test";
const PLANNER: &str = "spiffe://example.org/agent/planner";

/// An executor that reads and closes, and a planner that only reads.
fn planning(server: &ToolServer, key: &IssuerKey, more: &Value) -> Sidecar {
    let setup = Setup::new(OUTRIDER, server)
        .config(|config| {
            let mut section =
                json!({"issuer": ISSUER, "jwks": "file:keys.json", "verified_chain": true});
            for (key, value) in more.as_object().unwrap() {
                section[key] = value.clone();
            }
            config["tasks"]["issuers"] = json!([section]);
            config["tasks"]["max_depth"] = json!(2);
        })
        .data(|data| {
            data["agents"].as_array_mut().unwrap().push(json!(
                {"id": PLANNER, "owner": "o@example.org", "purpose": "Plans", "roles": ["reads"]}
            ));
            data["grants"] = json!([
                {"agent": EXECUTOR, "tools": ["tools/read", "tools/close"]},
                {"role": "reads", "tools": ["tools/read"]},
            ]);
            data["subjects"] = json!([
                {"id": "user:grace", "tools": ["tools/close"], "max_classification": "internal"},
            ]);
        });
    setup.file("keys.json", &key_set([key]).to_string());
    setup.start()
}

fn server() -> ToolServer {
    ToolServer::start(vec![Tool::echo("read"), Tool::echo("close")])
}

/// A token of this chain and for this subject.
fn token(key: &IssuerKey, actors: &[&str], subject: &str) -> String {
    let mut claims = task_claims(ISSUER, &format!("{}-{subject}", actors.join("+")));
    claims["act"] = act(actors);
    claims["sub"] = json!(subject);
    key.sign(&claims)
}

#[test]
fn an_executor_does_for_a_planner_what_both_may_do() {
    let (server, key) = (server(), IssuerKey::new("EdDSA", "k"));
    let sidecar = planning(&server, &key, &json!({}));
    let call = |token: &str, tool: &str| {
        let mut agent = sidecar.stranger().with_token(token);
        agent.call(tool, &hi())
    };
    let own = token(&key, &[EXECUTOR], "user:ada");
    let planned = token(&key, &[EXECUTOR, PLANNER], "user:ada");
    for (token, tool) in [(&own, "read"), (&own, "close"), (&planned, "read")] {
        assert_eq!(call(token, tool).tool_text(), "hi");
    }
    let answer = refused(&sidecar, &server, (ToolResult, "scope_exceeded"), || {
        call(&planned, "close")
    });
    let line = sidecar.decision(&answer.decision_id());
    assert_eq!(line["policy"]["rule"], "guard:delegation", "{line}");
    let noted = sidecar.security_log();
    let widened = noted.iter().find(|line| {
        line["type"] == "delegation_widened" && line["decision_id"] == answer.decision_id()
    });
    assert_eq!(widened.unwrap()["tool"], "tools/close");
    // The upstream is told who stands behind the call.
    let assertion = server.received().pop().unwrap();
    let assertion = assertion.head.get("outrider-assertion").unwrap().to_owned();
    let keys = sidecar.get("/.well-known/jwks.json").json();
    let claims = outrider_integration::verify_with_jwks(&assertion, &keys).claims;
    assert_eq!(claims["act"], act(&[EXECUTOR, PLANNER]));
}

#[test]
fn what_an_executor_sees_of_tools_is_what_both_may_use() {
    let (server, key) = (server(), IssuerKey::new("EdDSA", "k"));
    let sidecar = planning(&server, &key, &json!({}));
    let tools = |actors: &[&str]| {
        let mut agent = sidecar
            .stranger()
            .with_token(&token(&key, actors, "user:ada"));
        let listed = agent.send(&outrider_integration::Request::list());
        let listed = listed.json()["result"]["tools"].clone();
        let names = listed.as_array().unwrap().iter();
        names
            .map(|tool| tool["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(tools(&[EXECUTOR]).len(), 2);
    assert_eq!(tools(&[EXECUTOR, PLANNER]), ["read"]);
}

#[test]
fn nobody_unknown_and_no_long_chain_stands_above_an_agent() {
    let (server, key) = (server(), IssuerKey::new("EdDSA", "k"));
    let sidecar = planning(&server, &key, &json!({}));
    for (actors, code) in [
        (&[EXECUTOR, "agent:nobody"][..], "scope_exceeded"),
        (&[EXECUTOR, PLANNER, "agent:nobody"], "scope_exceeded"),
        (&[EXECUTOR, PLANNER, PLANNER, PLANNER], "task_invalid"),
        (&[PLANNER, EXECUTOR], "task_invalid"),
    ] {
        let token = token(&key, actors, "user:ada");
        refused(&sidecar, &server, (ToolResult, code), || {
            sidecar.stranger().with_token(&token).call("read", &hi())
        });
    }
}

#[test]
fn a_listed_subject_narrows_what_is_done_for_it() {
    let (server, key) = (server(), IssuerKey::new("EdDSA", "k"));
    let sidecar = planning(&server, &key, &json!({}));
    let token = token(&key, &[EXECUTOR], "user:grace");
    let mut agent = sidecar.stranger().with_token(&token);
    assert_eq!(agent.call("close", &hi()).tool_text(), "hi");
    refused(&sidecar, &server, (ToolResult, "scope_exceeded"), || {
        agent.call("read", &hi())
    });
}

#[test]
fn without_a_vouched_for_chain_there_is_none() {
    let (server, key) = (server(), IssuerKey::new("EdDSA", "k"));
    let sidecar = planning(&server, &key, &json!({"verified_chain": false}));
    let chained = token(&key, &[EXECUTOR, PLANNER], "user:ada");
    refused(&sidecar, &server, (ToolResult, "task_invalid"), || {
        sidecar.stranger().with_token(&chained).call("read", &hi())
    });
    let noted = sidecar.security_log();
    let chain = |line: &Value| {
        line["type"] == "token_refused"
            && line["why"]
                .as_str()
                .is_some_and(|why| why.contains("verified_chain"))
    };
    assert!(noted.iter().any(chain), "{noted:#?}");
}

#[test]
fn a_token_that_reaches_further_than_its_parent_is_refused() {
    let (server, key) = (server(), IssuerKey::new("EdDSA", "k"));
    let sidecar = planning(&server, &key, &json!({}));
    let sign = |id: &str, change: &dyn Fn(&mut Value)| {
        let mut claims = task_claims(ISSUER, id);
        claims["task"]["tools"] = json!(["tools/read"]);
        change(&mut claims);
        key.sign(&claims)
    };
    let call = |token: &str| sidecar.stranger().with_token(token).call("read", &hi());
    let parent = sign("parent", &|claims| {
        claims["task"]["budget"] = json!({"calls": 5});
    });
    assert_eq!(call(&parent).tool_text(), "hi");
    let child = sign("child", &|claims| {
        claims["task"]["parent"] = json!("parent");
    });
    assert_eq!(call(&child).tool_text(), "hi");
    for (id, pointer, value) in [
        ("tools", "/task/tools", json!(["tools/*"])),
        ("calls", "/task/budget", json!({"calls": 9})),
        ("subject", "/sub", json!("user:grace")),
    ] {
        let wider = sign(id, &|claims| {
            claims["task"]["parent"] = json!("parent");
            *claims.pointer_mut(pointer).unwrap_or(&mut Value::Null) = value.clone();
            if pointer == "/task/budget" {
                claims["task"]["budget"] = value.clone();
            }
        });
        let answer = refused(&sidecar, &server, (ToolResult, "task_invalid"), || {
            call(&wider)
        });
        let noted = sidecar.security_log();
        let id = answer.decision_id();
        let event = noted.iter().find(|line| line["decision_id"] == id.as_str());
        assert_eq!(event.unwrap()["type"], "delegation_widened", "{noted:#?}");
    }
    let revoked = sidecar.command(&["revoke", "task", "parent", "--issuer", ISSUER]);
    assert_eq!(revoked.status, 0, "{revoked:?}");
    refused(&sidecar, &server, (ToolResult, "task_revoked"), || {
        call(&child)
    });
}
