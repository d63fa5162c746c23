//! Streaming streams: event by event, and nothing passes that is not one JSON-RPC message.

use outrider_integration::{
    Connection, Gate, Request, Sidecar, Tool, ToolServer, text_result, until,
};
use serde_json::{Value, json};

use crate::support::{before, hi};

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

#[test]
fn an_answer_to_another_identifier_never_passes() {
    let server = ToolServer::start(vec![Tool::doing("other", |exchange| {
        exchange.begin_events();
        exchange.event(&json!({"jsonrpc": "2.0", "id": 4711, "result": text_result("zz9evil")}));
        exchange.end_events(&text_result("done"));
    })]);
    let sidecar = before(&server);
    let mut stream = sidecar.agent().start(&Request::call("other", &hi()));
    stream.head().unwrap().unwrap();
    let (rest, _) = stream.rest();
    assert!(!String::from_utf8_lossy(&rest).contains("zz9evil"));
}

#[test]
fn a_stream_that_breaks_off_never_looks_complete() {
    let server = ToolServer::start(vec![Tool::doing("short", |exchange| {
        exchange.begin_events();
        exchange.event(&progress(1));
        exchange.hang_up();
    })]);
    let sidecar = before(&server);
    let mut stream = sidecar.agent().start(&Request::call("short", &hi()));
    let head = stream.head().unwrap().unwrap();
    assert_eq!(next(&mut stream), progress(1));
    let (rest, complete) = stream.rest();
    let rest = String::from_utf8_lossy(&rest).into_owned();
    let told = rest.contains("isError") || rest.contains("\"error\"");
    assert!(told || !complete, "a clean end without a word: {rest:?}");
    let outcome = sidecar.outcome(head.get("outrider-decision-id").unwrap());
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
