//! Outrider, the enforcement point.
#![doc = "Modules stand in the order in which a call passes them."]

pub mod record;

pub mod call;

pub mod admin;
pub mod metrics;

pub mod cli;
