//! The security log: what the agent attempted, joined to the decision by its ID.

use outrider_integration::{Request, until};
use serde_json::{Value, json};

use crate::support::{before, echo, hi};

#[test]
fn an_attempt_is_noted_with_its_decision_and_without_its_values() {
    let server = echo();
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let call = || Request::call("echo", &hi());
    for (kind, request) in [
        (
            "schema_violation",
            Request::call("echo", &json!({"message": 271_828_182})),
        ),
        ("header_forgery", call().field("Outrider-Agent", "zz9evil")),
        (
            "header_forgery",
            call().field("outrider_subject", "zz9evil"),
        ),
        ("header_forgery", call().with("Mcp-Name", "zz9evil")),
        ("destination_refused", call().host("zz9evil.test")),
    ] {
        let id = agent.send(&request).decision_id();
        let line = until("a line of the security log", || {
            let mut log = sidecar.security_log();
            log.retain(|line| line["decision_id"] == json!(id));
            log.pop()
        });
        assert_eq!(kind_of(&line), kind, "{line}");
    }
    let mut bad = sidecar.stranger().with_token("zz9evil");
    let id = bad.call("echo", &hi()).decision_id();
    let log = sidecar.security_log();
    let noted = log.iter().find(|line| line["decision_id"] == json!(id));
    assert_eq!(kind_of(noted.unwrap()), "token_refused");
    let text = std::fs::read_to_string(sidecar.path("security.jsonl")).unwrap();
    assert!(
        !text.contains("zz9evil") && !text.contains("271828182"),
        "{text}"
    );
}

fn kind_of(line: &Value) -> &str {
    let kind = ["kind", "type", "event"]
        .iter()
        .find_map(|key| line[key].as_str());
    kind.unwrap_or_default()
}
