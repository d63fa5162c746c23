//! Streaming streams: event by event, and nothing passes that is not one JSON-RPC message.

use outrider_integration::{
    Connection, Gate, Request, Setup, Sidecar, Tool, ToolServer, text_result, until,
};
use serde_json::{Value, json};

use crate::support::{OUTRIDER, before, hi};

fn progress(step: u64) -> Value {
    json!({
        "jsonrpc": "2.0",
        "method": "notifications/progress",
        "params": {"progressToken": 1, "progress": step},
    })
}

fn next(stream: &mut Connection) -> Value {
    let event = stream.event().unwrap().expect("another event");
    serde_json::from_str(&event).unwrap()
}

/// The server writes an event only after the agent has read the one before.
#[test]
fn an_event_arrives_before_the_next_one_is_sent() {
    let gate = Gate::new();
    let inside = gate.clone();
    let server = ToolServer::start(vec![Tool::doing("stream", move |exchange| {
        exchange.begin_events();
        for step in 1..=3 {
            if !inside.pass() {
                return exchange.hang_up();
            }
            exchange.event(&progress(step));
        }
        inside.pass();
        exchange.end_events(&text_result("done"));
    })]);
    let sidecar = before(&server);
    let mut stream = sidecar.agent().start(&Request::call("stream", &hi()));
    let head = stream.head().unwrap().unwrap();
    assert!(
        head.get("content-type")
            .unwrap()
            .starts_with("text/event-stream"),
        "{head:?}"
    );
    for step in 1..=3 {
        gate.open();
        assert_eq!(next(&mut stream), progress(step));
    }
    gate.open();
    assert_eq!(next(&mut stream)["result"]["content"][0]["text"], "done");
    assert_eq!(stream.event().unwrap(), None, "the stream ends properly");
    let id = head.get("outrider-decision-id").unwrap();
    assert_eq!(sidecar.outcome(id)["ended"], "completed");
}

#[test]
fn every_spelling_of_a_stream_is_read_and_written_anew() {
    let server = ToolServer::start(vec![Tool::doing("odd", |exchange| {
        exchange.begin_events();
        exchange.chunk("\u{feff}: a comment\r\n\r\n".as_bytes());
        exchange.chunk(b"event: message\r\ndata: {\"jsonrpc\":\"2.0\",\r\ndata: \"method\":");
        exchange.chunk(b"\"notifications/progress\",\rdata:\"params\":{\"progressToken\":1,\"progress\":7}}\r\r");
        exchange.end_events(&text_result("done"));
    })]);
    let sidecar = before(&server);
    let mut stream = sidecar.agent().start(&Request::call("odd", &hi()));
    stream.head().unwrap().unwrap();
    assert_eq!(next(&mut stream), progress(7));
    assert_eq!(next(&mut stream)["result"]["content"][0]["text"], "done");
}

