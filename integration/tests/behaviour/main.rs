//! What Outrider does, seen from outside: real sockets, a real process, tool servers that count
//! what reached them. One module per behaviour.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stderr,
    reason = "tests"
)]

mod admin;
mod agreement;
mod allowed;
mod assertion;
mod authority;
mod bounds;
mod classification;
mod commands;
mod control;
mod credentials;
mod delegation;
mod destination;
mod doctor;
mod drain;
mod durability;
mod exceptions;
mod exec;
mod feeds;
mod fleet;
mod forward;
mod grpc;
mod hangup;
mod http2_upstreams;
mod http_services;
mod input_required;
mod issuer_keys;
mod issuers;
mod jsonrpc;
mod late_body;
mod legacy;
mod lifecycle;
mod limits;
mod listening;
mod listing;
mod mcp_tasks;
mod models;
mod mutual_tls;
mod openapi;
mod receiver;
mod record;
mod refusals;
mod reload;
mod repeated;
mod resources;
mod responses;
mod rest_attacks;
mod restart;
mod revocation;
mod rotation;
mod rules;
mod security;
mod server_requests;
mod sessions;
mod spiffe;
mod spoofing;
mod stats;
mod stdio;
mod streaming;
mod support;
mod take_over;
mod telemetry;
mod tls;
mod token_file;
mod token_servers;
mod tunnels;
mod websockets;
mod wire;
