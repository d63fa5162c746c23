//! What was understood of a description, for whoever publishes it.

use serde::Serialize;

/// What was understood, and what was not.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// The version of OpenAPI it is written in.
    pub openapi: String,
    /// `info.title`.
    pub title: String,
    /// `info.version`.
    pub version: String,
    /// The URLs in `servers`; for people, calls go to the service's upstream.
    pub servers: Vec<String>,
    /// Security schemes as `name: type`. They are ignored: credentials are the sidecar's.
    pub security_schemes: Vec<String>,
    /// The number of webhooks, which are ignored.
    pub webhooks: usize,
    /// The number of callbacks, which are ignored.
    pub callbacks: usize,
    /// What is to be known of the whole.
    pub notes: Vec<String>,
    /// Every operation, in the order of templates and methods.
    pub operations: Vec<Line>,
}

/// One operation of the description.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Its `operationId`, or `METHOD template`.
    pub name: String,
    /// Its method.
    pub method: String,
    /// Its path template.
    pub template: String,
    /// What became of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What became of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It is a tool. The notes say what of it is refused or ignored.
    Served {
        /// Sentences for people.
        notes: Vec<String>,
    },
    /// It is no tool: calls of it are refused.
    LeftOut {
        /// Why.
        reason: String,
    },
}

impl Report {
    /// How many operations are served.
    pub fn served(&self) -> usize {
        self.operations.len() - self.left_out().count()
    }

    /// The operations that are not served, and why.
    pub fn left_out(&self) -> impl Iterator<Item = (&Line, &str)> {
        self.operations
            .iter()
            .filter_map(|line| match &line.verdict {
                Verdict::Served { .. } => None,
                Verdict::LeftOut { reason } => Some((line, reason.as_str())),
            })
    }
}
