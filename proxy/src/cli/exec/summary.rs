//! What an agent did, as the decision log has it.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, BufRead as _, BufReader, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use serde_json::Value;

/// Calls that are named as the slowest.
const SLOWEST: usize = 3;

/// A stretch of the log, from when an agent was started.
#[derive(Debug)]
pub(super) struct Summary {
    log: PathBuf,
    whose: Whose,
    from: u64,
}

/// Which decisions are the agent's.
#[derive(Debug)]
struct Whose {
    task: String,
    /// Those without a task, too: what is refused before its task is known. Nobody else calls there.
    alone: bool,
}

impl Whose {
    fn covers(&self, task: &str) -> bool {
        task == self.task || (self.alone && task.is_empty())
    }
}

/// What an agent did.
#[derive(Debug, Default)]
pub(super) struct Told {
    calls: u64,
    refusals: BTreeMap<String, u64>,
    /// Tool and milliseconds.
    slowest: Vec<(String, u64)>,
}

impl Summary {
    /// `alone`: the sidecar serves no other agent.
    pub(super) fn begin(log: &Path, task: &str, alone: bool) -> Self {
        let from = std::fs::metadata(log).map_or(0, |file| file.len());
        Self {
            log: log.to_owned(),
            whose: Whose {
                task: task.to_owned(),
                alone,
            },
            from,
        }
    }

    /// Reads what was added since.
    pub(super) fn end(&self) -> io::Result<Told> {
        let mut file = File::open(&self.log)?;
        // A log that was rotated meanwhile begins anew.
        let from = if file.metadata()?.len() < self.from {
            0
        } else {
            self.from
        };
        file.seek(SeekFrom::Start(from))?;
        let lines = BufReader::new(file).lines();
        let mut told = Told::default();
        let mut tools = BTreeMap::new();
        for line in lines {
            if let Ok(line) = serde_json::from_str(&line?) {
                told.add(&self.whose, &line, &mut tools);
            }
        }
        told.slowest
            .sort_by_key(|(_, took)| std::cmp::Reverse(*took));
        told.slowest.truncate(SLOWEST);
        Ok(told)
    }
}

impl Told {
    /// Adds a line of the log, if it is the agent's.
    fn add(&mut self, whose: &Whose, line: &Value, tools: &mut BTreeMap<String, String>) {
        let text = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default();
        let id = text("decision_id").to_owned();
        match text("type") {
            "decision" if whose.covers(text("task")) => {
                let count = line.get("count").and_then(Value::as_u64).unwrap_or(1);
                self.calls += count;
                if text("outcome") == "allow" {
                    tools.insert(id, text("tool").to_owned());
                } else {
                    *self.refusals.entry(text("code").to_owned()).or_default() += count;
                }
            }
            "outcome" => {
                if let Some(tool) = tools.remove(&id).filter(|tool| !tool.is_empty()) {
                    let took = line.pointer("/response/duration_ms");
                    self.slowest
                        .push((tool, took.and_then(Value::as_u64).unwrap_or(0)));
                }
            }
            _ => {}
        }
    }

    pub(super) fn to_json(&self) -> String {
        let slowest: Vec<_> = self
            .slowest
            .iter()
            .map(|(tool, took)| serde_json::json!({"tool": tool, "duration_ms": took}))
            .collect();
        serde_json::json!({
            "calls": self.calls,
            "refusals": self.refusals,
            "slowest": slowest,
        })
        .to_string()
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused: u64 = self.refusals.values().sum();
        write!(f, "outrider: {} calls, {refused} refused", self.calls)?;
        for (code, count) in &self.refusals {
            write!(f, "\n  {code:<24} {count}")?;
        }
        for (tool, took) in &self.slowest {
            write!(f, "\n  slowest  {tool}  {took} ms")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_task_count_and_those_without_one_where_nobody_else_calls() {
        let lines = [
            r#"{"type":"decision","decision_id":"1","task":"t","outcome":"allow","code":"ok","tool":"a/b"}"#,
            r#"{"type":"decision","decision_id":"2","task":"other","outcome":"deny","code":"tool_unknown"}"#,
            r#"{"type":"decision","decision_id":"3","task":"t","outcome":"deny","code":"rate_limited","count":5}"#,
            r#"{"type":"outcome","decision_id":"1","response":{"duration_ms":7}}"#,
            r#"{"type":"outcome","decision_id":"9","response":{"duration_ms":9}}"#,
            r#"{"type":"decision","decision_id":"4","task":"","outcome":"deny","code":"service_unknown"}"#,
        ];
        let told = |alone| {
            let task = "t".to_owned();
            let (mut told, mut tools) = (Told::default(), BTreeMap::new());
            for line in lines {
                let line = serde_json::from_str(line).unwrap();
                told.add(
                    &Whose {
                        task: task.clone(),
                        alone,
                    },
                    &line,
                    &mut tools,
                );
            }
            told
        };
        assert_eq!(told(true).refusals.get("service_unknown"), Some(&1));
        let told = told(false);
        insta::assert_snapshot!(told.to_string(), @r"
        outrider: 6 calls, 5 refused
          rate_limited             5
          slowest  a/b  7 ms
        ");
    }
}
