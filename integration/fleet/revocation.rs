//! What is taken back at one sidecar is cut at the other within a second.

use std::{
    thread,
    time::{Duration, Instant},
};

use outrider_integration::{ACL, Kept, Request, Sidecar, Store, Tool, ToolServer};
use serde_json::json;

use crate::{Means, pair};

/// How often it is tried.
const TRIALS: usize = 200;
/// The same where changes are polled for.
const POLLED: usize = 40;
/// How long a cut may take after the command has ended.
const BOUND: Duration = Duration::from_secs(1);

fn server() -> ToolServer {
    ToolServer::start(vec![
        Tool::doing("stream", |exchange| {
            exchange.begin_events();
            exchange.event(&json!({
                "jsonrpc": "2.0",
                "method": "notifications/progress",
                "params": {"progressToken": 1, "progress": 1},
            }));
            exchange.wait_until_gone();
        }),
        Tool::echo("echo"),
    ])
}

/// Revokes a subject at `one` whose stream runs at `other`; gives how long after the command's end
/// the stream was cut, and checks that the next call is refused.
fn trial(one: &Sidecar, other: &Sidecar, subject: &str) -> Duration {
    let token = other.open_task(&["--subject", subject]).token;
    let mut agent = other.stranger().with_token(&token);
    let arguments = json!({"message": "hi"});
    let mut stream = agent.start(&Request::call("stream", &arguments));
    stream.head().unwrap().unwrap();
    stream.event().unwrap().unwrap();
    let cut = thread::spawn(move || {
        stream.rest();
        Instant::now()
    });
    let run = one.command(&["revoke", "subject", subject]);
    let told = Instant::now();
    assert_eq!(run.status, 0, "{run:?}");
    let cut = cut
        .join()
        .expect("a reader")
        .saturating_duration_since(told);
    let answer = agent.call("echo", &arguments);
    assert_eq!(
        answer.decision()["code"],
        "task_revoked",
        "{}",
        answer.text()
    );
    cut
}

fn trials(means: &Means, acl: &str, count: usize) {
    let store = Store::with_acl(&means.store, Kept::Nothing, acl);
    let server = server();
    let [one, other] = pair(means, &store, &server, |_| {});
    let mut took: Vec<_> = (0..count)
        .map(|number| trial(&one, &other, &format!("subject-{number}")))
        .collect();
    took.sort_unstable();
    println!(
        "  {count} streams cut after the command's end: median {:?}, 99 of 100 within {:?}, at most {:?}",
        took[count / 2],
        took[count * 99 / 100],
        took[count - 1]
    );
    assert!(took[count - 1] < BOUND);
    let calls = server.calls().len();
    assert_eq!(calls, count, "calls that reached the server");
}

pub(crate) fn prove(means: &Means) {
    trials(means, ACL, TRIALS);
}

/// The store's user may not listen.
pub(crate) fn prove_polled(means: &Means) {
    let deaf = ACL.replace("&outrider:wake ", "").replace("+subscribe", "");
    assert_ne!(deaf, ACL);
    trials(means, &deaf, POLLED);
}
