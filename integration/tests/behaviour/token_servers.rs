//! Credentials that are fetched for a call after its decision: by token exchange, by client
//! credentials, by a command.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use outrider_integration::{
    Agent, Answer, IssuerKey, Request, Setup, Sidecar, TokenServer, Tool, ToolServer, claims,
    header, key_set, new_ed25519_pem, task_claims, token, until, verify_with_jwks,
};
use serde_json::{Value, json};

use crate::support::{OUTRIDER, at_the_same_time, check_record, echo, hi};

/// A sidecar whose service has those credentials, in which `$URL` is the token server's.
fn sidecar(server: &ToolServer, tokens: &TokenServer, credentials: &Value) -> Sidecar {
    let setup = Setup::new(OUTRIDER, server);
    setup.file("key.pem", &new_ed25519_pem());
    setup.file("client-secret", "s3cret of/the:client\n");
    let text = credentials.to_string().replace("$URL", &tokens.url());
    setup
        .config(|config| {
            config["services"][0]["credentials"] = serde_json::from_str(&text).unwrap();
        })
        .start()
}

fn client() -> Value {
    json!({"client": {
        "token_url": "$URL", "client_id": "outrider", "key": "key.pem", "scope": "tools",
        "parameters": {"tenant": "a&b"},
    }})
}

fn exchange() -> Value {
    json!({"exchange": {"token_url": "$URL", "key": "key.pem", "scope": "mcp tools:{tool}"}})
}

fn bearer(server: &ToolServer) -> Vec<String> {
    let calls = server.calls();
    let bearer = |call: &outrider_integration::Received| {
        call.head
            .get("authorization")
            .unwrap_or_default()
            .to_owned()
    };
    calls.iter().map(bearer).collect()
}

fn call(agent: &mut Agent) -> Answer {
    agent.send(&Request::call("echo", &hi()).field("Authorization", "Bearer of-the-agent"))
}

/// The call was permitted, could not be made, and nothing of it reached the service.
fn not_sent(sidecar: &Sidecar, server: &ToolServer, agent: &mut Agent) {
    let before = server.bytes();
    let answer = call(agent);
    assert_eq!(answer.code(), "dependency_unavailable", "{}", answer.text());
    assert_eq!(answer.decision()["retry"], "after");
    assert_eq!(answer.head.get("retry-after"), Some("1"));
    assert_eq!(server.bytes(), before, "something reached the service");
    let id = answer.decision_id();
    assert_eq!(sidecar.decision(&id)["outcome"], "allow");
    let outcome = sidecar.outcome(&id);
    assert_eq!(outcome["code"], "dependency_unavailable", "{outcome}");
    assert_eq!(outcome["ended"], "upstream_failed", "{outcome}");
}

#[test]
fn a_clients_token_is_fetched_with_a_signed_proof_and_kept() {
    let (server, tokens) = (echo(), TokenServer::issuing(600));
    let mut sidecar = sidecar(&server, &tokens, &client());
    let mut agent = sidecar.agent();
    for _ in 0..3 {
        assert!(call(&mut agent).is_tool_success());
    }
    assert_eq!(bearer(&server), ["Bearer token-1"; 3]);
    let form = tokens.forms().remove(0);
    assert_eq!(tokens.forms().len(), 1);
    assert_eq!(form["grant_type"], "client_credentials");
    assert_eq!(form["scope"], "tools");
    assert_eq!(form["tenant"], "a&b");
    assert_eq!(
        form["client_assertion_type"],
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    );
    let run = sidecar.setup().run(&["keys", "jwks", "--key", "key.pem"]);
    let keys: Value = serde_json::from_str(&run.stdout).unwrap();
    let proof = verify_with_jwks(&form["client_assertion"], &keys);
    assert_eq!(proof.claims["iss"], "outrider");
    assert_eq!(proof.claims["sub"], "outrider");
    assert_eq!(proof.claims["aud"], json!(tokens.url()));
    let life = proof.claims["exp"].as_i64().unwrap() - proof.claims["iat"].as_i64().unwrap();
    assert_eq!(life, 60);
    check_record(&sidecar);
}

