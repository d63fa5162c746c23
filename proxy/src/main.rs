//! Arguments → command; nothing else.

use std::process::ExitCode;

/// One allocator for all: calls make many small, short-lived values.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    outrider::cli::main()
}
