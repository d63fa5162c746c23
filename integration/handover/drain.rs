//! SIGTERM under load: what has begun is answered, also on connections that agents keep.

use std::time::{Duration, Instant};

use crate::{
    load::{Ending, Load, verify},
    server, setup,
};

const ROUNDS: usize = 10;
/// How long the load runs before it is stopped.
const LOAD: Duration = Duration::from_millis(500);

pub(crate) fn prove(binary: &str) {
    for round in 1..=ROUNDS {
        let server = server();
        let mut sidecar = setup(binary, &server).start();
        let load = Load::start(&sidecar, Ending::Told);
        std::thread::sleep(LOAD);
        let begun = Instant::now();
        sidecar.signal("TERM");
        let tally = load.wait();
        assert_eq!(sidecar.wait().code(), Some(0));
        println!(
            "  round {round}: stopped after {:?}, {} connections came too late",
            begun.elapsed(),
            tally.unaccepted
        );
        tally.check(&sidecar, &server);
        verify(&mut sidecar);
    }
}
