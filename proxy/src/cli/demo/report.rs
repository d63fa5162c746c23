//! What a run prints: a line per call, then where record and metrics are.

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use serde::{Serialize, Serializer};
use serde_json::Value;

/// One call as it was decided; as JSON, the members in this order.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    /// The tool's ID.
    pub(super) tool: String,
    /// The outcome that the record has.
    pub(super) outcome: String,
    /// `ok`, or why it was refused.
    pub(super) code: String,
    /// Under what it is recorded.
    pub(super) decision_id: String,
    /// From the arrival of the call to its decision in the record.
    #[serde(rename = "added_us", serialize_with = "microseconds")]
    pub(super) added: Duration,
    /// Messages that came on a stream before the answer.
    #[serde(skip)]
    pub(super) progress: usize,
}

impl Line {
    /// The columns that people read.
    fn human(&self) -> String {
        let added = format!("{:.2}ms", self.added.as_secs_f64() * 1e3);
        columns([
            &self.tool,
            &self.outcome,
            &self.code,
            &self.decision_id,
            &added,
        ])
    }
}

fn microseconds<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

/// In which form a run is told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// To a person who watches: columns, and below each line what to look at.
    Terminal,
    /// To a person who reads later: columns alone.
    Text,
    /// To a program.
    Json,
}

/// What a run leaves behind.
#[derive(Debug, Serialize)]
pub(super) struct Files {
    /// The decision log.
    pub(super) record: PathBuf,
    /// The metrics page.
    pub(super) metrics: PathBuf,
}

impl Form {
    /// The form for that output; `--json` wins.
    pub(super) fn asked(json: bool, out: &impl IsTerminal) -> Self {
        match (json, out.is_terminal()) {
            (true, _) => Self::Json,
            (false, true) => Self::Terminal,
            (false, false) => Self::Text,
        }
    }

    /// Tells what the columns are.
    pub(super) fn begin(self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Terminal => writeln!(out, "{}", header()),
            Self::Text | Self::Json => Ok(()),
        }
    }

    /// Tells of one call.
    pub(super) fn line(self, line: &Line, why: &str, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Terminal => writeln!(out, "{}\n    {why}", line.human()),
            Self::Text => writeln!(out, "{}", line.human()),
            Self::Json => writeln!(out, "{}", serde_json::to_string(line)?),
        }
    }

    /// Tells where everything is, and how to go on.
    pub(super) fn end(self, files: &Files, summary: &str, out: &mut dyn Write) -> io::Result<()> {
        if matches!(self, Self::Json) {
            return writeln!(out, "{}", serde_json::to_string(files)?);
        }
        let record = files.record.display();
        writeln!(out, "record   {record}")?;
        writeln!(out, "metrics  {}", files.metrics.display())?;
        writeln!(out, "{summary}")?;
        writeln!(out, "next     outrider log verify {record}; outrider init")
    }
}

fn header() -> String {
    columns(["TOOL", "OUTCOME", "CODE", "DECISION_ID", "ADDED"])
}

fn columns([tool, outcome, code, id, added]: [&str; 5]) -> String {
    format!("{tool:<24}  {outcome:<7}  {code:<23}  {id:<36}  {added:>7}")
}

/// What the record says of one decision: its outcome, and how long it took.
///
/// # Errors
/// When the record does not have it.
pub(super) fn recorded(record: &Path, decision_id: &str) -> anyhow::Result<(String, Duration)> {
    let text = std::fs::read_to_string(record)
        .with_context(|| format!("cannot read `{}`", record.display()))?;
    let mut lines = text
        .lines()
        .filter(|line| line.contains(decision_id))
        .filter_map(|line| serde_json::from_str(line).ok());
    let line = lines.find(|line: &Value| line.get("type").is_some_and(|kind| kind == "decision"));
    let line = line.with_context(|| {
        format!(
            "`{}` does not have the decision {decision_id}",
            record.display()
        )
    })?;
    let outcome = line
        .get("outcome")
        .and_then(Value::as_str)
        .context("a record without an outcome")?;
    let took = line
        .pointer("/metrics/timer_server_handler_ns")
        .and_then(Value::as_u64)
        .context("a record without its time")?;
    Ok((outcome.to_owned(), Duration::from_nanos(took)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "0198c6f4-0000-7000-8000-000000000001";

    fn line() -> Line {
        Line {
            tool: "tickets/export_customers".into(),
            code: "classification_exceeded".into(),
            decision_id: ID.into(),
            outcome: "deny".into(),
            added: Duration::from_nanos(213_700),
            progress: 0,
        }
    }

    #[test]
    fn a_line_has_five_aligned_columns() {
        insta::assert_snapshot!(format!("{}\n{}", header(), line().human()), @r"
        TOOL                      OUTCOME  CODE                     DECISION_ID                             ADDED
        tickets/export_customers  deny     classification_exceeded  0198c6f4-0000-7000-8000-000000000001   0.21ms
        ");
    }

    #[test]
    fn an_object_has_the_same_in_microseconds() {
        let expected = r#"{"tool":"tickets/export_customers","outcome":"deny","code":"classification_exceeded","decision_id":"0198c6f4-0000-7000-8000-000000000001","added_us":213}"#;
        assert_eq!(serde_json::to_string(&line()).unwrap(), expected);
    }

    #[test]
    fn the_record_tells_outcome_and_time_of_a_decision_only() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let decision = json!({"type": "decision", "decision_id": ID, "outcome": "allow", "metrics": {"timer_server_handler_ns": 5}});
        let outcome = json!({"type": "outcome", "decision_id": ID, "outcome": "wrong"});
        std::fs::write(file.path(), format!("{outcome}\n{decision}\n")).unwrap();
        assert_eq!(
            recorded(file.path(), ID).unwrap(),
            ("allow".into(), Duration::from_nanos(5))
        );
        assert!(recorded(file.path(), "0198c6f4-0000-7000-8000-000000000002").is_err());
    }
}
