//! Streams of legacy sessions: what a service says on its own, and what it says again.

use outrider_integration::{
    Connection, Exchange, Gate, Request, Setup, Sidecar, Tool, ToolServer, text_result, until,
};
use serde_json::{Value, json};

use crate::support::{OUTRIDER, before, check_record, echo_in, hi, scripted, session_of, verb};

fn next(stream: &mut Connection) -> Value {
    let event = stream.event().unwrap().expect("another event");
    serde_json::from_str(&event).unwrap()
}

/// What is left of a stream as it was written, and whether it ended properly.
fn rest(stream: &mut Connection) -> (String, bool) {
    let (rest, complete) = stream.rest();
    (String::from_utf8_lossy(&rest).into_owned(), complete)
}

fn response(id: &Value, result: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

fn tools() -> Value {
    json!({"tools": [
        {"name": "echo", "inputSchema": {"type": "object"}},
        {"name": "secret", "inputSchema": {"type": "object"}},
    ]})
}

/// A server of `echo` and `secret`.
fn two(script: impl Fn(&mut Exchange<'_>) -> bool + Send + Sync + 'static) -> ToolServer {
    ToolServer::legacy(vec![Tool::echo("echo"), Tool::echo("secret")], script)
}

/// A sidecar that grants `echo` alone.
fn granting_echo(server: &ToolServer) -> Sidecar {
    Setup::new(OUTRIDER, server)
        .data(|data| data["grants"][0]["tools"] = json!(["tools/echo"]))
        .start()
}

/// Every stream ends after an ID without an answer; what the feed says is up to the test.
fn pausing(feed: impl Fn(&mut Exchange<'_>) + Send + Sync + 'static) -> ToolServer {
    two(move |exchange| {
        match (
            verb(exchange).as_str(),
            exchange.request().method().as_str(),
        ) {
            ("GET", _) => {
                exchange.begin_events();
                feed(exchange);
                exchange.end();
            }
            (_, "tools/list" | "tools/call") => {
                exchange.begin_events();
                exchange.chunk(b"id: 1\nretry: 10\ndata:\n\n");
                exchange.end();
            }
            _ => return false,
        }
        true
    })
}

fn list(session: &str, id: &Value) -> Request {
    Request::legacy(id, "tools/list", &json!({})).session(session)
}

fn resume(session: &str) -> Request {
    Request::feed(session).field("Last-Event-ID", "1")
}

#[test]
fn ids_and_pauses_pass_in_a_session() {
    let server = pausing(|_| {});
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    let mut stream = agent.start(&echo_in(&session));
    let head = stream.head().unwrap().unwrap();
    let (text, complete) = rest(&mut stream);
    assert!(complete, "a pause is no fault");
    for line in ["id: 1\n", "retry: 10\n"] {
        assert!(text.contains(line), "{text:?}");
    }
    let outcome = sidecar.outcome(head.get("outrider-decision-id").unwrap());
    assert_eq!(outcome["ended"], "completed", "{outcome}");
    check_record(&sidecar);
}

#[test]
fn a_stream_that_cannot_be_taken_up_again_ends_with_a_word() {
    for begin in ["", "id:\ndata:\n\n", ": a comment\n\n"] {
        let server = scripted(move |exchange| {
            let call = exchange.request().method() == "tools/call";
            if call {
                exchange.begin_events();
                if !begin.is_empty() {
                    exchange.chunk(begin.as_bytes());
                }
                exchange.end();
            }
            call
        });
        let sidecar = before(&server);
        let mut agent = sidecar.agent();
        let session = session_of(&mut agent);
        let answer = agent.send(&echo_in(&session));
        assert_eq!(answer.code(), "response_refused", "{}", answer.text());
        assert_eq!(answer.json()["id"], 1);
    }
    // Nor is one outside a session.
    let server = pausing(|_| {});
    let sidecar = before(&server);
    let answer = sidecar.agent().send(&Request::legacy_call("echo", &hi()));
    assert_eq!(answer.code(), "response_refused", "{}", answer.text());
    check_record(&sidecar);
}

#[test]
fn a_replayed_list_shows_what_the_task_may_use() {
    let server = pausing(|exchange| {
        exchange.chunk(b"id: 2\nretry: 10\ndata:\n\n");
        exchange.event(&response(&json!("l"), &tools()));
        exchange.event(&response(&json!("l"), &tools()));
        exchange.event(&response(&json!(999), &tools()));
    });
    let sidecar = granting_echo(&server);
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    agent.send(&list(&session, &json!("l")));
    let mut feed = agent.start(&resume(&session));
    feed.head().unwrap().unwrap();
    let message = next(&mut feed);
    assert_eq!(message["id"], "l", "{message}");
    let names = &message["result"]["tools"];
    assert_eq!(names.as_array().unwrap().len(), 1, "{names}");
    assert_eq!(names[0]["name"], "echo");
    assert_eq!(feed.event().unwrap(), None, "an answer passes once");
    let received = server.received();
    let resumed = received.last().unwrap();
    assert_eq!(resumed.head.get("last-event-id"), Some("1"));
    check_record(&sidecar);
}

/// Not by using its ID for something else, whose answer nobody filters.
#[test]
fn a_replayed_list_cannot_be_passed_off_as_another_answer() {
    let server = pausing(|exchange| {
        exchange.event(&response(&json!(7), &tools()));
        exchange.event(&response(&json!(8), &text_result("hello")));
    });
    let sidecar = granting_echo(&server);
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    let call = |id: u64| {
        let params = json!({"name": "echo", "arguments": hi()});
        Request::legacy(&json!(id), "tools/call", &params).session(&session)
    };
    agent.send(&list(&session, &json!(7)));
    agent.send(&call(7));
    agent.send(&call(7));
    agent.send(&call(8));
    let mut feed = agent.start(&resume(&session));
    feed.head().unwrap().unwrap();
    let message = next(&mut feed);
    assert_eq!(message["id"], 8, "{message}");
    assert_eq!(feed.event().unwrap(), None);
}

#[test]
fn an_answer_on_the_feed_is_for_its_own_session() {
    let server = pausing(|exchange| {
        exchange.event(&response(&json!(8), &text_result("hello")));
    });
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let first = session_of(&mut agent);
    let second = session_of(&mut agent);
    let params = json!({"name": "echo", "arguments": hi()});
    agent.send(&Request::legacy(&json!(8), "tools/call", &params).session(&first));
    let mut feed = agent.start(&resume(&second));
    feed.head().unwrap().unwrap();
    assert_eq!(feed.event().unwrap(), None);
}

#[test]
fn what_passes_on_a_feed_is_one_message_an_event() {
    for bad in [
        "data: zz9evil\n\n",
        "data: [{\"jsonrpc\":\"2.0\",\"method\":\"zz9evil\"}]\n\n",
        "data: {\"jsonrpc\":\"2.0\",\"method\":\"zz9evil\",\"method\":\"a\"}\n\n",
    ] {
        let server = pausing(move |exchange| {
            exchange.chunk(bad.as_bytes());
        });
        let sidecar = before(&server);
        let mut agent = sidecar.agent();
        let session = session_of(&mut agent);
        let mut feed = agent.start(&Request::feed(&session));
        let head = feed.head().unwrap().unwrap();
        let (text, complete) = rest(&mut feed);
        assert!(!complete, "what was cut does not look whole");
        assert!(!text.contains("zz9evil"), "{text}");
        let outcome = sidecar.outcome(head.get("outrider-decision-id").unwrap());
        assert_eq!(outcome["code"], "response_refused", "{outcome}");
    }
}

#[test]
fn a_service_without_a_feed_says_so() {
    let server = scripted(|_| false);
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    let answer = agent.send(&Request::feed(&session));
    assert_eq!(answer.status, 405, "{}", answer.text());
    assert!(agent.send(&echo_in(&session)).is_tool_success());
    check_record(&sidecar);
}

/// Unlike that of a call, the agent's leave ends it.
#[test]
fn a_feed_ends_with_its_agent_and_is_not_hurried() {
    let gone = Gate::new();
    let inside = gone.clone();
    let gate = Gate::new();
    let begun = gate.clone();
    let server = two(move |exchange| {
        if verb(exchange) != "GET" {
            return false;
        }
        exchange.begin_events();
        begun.pass();
        exchange.event(&json!({"jsonrpc": "2.0", "method": "notifications/message"}));
        if exchange.wait_until_gone() {
            inside.open();
        }
        true
    });
    let sidecar = Setup::new(OUTRIDER, &server)
        .config(|config| config["services"][0]["stream_idle"] = json!("50ms"))
        .start();
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    let mut feed = agent.start(&Request::feed(&session));
    let head = feed.head().unwrap().unwrap();
    // Longer than the silence that a call's stream may have.
    let mut call = agent.start(&Request::legacy_call("echo", &hi()).session(&session));
    call.answer().unwrap().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    gate.open();
    assert_eq!(next(&mut feed)["method"], "notifications/message");
    feed.hang_up();
    assert!(gone.pass(), "the feed was not given up");
    let outcome = sidecar.outcome(head.get("outrider-decision-id").unwrap());
    assert_eq!(outcome["ended"], "agent_gone", "{outcome}");
}

/// An agent whose connection broke comes back for its answer, which was read for nobody meanwhile.
#[test]
fn an_answer_that_was_left_behind_can_still_be_fetched() {
    let (gate, done) = (Gate::new(), Gate::new());
    let (inside, finished) = (gate.clone(), done.clone());
    let server = two(move |exchange| {
        match (
            verb(exchange).as_str(),
            exchange.request().method().as_str(),
        ) {
            ("GET", _) => {
                exchange.begin_events();
                exchange.event(&response(&json!(1), &text_result("late")));
                exchange.end();
            }
            (_, "tools/call") => {
                exchange.begin_events();
                exchange.chunk(b"id: 1\ndata:\n\n");
                inside.pass();
                exchange.end_events(&text_result("late"));
                finished.open();
            }
            _ => return false,
        }
        true
    });
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    let mut call = agent.start(&echo_in(&session));
    let head = call.head().unwrap().unwrap();
    call.leave();
    gate.open();
    assert!(done.pass());
    let outcome = sidecar.outcome(head.get("outrider-decision-id").unwrap());
    assert_eq!(outcome["ended"], "agent_gone", "{outcome}");
    let mut feed = agent.start(&resume(&session));
    feed.head().unwrap().unwrap();
    assert_eq!(next(&mut feed)["result"]["content"][0]["text"], "late");
}

/// A grant that is withdrawn holds for what is said again on a stream that was open before.
#[test]
fn a_feed_shows_what_may_be_used_now() {
    let gate = Gate::new();
    let inside = gate.clone();
    let server = pausing(move |exchange| {
        exchange.chunk(b": here\n\n");
        inside.pass();
        exchange.event(&response(&json!(1), &tools()));
    });
    let mut sidecar = before(&server);
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    agent.send(&list(&session, &json!(1)));
    let mut feed = agent.start(&resume(&session));
    feed.head().unwrap().unwrap();
    sidecar.rewrite(|_, data| data["grants"][0]["tools"] = json!(["tools/echo"]));
    let mut other = sidecar.agent();
    until("the reload", || {
        (other.call("secret", &hi()).code() == "policy_denied").then_some(())
    });
    assert_eq!(
        next(&mut feed)["method"],
        "notifications/tools/list_changed"
    );
    gate.open();
    let names = next(&mut feed)["result"]["tools"].clone();
    assert_eq!(names.as_array().unwrap().len(), 1, "{names}");
}

/// An ID can be taken up again once its request has failed.
#[test]
fn a_request_that_failed_is_not_outstanding() {
    let server = two(|exchange| {
        match (
            verb(exchange).as_str(),
            exchange.request().method().as_str(),
        ) {
            ("GET", _) => {
                exchange.begin_events();
                exchange.event(&response(&json!("l"), &tools()));
                exchange.end();
            }
            (_, "tools/list") => exchange.answer(500, "text/plain", &[], b"no"),
            _ => return false,
        }
        true
    });
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    let answer = agent.send(&list(&session, &json!("l")));
    assert_eq!(answer.code(), "response_refused", "{}", answer.text());
    let mut feed = agent.start(&resume(&session));
    feed.head().unwrap().unwrap();
    assert_eq!(feed.event().unwrap(), None);
}

#[test]
fn a_sidecar_that_stops_does_not_wait_for_streams_without_end() {
    let server = two(|exchange| {
        let endless = verb(exchange) == "GET";
        if endless {
            exchange.begin_events();
            exchange.chunk(b": here\n\n");
            exchange.wait_until_gone();
        }
        endless
    });
    let mut sidecar = before(&server);
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    let mut feed = agent.start(&Request::feed(&session));
    feed.head().unwrap().unwrap();
    sidecar.signal("TERM");
    assert!(sidecar.wait().success());
    let (_, complete) = feed.rest();
    assert!(!complete, "what was cut does not look whole");
    check_record(&sidecar);
}
