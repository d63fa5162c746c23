//! The test harness: agents that speak raw bytes, tool servers that count what reached them, and
//! the sidecar as a process. It knows only the wire, the command line and the files, so that the
//! behaviour tests judge Outrider as an outsider does.
//!
//! A harness that meets something it cannot go on from panics with what it saw: that is how a
//! test fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "test code: a failed expectation is a failed test"
)]

mod agent;
mod authority;
mod chain;
mod collector;
mod exchange;
mod gate;
mod http;
mod http2;
mod issuer;
mod jwt;
mod legacy;
mod lock;
mod mcp;
mod plain;
mod receiver;
mod sidecar;
mod store;
mod tls_front;
mod token_server;
mod tool_server;
mod transmitter;
mod wait;
mod workload_api;

pub use agent::Agent;
pub use authority::{Authority, Leaf, Made};
pub use chain::check_chain;
pub use collector::{Collector, Message};
pub use exchange::{Exchange, Received};
pub use gate::Gate;
pub use http::{Address, Answer, Connection, Head, PATIENCE};
pub use http2::{EARLY, Got, Http2Agent, Http2Server, Reached, Sends, Told};
pub use issuer::{IssuerKey, KeyServer, act, key_set, task_claims};
pub use jwt::{Claims, jwt_header, new_ed25519_pem, verify_with_jwks};
pub use legacy::initialized;
pub use lock::{digest, lock_file, sha256_base64url, sha256_hex};
pub use mcp::{LEGACY_REVISION, REVISION, Request, sentinel};
pub use plain::PlainServer;
pub use receiver::Receiver;
pub use sidecar::{Predecessor, Run, Setup, Sidecar, Task, service};
pub use store::{ACL, Kept, RECOVERY, Store};
pub use tls_front::TlsFront;
pub use token_server::{Form, TokenServer, claims, header, token};
pub use tool_server::{Tool, ToolServer, message_schema, text_result};
pub use transmitter::{BEARER, CAEP, PollServer, Transmitter, deliver, post};
pub use wait::until;
pub use workload_api::{Svids, WorkloadApi};