#[test]
fn a_client_that_has_a_secret_proves_itself_as_the_server_wants() {
    for (method, has) in [("client_secret_basic", false), ("client_secret_post", true)] {
        let (server, tokens) = (echo(), TokenServer::issuing(600));
        let credentials = json!({"client": {
            "token_url": "$URL", "client_id": "out rider", "secret": "${file:client-secret}",
            "client_auth": method,
        }});
        let sidecar = sidecar(&server, &tokens, &credentials);
        assert!(call(&mut sidecar.agent()).is_tool_success());
        let request = tokens.received().remove(0);
        let form = tokens.forms().remove(0);
        assert_eq!(form.contains_key("client_secret"), has);
        let basic = request.head.get("authorization");
        if has {
            assert_eq!(form["client_secret"], "s3cret of/the:client");
            assert_eq!(basic, None);
        } else {
            // RFC 6749 §2.3.1: both are form-encoded first.
            let expected = "Basic b3V0JTIwcmlkZXI6czNjcmV0JTIwb2YlMkZ0aGUlM0FjbGllbnQ=";
            assert_eq!(basic, Some(expected));
        }
    }
}

#[test]
fn an_exchange_is_for_the_tasks_principal_by_the_agent_and_for_one_tool() {
    let server = ToolServer::start(vec![Tool::echo("echo"), Tool::echo("other")]);
    let tokens = TokenServer::issuing(600);
    let sidecar = sidecar(&server, &tokens, &exchange());
    let task = sidecar.open_task(&["--subject", "alice@example.org"]);
    let mut agent = sidecar.stranger().with_token(&task.token);
    for tool in ["echo", "echo", "other"] {
        assert!(agent.call(tool, &hi()).is_tool_success());
    }
    let forms = tokens.forms();
    assert_eq!(forms.len(), 2, "{forms:?}");
    assert_eq!(
        bearer(&server),
        ["Bearer token-1", "Bearer token-1", "Bearer token-2"]
    );
    assert_eq!(forms[0]["scope"], "mcp tools:tools/echo");
    assert_eq!(forms[1]["scope"], "mcp tools:tools/other");
    assert_eq!(forms[0]["resource"], server.url());
    let (subject, actor) = (&forms[0]["subject_token"], &forms[0]["actor_token"]);
    assert_eq!(header(subject)["typ"], "outrider-subject+jwt");
    assert_eq!(header(actor)["typ"], "outrider-actor+jwt");
    let (subject, actor) = (claims(subject), claims(actor));
    let agent = "spiffe://example.org/agent/test";
    assert_eq!(subject["iss"], agent);
    assert_eq!(subject["sub"], "alice@example.org");
    assert_eq!(subject["may_act"]["sub"], agent);
    assert_eq!(subject["task"], json!({"id": task.id, "intent": "work"}));
    assert_eq!(
        (&actor["iss"], &actor["sub"]),
        (&json!(agent), &json!(agent))
    );
    assert_ne!(subject["jti"], actor["jti"]);
    // A task of somebody else has a token of its own.
    assert!(sidecar.agent().call("echo", &hi()).is_tool_success());
    assert_eq!(tokens.forms().len(), 3);
}

#[test]
fn the_token_of_an_issuer_elsewhere_is_exchanged_and_one_of_ours_never_is() {
    let (server, tokens) = (echo(), TokenServer::issuing(600));
    let key = IssuerKey::new("ES256", "k");
    let setup = Setup::new(OUTRIDER, &server);
    setup.file("keys.json", &key_set([&key]).to_string());
    let issuer = "https://iam.example.org";
    let sidecar = setup
        .config(|config| {
            config["tasks"]["issuers"] = json!([{"issuer": issuer, "jwks": "file:keys.json"}]);
            config["services"][0]["credentials"] = json!({"exchange": {
                "token_url": tokens.url(), "subject_token": "task_token", "actor_token": "none",
            }});
        })
        .start();
    let mut claims = task_claims(issuer, "t");
    let ada = key.sign(&claims);
    // Another token of the same task, of somebody else.
    claims["sub"] = json!("user:bob");
    claims["jti"] = json!("another");
    let bob = key.sign(&claims);
    for token in [&ada, &bob, &ada] {
        let answer = sidecar.stranger().with_token(token).call("echo", &hi());
        assert!(answer.is_tool_success(), "{}", answer.text());
    }
    let forms = tokens.forms();
    let subjects: Vec<&String> = forms.iter().map(|form| &form["subject_token"]).collect();
    assert_eq!(subjects, [&ada, &bob]);
    assert!(!forms[0].contains_key("actor_token"));
    assert_eq!(
        bearer(&server),
        ["Bearer token-1", "Bearer token-2", "Bearer token-1"]
    );
    not_sent(&sidecar, &server, &mut sidecar.agent());
    assert_eq!(tokens.forms().len(), 2);
    let run = sidecar.command(&["doctor"]);
    let issuers = run.stdout.lines().find(|line| line.contains("issuer"));
    assert!(issuers.unwrap().contains("1 keys, 0 left out"), "{run:?}");
}

