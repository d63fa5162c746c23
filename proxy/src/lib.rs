//! Outrider, the enforcement point: it decides on every call an agent makes.
//!
//! Modules stand in the order in which a call passes them; [`pipeline`] is that order as code.

// the pipeline
pub mod authorize;
pub mod catalogue;
pub mod classify;
pub mod credentials;
pub mod identify;
pub mod limit;
pub mod listen;
pub mod overload;
pub mod protocol;
pub mod record;
pub mod respond;
pub mod tag;
pub mod upstream;
pub mod validate;
// what flows, what joins
pub mod call;
pub mod followup;
mod grpc;
pub mod headers;
pub mod json;
pub mod memory;
pub mod outrider;
pub mod pipeline;
pub mod rejection;
pub mod session;
pub mod svid;
pub mod task;
// the edge
pub mod admin;
pub mod cli;
pub mod config;
pub mod control;
pub mod doctor;
pub mod drain;
pub mod jose;
pub mod keys;
pub mod kubernetes;
mod link;
pub mod metrics;
pub mod receiver;
pub mod runtimes;
pub mod serve;
mod server;
pub mod state;
pub mod telemetry;
pub mod units;
pub mod webhook;
pub mod websocket;
pub mod workers;
