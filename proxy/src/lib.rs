//! Outrider, the enforcement point.
#![doc = "Modules stand in the order in which a call passes them."]

pub mod call;
pub mod limit;
