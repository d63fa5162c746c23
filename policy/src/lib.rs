//! The decision point: `Input` → `Decision`.
pub use regorus::Value;
