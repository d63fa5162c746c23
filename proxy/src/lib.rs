//! Outrider, the enforcement point.
#![doc = "Modules stand in the order in which a call passes them."]

pub mod record;

pub mod call;
pub mod drain;
pub mod listen;
/// The languages agents and services speak.
pub mod protocol {
    pub mod sse;
}
pub mod upstream;
pub mod workers;
