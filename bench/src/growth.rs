//! How the cost of a call grows with how much there is of everything it does not touch.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::{
    compare::Common,
    goals::{self, Goal},
    load::Pace,
    outrider::Outrider,
    plot::{Curve, Curves},
    process::Memory,
    sample::{Sample, Spread, count},
    shape::Shape,
    world::{Case, World},
};

/// What is to grow.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What grows
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Dimension::ALL)]
    curves: Vec<Dimension>,
    #[command(flatten)]
    common: Common,
}

/// What there is more and more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dimension {
    /// Tools of the catalogue, each with a schema
    Tools,
    /// Grants, fifty an agent
    Grants,
    /// Rules of the user that say nothing about the call
    Rules,
    /// Open tasks, a thousand of which call in turn
    Tasks,
    /// Connections that call
    Connections,
    /// Bytes of the decision log
    Log,
}

impl Dimension {
    const ALL: [Self; 6] = [
        Self::Tools,
        Self::Grants,
        Self::Rules,
        Self::Tasks,
        Self::Connections,
        Self::Log,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Grants => "grants",
            Self::Rules => "rules of the user",
            Self::Tasks => "open tasks",
            Self::Connections => "connections",
            Self::Log => "bytes of the decision log",
        }
    }

    fn numbers(self) -> &'static [usize] {
        match self {
            Self::Tools => &[10, 100, 1000, 10_000],
            Self::Grants => &[10, 100, 1000, 10_000, 100_000],
            Self::Rules => &[10, 100, 1000],
            Self::Tasks => &[1, 100, 10_000, 100_000],
            Self::Connections => &[16, 64, 250, 1000, 2000],
            Self::Log => &[1_000_000, 30_000_000, 1_000_000_000],
        }
    }

    fn shape(self, number: usize) -> Shape {
        let usual = Shape {
            tools: 50,
            ..Shape::default()
        };
        match self {
            Self::Tools => Shape {
                tools: number,
                ..usual
            },
            Self::Grants => Shape {
                grants: number,
                ..usual
            },
            Self::Rules => Shape {
                rules: number,
                ..usual
            },
            Self::Tasks | Self::Connections | Self::Log => usual,
        }
    }
}

/// How many connections call, where that is not what grows.
const CONNECTIONS: usize = 16;
/// How many tasks call in turn.
const CALLING: usize = 1000;

/// One point of a curve.
struct Point {
    /// How many there are: fewer than wanted where there is a bound.
    number: usize,
    connections: usize,
    start: Duration,
    idle: Memory,
    memory: Memory,
    samples: Vec<Sample>,
}

impl Point {
    fn cpu(&self) -> Option<Spread> {
        Spread::of(self.samples.iter().filter_map(|sample| sample.cpu))
    }

    /// Its cost in terms of another point's, over the rounds.
    fn ratio(&self, first: &Self) -> Option<Spread> {
        let pairs = self.samples.iter().zip(&first.samples);
        Spread::of(pairs.filter_map(|(ours, theirs)| Some(ours.cpu? / theirs.cpu?)))
    }

    fn json(&self) -> Value {
        json!({
            "number": self.number, "cpu_us_per_call": self.cpu().map(Spread::json),
            "start_ms": self.start.as_millis(), "idle_rss_kib": self.idle.resident,
            "rss_kib": self.memory.resident,
            "rounds": self.samples.iter().map(Sample::json).collect::<Vec<_>>(),
        })
    }
}

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    let (mut figures, mut goals, mut curves) = (Vec::new(), Vec::new(), Vec::new());
    for &dimension in &options.curves {
        let points = points(dimension, &options.common)?;
        show(dimension, &points);
        goals.extend(goal(dimension, &points));
        let json: Vec<_> = points.iter().map(Point::json).collect();
        figures.push(json!({"what": dimension.title(), "points": json}));
        let drawn = points
            .iter()
            .filter_map(|point| Some((count(point.number), point.cpu()?)));
        curves.push(Curve {
            title: dimension.title().to_owned(),
            points: drawn.collect(),
        });
    }
    let output = options.common.output.as_deref();
    goals::finish(&goals, &json!(figures), output, "growth")?;
    if let Some(output) = output {
        let heading = "CPU µs per call; upright lines: the lowest and the highest round";
        fs::write(output.join("growth.svg"), Curves { heading, curves }.svg())?;
    }
    Ok(())
}

