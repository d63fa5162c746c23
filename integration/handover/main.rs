//! A sidecar under load while it is reloaded, replaced and stopped: no call is lost, none is
//! decided by what was never in force, and the record tells all of them.
//!
//! `outrider-handover BINARY [reload|take-over|drain]…`, everything unless something is named.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test"
)]

mod drain;
mod load;
mod reload;
mod take_over;

use outrider_integration::{Setup, Tool, ToolServer, text_result};
use serde_json::json;

type Proof = fn(&str);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let binary = arguments.next().expect("the path of the binary");
    // The sidecar runs in a directory of its own.
    let binary = std::fs::canonicalize(binary).expect("the binary");
    let wanted: Vec<_> = arguments.collect();
    let proofs: [(&str, Proof); 3] = [
        ("reload", reload::prove),
        ("take-over", take_over::prove),
        ("drain", drain::prove),
    ];
    for (name, proof) in proofs {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            println!("{name}");
            proof(binary.to_str().expect("a path in UTF-8"));
        }
    }
}

/// A server with a tool that answers at once, and one that streams.
fn server() -> ToolServer {
    ToolServer::start(vec![
        Tool::echo("echo"),
        Tool::doing("stream", |exchange| {
            exchange.begin_events();
            for step in 1..=3 {
                exchange.event(&json!({
                    "jsonrpc": "2.0",
                    "method": "notifications/progress",
                    "params": {"progressToken": 1, "progress": step},
                }));
            }
            exchange.end_events(&text_result("done"));
        }),
    ])
}

/// A sidecar before it that permits everything, on an address that survives it.
fn setup(binary: &str, server: &ToolServer) -> Setup {
    Setup::new(binary, server).config(|config| config["policy"]["timeout"] = json!("1s"))
}
