//! Contracts of tools: strict JSON, JSON Schema, the MCP lock file, the JSON-RPC catalogue, gRPC
//! descriptors.
//!
//! Pure: no sockets, no clock, no files. Bytes go in; values, compiled contracts and
//! refusals come out. Everything here refuses what it does not know.

pub mod catalogue;
pub mod grpc;
pub mod json;
pub mod json_schema;
pub mod jsonrpc;
pub mod lock;
pub mod openapi;
pub mod protobuf;
pub mod template;
mod walk;
