//! Sidecars that share a store: limits, exceptions, and what holds while the store is away. Each test
//! needs a real Redis and says so where there is none.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use outrider_integration::{
    ACL, IssuerKey, Kept, RECOVERY, Request, Setup, Sidecar, Store, Tool, ToolServer, key_set,
    task_claims, until,
};
use serde_json::{Value, json};

use crate::issuers::{ISSUER, prepared, with_token};
use crate::support::{Form::ToolResult, OUTRIDER, echo, hi, refused};

/// Two sidecars with these limits, which share that store.
fn pair(store: &Store, server: &ToolServer, limits: &Value) -> [Sidecar; 2] {
    [(); 2].map(|()| {
        let setup = Setup::new(OUTRIDER, server).config(|config| {
            config["limits"] = limits.clone();
        });
        ready(store.shared(setup).start())
    })
}

/// Waits until the store counts.
fn ready(sidecar: Sidecar) -> Sidecar {
    until("the store to count", || {
        (sidecar.get("/readyz").status == 200).then_some(())
    });
    sidecar
}

#[test]
fn a_rate_is_one_for_both_sidecars_and_says_what_is_left() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let store = Store::start(&binary, Kept::Nothing);
    let server = echo();
    let limits = json!([{"name": "slow", "key": ["agent"], "rate": "1/h", "burst": 5}]);
    let sidecars = pair(&store, &server, &limits);
    let mut agents = [sidecars[0].agent(), sidecars[1].agent()];
    for call in 0..5 {
        assert!(agents[call % 2].call("echo", &hi()).is_tool_success());
    }
    for (sidecar, agent) in sidecars.iter().zip(&mut agents) {
        let expected = (ToolResult, "rate_limited");
        let answer = refused(sidecar, &server, expected, || agent.call("echo", &hi()));
        let wait = answer.decision()["retry_after_s"].as_f64().unwrap();
        assert!(wait > 3_500.0 && wait <= 3_600.0, "{wait}");
    }
    let input = &sidecars[0].decisions()[0]["input"]["limits"];
    assert_eq!(input[0]["name"], "slow", "{input}");
    assert!(input[0]["remaining"].as_u64().unwrap() >= 3, "{input}");
    assert!(sidecars[0].metric("outrider_state_up", &[]) > 0.0);
    assert!(sidecars[0].metric("outrider_state_questions_total", &["result=\"answered\""]) >= 3.0);
}

#[test]
fn no_subject_stands_in_the_store() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let store = Store::start(&binary, Kept::Nothing);
    let server = echo();
    let limits = json!([{"name": "each", "key": ["subject", "task", "agent"], "rate": "9/h"}]);
    let [sidecar, _other] = pair(&store, &server, &limits);
    let token = sidecar.open_task(&["--subject", "alice@example.org"]).token;
    let mut agent = sidecar.stranger().with_token(&token);
    assert!(agent.call("echo", &hi()).is_tool_success());
    let keys = store.keys();
    assert!(
        keys.iter().any(|key| key.starts_with("outrider:n:")),
        "{keys:?}"
    );
    assert!(!keys.iter().any(|key| key.contains("alice")), "{keys:?}");
}

#[test]
fn limits_are_spent_in_file_order_in_the_store_too() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let store = Store::start(&binary, Kept::Nothing);
    let server = echo();
    let limits = json!([
        {"name": "first", "key": ["agent"], "rate": "1/h", "burst": 3},
        {"name": "second", "key": ["agent", "tool"], "rate": "1/h", "burst": 2},
    ]);
    let [one, other] = pair(&store, &server, &limits);
    let mut agents = [one.agent(), other.agent()];
    for agent in &mut agents {
        assert!(agent.call("echo", &hi()).is_tool_success());
    }
    // The second is spent, and the first spends its last on finding that out.
    for (limit, agent) in ["second", "first"].into_iter().zip(&mut agents) {
        let answer = agent.call("echo", &hi());
        let text = answer.text();
        assert!(text.contains(&format!("`{limit}`")), "{text}");
    }
    assert_eq!(server.calls().len(), 2);
}

