//! `run --take-over`: a successor goes on with sockets, connections, tasks and the log; what fails
//! leaves the running sidecar as it was.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
};

use outrider_integration::{
    Gate, Request, Setup, Sidecar, Tool, ToolServer, check_chain, text_result, until,
};
use serde_json::{Value, json};

use crate::support::{
    Form::ToolResult, OUTRIDER, before, check_record, echo, hi, keeping, large, refused,
};

/// A server whose tool `wait` answers when the gate opens, and `stream` begins at once and ends
/// then.
fn waiting(gate: &Gate) -> ToolServer {
    let (inside, streams) = (gate.clone(), gate.clone());
    ToolServer::start(vec![
        Tool::echo("echo"),
        Tool::doing("wait", move |exchange| {
            inside.pass();
            exchange.result(&text_result("done"));
        }),
        Tool::doing("stream", move |exchange| {
            exchange.begin_events();
            exchange.event(&json!({
                "jsonrpc": "2.0",
                "method": "notifications/progress",
                "params": {"progressToken": 1, "progress": 1},
            }));
            streams.pass();
            exchange.end_events(&text_result("done"));
        }),
    ])
}

fn instances(sidecar: &Sidecar) -> Vec<Value> {
    let mut instances: Vec<_> = sidecar
        .log()
        .iter()
        .map(|l| l["instance"].clone())
        .collect();
    instances.dedup();
    instances
}

#[test]
fn a_successor_goes_on_with_addresses_tasks_and_the_chain() {
    let server = echo();
    let mut sidecar = before(&server);
    let (listener, admin) = (sidecar.listener("reverse"), sidecar.admin());
    let mut agent = sidecar.agent();
    assert!(agent.call("echo", &hi()).is_tool_success());
    let predecessor = sidecar.take_over();
    assert_eq!(predecessor.wait().code(), Some(0));
    assert_eq!(sidecar.listener("reverse").host(), listener.host());
    assert_eq!(sidecar.admin(), admin);
    assert!(agent.call("echo", &hi()).is_tool_success());
    assert!(sidecar.agent().call("echo", &hi()).is_tool_success());
    assert_eq!(sidecar.get("/readyz").status, 200);
    check_record(&sidecar);
    assert_eq!(instances(&sidecar).len(), 1, "one file, one instance");
    assert_eq!(sidecar.decisions().len(), 3);
    let log = sidecar.log_text();
    assert_eq!(check_chain(&log), Ok(log.lines().count()));
    let events = sidecar.security_log();
    assert!(
        events.iter().any(|event| event["type"] == "taken_over"),
        "{events:?}"
    );
}

#[test]
fn a_successor_that_dies_half_way_leaves_everything_as_it_was() {
    let server = echo();
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    for _ in 0..3 {
        let mut heir = UnixStream::connect(sidecar.path("control.sock")).unwrap();
        let bid = json!({"take_over": {
            "agent": "spiffe://example.org/agent/test",
            "decision_log": sidecar.path("decisions.jsonl"),
            "security_log": sidecar.path("security.jsonl"),
        }});
        writeln!(heir, "{bid}").unwrap();
        let mut begin = [0; 64];
        heir.read_exact(&mut begin).unwrap();
        assert!(String::from_utf8_lossy(&begin).contains("Estate"));
        drop(heir);
        assert!(agent.call("echo", &hi()).is_tool_success());
        assert_eq!(sidecar.command(&["task", "list"]).status, 0);
    }
    check_record(&sidecar);
}

#[test]
fn an_open_connection_goes_over_and_is_answered_by_the_successor() {
    let server = echo();
    let mut sidecar = before(&server);
    let agent = sidecar.agent();
    let call = agent.bytes(&Request::call("echo", &hi()));
    let mut connection = agent.connect();
    for round in 0..4 {
        connection.send(&call).unwrap();
        let answer = connection.answer().unwrap().expect("an answer");
        assert!(answer.is_tool_success(), "round {round}: {}", answer.text());
        assert_eq!(answer.head.get("connection"), None);
        assert_eq!(sidecar.take_over().wait().code(), Some(0));
    }
    check_record(&sidecar);
}

#[test]
fn a_call_and_a_stream_end_where_they_began_and_their_ends_are_in_the_log() {
    for durability in ["written", "synced", "memory"] {
        ends_are_in_the_log(durability);
    }
}

fn ends_are_in_the_log(durability: &str) {
    let gate = Gate::new();
    let server = waiting(&gate);
    let mut sidecar = Setup::new(OUTRIDER, &server)
        .config(|config| config["decision_log"]["durability"] = json!(durability))
        .start();
    let agent = sidecar.agent();
    let mut call = agent.start(&Request::call("wait", &hi()));
    let mut stream = agent.start(&Request::call("stream", &hi()));
    let head = stream.head().unwrap().unwrap();
    stream.event().unwrap().unwrap();
    server.wait_for(2);
    let mut predecessor = sidecar.take_over();
    assert!(sidecar.agent().call("echo", &hi()).is_tool_success());
    assert!(predecessor.is_running(), "two calls still run");
    gate.open();
    gate.open();
    let answer = call.answer().unwrap().expect("an answer");
    assert_eq!(answer.tool_text(), "done");
    let (rest, complete) = stream.rest();
    assert!(complete, "{}", String::from_utf8_lossy(&rest));
    for id in [
        &answer.decision_id(),
        head.get("outrider-decision-id").unwrap(),
    ] {
        assert_eq!(sidecar.outcome(id)["ended"], "completed");
    }
    // The connection of the call is still good: the successor has it.
    call.send(&agent.bytes(&Request::call("echo", &hi())))
        .unwrap();
    assert!(call.answer().unwrap().expect("an answer").is_tool_success());
    drop((call, stream));
    assert_eq!(predecessor.wait().code(), Some(0));
    check_record(&sidecar);
}

