//! The load runner: drives the release `outrider` with every check on, nginx as a plain proxy and
//! the bare tool server with the same bytes in alternating rounds, and prints ratios.
#![expect(clippy::print_stdout, reason = "the report goes to standard output")]

mod compare;
mod load;
mod message;
mod peers;
mod process;
mod report;
mod tool_server;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compares Outrider with nginx and with no proxy at all
    Compare(compare::Options),
    /// Runs the tool server that everything is measured against; prints its port
    #[command(hide = true)]
    ToolServer,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Compare(options) => compare::run(&options),
        Command::ToolServer => tool_server::run(),
    }
}
