//! What the modules share: the binary, an echo server, the oracle of a refusal.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use outrider_integration::{
    Address, Agent, Answer, Exchange, PATIENCE, Request, Setup, Sidecar, Tool, ToolServer,
};
use serde_json::{Value, json};

/// The binary under test.
pub(crate) const OUTRIDER: &str = env!("CARGO_BIN_EXE_outrider");

/// A server with the one tool `echo`.
pub(crate) fn echo() -> ToolServer {
    ToolServer::start(vec![Tool::echo("echo")])
}

/// A sidecar before that server, which permits everything.
pub(crate) fn before(server: &ToolServer) -> Sidecar {
    Setup::new(OUTRIDER, server).start()
}

/// The same with a decision log that is kept so.
pub(crate) fn keeping(durability: &str, server: &ToolServer) -> Sidecar {
    Setup::new(OUTRIDER, server)
        .config(|config| config["decision_log"]["durability"] = durability.into())
        .start()
}

/// A legacy server with the tool `echo`, which does as the script says, if that says anything.
pub(crate) fn scripted(
    script: impl Fn(&mut Exchange<'_>) -> bool + Send + Sync + 'static,
) -> ToolServer {
    ToolServer::legacy(vec![Tool::echo("echo")], script)
}

/// The name of a session that was opened for an agent.
pub(crate) fn session_of(agent: &mut Agent) -> String {
    let answer = agent.send(&Request::initialize());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.json().get("result").is_some(), "{}", answer.text());
    let named = answer.head.get("mcp-session-id");
    named.expect("a session").to_owned()
}

/// A call of the tool `echo` in a session.
pub(crate) fn echo_in(session: &str) -> Request {
    Request::legacy_call("echo", &hi()).session(session)
}

/// The HTTP method of what a server is to answer.
pub(crate) fn verb(exchange: &Exchange<'_>) -> String {
    let line = &exchange.request().head.line;
    line.split(' ').next().unwrap_or_default().to_owned()
}

/// Checks that every decision that permitted something has its one outcome line, every other none,
/// and that the log is whole.
pub(crate) fn check_record(sidecar: &Sidecar) {
    for line in sidecar.decisions() {
        let id = line["decision_id"].as_str().unwrap();
        if line["outcome"] == "allow" {
            sidecar.outcome(id);
        } else {
            assert_eq!(sidecar.outcomes(id), Vec::<Value>::new(), "{line}");
        }
        sidecar.decision(id);
    }
    let verify = std::process::Command::new(OUTRIDER)
        .args(["log", "verify"])
        .arg(sidecar.path("decisions.jsonl"))
        .output()
        .unwrap();
    assert!(verify.status.success(), "{verify:?}");
}

/// Good arguments of every tool of the harness.
pub(crate) fn hi() -> Value {
    json!({"message": "hi"})
}

/// The same, larger than what is judged on the thread of its connection.
pub(crate) fn large() -> Value {
    json!({"message": "x".repeat(100_000)})
}

/// Runs `act` so many times at once.
pub(crate) fn at_the_same_time<T: Send>(times: usize, act: impl Fn() -> T + Sync) -> Vec<T> {
    let start = std::sync::Barrier::new(times);
    std::thread::scope(|scope| {
        let run = || {
            start.wait();
            act()
        };
        let running: Vec<_> = (0..times).map(|_| scope.spawn(run)).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// How a refusal comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// HTTP 200 and a tool result with `isError`.
    ToolResult,
    /// That HTTP status and a JSON-RPC error of that code.
    Rpc(u16, i64),
    /// That HTTP status and a problem document (RFC 9457).
    Problem(u16),
}

/// Runs `act`, whose answer must be a refusal of that form and code, and checks all of it: the
/// form, that nothing reached the server, one decision line and no outcome line.
/// Returns the answer.
pub(crate) fn refused(
    sidecar: &Sidecar,
    server: &ToolServer,
    (form, code): (Form, &str),
    act: impl FnOnce() -> Answer,
) -> Answer {
    let before = server.bytes();
    let answer = act();
    assert_eq!(
        server.bytes(),
        before,
        "a refused call reached the server: {}",
        answer.text()
    );
    check_form(&answer, form);
    check_decision(&answer, code);
    let id = answer.decision_id();
    let line = sidecar.decision(&id);
    let held = code == "approval_required";
    assert_eq!(
        line["outcome"],
        if held { "hold" } else { "deny" },
        "{line}"
    );
    assert_eq!(line["code"], code, "{line}");
    assert_eq!(
        sidecar.outcomes(&id),
        Vec::<Value>::new(),
        "a refused call has no outcome line"
    );
    answer
}

fn check_form(answer: &Answer, form: Form) {
    let body = answer.json();
    match form {
        Form::ToolResult => {
            assert_eq!(answer.status, 200, "{body}");
            assert_eq!(body["result"]["isError"], true, "{body}");
            assert_eq!(body["result"]["resultType"], "complete", "{body}");
            assert!(body["result"].get("structuredContent").is_none(), "{body}");
            assert!(answer.tool_text().contains(&answer.decision_id()), "{body}");
        }
        Form::Rpc(status, code) => {
            assert_eq!(answer.status, status, "{body}");
            assert_eq!(body["error"]["code"], code, "{body}");
            assert!(body.get("result").is_none(), "{body}");
        }
        Form::Problem(status) => {
            assert_eq!(answer.status, status, "{body}");
            let kind = answer.head.get("content-type").unwrap_or_default();
            assert!(kind.starts_with("application/problem+json"), "{kind}");
            assert_eq!(body["status"], status, "{body}");
            assert_eq!(body["decision_id"], answer.decision_id(), "{body}");
        }
    }
}

/// The decision object names the code, a retry and the ID that the header carries.
fn check_decision(answer: &Answer, code: &str) {
    let decision = answer.decision();
    assert_eq!(decision["code"], code, "{}", answer.text());
    assert!(decision["retry"].is_string(), "{decision}");
    let id = decision.get("id").or_else(|| decision.get("decision_id"));
    assert_eq!(id, Some(&json!(answer.decision_id())), "{decision}");
}

/// The line by which a task's token is a proxy's password.
pub(crate) fn password(user: &str, token: &str) -> String {
    let coded = STANDARD.encode(format!("{user}:{token}"));
    format!("Proxy-Authorization: Basic {coded}\r\n")
}

/// A connection to the forward listener.
pub(crate) fn to_proxy(sidecar: &Sidecar) -> TcpStream {
    let Address::Tcp(address) = sidecar.listener("forward") else {
        panic!("not TCP")
    };
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Asks the forward listener for a tunnel, with further lines; the answer's head, and the stream.
pub(crate) fn tunnel(sidecar: &Sidecar, to: &str, fields: &str) -> (String, TcpStream) {
    let mut stream = to_proxy(sidecar);
    write!(
        stream,
        "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{fields}\r\n"
    )
    .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{head:?}");
        head.push(byte[0]);
    }
    (String::from_utf8(head).unwrap(), stream)
}
