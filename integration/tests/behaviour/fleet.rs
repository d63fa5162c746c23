//! Sidecars that share a store: limits, exceptions, and what holds while the store is away. Each test
//! needs a real Redis and says so where there is none.

use std::time::Instant;

use outrider_integration::{Kept, RECOVERY, Setup, Sidecar, Store, ToolServer, until};
use serde_json::{Value, json};

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
    assert!(keys.iter().any(|key| key.starts_with("outrider:n:")), "{keys:?}");
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
        assert!(agents[usize::from(call < 2)].call("echo", &hi()).is_tool_success());
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
    assert_eq!(sidecar.get("/readyz").status, 503);
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
        page.contains("the user may not do what is needed").then_some(())
    });
    let mut agent = sidecar.agent();
    refused(&sidecar, &server, (ToolResult, "dependency_unavailable"), || {
        agent.call("echo", &hi())
    });
}
