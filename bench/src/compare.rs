//! The comparison: the same bytes to each target, in turn, round after round.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::{
    load::Pace,
    outrider::Settings,
    peers,
    report::{Block, Report, Row},
    shape::Shape,
    world::{Case, OUTRIDER, Target, World},
};

/// What to compare and for how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Scenario::ALL)]
    scenarios: Vec<Scenario>,
    /// The peers, as far as they are on the PATH
    #[arg(long, value_delimiter = ',', default_values_t = peers::ALL.map(str::to_owned))]
    peers: Vec<String>,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What all measurements have in common.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The binary to measure; default: `outrider` beside this program
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Rounds over all targets, over which medians are taken [default: 9]
    #[arg(long)]
    rounds: Option<usize>,
    /// Length of one measurement [default: 2]
    #[arg(long)]
    seconds: Option<f64>,
    /// That everything runs, as short as can be: the figures mean nothing
    #[arg(long)]
    pub(crate) quick: bool,
    /// Durability of the decision log: `memory`, `written` or `synced`
    #[arg(long, default_value = "written")]
    durability: String,
    /// Writes the figures and the plots into this directory
    #[arg(long)]
    pub(crate) output: Option<PathBuf>,
}

impl Common {
    pub(crate) fn settings(&self, shape: Shape) -> Result<Settings> {
        let beside = std::env::current_exe()?.with_file_name("outrider");
        Ok(Settings {
            binary: self.binary.clone().unwrap_or(beside),
            durability: self.durability.clone(),
            identity: "full",
            shape,
        })
    }

    pub(crate) fn time(&self) -> Duration {
        let usual = if self.quick { 0.3 } else { 2.0 };
        Duration::from_secs_f64(self.seconds.unwrap_or(usual))
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 2 } else { 9 })
    }
}

/// A kind of call and a kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Calls of 1 KiB, 16 and 64 connections, each again as soon as it is answered
    Closed,
    /// Calls of 1 KiB at fixed rates: 1,000 a second, and a third of what Outrider can do
    Open,
    /// Answers that are streams of ten events
    Events,
    /// 64 KiB each way
    Large,
    /// 1 MiB each way
    Huge,
    /// TLS on both sides
    Tls,
}

impl Scenario {
    const ALL: [Self; 6] = [
        Self::Closed,
        Self::Open,
        Self::Events,
        Self::Large,
        Self::Huge,
        Self::Tls,
    ];

    fn case(self) -> Case {
        let usual = Case::default();
        match self {
            Self::Closed | Self::Open => usual,
            Self::Events => Case { events: 9, ..usual },
            Self::Large => Case {
                padding: 64 << 10,
                ..usual
            },
            Self::Huge => Case {
                padding: 1 << 20,
                ..usual
            },
            Self::Tls => Case { tls: true, ..usual },
        }
    }

    /// How it is fired: a title, connections, and the pace.
    fn loads(self, world: &World) -> Result<Vec<Load>> {
        let closed = |what: &str, connections| Load {
            title: format!("{what}, {connections} connections"),
            connections,
            pace: Pace::Closed,
        };
        Ok(match self {
            Self::Closed => vec![closed("1 KiB", 16), closed("1 KiB", 64)],
            Self::Open => {
                let third = knee(world)? / 3.0;
                let rates = [1000.0, (third / 100.0).round().max(1.0) * 100.0];
                rates.map(fixed).into()
            }
            Self::Events => vec![closed("stream of 10 events", 16)],
            Self::Large => vec![closed("64 KiB each way", 16)],
            Self::Huge => vec![closed("1 MiB each way", 8)],
            Self::Tls => vec![closed("1 KiB, TLS on both sides", 16)],
        })
    }
}

/// One way of firing.
struct Load {
    title: String,
    connections: usize,
    pace: Pace,
}

fn fixed(rate: f64) -> Load {
    Load {
        title: format!("1 KiB, {rate:.0} calls a second"),
        connections: 64,
        pace: Pace::PerSecond(rate),
    }
}

/// What Outrider can do.
fn knee(world: &World) -> Result<f64> {
    let outrider = world.targets.iter().find(|target| target.name == OUTRIDER);
    let outrider = outrider.context("Outrider is measured")?;
    let sample = outrider.measure(16, Pace::Closed, Duration::from_secs(1))?;
    Ok(sample.rate)
}

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    let settings = options.common.settings(Shape::default())?;
    let wanted: Vec<_> = peers::ALL
        .into_iter()
        .filter(|peer| options.peers.iter().any(|name| name == peer))
        .collect();
    let mut report = Report::default();
    for scenario in &options.scenarios {
        let world = World::start(scenario.case(), &settings, &wanted)?;
        for load in scenario.loads(&world)? {
            let block = measure(&world, &load, &options.common)?;
            println!("{block}");
            report.blocks.push(block);
        }
        for target in &world.targets {
            target.check_log()?;
        }
    }
    report.finish(options.common.output.as_deref())
}

/// The targets take turns in an order that rotates, so that a machine that is busy for a while is busy for all.
fn measure(world: &World, load: &Load, common: &Common) -> Result<Block> {
    let targets = &world.targets;
    let mut samples = vec![Vec::new(); targets.len()];
    for round in 0..common.rounds() {
        for at in 0..targets.len() {
            let turn = (at + round) % targets.len();
            let of = targets.get(turn).zip(samples.get_mut(turn));
            let (target, samples) = of.context("a target")?;
            samples.push(target.measure(load.connections, load.pace, common.time())?);
        }
    }
    let row = |(target, samples): (&Target, _)| {
        anyhow::Ok(Row {
            name: target.name,
            samples,
            idle: target.idle,
            memory: target.memory()?,
        })
    };
    let rows = targets.iter().zip(samples).map(row);
    Ok(Block {
        title: load.title.clone(),
        open: load.pace != Pace::Closed,
        rows: rows.collect::<Result<_>>()?,
        absent: world.absent.clone(),
    })
}
