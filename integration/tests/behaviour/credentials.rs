//! Secrets are injected after the decision and go nowhere else.

use outrider_integration::{Request, Setup, Sidecar, ToolServer};
use serde_json::json;

use crate::support::{OUTRIDER, echo, hi};

const SECRET: &str = "s3cret-of-the-service";

fn sidecar(server: &ToolServer) -> Sidecar {
    let setup = Setup::new(OUTRIDER, server);
    setup.file("secret", &format!("{SECRET}\n"));
    let file = setup.path("secret");
    let value = format!("Bearer ${{file:{}}}", file.display());
    setup
        .config(|config| {
            config["services"][0]["credentials"] =
                json!({"header": "authorization", "value": value});
        })
        .start()
}

#[test]
fn the_services_credential_replaces_what_the_agent_sends() {
    let server = echo();
    let sidecar = sidecar(&server);
    let request = Request::call("echo", &hi()).field("Authorization", "Bearer of-the-agent");
    assert!(sidecar.agent().send(&request).is_tool_success());
    let head = server.calls().remove(0).head;
    assert_eq!(
        head.get("authorization"),
        Some(format!("Bearer {SECRET}").as_str())
    );
}

#[test]
fn a_credential_is_in_no_answer_log_or_metric() {
    let server = echo();
    let sidecar = sidecar(&server);
    let mut agent = sidecar.agent();
    let mut said = String::new();
    for request in [
        Request::call("echo", &hi()),
        Request::call("echo", &json!({})),
        Request::call("nope", &hi()),
        Request::list(),
    ] {
        let answer = agent.send(&request);
        said.extend([format!("{:?}", answer.head), answer.text()]);
    }
    for path in ["/metrics", "/readyz", "/livez"] {
        said.push_str(&sidecar.get(path).text());
    }
    for file in ["decisions.jsonl", "security.jsonl", "stderr.txt"] {
        said.push_str(&std::fs::read_to_string(sidecar.path(file)).unwrap_or_default());
    }
    assert!(!said.contains(SECRET));
}
