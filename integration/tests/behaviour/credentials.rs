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

#[test]
fn a_secret_whose_file_is_replaced_is_used_without_a_reload_and_no_call_is_lost() {
    let server = echo();
    let sidecar = sidecar(&server);
    let mut agent = sidecar.agent();
    let used = |agent: &mut outrider_integration::Agent| {
        assert!(agent.call("echo", &hi()).is_tool_success());
        let last = server.calls().pop().unwrap();
        last.head.get("authorization").unwrap().to_owned()
    };
    assert_eq!(used(&mut agent), format!("Bearer {SECRET}"));
    // As a careless rotation does it: for a moment there is none.
    std::fs::remove_file(sidecar.path("secret")).unwrap();
    assert_eq!(used(&mut agent), format!("Bearer {SECRET}"));
    std::fs::write(sidecar.path("secret"), "the-next-one\n").unwrap();
    outrider_integration::until("the new secret to be used", || {
        (used(&mut agent) == "Bearer the-next-one").then_some(())
    });
    let attempts = ["result=\"ok\""];
    assert!((sidecar.metric("outrider_policy_reload_total", &attempts) - 1.0).abs() < 0.1);
}
