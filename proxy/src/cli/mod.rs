//! Commands, one file each.

pub mod keys;
pub mod log;
pub mod revoke;
pub mod task;
