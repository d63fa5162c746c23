//! A task that is derived from another reaches no further than that one.
//!
//! What a token leaves open is intersected when a call is judged; what it claims beyond its parent
//! is refused when it is opened or first shown.

use jiff::Timestamp;
use outrider_policy::{Level, Pattern, Patterns};

use crate::task::{Task, Terms};

/// How many tasks may stand above one that is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(try_from = "u8")]
pub struct Depth(u8);

/// The number is no depth.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected a number from 1 to 16")]
pub struct NotADepth;

impl Depth {
    /// The number.
    pub fn get(self) -> usize {
        usize::from(self.0)
    }
}

impl Default for Depth {
    fn default() -> Self {
        Self(4)
    }
}

impl TryFrom<u8> for Depth {
    type Error = NotADepth;

    fn try_from(number: u8) -> Result<Self, NotADepth> {
        if (1..=16).contains(&number) {
            Ok(Self(number))
        } else {
            Err(NotADepth)
        }
    }
}

/// What an intent declares.
#[derive(Clone, Debug)]
pub struct Reach {
    /// Its tools.
    pub tools: Patterns,
    /// The highest class of data.
    pub level: Level,
}

/// What a task claims beyond the one it is derived from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Widened {
    /// Another principal.
    #[error("it acts for another subject than its parent")]
    Subject,
    /// A tool.
    #[error("it names tools that its parent does not reach")]
    Tools,
    /// A class of data.
    #[error("it reaches a higher class of data than its parent")]
    Classification,
    /// Calls.
    #[error("it may make more calls than its parent has left")]
    Budget,
    /// Time.
    #[error("it lasts longer than its parent")]
    Expiry,
}

impl Widened {
    /// The word for the security log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Tools => "tools",
            Self::Classification => "classification",
            Self::Budget => "budget",
            Self::Expiry => "expiry",
        }
    }
}

/// What a task claims; what it leaves open claims nothing.
#[derive(Clone, Copy, Debug)]
pub struct Claims<'a> {
    /// The principal.
    pub subject: &'a str,
    /// Tools.
    pub tools: Option<&'a [Pattern]>,
    /// A class of data.
    pub max_classification: Option<Level>,
    /// Calls.
    pub budget: Option<u64>,
    /// When it is over.
    pub expires: Option<Timestamp>,
}

impl<'a> From<&'a Terms> for Claims<'a> {
    fn from(terms: &'a Terms) -> Self {
        Self {
            subject: &terms.subject,
            tools: terms.tools.as_deref(),
            max_classification: terms.max_classification,
            budget: terms.budget,
            expires: Some(terms.expires),
        }
    }
}

/// Holds what is claimed against the parent; `reach` tells what an intent declares.
///
/// # Errors
/// The first claim beyond it.
pub fn widened(
    claimed: Claims<'_>,
    parent: &Task,
    reach: impl Fn(&str) -> Option<Reach>,
) -> Result<(), Widened> {
    if *claimed.subject != *parent.subject {
        return Err(Widened::Subject);
    }
    if claimed.expires.is_some_and(|end| end > parent.expires) {
        return Err(Widened::Expiry);
    }
    let left = |task: &Task| task.budget.map(|budget| budget.saturating_sub(task.used()));
    for above in std::iter::once(parent).chain(parent.ancestors()) {
        let declared = reach(&above.intent);
        let tools = above
            .scope
            .as_deref()
            .or(declared.as_ref().map(|it| &it.tools));
        let within = |text: &str| tools.is_some_and(|tools| tools.include(text));
        let mut named = claimed.tools.unwrap_or_default().iter();
        if !named.all(|tool| within(tool.as_str())) {
            return Err(Widened::Tools);
        }
        let declared = declared.map_or(Level::Public, |it| it.level);
        let level = above.max_classification.unwrap_or(declared).min(declared);
        if claimed.max_classification.is_some_and(|most| most > level) {
            return Err(Widened::Classification);
        }
        if let (Some(calls), Some(left)) = (claimed.budget, left(above))
            && calls > left
        {
            return Err(Widened::Budget);
        }
    }
    Ok(())
}
