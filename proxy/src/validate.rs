//! Schema: [`ToolCall`] → [`ValidCall`].
//!
//! Policy and everything after it takes a [`ValidCall`], and nothing else makes one:
//!
//! ```compile_fail
//! use outrider::{call::ToolCall, validate::ValidCall};
//! fn forge(call: ToolCall, tool: std::sync::Arc<outrider::catalogue::Tool>) -> ValidCall {
//!     ValidCall { call, tool } // the fields are private
//! }
//! ```
//!
//! ```compile_fail
//! use outrider::{authorize, call::ToolCall};
//! fn skip(facts: &authorize::Facts<'_>, call: &ToolCall) {
//!     authorize::input(facts, call); // expects a `ValidCall`
//! }
//! ```

use std::sync::Arc;

use outrider_schemas::json_schema::Violation;

use crate::{call::ToolCall, catalogue::Tool};

/// How many violations are told at most.
const MOST: usize = 8;

/// A call whose arguments satisfy the schema that its API team published.
#[derive(Debug)]
pub struct ValidCall {
    call: ToolCall,
    tool: Arc<Tool>,
}

impl ValidCall {
    /// The call.
    pub fn call(&self) -> &ToolCall {
        &self.call
    }

    /// The tool it uses.
    pub fn tool(&self) -> &Arc<Tool> {
        &self.tool
    }
}

/// The arguments do not fit.
#[derive(Debug, thiserror::Error)]
#[error("the arguments do not fit the tool's schema")]
pub struct Misfit {
    /// Where and why, by JSON pointer; never a value.
    pub violations: Vec<Violation>,
}

/// Proves a call against its tool's schema.
///
/// # Errors
/// The first violations.
pub fn validate(call: ToolCall, tool: &Arc<Tool>) -> Result<ValidCall, Misfit> {
    let schema = &tool.contract.input;
    if !call.unread.is_empty() {
        return Err(Misfit {
            violations: call.unread,
        });
    }
    if schema.is_valid(&call.arguments) {
        return Ok(ValidCall {
            call,
            tool: Arc::clone(tool),
        });
    }
    Err(Misfit {
        violations: schema.violations(&call.arguments, MOST),
    })
}
