//! The comparison: the same bytes to each target, in turn, round after round.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Args;
use outrider_integration::Request;
use serde_json::json;

use crate::{
    load::Shot,
    message,
    peers::{self, Nginx, Outrider},
    process,
    report::{self, Report, Sample},
};

/// What to compare and for how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The binary to measure; default: `outrider` beside this program
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Rounds over all targets
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of one measurement
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Keep-alive connections, one comparison each
    #[arg(long, value_delimiter = ',', default_value = "16,64")]
    connections: Vec<usize>,
    /// Durability of the decision log: `memory`, `written` or `synced`
    #[arg(long, default_value = "written")]
    durability: String,
    /// Measures two floors as well: the same calls unsigned, and `ping`
    #[arg(long)]
    floors: bool,
    /// Fails when the calls per CPU second, as a share of nginx's, stay below this
    #[arg(long)]
    at_least: Option<f64>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// One thing to fire at.
struct Target {
    name: &'static str,
    shot: Shot,
    pid: Option<u32>,
}

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    let (_tool_server, upstream) = peers::tool_server()?;
    let nginx = Nginx::start(upstream)?;
    let binary = binary(options)?;
    let start = |identity| Outrider::start(&binary, upstream, &options.durability, identity);
    let outrider = start("full")?;
    let unsigned = options.floors.then(|| start("none")).transpose()?;
    let mut targets = targets(upstream, nginx.as_ref(), &outrider)?;
    if let Some(unsigned) = &unsigned {
        targets.extend(floors(upstream, unsigned)?);
    }
    let mut samples = Vec::new();
    for &connections in &options.connections {
        for round in 0..options.rounds {
            for at in 0..targets.len() {
                let turn = (at + round) % targets.len();
                let target = targets.get(turn).context("a target")?;
                samples.push(measure(target, connections, options)?);
            }
        }
    }
    check_log(&outrider, &samples)?;
    finish(options, &Report::new(samples, memory(&targets)?))
}

fn binary(options: &Options) -> Result<PathBuf> {
    match &options.binary {
        Some(binary) => Ok(binary.clone()),
        None => Ok(std::env::current_exe()?.with_file_name("outrider")),
    }
}

fn targets(
    upstream: SocketAddr,
    nginx: Option<&Nginx>,
    outrider: &Outrider,
) -> Result<Vec<Target>> {
    let request = Request::call(message::TOOL, &message::arguments())
        .field("Outrider-Task-Token", &outrider.token);
    let shot = |address: SocketAddr, expected| Shot {
        address,
        bytes: request.bytes(&address.to_string(), "/mcp"),
        expected,
    };
    let expected = Some(shot(upstream, None).once()?.len());
    let mut targets = vec![
        Target {
            name: report::DIRECT,
            shot: shot(upstream, expected),
            pid: None,
        },
        Target {
            name: report::OUTRIDER,
            shot: shot(outrider.address, expected),
            pid: Some(outrider.sidecar.pid()),
        },
    ];
    if let Some(nginx) = nginx {
        let (shot, pid) = (shot(nginx.address, expected), Some(nginx.process.pid()));
        targets.insert(
            1,
            Target {
                name: report::NGINX,
                shot,
                pid,
            },
        );
    }
    for target in &targets {
        target
            .shot
            .once()
            .with_context(|| format!("a first call through {}", target.name))?;
    }
    Ok(targets)
}

/// What is left when a part of the work is.
fn floors(upstream: SocketAddr, unsigned: &Outrider) -> Result<[Target; 2]> {
    let calls = [
        (
            report::UNSIGNED,
            Request::call(message::TOOL, &message::arguments()),
        ),
        (report::PING, Request::message(&json!(1), "ping", json!({}))),
    ];
    let floor = |(name, request): (&'static str, Request)| {
        let request = request.field("Outrider-Task-Token", &unsigned.token);
        let bytes = |address: SocketAddr| request.bytes(&address.to_string(), "/mcp");
        let direct = Shot {
            address: upstream,
            bytes: bytes(upstream),
            expected: None,
        };
        let shot = Shot {
            address: unsigned.address,
            bytes: bytes(unsigned.address),
            expected: Some(direct.once()?.len()),
        };
        shot.once()
            .with_context(|| format!("a first call of `{name}`"))?;
        anyhow::Ok(Target {
            name,
            shot,
            pid: Some(unsigned.sidecar.pid()),
        })
    };
    let [call, ping] = calls;
    Ok([floor(call)?, floor(ping)?])
}

fn measure(target: &Target, connections: usize, options: &Options) -> Result<Sample> {
    let time = Duration::from_secs_f64(options.seconds);
    let warm = target.shot.fire(connections, time / 8)?;
    let before = target.pid.map(process::cpu).transpose()?;
    let round = target.shot.fire(connections, time)?;
    let after = target.pid.map(process::cpu).transpose()?;
    let cpu = before
        .zip(after)
        .map(|(before, after)| after.saturating_sub(before));
    Ok(Sample::new(
        target.name,
        connections,
        warm.calls,
        &round,
        cpu,
    ))
}

/// A call that was measured and not recorded was not the call that is promised.
fn check_log(outrider: &Outrider, samples: &[Sample]) -> Result<()> {
    let mine = samples
        .iter()
        .filter(|sample| sample.target == report::OUTRIDER);
    let calls: usize = mine.map(|sample| sample.calls + sample.warm_calls).sum();
    let recorded = outrider.recorded()?;
    if recorded < calls {
        bail!("{calls} calls were measured, {recorded} are in the decision log");
    }
    Ok(())
}

fn memory(targets: &[Target]) -> Result<Vec<(&'static str, u64)>> {
    let measured = targets
        .iter()
        .filter_map(|target| Some((target.name, target.pid?)));
    measured
        .map(|(name, pid)| Ok((name, process::peak_memory(pid)?)))
        .collect()
}

fn finish(options: &Options, report: &Report) -> Result<()> {
    if options.json {
        println!("{:#}", report.json());
    } else {
        println!("{report}");
    }
    let Some(bar) = options.at_least else {
        return Ok(());
    };
    let worst = report
        .worst_ratio()
        .context("nothing to compare with: no nginx here")?;
    if worst < bar {
        bail!("{worst:.2} of nginx's calls per CPU second, {bar} was asked for");
    }
    Ok(())
}