/// Asks for the tool `bad`, whose stream breaks the rules after one good event; what must not pass
/// is `zz9evil`.
fn stream_broken_by(act: impl Fn(&mut outrider_integration::Exchange<'_>) + Send + Sync + 'static) {
    let server = ToolServer::start(vec![Tool::doing("bad", move |exchange| {
        exchange.begin_events();
        exchange.event(&progress(1));
        act(exchange);
        exchange.end_events(&text_result("zz9evil"));
    })]);
    let sidecar = before(&server);
    let mut stream = sidecar.agent().start(&Request::call("bad", &hi()));
    let head = stream.head().unwrap().unwrap();
    assert_eq!(next(&mut stream), progress(1));
    let (rest, _) = stream.rest();
    let rest = String::from_utf8_lossy(&rest);
    assert!(!rest.contains("zz9evil"), "{rest}");
    refused_response(&sidecar, head.get("outrider-decision-id").unwrap());
}

fn refused_response(sidecar: &Sidecar, id: &str) {
    let outcome = sidecar.outcome(id);
    assert_eq!(outcome["code"], "response_refused", "{outcome}");
    assert_ne!(outcome["ended"], "completed", "{outcome}");
}

#[test]
fn an_event_that_is_no_json_ends_the_stream() {
    stream_broken_by(|exchange| {
        exchange.chunk(b"data: zz9evil\n\n");
    });
}

#[test]
fn an_event_with_a_duplicate_key_ends_the_stream() {
    stream_broken_by(|exchange| {
        exchange.chunk(
            b"data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{},\"result\":{\"zz9evil\":1}}\n\n",
        );
    });
}

#[test]
fn an_event_with_a_batch_ends_the_stream() {
    stream_broken_by(|exchange| {
        exchange.chunk(b"data: [{\"jsonrpc\":\"2.0\",\"method\":\"zz9evil\"}]\n\n");
    });
}

/// What is no answer to this call is dropped; the stream goes on to its own answer.
#[test]
fn answers_to_others_and_requests_of_the_server_are_dropped() {
    let server = ToolServer::start(vec![Tool::doing("other", |exchange| {
        exchange.begin_events();
        for id in [json!(4711), json!("1")] {
            exchange.event(&json!({"jsonrpc": "2.0", "id": id, "result": text_result("zz9evil")}));
        }
        exchange.event(&json!({
            "jsonrpc": "2.0",
            "id": 1,
            "method": "sampling/createMessage",
            "params": {"zz9evil": 1},
        }));
        exchange.end_events(&text_result("done"));
    })]);
    let sidecar = before(&server);
    let answer = sidecar.agent().call("other", &hi());
    assert!(!answer.text().contains("zz9evil"), "{}", answer.text());
    assert_eq!(answer.tool_text(), "done");
    assert!(answer.complete);
    assert_eq!(sidecar.outcome(&answer.decision_id())["ended"], "completed");
}

/// Nothing that follows the answer is for this call.
#[test]
fn what_follows_the_answer_is_not_passed_on() {
    let server = ToolServer::start(vec![Tool::doing("more", |exchange| {
        exchange.begin_events();
        exchange.event(&json!({"jsonrpc": "2.0", "id": 1, "result": text_result("done")}));
        exchange.event(&json!({"jsonrpc": "2.0", "id": 1, "result": text_result("zz9evil")}));
        exchange.raw(b"0\r\n\r\n");
    })]);
    let sidecar = before(&server);
    let answer = sidecar.agent().call("more", &hi());
    assert!(!answer.text().contains("zz9evil"), "{}", answer.text());
    assert_eq!(answer.tool_text(), "done");
}

#[test]
fn a_server_cannot_speak_in_our_name_on_a_stream() {
    let server = ToolServer::start(vec![Tool::doing("forge", |exchange| {
        exchange.begin_events();
        let mut told = progress(1);
        told["params"]["_meta"] = json!({"outrider/decision": "zz9evil", "example.org/kept": 1});
        exchange.event(&told);
        let mut result = text_result("done");
        result["_meta"] = json!({"outrider/decision": {"id": "zz9evil"}});
        let last = json!({"jsonrpc": "2.0", "id": 1, "result": result});
        exchange.event(&last);
        exchange.raw(b"0\r\nOutrider-Decision-Id: zz9evil\r\n\r\n");
    })]);
    let sidecar = before(&server);
    let answer = sidecar.agent().call("forge", &hi());
    assert!(!answer.text().contains("zz9evil"), "{}", answer.text());
    assert!(
        answer.text().contains("example.org/kept"),
        "{}",
        answer.text()
    );
    assert_eq!(answer.tool_text(), "done");
}

/// Cut off, or ended properly without an answer: the pending call is told, and the record too.
#[test]
fn a_stream_that_ends_before_its_answer_tells_the_pending_call() {
    for proper in [false, true] {
        let server = ToolServer::start(vec![Tool::doing("short", move |exchange| {
            exchange.begin_events();
            exchange.event(&progress(1));
            if proper {
                exchange.raw(b"0\r\n\r\n");
            } else {
                exchange.hang_up();
            }
        })]);
        let sidecar = before(&server);
        let answer = sidecar.agent().call("short", &hi());
        let last = answer.json();
        assert_eq!(last["id"], 1, "{last}");
        assert_eq!(answer.code(), "response_refused", "{last}");
        let outcome = sidecar.outcome(&answer.decision_id());
        assert_eq!(outcome["ended"], "upstream_failed", "{outcome}");
        assert_eq!(outcome["code"], "response_refused", "{outcome}");
    }
}

/// One event over the bound ends the stream, and nothing of it passes.
#[test]
fn an_event_over_the_bound_ends_the_stream() {
    let server = ToolServer::start(vec![Tool::doing("big", |exchange| {
        exchange.begin_events();
        let text = format!("zz9evil{}", "x".repeat(70_000));
        exchange.end_events(&text_result(&text));
    })]);
    let sidecar = Setup::new(OUTRIDER, &server)
        .config(|config| config["body"] = json!({"max_response": "64KiB"}))
        .start();
    let answer = sidecar.agent().call("big", &hi());
    assert_eq!(answer.code(), "response_refused");
    assert!(!answer.text().contains("zz9evil"));
    let outcome = sidecar.outcome(&answer.decision_id());
    assert_eq!(outcome["ended"], "upstream_failed", "{outcome}");
}

#[test]
fn calls_stream_side_by_side() {
    let gate = Gate::new();
    let inside = gate.clone();
    let server = ToolServer::start(vec![
        Tool::doing("stream", move |exchange| {
            exchange.begin_events();
            exchange.event(&progress(1));
            inside.pass();
            exchange.end_events(&text_result("done"));
        }),
        Tool::echo("echo"),
    ]);
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let mut streams: Vec<_> = (0..20)
        .map(|_| agent.start(&Request::call("stream", &hi())))
        .collect();
    for stream in &mut streams {
        stream.head().unwrap().unwrap();
        assert_eq!(next(stream), progress(1));
    }
    assert!(
        agent.call("echo", &hi()).is_tool_success(),
        "an ordinary call beside 20 streams"
    );
    (0..streams.len()).for_each(|_| gate.open());
    for stream in &mut streams {
        assert_eq!(next(stream)["result"]["content"][0]["text"], "done");
    }
    until("no call in flight", || {
        (sidecar.metric("outrider_in_flight", &[]) == 0.0).then_some(())
    });
}
