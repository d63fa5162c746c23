//! The figures, as ratios within each round.

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use crate::load::Round;

/// The tool server without a proxy.
pub(crate) const DIRECT: &str = "direct";
/// nginx as a plain proxy.
pub(crate) const NGINX: &str = "nginx";
/// Outrider with every check on.
pub(crate) const OUTRIDER: &str = "outrider";

/// The same without the signed assertion and the other identity headers.
pub(crate) const UNSIGNED: &str = "unsigned";
/// The least there is: a `ping`, not judged, not signed; read strictly, recorded and passed on.
pub(crate) const PING: &str = "ping";

/// The targets in the order in which they are shown.
const ROWS: [&str; 5] = [DIRECT, NGINX, OUTRIDER, UNSIGNED, PING];

/// One measurement of one target.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) target: &'static str,
    pub(crate) connections: usize,
    pub(crate) warm_calls: usize,
    pub(crate) calls: usize,
    /// Calls per second.
    rate: f64,
    /// CPU time of the proxy per call, in microseconds.
    cpu: Option<f64>,
    /// Median and 99th percentile of a call's time, in microseconds.
    p50: f64,
    p99: f64,
}

impl Sample {
    pub(crate) fn new(
        target: &'static str,
        connections: usize,
        warm_calls: usize,
        round: &Round,
        cpu: Option<Duration>,
    ) -> Self {
        let calls = round.calls;
        Self {
            target,
            connections,
            warm_calls,
            calls,
            rate: count(calls) / round.elapsed.as_secs_f64(),
            cpu: cpu
                .filter(|cpu| !cpu.is_zero())
                .map(|cpu| cpu.as_secs_f64() * 1e6 / count(calls)),
            p50: quantile(&round.times, 50),
            p99: quantile(&round.times, 99),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 calls")]
fn count(calls: usize) -> f64 {
    calls as f64
}

fn quantile(sorted: &[Duration], percent: usize) -> f64 {
    let at = sorted.len().saturating_sub(1) * percent / 100;
    sorted
        .get(at)
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}

/// Median and extremes.
#[derive(Debug, Clone, Copy)]
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.collect();
        values.sort_by(f64::total_cmp);
        let median = *values.get(values.len() / 2)?;
        Some(Self {
            low: *values.first()?,
            median,
            high: *values.last()?,
        })
    }

    fn json(self) -> Value {
        json!({"median": self.median, "low": self.low, "high": self.high})
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2} ({:.2} to {:.2})",
            self.median, self.low, self.high
        )
    }
}

