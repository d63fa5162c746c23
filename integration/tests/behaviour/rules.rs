//! Rules that users write: they permit, deny and hold; one that fails refuses.

use outrider_integration::{Setup, Sidecar, Tool, ToolServer};
use serde_json::json;

use crate::support::{Form::ToolResult, OUTRIDER, echo, hi, refused};

fn under(server: &ToolServer, rules: &str) -> Setup {
    Setup::new(OUTRIDER, server).rules(&format!("package outrider.authz\n\n{rules}\n"))
}

fn ho(sidecar: &Sidecar) -> bool {
    let other = json!({"message": "ho"});
    sidecar.agent().call("echo", &other).is_tool_success()
}

#[test]
fn a_call_that_needs_a_person_is_held() {
    let server = echo();
    let sidecar = under(
        &server,
        "approve contains {\"reason\": \"big\", \"approvers\": [\"ops@example.org\"], \"ttl\": \"15m\"} if {\n\
         \tinput.call.arguments.message == \"hi\"\n}",
    )
    .start();
    let mut agent = sidecar.agent();
    let answer = refused(&sidecar, &server, (ToolResult, "approval_required"), || {
        agent.call("echo", &hi())
    });
    assert_eq!(answer.decision()["retry"], "with_approval");
    assert!(ho(&sidecar));
}

#[test]
fn a_deny_beats_an_approval_and_an_allow() {
    let server = echo();
    let sidecar = under(
        &server,
        "default allow := false\n\nallow if input.tool.service == \"tools\"\n\n\
         approve contains {\"reason\": \"big\", \"approvers\": [\"ops@example.org\"]} if input.call.arguments.message == \"hi\"\n\n\
         deny contains {\"reason\": \"no\", \"message\": \"m\"} if input.call.arguments.message == \"hi\"",
    )
    .start();
    let mut agent = sidecar.agent();
    refused(&sidecar, &server, (ToolResult, "policy_denied"), || {
        agent.call("echo", &hi())
    });
    assert!(ho(&sidecar));
}

#[test]
fn an_allow_permits_without_a_grant_and_beats_no_guard() {
    let server = ToolServer::start(vec![Tool::echo("echo"), Tool::echo("read")]);
    let sidecar = under(
        &server,
        "default allow := false\n\nallow if input.tool.operation == \"echo\"",
    )
    .data(|data| data["grants"] = json!([]))
    .start();
    let mut agent = sidecar.agent();
    assert!(agent.call("echo", &hi()).is_tool_success());
    refused(&sidecar, &server, (ToolResult, "policy_denied"), || {
        agent.call("read", &hi())
    });
    let narrow = sidecar.open_task(&["--tools", "tools/read"]);
    let mut agent = sidecar.stranger().with_token(&narrow.token);
    refused(&sidecar, &server, (ToolResult, "scope_exceeded"), || {
        agent.call("echo", &hi())
    });
}

/// Far more work than can be done in the time, so that no machine is fast enough.
#[test]
fn a_rule_that_does_not_end_in_time_refuses() {
    let server = echo();
    let sidecar = under(
        &server,
        "digits := [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n\n\
         deny contains {\"reason\": \"slow\", \"message\": \"m\"} if {\n\
         \tinput.call.arguments.message == \"hi\"\n\
         \tsome a in digits\n\tsome b in digits\n\tsome c in digits\n\tsome d in digits\n\
         \tsome e in digits\n\tsome f in digits\n\tsome g in digits\n\
         \t[a, b, c, d, e, f, g] == input.call.arguments.message\n}",
    )
    .config(|config| config["policy"]["timeout"] = json!("50ms"))
    .start();
    let mut agent = sidecar.agent();
    let answer = refused(&sidecar, &server, (ToolResult, "policy_error"), || {
        agent.call("echo", &hi())
    });
    assert_eq!(answer.decision()["retry"], "after");
}

/// Each of these would be no verdict, or another than was meant, when a call comes.
#[test]
fn a_rule_that_could_fail_is_refused_before_it_is_used() {
    let server = echo();
    for (rule, word) in [
        (
            "level := 1 if input.call.arguments_bytes > 0\n\nlevel := 2 if input.call.arguments_bytes > 1",
            "two values",
        ),
        (
            "deny contains \"just text\" if input.call.arguments_bytes > 0",
            "`deny` holds objects",
        ),
        (
            "deny contains {\"reason\": \"no\"} if input.call.arguments_bytes > 0",
            "message",
        ),
        (
            "deny contains {\"reason\": \"No Word\", \"message\": \"m\"} if input.call.arguments_bytes > 0",
            "reason",
        ),
        ("allow if input.call.zz9", "zz9"),
        (
            "allow if http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1\"}).status_code == 200",
            "http.send",
        ),
        ("allow if time.now_ns() > 0", "time.now_ns"),
    ] {
        let setup = under(&server, rule);
        setup.write();
        for (command, status) in [("check", 1), ("run", 2)] {
            let run = setup.run(&[command, "-c", "outrider.yaml"]);
            let said = format!("{}{}", run.stdout, run.stderr);
            assert_eq!(run.status, status, "{rule}: {said}");
            assert!(said.contains("rules.rego:"), "{rule}: {said}");
            assert!(said.contains(word), "{rule}: {said}");
        }
    }
}
