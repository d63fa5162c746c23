//! 20 take-overs in a row under load, failed ones among them.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use outrider_integration::Sidecar;
use serde_json::json;

use crate::{
    load::{Ending, Load, verify},
    server, setup,
};

const TAKE_OVERS: usize = 20;

pub(crate) fn prove(binary: &str) {
    let server = server();
    let mut sidecar = setup(binary, &server).start();
    let load = Load::start(&sidecar, Ending::Never);
    let (mut up, mut gone) = (Duration::ZERO, Duration::ZERO);
    for number in 0..TAKE_OVERS {
        if number % 5 == 4 {
            leave_half_way(&sidecar);
        }
        let begun = Instant::now();
        let predecessor = sidecar.take_over();
        up = up.max(begun.elapsed());
        assert_eq!(predecessor.wait().code(), Some(0));
        gone = gone.max(begun.elapsed());
        assert_eq!(sidecar.get("/readyz").status, 200);
    }
    let tally = load.end();
    println!(
        "  {TAKE_OVERS} take-overs, at most {up:?} to the successor's first line and {gone:?} to the predecessor's end"
    );
    tally.check(&sidecar, &server);
    let events = sidecar.security_log();
    let taken = events.iter().filter(|event| event["type"] == "taken_over");
    assert_eq!(taken.count(), TAKE_OVERS);
    sidecar.signal("TERM");
    assert_eq!(sidecar.wait().code(), Some(0));
    let instance = sidecar.log()[0]["instance"].clone();
    assert!(
        sidecar
            .log()
            .iter()
            .all(|line| line["instance"] == instance)
    );
    verify(&mut sidecar);
}

/// A successor that is given everything and dies.
fn leave_half_way(sidecar: &Sidecar) {
    let mut stream = UnixStream::connect(sidecar.path("control.sock")).unwrap();
    let bid = json!({"take_over": {
        "agent": "spiffe://example.org/agent/test",
        "decision_log": sidecar.path("decisions.jsonl"),
        "security_log": sidecar.path("security.jsonl"),
    }});
    writeln!(stream, "{bid}").unwrap();
    let mut begin = [0; 64];
    stream.read_exact(&mut begin).unwrap();
    assert!(
        String::from_utf8_lossy(&begin).contains("Estate"),
        "{begin:?}"
    );
}