#[test]
fn an_emptied_store_gives_nothing_back() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let store = Store::start(&binary, Kept::Nothing);
    let server = echo();
    let limits = json!([{"name": "slow", "key": ["agent"], "rate": "1/h", "burst": 4}]);
    let [one, other] = pair(&store, &server, &limits);
    let mut agents = [one.agent(), other.agent()];
    for call in 0..4 {
        // The last two are known to one sidecar only.
        assert!(
            agents[usize::from(call < 2)]
                .call("echo", &hi())
                .is_tool_success()
        );
    }
    assert_eq!(store.ask(&["FLUSHALL"]).as_deref(), Some("+OK"));
    let begun = Instant::now();
    let mut codes = Vec::new();
    while begun.elapsed() < RECOVERY {
        for agent in &mut agents {
            let code = agent.call("echo", &hi()).decision()["code"].clone();
            codes.push(code.as_str().unwrap_or_default().to_owned());
        }
    }
    assert_eq!(server.calls().len(), 4, "{codes:?}");
    assert!(codes.iter().any(|code| code == "dependency_unavailable"));
    until("both to be limited by the store again", || {
        agents
            .iter_mut()
            .all(|agent| agent.call("echo", &hi()).decision()["code"] == "rate_limited")
            .then_some(())
    });
    assert_eq!(server.calls().len(), 4);
}

#[test]
fn a_store_that_is_away_refuses_and_recovers_by_itself() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let mut store = Store::start(&binary, Kept::Nothing);
    let server = echo();
    let limits = json!([{"name": "fast", "key": ["agent"], "rate": "10000/min"}]);
    let [sidecar, _other] = pair(&store, &server, &limits);
    let mut agent = sidecar.agent();
    assert!(agent.call("echo", &hi()).is_tool_success());
    store.kill();
    until("the store to be missed", || {
        (agent.call("echo", &hi()).decision()["code"] == "dependency_unavailable").then_some(())
    });
    let expected = (ToolResult, "dependency_unavailable");
    let answer = refused(&sidecar, &server, expected, || agent.call("echo", &hi()));
    assert_eq!(answer.decision()["retry"], "after");
    until("the probe to say so", || {
        (sidecar.get("/readyz").status == 503).then_some(())
    });
    store.start_again();
    until("calls to pass again", || {
        agent.call("echo", &hi()).is_tool_success().then_some(())
    });
}

#[test]
fn with_a_local_share_calls_go_on_within_their_part() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let mut store = Store::start(&binary, Kept::Nothing);
    let server = echo();
    let setup = Setup::new(OUTRIDER, &server).config(|config| {
        config["limits"] = json!([{"name": "slow", "key": ["agent"], "rate": "1/h", "burst": 8}]);
    });
    let setup = store.shared(setup).config(|config| {
        config["state"]["on_failure"] = json!("local_share");
        config["state"]["sidecars"] = json!(2);
    });
    let sidecar = setup.start();
    until("the store to count", || {
        (sidecar.metric("outrider_state_up", &[]) > 0.0).then_some(())
    });
    let mut agent = sidecar.agent();
    for _ in 0..4 {
        assert!(agent.call("echo", &hi()).is_tool_success());
    }
    store.kill();
    // Half of what the fleet has left is this sidecar's.
    for _ in 0..2 {
        assert!(agent.call("echo", &hi()).is_tool_success());
    }
    refused(&sidecar, &server, (ToolResult, "rate_limited"), || {
        agent.call("echo", &hi())
    });
    assert_eq!(sidecar.get("/readyz").status, 200);
}

#[test]
fn uses_of_an_exception_are_one_number_for_the_fleet() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let store = Store::start(&binary, Kept::Nothing);
    let server = echo();
    let sidecars = [(); 2].map(|()| {
        let setup = Setup::new(OUTRIDER, &server).data(|data| {
            data["grants"] = json!([]);
            data["exceptions"] = json!([{
                "id": "EX-1",
                "owner": "owner@example.org",
                "reason": "a test",
                "agent": "spiffe://example.org/agent/test",
                "tools": ["tools/echo"],
                "lifts": ["grant"],
                "expires": "2100-01-01T00:00:00Z",
                "max_uses": 20,
            }]);
        });
        ready(store.shared(setup).start())
    });
    std::thread::scope(|scope| {
        for sidecar in &sidecars {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut agent = sidecar.agent();
                    for _ in 0..5 {
                        agent.call("echo", &hi());
                    }
                });
            }
        }
    });
    assert_eq!(server.calls().len(), 20);
    for sidecar in &sidecars {
        let mut agent = sidecar.agent();
        refused(sidecar, &server, (ToolResult, "policy_denied"), || {
            agent.call("echo", &hi())
        });
    }
}

#[test]
fn a_store_that_forgot_its_scripts_is_told_them_again() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let store = Store::start(&binary, Kept::Nothing);
    let server = echo();
    let limits = json!([{"name": "fast", "key": ["agent"], "rate": "1000/min"}]);
    let [sidecar, _other] = pair(&store, &server, &limits);
    let mut agent = sidecar.agent();
    assert!(agent.call("echo", &hi()).is_tool_success());
    store.ask(&["SCRIPT", "FLUSH"]);
    assert!(agent.call("echo", &hi()).is_tool_success());
}

