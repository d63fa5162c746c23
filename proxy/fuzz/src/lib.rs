//! What the fuzz targets hold against the program: each module has a `run` that takes any bytes
//! and panics where a property does not hold. `fuzz_targets` only hands the bytes over.

#![forbid(unsafe_code)]

pub mod config;
pub mod fixture;
pub mod json;
pub mod lock;
pub mod log;
pub mod mcp;
pub mod mcp_answer;
pub mod openapi;
pub mod openapi_request;
pub mod path;
pub mod pipeline;
pub mod sse;
pub mod template;
pub mod text;
pub mod token;
