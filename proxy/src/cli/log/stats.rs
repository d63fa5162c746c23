//! `outrider log stats`: what a log holds, counted.
//!
//! Lines of one log, in order, come in; counts and quantiles go out. Memory grows with the groups
//! and with calls under way, not with the log.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufRead as _, BufReader, Write},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::ValueEnum;
use hdrhistogram::Histogram;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    Locate, Source,
    human::{Style, plain},
};
use crate::{record::said::Line, units::Period};

/// Quantiles are right to one part in this many.
const DIGITS: u8 = 2;
/// A longer call counts as one of this length, in microseconds: a day.
const LONGEST: u64 = 86_400_000_000;

/// What calls are put together by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Tool,
    Service,
    Agent,
    Intent,
    Task,
    Code,
}

#[derive(Debug, clap::Args)]
pub(super) struct StatsArgs {
    /// Decision logs, those that were put aside first; without any, the one of the configuration
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The configuration that names the decision log
    #[arg(
        short,
        long,
        value_name = "CONFIG",
        default_value = "outrider.yaml",
        conflicts_with = "files"
    )]
    config: PathBuf,
    /// Only calls that arrived since then: a time, or how long ago, such as 15m
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only calls that arrived before
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// What calls are put together by
    #[arg(long, value_enum, default_value_t = By::Tool)]
    by: By,
    /// How many groups are shown, those with the most calls first
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// One JSON object, with every group
    #[arg(long)]
    json: bool,
}

fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(ago) = Period::try_from(text.to_owned()) {
        let ago = SignedDuration::try_from(ago.0).map_err(|_| "too long ago")?;
        return Timestamp::now()
            .checked_sub(ago)
            .map_err(|_| "too long ago".into());
    }
    let expected = "expected a time such as 2026-11-27T07:00:00Z, or how long ago, such as 15m";
    text.parse().map_err(|_| expected.into())
}

/// Counts and prints.
pub(super) fn stats(
    args: &StatsArgs,
    locate: Locate<'_>,
    out: &mut dyn Write,
    style: Style,
) -> anyhow::Result<()> {
    let files = if args.files.is_empty() {
        let source = Source {
            file: None,
            config: args.config.clone(),
        };
        vec![source.path(locate)?]
    } else {
        args.files.clone()
    };
    let mut counted = Counted::new(args);
    for path in &files {
        let file = File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let mut lines = BufReader::with_capacity(256 * 1024, file);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            counted.add(line.strip_suffix(b"\n"));
            line.clear();
        }
    }
    if args.json {
        writeln!(out, "{}", counted.to_json())?;
        return Ok(());
    }
    counted.print(args.top, out, style)?;
    Ok(())
}

/// How long something took, in microseconds.
#[derive(Debug, Default)]
struct Took(Option<Histogram<u32>>);

impl Took {
    fn add(&mut self, micros: u64, times: u64) {
        if self.0.is_none() {
            self.0 = Histogram::new_with_bounds(1, LONGEST, DIGITS).ok();
        }
        if let Some(all) = &mut self.0 {
            let times = u32::try_from(times).unwrap_or(u32::MAX);
            all.saturating_record_n(micros.clamp(1, LONGEST), times);
        }
    }

    fn at(&self, quantile: f64) -> Option<u64> {
        self.0.as_ref().map(|all| all.value_at_quantile(quantile))
    }

    fn max(&self) -> Option<u64> {
        self.0.as_ref().map(Histogram::max)
    }

    fn to_json(&self) -> Value {
        json!({
            "p50_us": self.at(0.5), "p95_us": self.at(0.95), "p99_us": self.at(0.99), "max_us": self.max(),
        })
    }
}

#[derive(Debug, Default)]
struct Group {
    calls: u64,
    refused: u64,
    bytes: u64,
    took: Took,
    own: Took,
    ended: BTreeMap<String, u64>,
}

impl Group {
    fn to_json(&self, name: &str) -> Value {
        json!({
            "name": name,
            "calls": self.calls,
            "refused": self.refused,
            "bytes": self.bytes,
            "ended": self.ended,
            "duration": self.took.to_json(),
            "overhead": self.own.to_json(),
        })
    }
}

/// Everything that is counted.
#[derive(Debug)]
struct Counted {
    by: By,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    outcomes: BTreeMap<String, u64>,
    codes: BTreeMap<String, u64>,
    groups: HashMap<String, Group>,
    /// The group of each call whose end has not come yet.
    open: HashMap<String, String>,
    checkpoints: u64,
    torn: u64,
    foreign: u64,
}

impl Counted {
    fn new(args: &StatsArgs) -> Self {
        Self {
            by: args.by,
            since: args.since,
            until: args.until,
            first: None,
            last: None,
            outcomes: BTreeMap::new(),
            codes: BTreeMap::new(),
            groups: HashMap::new(),
            open: HashMap::new(),
            checkpoints: 0,
            torn: 0,
            foreign: 0,
        }
    }

    /// Counts a line, or what there is of a last one without its end.
    fn add(&mut self, line: Option<&[u8]>) {
        let Some(line) = line else {
            self.torn += 1;
            return;
        };
        let Some(line) = Line::read(line) else {
            self.foreign += 1;
            return;
        };
        match &*line.kind {
            "decision" => self.decided(&line),
            "outcome" => self.over(&line),
            "checkpoint" => self.checkpoints += 1,
            _ => self.foreign += 1,
        }
    }

