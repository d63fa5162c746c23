//! What floods, slow and hostile agents do to good calls, and what the sidecar remembers costs: the
//! release `outrider` is driven, what was measured is printed, a property that does not hold is a
//! failure. The bounds are wide, so that a busy machine is none.
#![expect(clippy::print_stdout, reason = "the report goes to standard output")]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts and ratios that people read"
)]

mod fire;
mod flood;
mod hostile;
mod memory;
mod process;
mod remembered;
mod rig;
mod server;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The release binary
    #[arg(long, global = true, default_value = "target/release/outrider")]
    outrider: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Three times what can be carried
    Flood,
    /// Slow, idle and malformed agents in great numbers
    Hostile,
    /// Memory that hostile requests take for their bytes
    Memory,
    /// Tasks and keys of limits up to their caps
    Remembered,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Flood => flood::run(&arguments.outrider),
        Command::Hostile => hostile::run(&arguments.outrider),
        Command::Memory => memory::run(&arguments.outrider),
        Command::Remembered => remembered::run(&arguments.outrider),
    }
}