#[test]
fn a_message_without_a_tool_gets_a_token_without_one() {
    let (server, tokens) = (echo(), TokenServer::issuing(600));
    let sidecar = sidecar(&server, &tokens, &exchange());
    let mut agent = sidecar.agent();
    assert_eq!(agent.send(&Request::list()).status, 200);
    assert_eq!(agent.send(&Request::discover()).status, 200);
    let forms = tokens.forms();
    assert_eq!(forms.len(), 1);
    assert_eq!(forms[0]["scope"], "mcp");
    let carried = server.received();
    for request in carried {
        assert_eq!(request.head.get("authorization"), Some("Bearer token-1"));
    }
    // Nobody's housekeeping carries nothing, least of all what the agent sends.
    let discover = Request::discover().field("Authorization", "Bearer of-the-agent");
    assert_eq!(sidecar.stranger().send(&discover).status, 200);
    let last = server.received().pop().unwrap();
    assert_eq!(last.head.get("authorization"), None);
}

#[test]
fn fifty_calls_at_once_make_one_request_to_the_token_server() {
    let server = echo();
    let tokens = TokenServer::start(|exchange, form, before| {
        // Long enough for all to come while it is under way.
        std::thread::sleep(std::time::Duration::from_millis(300));
        exchange.json(200, &token(form, &format!("token-{}", before + 1), 600));
    });
    let sidecar = sidecar(&server, &tokens, &exchange());
    let task = sidecar.open_task(&[]);
    let answers = at_the_same_time(50, || {
        sidecar
            .stranger()
            .with_token(&task.token)
            .call("echo", &hi())
    });
    assert!(answers.iter().all(Answer::is_tool_success));
    assert_eq!(tokens.forms().len(), 1);
    assert_eq!(bearer(&server), ["Bearer token-1"; 50]);
}

#[test]
fn a_token_is_replaced_before_it_expires() {
    let (server, tokens) = (echo(), TokenServer::issuing(2));
    let sidecar = sidecar(&server, &tokens, &client());
    let mut agent = sidecar.agent();
    // By itself, without a call.
    tokens.wait_for(3);
    until("the third token to be used", || {
        assert!(call(&mut agent).is_tool_success());
        let used = bearer(&server).pop().unwrap();
        (used != "Bearer token-1" && used != "Bearer token-2").then_some(())
    });
}

