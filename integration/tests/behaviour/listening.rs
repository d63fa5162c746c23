//! Streams that tell what changes: `subscriptions/listen`, and the stream of a legacy session.

use outrider_integration::{
    Connection, Gate, Request, Setup, Sidecar, Tool, ToolServer, initialized, until,
};
use serde_json::{Value, json};

use crate::{
    resources::lock,
    support::{Form::Rpc, OUTRIDER, check_record, refused, session_of, verb},
};

fn next(stream: &mut Connection) -> Value {
    let event = stream.event().unwrap().expect("another event");
    serde_json::from_str(&event).unwrap()
}

fn told(method: &str, id: &Value) -> Value {
    let meta = json!({"io.modelcontextprotocol/subscriptionId": id});
    json!({"jsonrpc": "2.0", "method": method, "params": {"_meta": meta}})
}

const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
const UPDATED: &str = "notifications/resources/updated";

/// A server that acknowledges, waits for the gate, tells of one update and then waits for the end;
/// the feeds of its sessions do the same.
fn telling(gate: &Gate, capabilities: &Value) -> ToolServer {
    let (gate, capabilities) = (gate.clone(), capabilities.clone());
    ToolServer::legacy(vec![Tool::echo("echo")], move |exchange| {
        let feed = verb(exchange) == "GET";
        match exchange.request().method().as_str() {
            "initialize" => exchange.opened("s-1", &initialized(&capabilities)),
            "subscriptions/listen" | "" if feed || !exchange.request().body.is_empty() => {
                let id = exchange.request().json()["id"].clone();
                exchange.begin_events();
                if !feed {
                    exchange.event(&told(ACKNOWLEDGED, &id));
                }
                gate.pass();
                exchange.event(&told(UPDATED, &id));
                exchange.wait_until_gone();
            }
            _ => return false,
        }
        true
    })
}

fn before(server: &ToolServer, granted: &Value) -> Sidecar {
    let setup = Setup::new(OUTRIDER, server);
    setup.file("tools.json", &lock(server).to_string());
    setup
        .config(|config| config["services"][0]["stream_idle"] = json!("50ms"))
        .data(|data| data["grants"][0]["tools"] = granted.clone())
        .start()
}

fn listen(id: &Value, notifications: &Value) -> Request {
    let params = json!({"notifications": notifications});
    Request::message(id, "subscriptions/listen", params)
}

/// Changes the policy data of a sidecar and waits until that holds.
fn change(sidecar: &mut Sidecar, act: impl FnOnce(&mut Value)) {
    let attempts = |sidecar: &Sidecar| sidecar.metric("outrider_policy_reload_total", &[]);
    let before = attempts(sidecar);
    sidecar.rewrite(|_, data| act(data));
    until("the reload", || (attempts(sidecar) > before).then_some(()));
}

#[test]
fn listening_is_a_call_that_is_locked_and_granted() {
    let server = telling(&Gate::new(), &json!({}));
    let request = listen(&json!(1), &json!({"toolsListChanged": true}));
    let sidecar = before(&server, &json!(["tools/echo"]));
    let expected = (Rpc(200, 4030), "policy_denied");
    refused(&sidecar, &server, expected, || {
        sidecar.agent().send(&request)
    });
    refused(&sidecar, &server, (Rpc(200, 4030), "task_missing"), || {
        sidecar.stranger().send(&request)
    });
    let sidecar = Setup::new(OUTRIDER, &server).start();
    let expected = (Rpc(200, -32602), "tool_unknown");
    refused(&sidecar, &server, expected, || {
        sidecar.agent().send(&request)
    });
}

/// Silence is longer here than the stream of a call may be silent.
#[test]
fn a_listener_hears_what_its_service_tells_and_what_changes_here() {
    let gate = Gate::new();
    let server = telling(&gate, &json!({}));
    let mut sidecar = before(&server, &json!(["tools/subscriptions/listen"]));
    let agent = sidecar.agent();
    let id = json!("l-1");
    let wanted = json!({"toolsListChanged": true, "promptsListChanged": false});
    let mut stream = agent.start(&listen(&id, &wanted));
    let head = stream.head().unwrap().unwrap();
    assert_eq!(next(&mut stream), told(ACKNOWLEDGED, &id));
    std::thread::sleep(std::time::Duration::from_millis(200));
    change(&mut sidecar, |data| {
        data["grants"][0]["tools"] = json!(["*/*"]);
    });
    let changed = told("notifications/tools/list_changed", &id);
    assert_eq!(next(&mut stream), changed);
    gate.open();
    assert_eq!(next(&mut stream), told(UPDATED, &id), "it asked no more");
    stream.hang_up();
    let outcome = sidecar.outcome(head.get("outrider-decision-id").unwrap());
    assert_eq!(outcome["ended"], "agent_gone", "{outcome}");
    check_record(&sidecar);
}

