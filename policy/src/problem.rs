//! What the user wrote, and what is wrong with it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One `*.rego` file of the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The name problems are reported under, normally the file's path.
    pub name: String,
    /// The text of the file.
    pub text: String,
}

/// Something that keeps a policy or its data from being loaded, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Problem {
    /// The file it is in.
    pub file: String,
    /// Its line, from 1; 0 when there is none to name.
    pub line: u32,
    /// Its column, from 1; 0 when there is none to name.
    pub column: u32,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl Problem {
    /// A problem of a file as a whole.
    pub fn in_file(file: &str, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: 0,
            column: 0,
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(out, "{}: {}", self.file, self.message),
            line => write!(
                out,
                "{}:{line}:{}: {}",
                self.file, self.column, self.message
            ),
        }
    }
}

impl std::error::Error for Problem {}