#[test]
fn without_a_token_server_nothing_is_sent_and_nobody_hammers_it() {
    let server = echo();
    let tokens = TokenServer::start(|exchange, _, _| exchange.json(503, &json!({})));
    let sidecar = sidecar(&server, &tokens, &exchange());
    let mut agent = sidecar.agent();
    for _ in 0..20 {
        not_sent(&sidecar, &server, &mut agent);
    }
    assert!(tokens.forms().len() < 10, "{}", tokens.forms().len());
    let run = sidecar.command(&["doctor", "--json"]);
    assert_eq!(run.status, 1, "{run:?}");
    let said: Value = serde_json::from_str(&run.stdout).unwrap();
    let of = |found: &&Value| found["topic"] == "credential";
    let found = said["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(of)
        .unwrap();
    assert_eq!(found["state"], "fail", "{found}");
    assert!(found["detail"].as_str().unwrap().contains("503"), "{found}");
    check_record(&sidecar);
}

#[test]
fn a_token_server_that_comes_back_is_found_again() {
    let well = Arc::new(AtomicBool::new(false));
    let (server, healthy) = (echo(), Arc::clone(&well));
    let tokens = TokenServer::start(move |exchange, form, _| {
        if healthy.load(Ordering::SeqCst) {
            exchange.json(200, &token(form, "good", 600));
        } else {
            exchange.json(400, &json!({"error": "invalid_grant"}));
        }
    });
    let sidecar = sidecar(&server, &tokens, &exchange());
    let mut agent = sidecar.agent();
    not_sent(&sidecar, &server, &mut agent);
    well.store(true, Ordering::SeqCst);
    until("the credential to be fetched", || {
        call(&mut agent).is_tool_success().then_some(())
    });
    assert_eq!(bearer(&server), ["Bearer good"]);
}

#[test]
fn an_answer_that_is_wider_than_asked_or_no_bearer_token_is_not_used() {
    let bad: [fn(&mut Value); 5] = [
        |answer| answer["scope"] = json!("mcp tools:tools/echo admin"),
        |answer| answer["token_type"] = json!("DPoP"),
        |answer| answer["issued_token_type"] = json!("urn:ietf:params:oauth:token-type:jwt"),
        |answer| drop(answer.as_object_mut().unwrap().remove("expires_in")),
        |answer| answer["access_token"] = json!("a\r\nx-admin: 1"),
    ];
    for spoil in bad {
        let server = echo();
        let tokens = TokenServer::start(move |exchange, form, _| {
            let mut answer = token(form, "t", 600);
            spoil(&mut answer);
            exchange.json(200, &answer);
        });
        let sidecar = sidecar(&server, &tokens, &exchange());
        not_sent(&sidecar, &server, &mut sidecar.agent());
    }
}

#[test]
fn a_redirect_of_the_token_server_is_not_followed() {
    let (server, elsewhere) = (echo(), TokenServer::issuing(600));
    let to = elsewhere.url();
    let tokens = TokenServer::start(move |exchange, _, _| {
        exchange.answer(307, "text/plain", &[("Location", &to)], b"");
    });
    let sidecar = sidecar(&server, &tokens, &exchange());
    not_sent(&sidecar, &server, &mut sidecar.agent());
    assert_eq!(elsewhere.received().len(), 0);
}

#[test]
fn the_end_of_a_task_ends_the_wait_and_drops_its_token() {
    let server = echo();
    let (slow, tokens) = {
        let slow = Arc::new(AtomicBool::new(true));
        let waits = Arc::clone(&slow);
        let tokens = TokenServer::start(move |exchange, form, before| {
            if waits.load(Ordering::SeqCst) {
                exchange.wait_until_gone();
            } else {
                exchange.json(200, &token(form, &format!("token-{before}"), 600));
            }
        });
        (slow, tokens)
    };
    let sidecar = sidecar(&server, &tokens, &exchange());
    let task = sidecar.open_task(&[]);
    let agent = sidecar.stranger().with_token(&task.token);
    let mut waiting = agent.start(&Request::call("echo", &hi()));
    tokens.wait_for(1);
    assert_eq!(sidecar.command(&["revoke", "task", &task.id]).status, 0);
    let answer = waiting.answer().unwrap().unwrap();
    assert_eq!(answer.code(), "task_revoked", "{}", answer.text());
    assert_eq!(sidecar.outcome(&answer.decision_id())["ended"], "cut");
    assert_eq!(server.bytes(), 0);
    slow.store(false, Ordering::SeqCst);
    let held = || {
        let run = sidecar.command(&["doctor", "--json"]).stdout;
        let said: Value = serde_json::from_str(&run).unwrap();
        let of = |found: &&Value| found["topic"] == "credential";
        let found = said["findings"]
            .as_array()
            .unwrap()
            .iter()
            .find(of)
            .cloned();
        found.unwrap()["detail"].as_str().unwrap().to_owned()
    };
    let task = sidecar.open_task(&[]);
    let mut agent = sidecar.stranger().with_token(&task.token);
    assert!(call(&mut agent).is_tool_success());
    assert!(held().contains("; 1 held;"), "{}", held());
    assert_eq!(sidecar.command(&["task", "close", &task.id]).status, 0);
    assert!(held().contains("; 0 held;"), "{}", held());
    for end in [
        &["revoke", "subject", "alice"][..],
        &["revoke", "agent", "spiffe://example.org/agent/test"],
    ] {
        let task =
            sidecar.open_task(&["--subject", if end[1] == "agent" { "bob" } else { "alice" }]);
        let mut agent = sidecar.stranger().with_token(&task.token);
        assert!(call(&mut agent).is_tool_success());
        assert!(held().contains("; 1 held;"), "{}", held());
        let run = sidecar.command(end);
        assert_eq!(run.status, 0, "{run:?}");
        assert!(held().contains("; 0 held;"), "{end:?} {}", held());
    }
}

#[test]
fn a_token_that_the_service_refuses_is_replaced_for_the_next_call() {
    let tokens = TokenServer::issuing(600);
    let server = ToolServer::answering(|exchange| {
        let authorization = exchange.request().head.get("authorization");
        if authorization == Some("Bearer token-1") {
            exchange.answer(401, "application/json", &[], b"{}");
        } else {
            exchange.result(&outrider_integration::text_result("hi"));
        }
    });
    let setup = Setup::bare(OUTRIDER);
    let definitions = echo().definitions();
    setup.file(
        "tools.json",
        &outrider_integration::lock_file(&definitions).to_string(),
    );
    setup.file("key.pem", &new_ed25519_pem());
    let text = client().to_string().replace("$URL", &tokens.url());
    let mut section = outrider_integration::service("tools", &server);
    section["credentials"] = serde_json::from_str(&text).unwrap();
    let sidecar = setup.serving(&section).start();
    let mut agent = sidecar.agent();
    assert!(!call(&mut agent).is_tool_success());
    assert_eq!(server.received().len(), 1, "the call was retried");
    assert!(call(&mut agent).is_tool_success());
    let mut used = bearer(&server);
    used.dedup();
    assert_eq!(used, ["Bearer token-1", "Bearer token-2"]);
}

#[test]
fn a_command_brings_a_secret_for_any_header() {
    let server = echo();
    let setup = Setup::new(OUTRIDER, &server);
    setup.file("get", "#!/bin/sh\necho noise >&2\necho \"{\\\"value\\\": \\\"v-$1\\\", \\\"expires_in\\\": 60}\"\n");
    let path = setup.path("get");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let sidecar = setup
        .config(|config| {
            config["services"][0]["credentials"] = json!({
                "header": "x-api-key", "value": "key=${token}", "command": {"run": ["./get", "7"]},
            });
        })
        .start();
    let request = Request::call("echo", &hi()).field("X_Api_Key", "of-the-agent");
    assert!(sidecar.agent().send(&request).is_tool_success());
    let head = server.calls().remove(0).head;
    assert_eq!(head.get("x-api-key"), Some("key=v-7"));
    assert_eq!(head.get("x_api_key"), None);
    let said = std::fs::read_to_string(sidecar.path("stderr.txt")).unwrap();
    assert!(!said.contains("noise") && !said.contains("v-7"), "{said}");
}

#[test]
fn a_fetched_credential_is_in_no_answer_log_metric_or_finding() {
    let server = echo();
    let tokens = TokenServer::start(|exchange, form, _| {
        exchange.json(200, &token(form, "s3cret-token", 600));
    });
    let credentials = json!({"client": {
        "token_url": "$URL", "client_id": "outrider", "secret": "${file:client-secret}",
    }});
    let sidecar = sidecar(&server, &tokens, &credentials);
    let mut said = String::new();
    let answer = call(&mut sidecar.agent());
    assert!(answer.is_tool_success());
    said.extend([format!("{:?}", answer.head), answer.text()]);
    let metrics = sidecar.get("/metrics").text();
    let expiry = sidecar.metric("outrider_credential_expiry_seconds", &["service=\"tools\""]);
    assert!(expiry > 500.0 && expiry <= 600.0, "{metrics}");
    let fetched = ["service=\"tools\"", "result=\"ok\""];
    assert!((sidecar.metric("outrider_credential_fetches_total", &fetched) - 1.0).abs() < 0.1);
    said.push_str(&metrics);
    said.push_str(&sidecar.get("/readyz").text());
    for form in [&["doctor"][..], &["doctor", "--json"]] {
        let run = sidecar.command(form);
        assert_eq!(run.status, 0, "{run:?}");
        said.extend([run.stdout, run.stderr]);
    }
    for file in ["decisions.jsonl", "security.jsonl", "stderr.txt"] {
        said.push_str(&std::fs::read_to_string(sidecar.path(file)).unwrap_or_default());
    }
    for secret in ["s3cret-token", "s3cret of", "s3cret%20of"] {
        assert!(!said.contains(secret), "{secret}");
    }
}
