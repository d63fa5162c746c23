//! The decision log, read while it is written.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long a permitted call may go on without an outcome.
const LONGEST: Duration = Duration::from_secs(20);

/// What the log says so far.
pub struct Journal {
    file: File,
    read: u64,
    rest: Vec<u8>,
    calls: HashMap<String, Call>,
    decisions: usize,
}

#[derive(Default)]
struct Call {
    decisions: usize,
    outcomes: usize,
    allowed: Option<Instant>,
}

impl Journal {
    pub fn of(path: &Path) -> Self {
        Self {
            file: File::open(path).expect("the log is there"),
            read: 0,
            rest: Vec::new(),
            calls: HashMap::new(),
            decisions: 0,
        }
    }

    /// Reads what was added.
    pub fn refresh(&mut self) {
        self.file.seek(SeekFrom::Start(self.read)).expect("a place");
        let start = self.rest.len();
        self.file
            .read_to_end(&mut self.rest)
            .expect("the log can be read");
        self.read += (self.rest.len() - start) as u64;
        let end = self
            .rest
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.rest.drain(..end).collect();
        for line in lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            self.take(&serde_json::from_slice(line).expect("a line is JSON"));
        }
    }

    fn take(&mut self, line: &Value) {
        let id = || line["decision_id"].as_str().expect("an ID").to_owned();
        match line["type"].as_str() {
            Some("decision") => {
                self.decisions += 1;
                let call = self.calls.entry(id()).or_default();
                call.decisions += 1;
                assert_eq!(call.decisions, 1, "two decisions of one call: {line}");
                if line["outcome"] == "allow" {
                    assert_eq!(line["code"], "ok");
                    call.allowed = Some(Instant::now());
                }
            }
            Some("outcome") => {
                let call = self
                    .calls
                    .get_mut(&id())
                    .expect("an outcome of no decision");
                call.outcomes += 1;
                assert_eq!(call.outcomes, 1, "two outcomes of one call: {line}");
                assert!(call.allowed.is_some(), "an outcome of a refusal: {line}");
            }
            kind => assert_eq!(kind, Some("checkpoint")),
        }
    }

    /// How many decisions there are.
    pub fn decisions(&self) -> usize {
        self.decisions
    }

    /// How many decisions have that ID.
    pub fn lines_of(&self, id: &str) -> usize {
        self.calls.get(id).map_or(0, |call| call.decisions)
    }

    /// Whether that call was allowed.
    pub fn allows(&self, id: &str) -> bool {
        self.calls
            .get(id)
            .is_some_and(|call| call.allowed.is_some())
    }

    /// Every permitted call has its outcome in time. What is over is forgotten but for its number.
    pub fn check_outcomes(&self) {
        let late = |call: &Call| {
            call.outcomes == 0 && call.allowed.is_some_and(|since| since.elapsed() > LONGEST)
        };
        if self.decisions.is_multiple_of(64) {
            let late = self.calls.iter().find(|(_, call)| late(call));
            assert!(late.is_none(), "no outcome of {:?}", late.map(|(id, _)| id));
        }
    }
}
