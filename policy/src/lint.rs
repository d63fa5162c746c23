//! What a user's rules may not do, found before the engine sees them.

use crate::library::AllowDefault;
use crate::problem::{Problem, Source};

/// What the rules turned out to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Findings {
    pub(crate) allow_default: AllowDefault,
    pub(crate) allow_needs_call: bool,
    pub(crate) deny_needs_call: bool,
}

pub(crate) fn check(_user: &[Source]) -> Result<Findings, Vec<Problem>> {
    Ok(Findings { allow_default: AllowDefault::Library, allow_needs_call: true, deny_needs_call: true })
}

/// A problem as the engine words it: `--> FILE:LINE:COLUMN … error: MESSAGE`.
pub(crate) fn engine_problem(file: &str, text: &str) -> Problem {
    Problem::in_file(file, text)
}
