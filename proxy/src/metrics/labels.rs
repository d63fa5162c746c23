//! The words and label sets of the families.

use std::{fmt, sync::Arc};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

/// A part of the pipeline whose time is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reading and understanding the message.
    Parse,
    /// Schema.
    Validate,
    /// Rate limits and budgets.
    Limit,
    /// Input, evaluation, decision.
    Policy,
    /// The decision log.
    Record,
    /// Identity headers, assertion, credentials.
    Tag,
    /// All of them.
    Total,
}

impl Stage {
    /// All stages, in the order of the pipeline.
    pub const ALL: [Self; 7] = [
        Self::Parse,
        Self::Validate,
        Self::Limit,
        Self::Policy,
        Self::Record,
        Self::Tag,
        Self::Total,
    ];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Validate => "validate",
            Self::Limit => "limit",
            Self::Policy => "policy",
            Self::Record => "record",
            Self::Tag => "tag",
            Self::Total => "total",
        }
    }
}

/// Which side broke the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The agent's arguments.
    Request,
    /// The upstream's answer.
    Response,
}

impl Direction {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }
}

/// Declares label sets: all values are text.
macro_rules! labels {
    ($($name:ident { $($label:ident: $kind:ty),+ })+) => { $(
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $name { $(pub(super) $label: $kind),+ }
    )+ };
}

labels! {
    CallLabels { service: Text, tool: Text, outcome: Text, code: Text }
    ToolLabels { service: Text, tool: Text }
    ServiceLabels { service: Text }
    FetchLabels { service: Text, result: Text }
    StageLabels { stage: Text }
    ViolationLabels { service: Text, tool: Text, direction: Text }
    LimitLabels { limit: Text }
    ResultLabels { result: Text }
    SourceLabels { source: Text }
    StateLabels { state: Text }
    IssuerLabels { issuer: Text }
    ListenerLabels { listener: Text }
    ReasonLabels { reason: Text }
    PolicyLabels { revision: Text, mode: Text }
    BuildLabels { version: Text, isolation: Text }
}

/// A label's value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Text(Arc<str>);

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl EncodeLabelValue for Text {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        EncodeLabelValue::encode(&&*self.0, encoder)
    }
}

impl ToolLabels {
    pub(super) fn call(&self, outcome: &'static str, code: &'static str) -> CallLabels {
        let Self { service, tool } = self.clone();
        CallLabels {
            service,
            tool,
            outcome: outcome.into(),
            code: code.into(),
        }
    }

    pub(super) fn violation(&self, direction: Direction) -> ViolationLabels {
        let Self { service, tool } = self.clone();
        ViolationLabels {
            service,
            tool,
            direction: direction.as_str().into(),
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct TelemetryLabels {
    pub(super) signal: &'static str,
    pub(super) result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct SignalLabels {
    pub(super) signal: &'static str,
}
