//! Commands, one file each.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "commands print")]

mod ask;
pub mod check;
pub mod console;
pub mod demo;
pub mod doctor;
pub mod exec;
pub mod health;
pub mod init;
pub mod inject;
pub mod keys;
pub mod log;
pub mod net;
pub mod receiver;
pub mod revoke;
pub mod run;
pub mod schemas;
pub mod stdio;
pub mod task;
pub mod top;
pub mod webhook;

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::config::{self, Loaded};

/// A sidecar that decides on every tool or API call an AI agent makes
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the sidecar
    Run(run::Args),
    /// Check configuration, policy and schemas; show all problems
    Check(check::Args),
    Demo(demo::Args),
    Init(init::Args),
    Schemas(schemas::Args),
    /// Open, show, list and close tasks
    Task(task::Args),
    /// Take authority back
    Revoke(revoke::Args),
    Doctor(doctor::Args),
    Exec(exec::Args),
    Stdio(stdio::Args),
    Net(net::Args),
    Inject(inject::Args),
    Webhook(webhook::Args),
    /// Show public keys, and replace the one that signs
    Keys(keys::Args),
    /// Take security events of an identity provider in, for all sidecars
    Receiver(receiver::Args),
    /// Follow, show, verify and count the decision log
    Log(log::LogArgs),
    Top(top::Args),
    Console(console::Args),
    /// Ask a running sidecar whether it is ready: the health check of containers
    #[command(hide = true)]
    Health(health::Args),
    /// Become an agent that ends with whoever started it
    #[command(name = exec::Leash::NAME, hide = true)]
    ExecLeash(exec::Leash),
    /// Make an agent's namespaces
    #[command(name = exec::Enter::NAME, hide = true)]
    ExecEnter(exec::Enter),
    /// Furnish an agent's namespaces, and run it there
    #[command(name = exec::Within::NAME, hide = true)]
    ExecWithin(exec::Within),
    /// Try to compile a policy that comes on standard input
    #[command(name = config::COMMAND, hide = true)]
    PolicyCompile,
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Schemas(args) => schemas::run(&args),
        Command::Task(args) => task::run(&args, control_socket),
        Command::Revoke(args) => revoke::run(&args, control_socket),
        Command::Doctor(args) => doctor::run(&args, control_socket),
        Command::Exec(args) => exec::run(&args),
        Command::Stdio(args) => stdio::run(&args),
        Command::Net(args) => net::run(&args),
        Command::Inject(args) => inject::run(&args),
        Command::Webhook(args) => webhook::run(args),
        Command::ExecLeash(leash) => leash.run(),
        Command::ExecEnter(enter) => enter.run(),
        Command::ExecWithin(within) => within.run(),
        Command::Keys(args) => keys::run(&args, control_socket, assertion_key),
        Command::Receiver(args) => receiver::run(&args),
        Command::Log(args) => Ok(log::run(&args, &|file| Ok(record_of(&read(file)?)))),
        Command::Top(args) => top::run(&args),
        Command::Console(args) => console::run(&args),
        Command::Health(args) => health::run(&args),
        Command::PolicyCompile => policy_compile(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

/// The configuration that is used when none is named.
const DEFAULT: &str = "outrider.yaml";

/// Reads a configuration for a command that needs something of it.
fn read(file: &Path) -> anyhow::Result<Loaded> {
    config::load(file).map_err(|failure| {
        let problems: Vec<_> = failure.problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}", problems.join("\n"))
    })
}

#[expect(clippy::ref_option, reason = "the form in which commands take it")]
fn control_socket(file: &Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let file = file.as_deref().unwrap_or(Path::new(DEFAULT));
    let loaded = read(file)?;
    let control = loaded.config.control.as_ref();
    let control = control.with_context(|| {
        format!(
            "{}: `control.socket` is missing: name the socket with `--control`",
            file.display()
        )
    })?;
    Ok(loaded.resolve(&control.socket))
}

#[expect(clippy::ref_option, reason = "the form in which commands take it")]
fn assertion_key(file: &Option<PathBuf>) -> anyhow::Result<Option<PathBuf>> {
    let loaded = read(file.as_deref().unwrap_or(Path::new(DEFAULT)))?;
    Ok(loaded
        .config
        .assertion
        .key
        .as_ref()
        .map(|key| loaded.resolve(key)))
}

fn record_of(loaded: &Loaded) -> PathBuf {
    loaded.resolve(&loaded.config.decision_log.path)
}

/// The arguments of one command, from its words.
#[cfg(test)]
fn parsed<'a, A: clap::Args>(words: impl IntoIterator<Item = &'a str>) -> Result<A, clap::Error> {
    #[derive(Parser)]
    struct Command<A: clap::Args> {
        #[command(flatten)]
        args: A,
    }
    let words = std::iter::once("command").chain(words);
    Command::try_parse_from(words).map(|command| command.args)
}

/// The child that tries a policy out; see [`config::Compiler`].
fn policy_compile() -> anyhow::Result<ExitCode> {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input)?;
    // As much room as where the policy will be compiled for good.
    let work = std::thread::Builder::new()
        .stack_size(crate::serve::STACK)
        .spawn(move || config::child(&input))?;
    let answer = work
        .join()
        .map_err(|_| anyhow::anyhow!("the compiler failed"))??;
    println!("{answer}");
    Ok(ExitCode::SUCCESS)
}