#[test]
fn a_listener_hears_only_what_it_asked_for() {
    let gate = Gate::new();
    let server = telling(&gate, &json!({}));
    let mut sidecar = before(&server, &json!(["*/*"]));
    let agent = sidecar.agent();
    let id = json!(1);
    let mut stream = agent.start(&listen(
        &id,
        &json!({"resourceSubscriptions": ["file:///a"]}),
    ));
    stream.head().unwrap().unwrap();
    assert_eq!(next(&mut stream), told(ACKNOWLEDGED, &id));
    change(&mut sidecar, |data| {
        data["agents"][0]["purpose"] = json!("Another");
    });
    gate.open();
    assert_eq!(next(&mut stream), told(UPDATED, &id));
}

/// The first word on the stream is the service's own.
#[test]
fn a_listener_hears_of_no_change_before_it_was_acknowledged() {
    let gate = Gate::new();
    let inside = gate.clone();
    let server = ToolServer::legacy(vec![Tool::echo("echo")], move |exchange| {
        if exchange.request().method() != "subscriptions/listen" {
            return false;
        }
        exchange.begin_events();
        exchange.chunk(b": here\n\n");
        inside.pass();
        let id = exchange.request().json()["id"].clone();
        exchange.event(&told(ACKNOWLEDGED, &id));
        exchange.wait_until_gone();
        true
    });
    let mut sidecar = before(&server, &json!(["*/*"]));
    let agent = sidecar.agent();
    let id = json!(1);
    let mut stream = agent.start(&listen(&id, &json!({"toolsListChanged": true})));
    stream.head().unwrap().unwrap();
    change(&mut sidecar, |data| {
        data["agents"][0]["purpose"] = json!("Another");
    });
    gate.open();
    assert_eq!(next(&mut stream), told(ACKNOWLEDGED, &id));
    let changed = told("notifications/tools/list_changed", &id);
    assert_eq!(next(&mut stream), changed);
}

#[test]
fn a_session_hears_of_changes_that_its_service_declared() {
    let gate = Gate::new();
    let capabilities = json!({"tools": {"listChanged": true}, "prompts": {"listChanged": false}});
    let server = telling(&gate, &capabilities);
    let mut sidecar = before(&server, &json!(["*/*"]));
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    let mut feed = agent.start(&Request::feed(&session));
    feed.head().unwrap().unwrap();
    change(&mut sidecar, |data| {
        data["agents"][0]["purpose"] = json!("Another");
    });
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
    assert_eq!(next(&mut feed), changed);
    gate.open();
    assert_eq!(next(&mut feed)["method"], UPDATED);
}

#[test]
fn a_session_whose_service_declared_no_changes_hears_of_none() {
    let gate = Gate::new();
    let server = telling(&gate, &json!({"tools": {}}));
    let mut sidecar = before(&server, &json!(["*/*"]));
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    let mut feed = agent.start(&Request::feed(&session));
    feed.head().unwrap().unwrap();
    change(&mut sidecar, |data| {
        data["agents"][0]["purpose"] = json!("Another");
    });
    gate.open();
    assert_eq!(next(&mut feed)["method"], UPDATED);
}

#[test]
fn a_listener_whose_task_is_revoked_is_cut() {
    let server = telling(&Gate::new(), &json!({}));
    let sidecar = before(&server, &json!(["*/*"]));
    let task = sidecar.open_task(&[]);
    let agent = sidecar.stranger().with_token(&task.token);
    let id = json!(1);
    let mut stream = agent.start(&listen(&id, &json!({"toolsListChanged": true})));
    let head = stream.head().unwrap().unwrap();
    assert_eq!(next(&mut stream), told(ACKNOWLEDGED, &id));
    assert_eq!(sidecar.command(&["revoke", "task", &task.id]).status, 0);
    let (rest, complete) = stream.rest();
    let rest = String::from_utf8_lossy(&rest).into_owned();
    assert!(!complete || rest.contains("task_revoked"), "{rest}");
    let outcome = sidecar.outcome(head.get("outrider-decision-id").unwrap());
    assert_eq!(outcome["ended"], "cut", "{outcome}");
}
