//! OPA, asked by Envoy over gRPC: the shipped library over the same data, every decision logged to a file by way of its
//! console log.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Result;
use outrider_policy::library;
use serde_json::Value;

use super::{Place, find};
use crate::owned::{Owned, free_address};

/// Makes of Envoy's request what the library is asked about.
const ADAPTER: &str = include_str!("../../opa/envoy.rego");

/// OPA with its own plugin for Envoy, else with ours.
pub(super) fn program() -> Option<PathBuf> {
    find("opa-envoy-plugin").or_else(|| find("opa-ext-authz"))
}

pub(super) fn start(
    program: &Path,
    documents: &Value,
    address: SocketAddr,
    place: &Place,
) -> Result<Owned> {
    let mut files = vec![
        place.file("envoy.rego", ADAPTER)?,
        place.file("data.json", &documents.to_string())?,
    ];
    for source in library() {
        files.push(place.file(&source.name.replace('/', "-"), &source.text)?);
    }
    let mut command = Command::new(program);
    let command = command
        .args([
            "run",
            "--server",
            "--skip-version-check",
            "--optimize-store-for-read-speed",
            "--log-level=error",
        ])
        .arg(format!("--addr={}", free_address()?))
        .arg(format!("--set=plugins.envoy_ext_authz_grpc.addr={address}"))
        .args([
            "--set=plugins.envoy_ext_authz_grpc.path=envoy/authz/allow",
            "--set=decision_logs.console=true",
        ])
        .args(files)
        .stdout(Stdio::null())
        .stderr(place.errors()?);
    let mut opa = Owned::spawn(command)?;
    opa.await_listener(address)?;
    Ok(opa)
}
