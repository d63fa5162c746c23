//! Remember: the decision log, the security log and what their lines are written with.
//!
//! Members of a line come in as JSON text; a chained, signed and durable line goes out before
//! anything acts on the decision it records.

mod compose;
mod entry;
mod recorder;

pub mod chain;
pub mod checkpoint;
pub mod digest;
pub(crate) mod file;
mod input;
mod keeper;
mod parsed;
mod queue;
mod refusals;
mod resume;
pub(crate) mod said;
pub mod security;
mod settings;
mod underway;
pub mod verify;
pub(crate) mod whole;
mod writer;

pub use entry::{Answered, Distrusted, Ended, Entry, Facts, Permit, Recorded, Ruling, Timers};
pub use file::OpenError;
pub use recorder::{Labels, Recorder, Standing};
pub use resume::ResumeError;

#[cfg(test)]
mod tests;
