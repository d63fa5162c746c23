//! Two sidecars that share a real Redis, while it is killed, paused, emptied and restarted: never
//! more than the limit is admitted, and all goes on by itself.
//!
//! `outrider-fleet BINARY [limits|local-share|revocation|polling]…`, everything unless something is named;
//! `cost` measures, only when it is named. Exit status
//! 77 where there is no Redis.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test"
)]

mod cost;
mod limits;
mod load;
mod revocation;

use std::path::{Path, PathBuf};

use outrider_integration::{Setup, Sidecar, Store, ToolServer, until};
use serde_json::Value;

/// What a proof is given: the sidecar's binary and the store's.
pub(crate) struct Means {
    binary: String,
    store: PathBuf,
}

type Proof = fn(&Means);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let binary = arguments.next().expect("the path of the binary");
    // The sidecar runs in a directory of its own.
    let binary = std::fs::canonicalize(binary).expect("the binary");
    let wanted: Vec<_> = arguments.collect();
    let Some(store) = Store::binary() else {
        std::process::exit(77);
    };
    let means = Means {
        binary: binary.to_str().expect("a path in UTF-8").to_owned(),
        store,
    };
    let proofs: [(&str, Proof); 4] = [
        ("limits", limits::prove),
        ("local-share", limits::prove_share),
        ("revocation", revocation::prove),
        ("polling", revocation::prove_polled),
    ];
    for (name, proof) in proofs {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            println!("{name}");
            proof(&means);
        }
    }
    if wanted.iter().any(|wanted| wanted == "cost") {
        cost::measure(&means);
    }
}

/// Two sidecars that share that store.
pub(crate) fn pair(
    means: &Means,
    store: &Store,
    server: &ToolServer,
    change: impl Fn(&mut Value),
) -> [Sidecar; 2] {
    [(); 2].map(|()| {
        let setup = store.shared(Setup::new(&means.binary, server));
        let sidecar = setup.config(|config| change(config)).start();
        counted(&sidecar);
        sidecar
    })
}

/// Waits until the store counts a sidecar's calls.
pub(crate) fn counted(sidecar: &Sidecar) {
    until("the store to count", || {
        (sidecar.metric("outrider_state_up", &[]) > 0.0).then_some(())
    });
}

/// The name of a store's binary, for what is printed.
pub(crate) fn name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}