/// All other tests run with [`ACL`].
#[test]
fn the_reference_says_what_the_user_of_the_store_needs() {
    let reference = include_str!("../../../docs/reference.md");
    assert!(reference.contains(&format!("user outrider on >PASSWORD {ACL}\n")));
}

#[test]
fn what_the_user_of_the_store_may_not_do_is_said() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let store = Store::with_acl(&binary, Kept::Nothing, "~outrider:* -@all +evalsha");
    let server = echo();
    let sidecar = store.shared(Setup::new(OUTRIDER, &server)).start();
    until("a reason", || {
        let page = sidecar.get("/readyz").text();
        page.contains("the user may not do what is needed")
            .then_some(())
    });
    let mut agent = sidecar.agent();
    refused(
        &sidecar,
        &server,
        (ToolResult, "dependency_unavailable"),
        || agent.call("echo", &hi()),
    );
}

/// A server with a tool that streams until its peer has gone, and one that answers.
fn streaming() -> ToolServer {
    ToolServer::start(vec![
        Tool::doing("stream", |exchange| {
            exchange.begin_events();
            exchange.event(&json!({
                "jsonrpc": "2.0",
                "method": "notifications/progress",
                "params": {"progressToken": 1, "progress": 1},
            }));
            exchange.wait_until_gone();
        }),
        Tool::echo("echo"),
    ])
}

#[test]
fn who_is_revoked_at_one_sidecar_is_revoked_at_the_other() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let store = Store::start(&binary, Kept::Nothing);
    let server = streaming();
    let [one, other] = pair(&store, &server, &json!([]));
    let token = other.open_task(&["--subject", "alice"]).token;
    let mut agent = other.stranger().with_token(&token);
    let mut stream = agent.start(&Request::call("stream", &hi()));
    let head = stream.head().unwrap().unwrap();
    stream.event().unwrap().unwrap();

    let run = one.command(&["revoke", "subject", "alice", "--reason", "gone"]);
    assert_eq!(run.status, 0, "{run:?}");
    let (rest, complete) = stream.rest();
    let rest = String::from_utf8_lossy(&rest).into_owned();
    assert!(!complete || rest.contains("task_revoked"), "{rest:?}");
    let outcome = other.outcome(head.get("outrider-decision-id").unwrap());
    assert_eq!(outcome["ended"], "cut", "{outcome}");
    refused(&other, &server, (ToolResult, "task_revoked"), || {
        agent.call("echo", &hi())
    });
    let open = ["task", "open", "--intent", "work", "--subject", "alice"];
    assert_eq!(other.command(&open).status, 1);
    let events = other.security_log();
    let event = events
        .iter()
        .find(|event| event["type"] == "revoked")
        .unwrap();
    assert_eq!(event["who"], "fleet:uid:0", "{event}");
    assert_eq!(event["why"], "gone", "{event}");
    let followed = ["result=\"followed\""];
    assert!(other.metric("outrider_state_changes_total", &followed) >= 1.0);
}

#[test]
fn a_revocation_outlives_an_emptied_store_and_reaches_who_comes_later() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let store = Store::start(&binary, Kept::Nothing);
    let server = echo();
    let [one, mut other] = pair(&store, &server, &json!([]));
    let run = one.command(&["revoke", "subject", "alice"]);
    assert_eq!(run.status, 0, "{run:?}");
    other.signal("TERM");
    other.wait();
    store.ask(&["FLUSHALL"]);
    until("the store to be told again", || {
        store
            .keys()
            .contains(&"outrider:entries".to_owned())
            .then_some(())
    });
    let other = ready(other.start_again());
    let open = ["task", "open", "--intent", "work", "--subject", "alice"];
    assert_eq!(other.command(&open).status, 1);
    other.open_task(&["--subject", "bob"]);
}

/// Whether a task can be opened for alice there.
fn may_act(sidecar: &Sidecar) -> bool {
    let open = ["task", "open", "--intent", "work", "--subject", "alice"];
    sidecar.command(&open).status == 0
}

