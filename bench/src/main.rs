//! The load runner: drives the release `outrider` with every check on, its peers and the bare tool server with the same
//! bytes in alternating rounds, and prints ratios.
#![expect(clippy::print_stdout, reason = "the report goes to standard output")]

mod authority;
mod compare;
mod goals;
mod growth;
mod instructions;
mod load;
mod machine;
mod message;
mod outrider;
mod owned;
mod peers;
mod plot;
mod policy;
mod process;
mod report;
mod sample;
mod shape;
mod tls;
mod tool_server;
mod world;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures what proving authority costs, and how soon its end is felt
    Authority(authority::Options),
    /// Compares Outrider with its peers and with no proxy at all
    Compare(compare::Options),
    /// Measures how the cost of a call grows with what it does not touch
    Growth(growth::Options),
    /// Counts the instructions and allocations of one call
    Instructions(instructions::Options),
    /// Compares the evaluation of the policy alone with OPA's
    Policy(policy::Options),
    /// Runs the tool server that everything is measured against; prints its port
    #[command(hide = true)]
    ToolServer(tool_server::Options),
}

fn main() -> anyhow::Result<()> {
    let command = Arguments::parse().command;
    machine::open_files()?;
    match command {
        Command::Authority(options) => authority::run(&options),
        Command::Compare(options) => compare::run(&options),
        Command::Growth(options) => growth::run(&options),
        Command::Instructions(options) => instructions::run(&options),
        Command::Policy(options) => policy::run(&options),
        Command::ToolServer(options) => tool_server::run(&options),
    }
}
