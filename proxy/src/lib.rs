//! Outrider, the enforcement point.
#![doc = "Modules stand in the order in which a call passes them."]

pub mod credentials;
pub mod identify;
pub mod tag;

pub mod call;
pub mod headers;
pub mod task;

pub mod control;
pub mod keys;
pub mod state;

pub mod cli;
