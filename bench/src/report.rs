//! The figures for people, for machines and as plots.

use std::{fmt, fs, path::Path};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    goals,
    peers::NGINX,
    plot::{Bar, Bars},
    process::Memory,
    sample::{Sample, Spread},
    world::DIRECT,
};

/// What one target gave under one load.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) samples: Vec<Sample>,
    pub(crate) idle: Memory,
    pub(crate) memory: Memory,
}

impl Row {
    fn spread(&self, figure: impl Fn(&Sample) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.samples.iter().filter_map(figure))
    }

    fn median(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        self.spread(|sample| Some(figure(sample)))
            .map_or(f64::NAN, |spread| spread.median)
    }

    /// Pairs the measurements of the same rounds.
    fn with<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a Sample, &'a Sample)> {
        self.samples.iter().zip(&other.samples)
    }

    fn json(&self) -> Value {
        let memory = |memory: Memory| {
            json!({
                "rss_kib": memory.resident, "peak_rss_kib": memory.peak, "pss_kib": memory.proportional,
            })
        };
        json!({
            "target": self.name,
            "rounds": self.samples.iter().map(Sample::json).collect::<Vec<_>>(),
            "idle": memory(self.idle), "after": memory(self.memory),
        })
    }
}

/// What all targets gave under one load.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) title: String,
    /// Calls came at fixed times.
    pub(crate) open: bool,
    pub(crate) rows: Vec<Row>,
    pub(crate) absent: Vec<&'static str>,
}

impl Block {
    fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// Calls per CPU second of one target as a share of another's, over the rounds.
    pub(crate) fn per_cpu(&self, ours: &str, theirs: &str) -> Option<Spread> {
        let pairs = self.row(ours)?.with(self.row(theirs)?);
        Spread::of(pairs.filter_map(|(ours, theirs)| Some(theirs.cpu? / ours.cpu?)))
    }

    /// What a target adds to a call's time over no proxy at all, over the rounds.
    pub(crate) fn added(&self, name: &str, figure: fn(&Sample) -> f64) -> Option<Spread> {
        let pairs = self.row(name)?.with(self.row(DIRECT)?);
        Spread::of(pairs.map(|(target, direct)| figure(target) - figure(direct)))
    }

    /// What one target adds in terms of what another adds, over the rounds.
    pub(crate) fn added_ratio(&self, ours: &str, theirs: &str) -> Option<Spread> {
        let direct = self.row(DIRECT)?;
        let pairs = self
            .row(ours)?
            .with(direct)
            .zip(self.row(theirs)?.with(direct));
        let added = |(target, direct): (&Sample, &Sample)| target.p50 - direct.p50;
        Spread::of(pairs.map(|(ours, theirs)| added(ours) / added(theirs)))
    }

    /// The memory of one target in terms of another's.
    pub(crate) fn memory_ratio(
        &self,
        ours: &str,
        theirs: &str,
        figure: fn(&Memory) -> u64,
    ) -> Option<f64> {
        let of = |name| Some(kib(figure(&self.row(name)?.memory)));
        Some(of(ours)? / of(theirs)?)
    }

    fn json(&self) -> Value {
        let rows: Vec<_> = self.rows.iter().map(Row::json).collect();
        json!({"title": self.title, "open_loop": self.open, "targets": rows, "absent": self.absent})
    }

    fn line(&self, f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
        let added = |figure| {
            let spread = self.added(row.name, figure);
            spread.map_or("-".to_owned(), |spread| format!("{:.0}", spread.median))
        };
        let cpu = row.spread(|sample| sample.cpu);
        writeln!(
            f,
            "{:<22} {:>9.0} {:>8} {:<22} {:>8.0} {:>8} {:>8} {:>8} {:>6.0} {:>6.1} {:>6.1} {:>6.1}",
            row.name,
            row.median(|sample| sample.rate),
            cpu.map_or("-".to_owned(), |cpu| format!("{:.1}", cpu.median)),
            self.per_cpu(row.name, NGINX)
                .map_or("-".to_owned(), |ratio| ratio.to_string()),
            row.median(|sample| sample.p50),
            added(|sample| sample.p50),
            added(|sample| sample.p99),
            added(|sample| sample.p999),
            100.0 * row.median(|sample| sample.load),
            kib(row.idle.resident) / 1024.0,
            kib(row.memory.peak) / 1024.0,
            kib(row.memory.proportional) / 1024.0,
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "far less memory than 2^52 KiB")]
fn kib(kib: u64) -> f64 {
    kib as f64
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        writeln!(
            f,
            "{:<22} {:>9} {:>8} {:<22} {:>8} {:>8} {:>8} {:>8} {:>6} {:>6} {:>6} {:>6}",
            "(medians; µs, MiB)",
            "calls/s",
            "CPU/call",
            "calls/CPU s to nginx",
            "p50",
            "+p50",
            "+p99",
            "+p99.9",
            "load%",
            "idle",
            "peak",
            "PSS"
        )?;
        for row in &self.rows {
            self.line(f, row)?;
        }
        for name in &self.absent {
            writeln!(
                f,
                "{name:<22} skipped: not on this machine, or it cannot do this"
            )?;
        }
        Ok(())
    }
}

/// Everything that was compared.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) blocks: Vec<Block>,
}

impl Report {
    /// Prints how the goals are met and writes what is to be kept.
    pub(crate) fn finish(&self, output: Option<&Path>) -> Result<()> {
        let blocks: Vec<_> = self.blocks.iter().map(Block::json).collect();
        let goals = goals::of_comparison(&self.blocks);
        goals::finish(&goals, &json!(blocks), output, "compare")?;
        if let Some(output) = output {
            fs::write(output.join("compare.svg"), self.plot().svg())?;
        }
        Ok(())
    }

    /// CPU per call of every target, and what it adds to a call's time at fixed rates.
    fn plot(&self) -> Bars {
        let mut bars = Bars::default();
        for block in &self.blocks {
            let cpu = block.rows.iter().filter_map(|row| {
                Some(Bar {
                    label: row.name,
                    spread: row.spread(|sample| sample.cpu)?,
                })
            });
            bars.group(&format!("{}: CPU µs per call", block.title), cpu.collect());
            let rows = block
                .rows
                .iter()
                .filter(|row| block.open && row.name != DIRECT);
            let added = rows.filter_map(|row| {
                Some(Bar {
                    label: row.name,
                    spread: block.added(row.name, |sample| sample.p50)?,
                })
            });
            bars.group(&format!("{}: added p50, µs", block.title), added.collect());
        }
        bars
    }
}
