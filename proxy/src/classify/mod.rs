//! How secret: the level and labels of what a call touches, from the operator's catalogue and
//! never from the server's own hints.

use outrider_policy::{Value, input::Content};

use crate::{catalogue::Tool, validate::ValidCall};

/// Classifies a proven call.
pub fn classify(call: &ValidCall) -> Content {
    Content {
        opaque: call.call().opaque,
        ..of(call.tool())
    }
}

/// The content that any call of this tool touches.
pub fn of(tool: &Tool) -> Content {
    Content {
        classification: tool.level,
        labels: tool.labels.clone(),
        findings: Value::new_array(),
        opaque: false,
    }
}
