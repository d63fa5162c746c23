//! Servers that fail or cheat: bounded, refused, recorded.

use outrider_integration::{Exchange, Setup, Sidecar, Tool, ToolServer};
use serde_json::{Value, json};

use crate::support::{OUTRIDER, before, echo, hi};

/// Calls the tool `bad` and expects that refusal, with one decision that allowed it and one
/// outcome that says how it ended.
fn fails(
    change: impl FnOnce(&mut Value),
    code: &str,
    act: impl Fn(&mut Exchange<'_>) + Send + Sync + 'static,
) {
    let server = ToolServer::start(vec![Tool::doing("bad", act), Tool::echo("echo")]);
    let sidecar = Setup::new(OUTRIDER, &server).config(change).start();
    let mut agent = sidecar.agent();
    let answer = agent.call("bad", &hi());
    assert_eq!(answer.code(), code, "{}", answer.text());
    assert!(!answer.text().contains("zz9evil"), "{}", answer.text());
    failed(&sidecar, &answer.decision_id(), code);
    assert_eq!(server.calls().len(), 1, "a call was repeated");
    assert!(
        agent.call("echo", &hi()).is_tool_success(),
        "a good call afterwards"
    );
}

fn failed(sidecar: &Sidecar, id: &str, code: &str) {
    assert_eq!(sidecar.decision(id)["outcome"], "allow");
    let outcome = sidecar.outcome(id);
    assert_eq!(
        (&outcome["ended"], &outcome["code"]),
        (&json!("upstream_failed"), &json!(code)),
        "{outcome}"
    );
}

fn refused(act: impl Fn(&mut Exchange<'_>) + Send + Sync + 'static) {
    fails(|_| (), "response_refused", act);
}

fn result(id: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": "zz9evil"}]}}).to_string()
}

#[test]
fn an_answer_to_another_identifier_is_refused() {
    refused(|exchange| {
        exchange.answer(200, "application/json", &[], result(&json!(2)).as_bytes());
    });
    refused(|exchange| {
        exchange.answer(200, "application/json", &[], result(&json!("1")).as_bytes());
    });
}

#[test]
fn an_answer_that_is_no_strict_json_is_refused() {
    refused(|exchange| exchange.answer(200, "application/json", &[], b"<html>zz9evil</html>"));
    refused(|exchange| {
        let twice = br#"{"jsonrpc":"2.0","id":1,"result":{},"result":{"zz9evil":1}}"#;
        exchange.answer(200, "application/json", &[], twice);
    });
    refused(|exchange| exchange.answer(200, "application/json", &[], b""));
}

#[test]
fn an_answer_of_another_type_or_in_an_encoding_is_refused() {
    refused(|exchange| exchange.answer(200, "text/html", &[], result(&json!(1)).as_bytes()));
    refused(|exchange| {
        let encoded = [("Content-Encoding", "gzip")];
        exchange.answer(
            200,
            "application/json",
            &encoded,
            result(&json!(1)).as_bytes(),
        );
    });
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = echo();
    let url = elsewhere.url();
    refused(move |exchange| exchange.answer(307, "text/plain", &[("Location", &url)], b"zz9evil"));
    assert_eq!(elsewhere.bytes(), 0);
}

#[test]
fn an_answer_over_the_bound_is_refused() {
    fails(
        |config| config["body"] = json!({"max_response": "64KiB"}),
        "response_refused",
        |exchange| {
            let body = result(&json!(1)).replace("zz9evil", &"x".repeat(70_000));
            exchange.answer(200, "application/json", &[], body.as_bytes());
        },
    );
}

#[test]
fn an_answer_that_breaks_off_is_no_answer() {
    let broken = |exchange: &mut Exchange<'_>| {
        exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"zz9evil");
        exchange.hang_up();
    };
    let server = ToolServer::start(vec![Tool::doing("bad", broken)]);
    let sidecar = before(&server);
    let answer = sidecar.agent().call("bad", &hi());
    assert!(
        !answer.is_tool_success() && !answer.text().contains("zz9evil"),
        "{}",
        answer.text()
    );
    let outcome = sidecar.outcome(&answer.decision_id());
    assert_eq!(outcome["ended"], "upstream_failed", "{outcome}");
}

#[test]
fn a_server_that_hangs_up_is_not_asked_again() {
    let server = ToolServer::start(vec![Tool::doing("bad", |exchange| {
        exchange.hang_up();
    })]);
    let sidecar = before(&server);
    let answer = sidecar.agent().call("bad", &hi());
    assert!(!answer.is_tool_success(), "{}", answer.text());
    assert_eq!(server.calls().len(), 1);
}

#[test]
fn a_server_that_does_not_answer_in_time_is_left() {
    fails(
        |config| config["services"][0]["timeout"] = json!("200ms"),
        "upstream_timeout",
        |exchange| {
            exchange.wait_until_gone();
        },
    );
}

#[test]
fn a_stream_that_falls_silent_is_ended() {
    let server = ToolServer::start(vec![Tool::doing("bad", |exchange| {
        exchange.begin_events();
        exchange.wait_until_gone();
    })]);
    let sidecar = Setup::new(OUTRIDER, &server)
        .config(|config| config["services"][0]["stream_idle"] = json!("200ms"))
        .start();
    let answer = sidecar.agent().call("bad", &hi());
    assert!(
        !answer.complete || answer.text().contains("upstream_timeout"),
        "{}",
        answer.text()
    );
    assert_eq!(
        sidecar.outcome(&answer.decision_id())["ended"],
        "upstream_failed"
    );
}

#[test]
fn a_server_that_is_not_there_is_said_to_be_so() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let server = echo();
    let sidecar = Setup::new(OUTRIDER, &server)
        .config(|config| config["services"][0]["upstream"] = json!(format!("http://{address}/mcp")))
        .start();
    let answer = sidecar.agent().call("echo", &hi());
    assert_eq!(answer.code(), "upstream_unreachable", "{}", answer.text());
    assert!(
        !answer.text().contains(&address.to_string()),
        "an upstream address is told"
    );
    failed(&sidecar, &answer.decision_id(), "upstream_unreachable");
}

#[test]
fn a_tools_own_error_passes_as_it_is() {
    let server = ToolServer::start(vec![
        Tool::doing("fails", |exchange| {
            exchange.result(&json!({"resultType": "complete", "isError": true, "content": [{"type": "text", "text": "no such ticket"}]}));
        }),
        Tool::doing("errs", |exchange| exchange.error(-32603, "out of order")),
    ]);
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let answer = agent.call("fails", &hi());
    assert_eq!(answer.tool_text(), "no such ticket");
    assert_eq!(sidecar.outcome(&answer.decision_id())["ended"], "completed");
    let answer = agent.call("errs", &hi()).json();
    assert_eq!(
        answer["error"],
        json!({"code": -32603, "message": "out of order"})
    );
}

#[test]
fn interim_answers_are_not_the_answer() {
    let server = ToolServer::start(vec![Tool::doing("hints", |exchange| {
        exchange.raw(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
        exchange.result(&outrider_integration::text_result("done"));
    })]);
    let sidecar = before(&server);
    assert_eq!(sidecar.agent().call("hints", &hi()).tool_text(), "done");
}
