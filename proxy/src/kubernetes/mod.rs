//! Beside agents in Kubernetes: manifests come in, manifests with the sidecar go out.
//!
//! [`inject`] is the whole of it: a pod comes in as JSON, the changes that put the sidecar into it
//! come out as a JSON Patch (RFC 6902). The command applies them to the text of a manifest
//! ([`manifest`]), the webhook sends them to the API server ([`admission`]). Nothing here opens a
//! socket or a file.

pub mod admission;
mod edit;
mod harden;
pub mod inject;
pub mod manifest;
mod same;
pub mod settings;
mod sidecar;
mod workload;
mod yaml;

/// What stands before our annotations and labels.
pub const DOMAIN: &str = "outrider.dev";
