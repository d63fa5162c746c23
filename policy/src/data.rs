//! The data a user starts with: agents, intents, grants, exceptions, subjects, and facts of their own.
//!
//! [`Document`] is one YAML file as it is written, its leaves refusing what cannot be. [`Data::build`] joins the documents
//! of a policy and indexes them by agent, by role and by tool, so that a call reads only what concerns it.

mod build;
mod document;
mod leaf;

pub(crate) use build::Held;
pub use build::{Data, KnownTool};
pub use document::{Agent, AgentState, Document, Exception, Grant, Intent, Lift, Subject};
pub use leaf::{IntentName, Name, NotAName, NotATime, NotAnIntent};
