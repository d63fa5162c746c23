//! The control socket: for its owner, never for an agent.

use std::{fs, os::unix::fs::PermissionsExt};

use outrider_integration::{Connection, Setup};
use serde_json::json;

use crate::support::{Form::ToolResult, OUTRIDER, before, echo, hi, refused};

#[test]
fn the_logs_and_the_control_socket_are_for_their_owner_alone() {
    let sidecar = before(&echo());
    assert!(sidecar.agent().call("echo", &hi()).is_tool_success());
    for file in ["decisions.jsonl", "security.jsonl", "control.sock"] {
        let mode = fs::metadata(sidecar.path(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o600, "{file} has mode {:o}", mode & 0o7777);
    }
}

/// The agents' user is refused, also where it is the sidecar's own or root.
#[test]
fn an_agents_user_cannot_open_tasks() {
    use std::os::unix::fs::MetadataExt;
    let server = echo();
    let setup = Setup::new(OUTRIDER, &server);
    let us = fs::metadata(setup.path("")).unwrap().uid();
    let sidecar = setup
        .config(|config| config["listeners"][0]["peers"] = json!({"uid": [us]}))
        .start();
    for command in [
        &["task", "open", "--intent", "work"][..],
        &["task", "list"],
        &["revoke", "task", "no-such-task"],
    ] {
        let run = sidecar.command(command);
        assert_eq!((run.status, run.stdout.as_str()), (2, ""), "{run:?}");
        assert!(!run.stderr.is_empty());
    }
    assert_eq!(
        sidecar.stranger().call("echo", &hi()).code(),
        "task_missing"
    );
    assert_eq!(server.bytes(), 0);
}

#[test]
fn nonsense_on_the_control_socket_harms_nobody() {
    let server = echo();
    let sidecar = before(&server);
    let socket = outrider_integration::Address::Unix(sidecar.path("control.sock"));
    for nonsense in [
        &b"\n"[..],
        b"{\n",
        b"{\"task_open\":{\"intent\":\"work\",\"zz9\":1}}\n",
        b"GET / HTTP/1.1\r\n\r\n",
        &vec![0xff; 100_000],
    ] {
        let mut connection = Connection::open(&socket).unwrap();
        // The peer may hang up before it has read all.
        connection.send(nonsense).ok();
        connection.finish();
    }
    let hanging = Connection::open(&socket).unwrap();
    assert!(sidecar.agent().call("echo", &hi()).is_tool_success());
    hanging.hang_up();
}

#[test]
fn tasks_can_be_listed_and_shown_and_tell_no_token() {
    let sidecar = before(&echo());
    let task = sidecar.open_task(&["--calls", "5"]);
    for command in [
        &["task", "list", "--json"][..],
        &["task", "show", &task.id, "--json"],
    ] {
        let run = sidecar.command(command);
        assert_eq!(run.status, 0, "{run:?}");
        assert!(run.stdout.contains(&task.id), "{run:?}");
        let signature = task.token.rsplit_once('.').unwrap().1;
        assert!(!run.stdout.contains(signature), "{run:?}");
    }
    assert!(!sidecar.log_text().contains(&task.token));
    assert!(!format!("{:?}", sidecar.security_log()).contains(&task.token));
}

/// What stands in the log's place is not the log: no authority is given, and none is taken back
/// without a word.
#[test]
fn a_change_of_authority_that_cannot_be_noted_is_said_to_be() {
    let server = echo();
    let sidecar = before(&server);
    let (revoked, closed) = (sidecar.open_task(&[]), sidecar.open_task(&[]));
    let log = sidecar.path("security.jsonl");
    let (notes, aside) = (sidecar.path("notes"), sidecar.path("aside.jsonl"));
    fs::hard_link(&log, &aside).unwrap();
    fs::write(&notes, "a letter to a friend\n").unwrap();
    fs::rename(&notes, &log).unwrap();
    let before = fs::read_to_string(&aside).unwrap();

    let counts = || sidecar.metric("outrider_tasks", &["state=\"active\""]);
    for command in [
        &["task", "open", "--intent", "work"][..],
        &["task", "open", "--intent", "work", "--current", "reverse"],
        &["revoke", "task", &revoked.id],
        &["task", "close", &closed.id],
    ] {
        let run = sidecar.command(command);
        assert_eq!((run.status, run.stdout.as_str()), (1, ""), "{run:?}");
        assert!(run.stderr.contains("security log"), "{run:?}");
    }
    assert!(counts().abs() < 0.5, "a task that was not noted is there");
    let mut stranger = sidecar.stranger();
    refused(&sidecar, &server, (ToolResult, "task_missing"), || {
        stranger.call("echo", &hi())
    });
    for task in [revoked, closed] {
        let mut agent = sidecar.stranger().with_token(&task.token);
        refused(&sidecar, &server, (ToolResult, "task_revoked"), || {
            agent.call("echo", &hi())
        });
    }
    assert_eq!(fs::read_to_string(&log).unwrap(), "a letter to a friend\n");
    assert_eq!(fs::read_to_string(&aside).unwrap(), before);

    fs::rename(&aside, &log).unwrap();
    let task = sidecar.open_task(&[]);
    let about = |line: &serde_json::Value| line["task"] == json!(task.id);
    assert!(sidecar.security_log().iter().any(about));
}