/// The contract promises that grants which a call does not touch cost it nothing.
fn goal(dimension: Dimension, points: &[Point]) -> Option<Goal> {
    let (first, last) = (points.first()?, points.last()?);
    let ratio = last
        .ratio(first)
        .filter(|_| dimension == Dimension::Grants)?;
    let what = format!("cost per call, {} grants to {}", last.number, first.number);
    Some(Goal::at_most(&what, 1.1, 1.0, ratio))
}

fn show(dimension: Dimension, points: &[Point]) {
    println!("{}", dimension.title());
    println!(
        "{:>12} {:>26} {:>22} {:>10} {:>10} {:>10}",
        "", "CPU µs per call", "to the first", "start, ms", "idle, MiB", "then, MiB"
    );
    for point in points {
        let text = |spread: Option<Spread>| spread.map_or("-".to_owned(), |s| s.to_string());
        println!(
            "{:>12} {:>26} {:>22} {:>10} {:>10} {:>10}",
            point.number,
            text(point.cpu()),
            text(points.first().and_then(|first| point.ratio(first))),
            point.start.as_millis(),
            point.idle.resident / 1024,
            point.memory.resident / 1024,
        );
    }
    println!();
}

/// All points stand ready at once and take turns, so that a machine that is busy for a while is busy for all.
fn points(dimension: Dimension, common: &Common) -> Result<Vec<Point>> {
    let mut world = World::bare(Case::default())?;
    let mut points = Vec::new();
    let numbers = dimension.numbers();
    let numbers = if common.quick {
        numbers.get(..2).unwrap_or(numbers)
    } else {
        numbers
    };
    for &number in numbers {
        points.push(prepare(dimension, number, &mut world, common)?);
    }
    // The first of the targets is the tool server itself.
    let targets = world.targets.get(1..).unwrap_or_default();
    for round in 0..common.rounds() {
        for at in 0..points.len() {
            let turn = (at + round) % points.len();
            let of = points.get_mut(turn).zip(targets.get(turn));
            let (point, target) = of.context("a point")?;
            point
                .samples
                .push(target.measure(point.connections, Pace::Closed, common.time())?);
        }
    }
    for (point, target) in points.iter_mut().zip(targets) {
        point.memory = target.memory()?;
        target.check_log()?;
    }
    Ok(points)
}

fn prepare(
    dimension: Dimension,
    number: usize,
    world: &mut World,
    common: &Common,
) -> Result<Point> {
    let settings = common.settings(dimension.shape(number))?;
    let mut outrider = world.start_outrider(&settings)?.context("an Outrider")?;
    let (mut number, mut connections) = (number, CONNECTIONS);
    let mut tokens = vec![outrider.token.clone()];
    match dimension {
        Dimension::Tasks => {
            tokens = open(&outrider, number);
            number = tokens.len();
            let every = (number / CALLING).max(1);
            tokens = tokens.into_iter().step_by(every).collect();
        }
        Dimension::Connections => connections = number,
        Dimension::Log => {
            outrider = grown(outrider, number, world)?;
            tokens = vec![outrider.token.clone()];
        }
        Dimension::Tools | Dimension::Grants | Dimension::Rules => {}
    }
    let start = outrider.start;
    world.add_outrider(outrider, &tokens)?;
    let target = world.targets.last().context("a target")?;
    Ok(Point {
        number,
        connections,
        start,
        idle: target.idle,
        memory: target.idle,
        samples: Vec::new(),
    })
}

/// Opens so many tasks, or as many as there may be.
fn open(outrider: &Outrider, number: usize) -> Vec<String> {
    let mut tokens = vec![outrider.token.clone()];
    while tokens.len() < number {
        match outrider.open_task() {
            Ok(token) => tokens.push(token),
            Err(refused) => {
                println!("{} tasks fit: {refused}", tokens.len());
                break;
            }
        }
    }
    tokens
}

/// Calls until the log is that large, and starts anew over it.
fn grown(outrider: Outrider, bytes: usize, world: &World) -> Result<Outrider> {
    let log = outrider.log();
    let token = outrider.token.clone();
    let target = world.outrider_target(outrider, &[token])?;
    while fs::metadata(&log)?.len() < u64::try_from(bytes)? {
        target.measure(CONNECTIONS, Pace::Closed, Duration::from_secs(1))?;
    }
    let outrider = target.into_outrider();
    outrider
        .context("an Outrider that nobody else holds")?
        .restarted()
}