    fn decided(&mut self, line: &Line<'_>) {
        let Ok(time) = line.timestamp.parse::<Timestamp>() else {
            self.foreign += 1;
            return;
        };
        if self.since.is_some_and(|since| time < since)
            || self.until.is_some_and(|until| time >= until)
        {
            return;
        }
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
        self.last = Some(self.last.map_or(time, |last| last.max(time)));
        let calls = line.count.max(1);
        *self.outcomes.entry(line.outcome.to_string()).or_default() += calls;
        if line.outcome != "allow" {
            *self.codes.entry(line.code.to_string()).or_default() += calls;
        }
        let name = match self.by {
            By::Tool if line.tool.is_empty() => &line.method,
            By::Tool => &line.tool,
            By::Service => &line.service,
            By::Agent => &line.agent,
            By::Intent => &line.intent,
            By::Task => &line.task,
            By::Code => &line.code,
        };
        let group = self.groups.entry(name.to_string()).or_default();
        group.calls += calls;
        let own = line.metrics.timer_server_handler_ns / 1000;
        group.own.add(own, calls);
        if line.outcome == "allow" {
            self.open
                .insert(line.decision_id.to_string(), name.to_string());
        } else {
            group.refused += calls;
        }
    }

    fn over(&mut self, line: &Line<'_>) {
        let Some(name) = self.open.remove(&*line.decision_id) else {
            return;
        };
        let group = self.groups.entry(name).or_default();
        group.bytes += line.response.bytes;
        *group.ended.entry(line.ended.to_string()).or_default() += 1;
        let took = line.response.duration_ms.saturating_mul(1000);
        group.took.add(took, 1);
    }

    fn calls(&self) -> u64 {
        self.outcomes.values().sum()
    }

    /// Groups, those with the most calls first.
    fn sorted(&self) -> Vec<(&str, &Group)> {
        let groups = self
            .groups
            .iter()
            .map(|(name, group)| (name.as_str(), group));
        let mut groups: Vec<_> = groups.collect();
        groups.sort_by(|(one, a), (other, b)| b.calls.cmp(&a.calls).then(one.cmp(other)));
        groups
    }

    fn to_json(&self) -> Value {
        let groups = self.sorted().into_iter();
        json!({
            "from": self.first.map(|time| time.to_string()),
            "to": self.last.map(|time| time.to_string()),
            "calls": self.calls(),
            "outcomes": self.outcomes,
            "codes": self.codes,
            "open": self.open.len(),
            "checkpoints": self.checkpoints,
            "lines_torn": self.torn,
            "lines_foreign": self.foreign,
            "by": self.by.to_possible_value().map(|by| by.get_name().to_owned()),
            "groups": groups.map(|(name, group)| group.to_json(name)).collect::<Vec<_>>(),
        })
    }

    fn print(&self, top: usize, out: &mut dyn Write, style: Style) -> std::io::Result<()> {
        if let (Some(first), Some(last)) = (self.first, self.last) {
            writeln!(out, "{first} to {last}")?;
        }
        let share = |count: u64| percent(count, self.calls());
        writeln!(out, "{:>10}  calls", self.calls())?;
        for (outcome, count) in &self.outcomes {
            writeln!(
                out,
                "{count:>10}  {}  {}",
                style.outcome(outcome),
                share(*count)
            )?;
        }
        let mut codes: Vec<_> = self.codes.iter().collect();
        codes.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        for (code, count) in codes {
            writeln!(out, "{count:>10}    {code}  {}", share(*count))?;
        }
        if !self.open.is_empty() {
            writeln!(
                out,
                "{:>10}  permitted, and not ended in these files",
                self.open.len()
            )?;
        }
        for (count, what) in [(self.torn, "torn"), (self.foreign, "of no decision log")] {
            if count > 0 {
                writeln!(out, "{count:>10}  lines {what}: passed over")?;
            }
        }
        let groups = self.sorted();
        if groups.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "\n{:<34} {:>8} {:>8} {:>7} {:>7} {:>7} {:>7} {:>8} {:>8}",
            self.title(),
            "CALLS",
            "REFUSED",
            "P50",
            "P95",
            "P99",
            "MAX",
            "OWN P50",
            "OWN P99",
        )?;
        for (name, group) in groups.iter().take(top) {
            let took = |quantile| span(group.took.at(quantile));
            let own = |quantile| span(group.own.at(quantile));
            let max = span(group.took.max());
            writeln!(
                out,
                "{:<34} {:>8} {:>8} {:>7} {:>7} {:>7} {max:>7} {:>8} {:>8}",
                short(name),
                group.calls,
                group.refused,
                took(0.5),
                took(0.95),
                took(0.99),
                own(0.5),
                own(0.99),
            )?;
        }
        if groups.len() > top {
            writeln!(
                out,
                "and {} more: --top {}",
                groups.len() - top,
                groups.len()
            )?;
        }
        Ok(())
    }

    fn title(&self) -> String {
        let word = self.by.to_possible_value();
        word.map_or_else(String::new, |word| word.get_name().to_uppercase())
    }
}

fn percent(part: u64, whole: u64) -> String {
    let tenths = part
        .saturating_mul(1000)
        .checked_div(whole)
        .unwrap_or_default();
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// The end of a long name says more than its beginning.
fn short(name: &str) -> String {
    let name = if name.is_empty() { "(none)" } else { name };
    let name = plain(name);
    let letters = name.chars().count();
    if letters <= 34 {
        return name;
    }
    let kept: String = name.chars().skip(letters - 33).collect();
    format!("…{kept}")
}

/// Microseconds as people read them.
fn span(micros: Option<u64>) -> String {
    match micros {
        None => "-".into(),
        Some(micros) if micros < 1_000 => format!("{micros}us"),
        Some(micros) if micros < 10_000 => format!("{}.{}ms", micros / 1_000, micros % 1_000 / 100),
        Some(micros) if micros < 10_000_000 => format!("{}ms", micros / 1_000),
        Some(micros) => format!("{}s", micros / 1_000_000),
    }
}

#[cfg(test)]
mod tests;
