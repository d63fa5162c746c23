//! Loads OpenAPI descriptions and says how long that takes and how much memory it keeps.
//!
//! `cargo run --release -p outrider-schemas --example load_openapi -- FILE…`
#![allow(clippy::print_stdout, clippy::expect_used, reason = "an example")]

use std::{fs, time::Instant};

use outrider_schemas::openapi::{self, Document};

/// Kilobytes of a line of `/proc/self/status`.
fn status(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(key));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}

fn main() {
    for file in std::env::args().skip(1) {
        let before = status("VmRSS:");
        let start = Instant::now();
        let text = fs::read_to_string(&file).expect("readable");
        let Document(document) = if file.ends_with("json") {
            Document::from_json(text.as_bytes()).expect("strict json")
        } else {
            serde_saphyr::from_str(&text).expect("strict yaml")
        };
        drop(text);
        let read = start.elapsed();
        let parsed = status("VmRSS:");
        let mut none = |_: &str| Err("no other files".to_owned());
        let loaded = openapi::load(document, &mut none).expect("a description");
        let all = start.elapsed();
        println!(
            "{file}: {} of {} operations served; read {read:?}, all {all:?}; \
             {} KiB resident before, {parsed} when read, {} after, {} at most",
            loaded.report.served(),
            loaded.report.operations.len(),
            before,
            status("VmRSS:"),
            status("VmHWM:"),
        );
        for (line, reason) in loaded.report.left_out() {
            println!("  left out: {} {}: {reason}", line.method, line.template);
        }
        for note in &loaded.report.notes {
            println!("  note: {note}");
        }
    }
}