#[test]
fn a_task_that_is_revoked_at_the_successor_is_cut_in_the_predecessor() {
    let gate = Gate::new();
    let server = waiting(&gate);
    let mut sidecar = before(&server);
    let task = sidecar.open_task(&[]);
    let agent = sidecar.stranger().with_token(&task.token);
    let mut stream = agent.start(&Request::call("stream", &hi()));
    let head = stream.head().unwrap().unwrap();
    stream.event().unwrap().unwrap();
    let predecessor = sidecar.take_over();
    let revoked = sidecar.command(&["revoke", "task", &task.id]);
    assert_eq!(revoked.status, 0, "{revoked:?}");
    stream.rest();
    let id = head.get("outrider-decision-id").unwrap();
    assert_eq!(sidecar.outcome(id)["ended"], "cut");
    assert_eq!(predecessor.wait().code(), Some(0));
    check_record(&sidecar);
}

#[test]
fn what_tasks_have_spent_and_that_they_have_ended_goes_over() {
    let server = echo();
    let mut sidecar = before(&server);
    let spent = sidecar.open_task(&["--calls", "2"]);
    let closed = sidecar.open_task(&[]);
    let mut agent = sidecar.stranger().with_token(&spent.token);
    assert!(agent.call("echo", &hi()).is_tool_success());
    assert_eq!(sidecar.command(&["revoke", "task", &closed.id]).status, 0);
    sidecar.take_over().wait();
    assert!(agent.call("echo", &hi()).is_tool_success());
    refused(&sidecar, &server, (ToolResult, "budget_exhausted"), || {
        agent.call("echo", &hi())
    });
    let mut agent = sidecar.stranger().with_token(&closed.token);
    refused(&sidecar, &server, (ToolResult, "task_revoked"), || {
        agent.call("echo", &hi())
    });
}

#[test]
fn a_call_whose_body_is_under_way_is_decided_before_the_successor_goes_on() {
    let server = echo();
    let mut sidecar = before(&server);
    let agent = sidecar.agent();
    let call = agent.bytes(&Request::call("echo", &large()));
    let (begun, rest) = call.split_at(call.len() / 2);
    let mut connection = agent.connect();
    connection.send(begun).unwrap();
    let sending = std::thread::scope(|scope| {
        let over = scope.spawn(|| sidecar.take_over());
        connection.send(rest).unwrap();
        let answer = connection.answer().unwrap().expect("an answer");
        assert!(answer.is_tool_success(), "{}", answer.text());
        over.join().unwrap()
    });
    assert_eq!(sending.wait().code(), Some(0));
    check_record(&sidecar);
}

#[test]
fn a_call_whose_body_comes_after_the_successor_went_on_is_refused() {
    for durability in ["written", "synced", "memory"] {
        let server = echo();
        let mut sidecar = keeping(durability, &server);
        let agent = sidecar.agent();
        let call = agent.bytes(&Request::call("echo", &large()));
        let (begun, rest) = call.split_at(call.len() / 2);
        let mut connection = agent.connect();
        connection.send(begun).unwrap();
        let predecessor = sidecar.take_over();
        assert!(sidecar.agent().call("echo", &hi()).is_tool_success());
        let reached = server.bytes();
        connection.send(rest).unwrap();
        let answer = connection.answer().unwrap().expect("an answer");
        assert_eq!(answer.code(), "record_unavailable", "{durability}");
        assert_eq!(server.bytes(), reached, "{durability}");
        assert_eq!(predecessor.wait().code(), Some(0));
        check_record(&sidecar);
    }
}

#[test]
fn a_successor_that_cannot_go_on_leaves_everything_as_it_was() {
    let server = echo();
    let mut sidecar = before(&server);
    let mut agent = sidecar.agent();
    let good = sidecar.setup().config.clone();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = (taken.local_addr().unwrap().to_string(), taken);
    for (why, place, value) in [
        ("in use", "/listeners/0/address", taken.0.as_str()),
        ("another one", "/decision_log/path", "other.jsonl"),
        ("another one", "/agent/id", "spiffe://example.org/other"),
        ("no sidecar answers", "/control/socket", "other.sock"),
    ] {
        let setup = sidecar.setup();
        setup.config = good.clone();
        *setup.config.pointer_mut(place).unwrap() = json!(value);
        setup.file("next.yaml", &setup.config.to_string());
        let run = setup.run(&["run", "--take-over", "-c", "next.yaml"]);
        assert_eq!(run.status, 2, "{run:?}");
        assert!(run.stderr.contains(why), "{why}: {run:?}");
        assert!(agent.call("echo", &hi()).is_tool_success(), "{why}");
        assert_eq!(sidecar.get("/readyz").status, 200);
    }
    assert!(sidecar.is_running());
    check_record(&sidecar);
    assert_eq!(sidecar.open_task(&[]).id.len(), 36);
    let log = fs::read_to_string(sidecar.path("decisions.jsonl")).unwrap();
    assert_eq!(check_chain(&log), Ok(log.lines().count()));
}