#[test]
fn what_is_lifted_is_lifted_for_the_fleet_under_its_key_only() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let server = echo();
    for keyed in [true, false] {
        let store = Store::start(&binary, Kept::Nothing);
        let [one, other] = [(); 2].map(|()| {
            let setup = Setup::new(OUTRIDER, &server);
            setup.file("fleet-key", &"k".repeat(64));
            let setup = store.shared(setup).config(|config| {
                if keyed {
                    config["state"]["key"] = json!("fleet-key");
                }
            });
            ready(setup.start())
        });
        assert_eq!(one.command(&["revoke", "subject", "alice"]).status, 0);
        assert_eq!(one.command(&["revoke", "subject", "bob"]).status, 0);
        until("both to hear of it", || (!may_act(&other)).then_some(()));
        let run = one.command(&["revoke", "lift", "subject", "alice"]);
        assert_eq!(run.status, 0, "{run:?}");
        assert!(may_act(&one));
        if keyed {
            until("it to be lifted there", || may_act(&other).then_some(()));
        } else {
            // Whatever was told is heard before what is told later.
            assert_eq!(one.command(&["revoke", "subject", "carol"]).status, 0);
            let followed = ["result=\"followed\""];
            until("the other to hear of carol", || {
                (other.metric("outrider_state_changes_total", &followed) >= 3.0).then_some(())
            });
            assert!(!may_act(&other));
        }
    }
}

#[test]
fn garbage_in_the_store_harms_nobody_and_is_counted() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let store = Store::start(&binary, Kept::Nothing);
    let server = echo();
    let limits = json!([{"name": "fast", "key": ["agent"], "rate": "1000/min"}]);
    let [sidecar, other] = pair(&store, &server, &limits);
    let long = "9".repeat(5_000_000);
    let forged = r#"1 x {"edict":{"lift":{"target":{"subject":"alice"}}},"by":"x","at":"2026-01-01T00:00:00Z"}"#;
    assert_eq!(other.command(&["revoke", "subject", "alice"]).status, 0);
    for (number, garbage) in ["", "x", &long, forged].into_iter().enumerate() {
        // An hour ahead, so that what is told later comes after it; one is beyond all time.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_micros();
        let ahead = (now + 3_600_000_000 + number as u128).to_string();
        let place = if garbage == "x" { "inf" } else { &ahead };
        let name = format!("garbage-{number}");
        store.ask(&["HSET", "outrider:entries", &name, garbage]);
        store.ask(&["ZADD", "outrider:order", place, &name]);
    }
    until("all of it to be counted", || {
        let refused = ["result=\"refused\""];
        (sidecar.metric("outrider_state_changes_total", &refused) >= 3.0).then_some(())
    });
    assert!(!may_act(&sidecar));
    let run = other.command(&["revoke", "subject", "bob"]);
    assert_eq!(run.status, 0, "{run:?}");
    until("what is said later to be heard", || {
        let open = ["task", "open", "--intent", "work", "--subject", "bob"];
        (sidecar.command(&open).status == 1).then_some(())
    });
    assert!(sidecar.agent().call("echo", &hi()).is_tool_success());
}

#[test]
fn a_revocation_that_the_store_does_not_have_is_not_acknowledged_and_holds_here() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let mut store = Store::start(&binary, Kept::Nothing);
    let server = echo();
    let [one, other] = pair(&store, &server, &json!([]));
    store.kill();
    let run = one.command(&["revoke", "subject", "alice"]);
    assert_eq!(run.status, 1, "{run:?}");
    assert!(run.stderr.contains("the others do not know"), "{run:?}");
    assert!(!may_act(&one));
    store.start_again();
    until("the other to hear of it", || {
        (!may_act(&other)).then_some(())
    });
}

#[test]
fn an_agent_that_leaves_while_the_store_is_asked_reaches_nothing_and_is_recorded() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let store = Store::start(&binary, Kept::Nothing);
    let server = echo();
    let setup = Setup::new(OUTRIDER, &server).config(|config| {
        config["limits"] = json!([{"name": "fast", "key": ["agent"], "rate": "1000/min"}]);
    });
    let setup = store.shared(setup).config(|config| {
        config["state"]["timeout"] = json!("1s");
    });
    let sidecar = ready(setup.start());
    let mut agent = sidecar.agent();
    assert!(agent.call("echo", &hi()).is_tool_success());
    store.signal("STOP");
    let leaving = agent.start(&Request::call("echo", &hi()));
    until("the call to be under way", || {
        (sidecar.metric("outrider_in_flight", &[]) >= 1.0).then_some(())
    });
    leaving.hang_up();
    let decisions = until("its record", || {
        let decisions = sidecar.decisions();
        (decisions.len() == 2).then_some(decisions)
    });
    assert_eq!(decisions[1]["outcome"], "deny", "{}", decisions[1]);
    store.signal("CONT");
    until("calls to pass again", || {
        agent.call("echo", &hi()).is_tool_success().then_some(())
    });
    assert_eq!(server.calls().len(), 2);
}

