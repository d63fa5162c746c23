//! How secret: the operator's level, the task's and the grant's reach.

use outrider_integration::{Setup, Tool, ToolServer};
use serde_json::{Value, json};

use crate::support::{Form::ToolResult, OUTRIDER, hi, refused};

/// A service whose tool `secret` is confidential.
fn server() -> ToolServer {
    let mut secret = Tool::echo("secret");
    secret.definition["classification"] = json!("confidential");
    ToolServer::start(vec![secret, Tool::echo("echo")])
}

fn sidecar(server: &ToolServer, data: impl FnOnce(&mut Value)) -> outrider_integration::Sidecar {
    Setup::new(OUTRIDER, server).data(data).start()
}

#[test]
fn the_higher_of_tool_and_service_is_what_the_server_is_told() {
    let server = server();
    let sidecar = sidecar(&server, |_| ());
    let mut agent = sidecar.agent();
    for (tool, level) in [("secret", "confidential"), ("echo", "internal")] {
        let answer = agent.call(tool, &hi());
        assert_eq!(
            sidecar.decision(&answer.decision_id())["classification"],
            level
        );
        assert_eq!(
            server
                .calls()
                .last()
                .unwrap()
                .head
                .get("outrider-classification"),
            Some(level)
        );
    }
}

#[test]
fn data_above_the_intent_is_refused() {
    let server = server();
    let sidecar = sidecar(&server, |data| {
        data["intents"][0]["max_classification"] = json!("internal");
    });
    let mut agent = sidecar.agent();
    let expected = (ToolResult, "classification_exceeded");
    refused(&sidecar, &server, expected, || agent.call("secret", &hi()));
    assert!(agent.call("echo", &hi()).is_tool_success());
}

#[test]
fn data_above_the_task_is_refused() {
    let server = server();
    let sidecar = sidecar(&server, |_| ());
    let task = sidecar.open_task(&["--max-classification", "internal"]);
    let mut agent = sidecar.stranger().with_token(&task.token);
    let expected = (ToolResult, "classification_exceeded");
    refused(&sidecar, &server, expected, || agent.call("secret", &hi()));
}

#[test]
fn an_intent_without_a_level_reaches_what_is_public() {
    let server = server();
    let sidecar = sidecar(&server, |data| {
        data["intents"][0]
            .as_object_mut()
            .unwrap()
            .remove("max_classification");
    });
    let mut agent = sidecar.agent();
    let expected = (ToolResult, "classification_exceeded");
    refused(&sidecar, &server, expected, || agent.call("echo", &hi()));
}

#[test]
fn data_above_the_grant_is_refused() {
    let server = server();
    let sidecar = sidecar(&server, |data| {
        data["grants"][0]["max_classification"] = json!("internal");
    });
    let mut agent = sidecar.agent();
    refused(
        &sidecar,
        &server,
        (ToolResult, "classification_exceeded"),
        || agent.call("secret", &hi()),
    );
    assert!(agent.call("echo", &hi()).is_tool_success());
}

#[test]
fn a_tool_without_any_level_is_restricted() {
    let server = server();
    let sidecar = Setup::new(OUTRIDER, &server)
        .config(|config| {
            config["services"][0]
                .as_object_mut()
                .unwrap()
                .remove("classification");
        })
        .data(|data| data["intents"][0]["max_classification"] = json!("confidential"))
        .start();
    let mut agent = sidecar.agent();
    let expected = (ToolResult, "classification_exceeded");
    refused(&sidecar, &server, expected, || agent.call("echo", &hi()));
    assert!(agent.call("secret", &hi()).is_tool_success());
}
