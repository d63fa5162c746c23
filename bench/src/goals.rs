//! What is aimed at, and how near it is.

use std::{fmt::Write, fs, path::Path};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    machine,
    peers::{ENVOY, ENVOY_OPA, NGINX},
    report::Block,
    sample::Spread,
    world::{OUTRIDER, UNSIGNED},
};

/// One goal. Ratios of one run.
#[derive(Debug, Clone)]
pub(crate) struct Goal {
    what: String,
    bar: Bar,
    measured: Spread,
}

/// What a ratio must reach, and is to reach.
#[derive(Debug, Clone, Copy)]
enum Bar {
    AtLeast { must: f64, aim: f64 },
    AtMost { must: f64, aim: f64 },
}

impl Goal {
    /// A goal that is met from above.
    pub(crate) fn at_least(what: &str, must: f64, aim: f64, measured: Spread) -> Self {
        let (what, bar) = (what.to_owned(), Bar::AtLeast { must, aim });
        Self {
            what,
            bar,
            measured,
        }
    }

    /// A goal that is met from below.
    pub(crate) fn at_most(what: &str, must: f64, aim: f64, measured: Spread) -> Self {
        let (what, bar) = (what.to_owned(), Bar::AtMost { must, aim });
        Self {
            what,
            bar,
            measured,
        }
    }

    fn verdict(&self) -> &'static str {
        let median = self.measured.median;
        let (must, aim) = match self.bar {
            Bar::AtLeast { must, aim } => (median >= must, median >= aim),
            Bar::AtMost { must, aim } => (median <= must, median <= aim),
        };
        match (must, aim) {
            (_, true) => "aim reached",
            (true, _) => "must reached",
            _ => "missed",
        }
    }

    fn json(&self) -> Value {
        let (kind, must, aim) = match self.bar {
            Bar::AtLeast { must, aim } => ("at least", must, aim),
            Bar::AtMost { must, aim } => ("at most", must, aim),
        };
        json!({
            "what": self.what, "kind": kind, "must": must, "aim": aim,
            "measured": self.measured.json(), "verdict": self.verdict(),
        })
    }
}

/// What the comparison says about the goals.
pub(crate) fn of_comparison(blocks: &[Block]) -> Vec<Goal> {
    blocks.iter().flat_map(of_block).collect()
}

fn of_block(block: &Block) -> Vec<Goal> {
    let titled = |what: &str| format!("{what} ({})", block.title);
    let per_cpu = [
        (
            "calls per CPU second, full enforcement to nginx",
            OUTRIDER,
            NGINX,
            0.42,
            0.6,
        ),
        (
            "calls per CPU second, without signature to nginx",
            UNSIGNED,
            NGINX,
            0.5,
            0.8,
        ),
        (
            "calls per CPU second, full enforcement to Envoy",
            OUTRIDER,
            ENVOY,
            1.5,
            2.0,
        ),
        (
            "calls per CPU second, full enforcement to Envoy + OPA",
            OUTRIDER,
            ENVOY_OPA,
            4.0,
            8.0,
        ),
    ];
    let plain = block.title.starts_with("1 KiB") && !block.title.contains("TLS");
    if block.open {
        let added = block
            .title
            .contains("1000")
            .then(|| block.added_ratio(OUTRIDER, NGINX));
        let what = titled("added p50 to nginx's added p50");
        let added = added
            .flatten()
            .map(|spread| Goal::at_most(&what, 2.5, 1.5, spread));
        return added.into_iter().collect();
    }
    if !plain {
        return Vec::new();
    }
    let memory = |what: &str, figure| {
        let ratio = block.memory_ratio(OUTRIDER, NGINX, figure)?;
        Some(Goal::at_most(&titled(what), 2.0, 1.0, Spread::of([ratio])?))
    };
    per_cpu
        .into_iter()
        .filter_map(|(what, ours, theirs, must, aim)| {
            let measured = block.per_cpu(ours, theirs)?;
            Some(Goal::at_least(&titled(what), must, aim, measured))
        })
        .chain(memory("peak RSS, summed, to nginx's", |memory| memory.peak))
        .chain(memory("PSS to nginx's", |memory| memory.proportional))
        .collect()
}

/// Prints how the goals are met and keeps the figures as `NAME.json`.
pub(crate) fn finish(
    goals: &[Goal],
    figures: &Value,
    output: Option<&Path>,
    name: &str,
) -> Result<()> {
    println!("{}", table(goals));
    let Some(output) = output else {
        return Ok(());
    };
    fs::create_dir_all(output)?;
    let goals: Vec<_> = goals.iter().map(Goal::json).collect();
    let json = json!({"machine": machine::description(), "figures": figures, "goals": goals});
    fs::write(output.join(format!("{name}.json")), format!("{json:#}\n"))?;
    Ok(())
}

fn table(goals: &[Goal]) -> String {
    let mut table = String::new();
    let width = goals.iter().map(|goal| goal.what.len()).max().unwrap_or(0);
    for goal in goals {
        let (sign, must, aim) = match goal.bar {
            Bar::AtLeast { must, aim } => ("≥", must, aim),
            Bar::AtMost { must, aim } => ("≤", must, aim),
        };
        let line = writeln!(
            table,
            "{:<width$}  must {sign} {must:<5} aim {aim:<5} {:<22} {}",
            goal.what,
            goal.measured.to_string(),
            goal.verdict(),
        );
        if line.is_err() {
            break;
        }
    }
    table
}