#[test]
fn nobody_takes_over_while_the_decision_log_cannot_be_written() {
    let mut sidecar = before(&echo());
    let (log, aside) = (sidecar.path("decisions.jsonl"), sidecar.path("aside.jsonl"));
    fs::rename(&log, &aside).unwrap();
    fs::write(&log, "a letter to a friend\n").unwrap();
    until("the loss to be noticed", || {
        (sidecar.get("/readyz").status == 503).then_some(())
    });
    let setup = sidecar.setup();
    let run = setup.run(&["run", "--take-over", "-c", "outrider.yaml"]);
    assert_eq!(run.status, 2, "{run:?}");
    assert!(run.stderr.contains("cannot be written"), "{run:?}");
    fs::rename(&aside, &log).unwrap();
    until("the log to be written again", || {
        sidecar
            .agent()
            .call("echo", &hi())
            .is_tool_success()
            .then_some(())
    });
    check_record(&sidecar);
}

#[test]
fn nothing_is_taken_over_from_a_process_of_an_agents_user() {
    let setup = Setup::new(OUTRIDER, &echo());
    let us = fs::metadata(setup.path("")).unwrap().uid();
    let setup = setup.config(|config| config["listeners"][0]["peers"] = json!({"uid": [us]}));
    let impostor = UnixListener::bind(setup.path("control.sock")).unwrap();
    takes_nothing_from(&impostor, &setup);
}

#[test]
fn nothing_is_taken_over_from_a_process_of_another_user() {
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: only root can be another user");
    }
    let setup = Setup::new(OUTRIDER, &echo());
    let impostor = UnixListener::bind(setup.path("control.sock")).unwrap();
    // The kernel vouches for whoever listened last.
    let listen = || {
        rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(NOBODY)).unwrap();
        rustix::net::listen(&impostor, 1).unwrap();
    };
    std::thread::scope(|scope| scope.spawn(listen).join().unwrap());
    takes_nothing_from(&impostor, &setup);
}

/// A successor says not a word to the impostor that listens there.
fn takes_nothing_from(impostor: &UnixListener, setup: &Setup) {
    setup.write();
    let run = setup.run(&["run", "--take-over", "-c", "outrider.yaml"]);
    assert_eq!(run.status, 2, "{run:?}");
    assert!(run.stderr.contains("nothing is taken over"), "{run:?}");
    impostor.set_nonblocking(true).unwrap();
    let (mut asked, mut words) = (impostor.accept().unwrap().0, String::new());
    asked.read_to_string(&mut words).unwrap();
    assert_eq!(words, "");
}

#[test]
fn nobody_is_asked_in_a_directory_that_is_writable_for_everyone() {
    let server = echo();
    let mut sidecar = before(&server);
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(sidecar.path(""), open).unwrap();
    let setup = sidecar.setup();
    let run = setup.run(&["run", "--take-over", "-c", "outrider.yaml"]);
    assert_eq!(run.status, 2, "{run:?}");
    assert!(run.stderr.contains("writable for everyone"), "{run:?}");
    assert!(sidecar.agent().call("echo", &hi()).is_tool_success());
}

#[test]
fn a_task_that_was_bound_to_a_listener_is_not_in_production() {
    let server = echo();
    let mut sidecar = Setup::new(OUTRIDER, &server)
        .config(|config| config["isolation"] = json!("container"))
        .start();
    let task = sidecar.open_task(&["--current", "reverse"]);
    assert!(sidecar.stranger().call("echo", &hi()).is_tool_success());
    sidecar.setup().config["environment"] = json!("production");
    sidecar.setup().write();
    sidecar.take_over().wait();
    let mut stranger = sidecar.stranger();
    refused(&sidecar, &server, (ToolResult, "task_missing"), || {
        stranger.call("echo", &hi())
    });
    let mut agent = sidecar.stranger().with_token(&task.token);
    assert!(agent.call("echo", &hi()).is_tool_success());
}

#[test]
fn the_control_socket_gets_the_group_of_the_successors_configuration() {
    let mut sidecar = before(&echo());
    let group = fs::metadata(sidecar.path("")).unwrap().gid();
    for (group, mode) in [(json!(group), 0o660), (json!(null), 0o600)] {
        sidecar.setup().config["control"]["group"] = group;
        sidecar.setup().write();
        sidecar.take_over().wait();
        until("the control socket to be served", || {
            let found = fs::metadata(sidecar.path("control.sock")).unwrap();
            (found.mode() & 0o7777 == mode).then_some(())
        });
    }
}
