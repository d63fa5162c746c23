//! Commands, one file each.

pub mod log;
