//! Commands, one file each.

pub mod demo;
pub mod init;
pub mod keys;
pub mod log;
pub mod revoke;
pub mod schemas;
pub mod task;
