//! The decision point: `Input` → `Decision`.
//!
//! Rules (the shipped library and the user's) and data come in, are checked and compiled once; then every call is judged on
//! them. Pure: no sockets, no clock of its own, no files.
//!
//! | module | what for |
//! |---|---|
//! | [`data`] | the user's documents: agents, intents, grants, exceptions, subjects, facts |
//! | [`input`] | what a policy is asked about |
//! | [`Policy`] | rules and data, compiled |
//! | [`Decision`] | the verdict and the evidence for it |

pub mod data;
mod decision;
mod digest;
mod engine;
pub mod input;
mod kind;
mod level;
mod library;
mod lint;
mod pattern;
mod problem;
mod read;
mod usual;
mod value;

pub use decision::{Answer, Approval, Decision, ExceptionUse, Reason, Refusal, Verdict};
pub use engine::{Bounds, Policy};
pub use input::Input;
pub use kind::ServiceKind;
pub use level::{Level, UnknownLevel};
pub use library::{ENTRY, library};
pub use pattern::{NotAPattern, Pattern, Patterns};
pub use problem::{Problem, Source};
pub use regorus::Value;
