//! One file per command.

pub mod keys;
pub mod revoke;
pub mod task;