/// All measurements.
#[derive(Debug)]
pub(crate) struct Report {
    samples: Vec<Sample>,
    memory: Vec<(&'static str, u64)>,
}

impl Report {
    pub(crate) fn new(samples: Vec<Sample>, memory: Vec<(&'static str, u64)>) -> Self {
        Self { samples, memory }
    }

    /// The lowest median, over the numbers of connections, of Outrider's calls per CPU second as a
    /// share of nginx's.
    pub(crate) fn worst_ratio(&self) -> Option<f64> {
        let medians = self.groups().into_iter().filter_map(|n| self.per_cpu(n));
        medians.map(|spread| spread.median).min_by(f64::total_cmp)
    }

    pub(crate) fn json(&self) -> Value {
        let groups = self.groups().into_iter().map(|connections| {
            let targets = ROWS
                .into_iter()
                .filter_map(|t| Some((t.to_owned(), self.target(connections, t)?)));
            json!({
                "connections": connections,
                "targets": Value::Object(targets.collect()),
                "outrider_to_nginx": {
                    "calls_per_cpu_second": self.per_cpu(connections).map(Spread::json),
                    "calls_per_second": self.per_second(connections).map(Spread::json),
                },
            })
        });
        let memory = self
            .memory
            .iter()
            .map(|(name, kib)| ((*name).to_owned(), json!(kib)));
        let memory = Value::Object(memory.collect());
        json!({"comparisons": groups.collect::<Vec<_>>(), "peak_memory_kib": memory})
    }

    fn groups(&self) -> Vec<usize> {
        let mut groups: Vec<_> = self
            .samples
            .iter()
            .map(|sample| sample.connections)
            .collect();
        groups.dedup();
        groups
    }

    fn of(&self, connections: usize, target: &str) -> Vec<&Sample> {
        let wanted = |s: &&Sample| s.connections == connections && s.target == target;
        self.samples.iter().filter(wanted).collect()
    }

    fn target(&self, connections: usize, target: &str) -> Option<Value> {
        let samples = self.of(connections, target);
        let spread = |figure: fn(&Sample) -> f64| Spread::of(samples.iter().map(|s| figure(s)));
        Some(json!({
            "calls_per_second": spread(|s| s.rate)?.json(),
            "cpu_us_per_call": Spread::of(samples.iter().filter_map(|s| s.cpu)).map(Spread::json),
            "p50_us": spread(|s| s.p50)?.json(),
            "p99_us": spread(|s| s.p99)?.json(),
        }))
    }

    /// Pairs Outrider's and nginx's measurements of the same round.
    fn ratio(
        &self,
        connections: usize,
        ratio: fn(&Sample, &Sample) -> Option<f64>,
    ) -> Option<Spread> {
        let (ours, theirs) = (self.of(connections, OUTRIDER), self.of(connections, NGINX));
        Spread::of(
            ours.iter()
                .zip(theirs)
                .filter_map(|(ours, theirs)| ratio(ours, theirs)),
        )
    }

    fn per_cpu(&self, connections: usize) -> Option<Spread> {
        self.ratio(connections, |ours, theirs| Some(theirs.cpu? / ours.cpu?))
    }

    fn per_second(&self, connections: usize) -> Option<Spread> {
        self.ratio(connections, |ours, theirs| Some(ours.rate / theirs.rate))
    }

    fn row(&self, f: &mut fmt::Formatter<'_>, connections: usize, target: &str) -> fmt::Result {
        let samples = self.of(connections, target);
        let middle = |figure: fn(&Sample) -> f64| {
            Spread::of(samples.iter().map(|s| figure(s))).map(|spread| spread.median)
        };
        let direct = self.of(connections, DIRECT);
        let added = |figure: fn(&Sample) -> f64| {
            let over = samples
                .iter()
                .zip(&direct)
                .map(|(s, d)| figure(s) - figure(d));
            Spread::of(over).map(|spread| spread.median)
        };
        let Some(rate) = middle(|s| s.rate) else {
            return match target {
                NGINX => writeln!(f, "{target:<10} skipped: not on this machine"),
                _ => Ok(()),
            };
        };
        let cpu = Spread::of(samples.iter().filter_map(|s| s.cpu));
        let cpu = cpu.map_or("-".to_owned(), |spread| format!("{:.1}", spread.median));
        let us = |value: Option<f64>| format!("{:.0}", value.unwrap_or(f64::NAN));
        writeln!(
            f,
            "{target:<10} {rate:>10.0} {cpu:>12} {:>9} {:>9} {:>11} {:>11}",
            us(middle(|s| s.p50)),
            us(middle(|s| s.p99)),
            us(added(|s| s.p50)),
            us(added(|s| s.p99)),
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for connections in self.groups() {
            writeln!(
                f,
                "{connections} connections (medians; times in microseconds)"
            )?;
            writeln!(
                f,
                "{:<10} {:>10} {:>12} {:>9} {:>9} {:>11} {:>11}",
                "", "calls/s", "CPU/call", "p50", "p99", "added p50", "added p99"
            )?;
            for target in ROWS {
                self.row(f, connections, target)?;
            }
            if let Some(spread) = self.per_cpu(connections) {
                writeln!(f, "outrider to nginx, calls per CPU second: {spread}")?;
            }
            if let Some(spread) = self.per_second(connections) {
                writeln!(f, "outrider to nginx, calls per second:     {spread}")?;
            }
            writeln!(f)?;
        }
        let memory = self
            .memory
            .iter()
            .map(|(name, kib)| format!("{name} {} MiB", kib / 1024));
        write!(
            f,
            "peak resident memory: {}",
            memory.collect::<Vec<_>>().join(", ")
        )
    }
}