#[test]
fn a_sidecar_with_another_key_does_not_count_apart() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let store = Store::start(&binary, Kept::Nothing);
    let server = echo();
    let [_one, _other] = pair(&store, &server, &json!([]));
    let setup = Setup::new(OUTRIDER, &server);
    setup.file("fleet-key", &"k".repeat(64));
    let setup = store.shared(setup).config(|config| {
        config["state"]["key"] = json!("fleet-key");
    });
    let stranger = setup.start();
    until("a reason", || {
        let page = stranger.get("/readyz").text();
        page.contains("another `state.key`").then_some(())
    });
    let mut agent = stranger.agent();
    let expected = (ToolResult, "dependency_unavailable");
    refused(&stranger, &server, expected, || agent.call("echo", &hi()));
}

/// Two sidecars that believe the same issuer.
fn believing(store: &Store, server: &ToolServer, keys: &Value, more: &Value) -> [Sidecar; 2] {
    [(); 2].map(|()| ready(store.shared(prepared(server, keys, more)).start()))
}

/// Two agents of each sidecar together make so many calls with that token.
fn call_together(sidecars: &[Sidecar; 2], token: &str, calls: usize) {
    std::thread::scope(|scope| {
        for agent in 0..4 {
            scope.spawn(move || {
                let mut agent = with_token(&sidecars[agent % 2], token);
                for _ in 0..calls / 4 {
                    agent.call("echo", &hi());
                }
            });
        }
    });
}

#[test]
fn a_budget_is_one_for_both_sidecars_to_the_last_call_and_over_an_emptied_store() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let store = Store::start(&binary, Kept::Nothing);
    let server = echo();
    let key = IssuerKey::new("EdDSA", "one");
    let sidecars = believing(&store, &server, &key_set([&key]), &json!({}));
    let mut claims = task_claims(ISSUER, "t");
    claims["task"]["budget"] = json!({"calls": 100});
    let token = key.sign(&claims);
    call_together(&sidecars, &token, 60);
    assert_eq!(server.calls().len(), 60);
    store.ask(&["FLUSHALL"]);
    until("both to count again", || {
        let up = |sidecar: &Sidecar| sidecar.get("/readyz").status == 200;
        let again = store.keys().iter().any(|key| key == "outrider:epoch");
        (again && sidecars.iter().all(up)).then_some(())
    });
    call_together(&sidecars, &token, 80);
    assert_eq!(server.calls().len(), 100);
    for sidecar in &sidecars {
        refused(sidecar, &server, (ToolResult, "budget_exhausted"), || {
            with_token(sidecar, &token).call("echo", &hi())
        });
    }
}

#[test]
fn a_single_use_token_serves_one_call_of_the_whole_fleet() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let store = Store::start(&binary, Kept::Nothing);
    let server = echo();
    let key = IssuerKey::new("EdDSA", "one");
    let once = json!({"single_use": true});
    let sidecars = believing(&store, &server, &key_set([&key]), &once);
    let token = key.sign(&task_claims(ISSUER, "t"));
    call_together(&sidecars, &token, 48);
    assert_eq!(server.calls().len(), 1);
}

#[test]
fn a_task_that_is_suspended_at_one_sidecar_stands_still_at_the_other() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let store = Store::start(&binary, Kept::Nothing);
    let server = echo();
    let key = IssuerKey::new("EdDSA", "one");
    let keys = key_set([&key]);
    let [one, other] = [(); 2].map(|()| {
        let setup = prepared(&server, &keys, &json!({}));
        setup.file("fleet-key", &"k".repeat(64));
        let setup = store.shared(setup).config(|config| {
            config["state"]["key"] = json!("fleet-key");
        });
        ready(setup.start())
    });
    let token = key.sign(&task_claims(ISSUER, "t"));
    let code = |sidecar: &Sidecar| {
        let answer = with_token(sidecar, &token).call("echo", &hi());
        let line = sidecar.decision(&answer.decision_id());
        line["code"].as_str().unwrap().to_owned()
    };
    for sidecar in [&one, &other] {
        assert_eq!(code(sidecar), "ok");
    }
    let say = |what: &str| {
        let run = one.command(&["task", what, "t"]);
        assert_eq!(run.status, 0, "{run:?}");
    };
    let heard = |expected: &str| {
        until(expected, || (code(&other) == expected).then_some(()));
        assert_eq!(code(&one), expected);
    };
    say("suspend");
    heard("task_suspended");
    say("resume");
    heard("ok");
    say("close");
    heard("task_revoked");
}
