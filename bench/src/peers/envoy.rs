//! Envoy with two workers: a plain proxy, or one that asks OPA about every request with its body.
#![expect(
    clippy::indexing_slicing,
    reason = "members of JSON objects, made by writing them"
)]

use std::{net::SocketAddr, path::Path, process::Command};

use anyhow::Result;
use serde_json::{Value, json};

use super::{Backend, Place, find, opa};
use crate::{
    owned::{Owned, free_address},
    tls,
};

/// The largest body that is buffered for OPA.
const LARGEST: usize = 8 << 20;

pub(super) fn start(backend: &Backend<'_>, place: &Place) -> Result<Option<Vec<Owned>>> {
    let Some(program) = find("envoy") else {
        return Ok(None);
    };
    Ok(Some(vec![run(&program, backend, place, None)?]))
}

/// OPA comes first among the processes.
pub(super) fn start_with_opa(backend: &Backend<'_>, place: &Place) -> Result<Option<Vec<Owned>>> {
    let (Some(program), Some(plugin)) = (find("envoy"), opa::program()) else {
        return Ok(None);
    };
    let address = free_address()?;
    let opa = opa::start(&plugin, backend.documents, address, place)?;
    let envoy = run(&program, backend, place, Some(address))?;
    Ok(Some(vec![opa, envoy]))
}

fn run(
    program: &Path,
    backend: &Backend<'_>,
    place: &Place,
    opa: Option<SocketAddr>,
) -> Result<Owned> {
    let configuration = configuration(backend, place.address, opa);
    let file = place.file("envoy.json", &configuration.to_string())?;
    let mut command = Command::new(program);
    let command = command.arg("-c").arg(file).args([
        "--concurrency",
        "2",
        "--disable-hot-restart",
        "--log-level",
        "error",
    ]);
    command.stderr(place.errors()?);
    Owned::spawn(command)
}

fn configuration(backend: &Backend<'_>, address: SocketAddr, opa: Option<SocketAddr>) -> Value {
    let router = typed(
        "envoy.filters.http.router",
        "extensions.filters.http.router.v3.Router",
        json!({}),
    );
    let filters: Vec<_> = opa.map(|_| asking()).into_iter().chain([router]).collect();
    let manager = typed(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "agents",
            "route_config": {"virtual_hosts": [{
                "name": "tools", "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "tools", "timeout": "60s"}}],
            }]},
            "http_filters": filters,
        }),
    );
    let mut chain = json!({"filters": [manager]});
    let mut tools = cluster("tools", backend.address);
    if let Some(files) = backend.certificates {
        let certificate = json!({
            "certificate_chain": {"filename": files.certificate()},
            "private_key": {"filename": files.key()},
        });
        chain["transport_socket"] = typed(
            "envoy.transport_sockets.tls",
            "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            json!({"common_tls_context": {"tls_certificates": [certificate]}}),
        );
        let trusted = json!({"trusted_ca": {"filename": files.root()}});
        tools["transport_socket"] = typed(
            "envoy.transport_sockets.tls",
            "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            json!({"sni": tls::NAME, "common_tls_context": {"validation_context": trusted}}),
        );
    }
    let clusters: Vec<_> = [tools]
        .into_iter()
        .chain(opa.map(|address| {
            let mut opa = cluster("opa", address);
            opa["typed_extension_protocol_options"] = json!({
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                },
            });
            opa
        }))
        .collect();
    json!({"static_resources": {
        "listeners": [{
            "address": socket(address),
            "per_connection_buffer_limit_bytes": LARGEST,
            "filter_chains": [chain],
        }],
        "clusters": clusters,
    }})
}

fn asking() -> Value {
    typed(
        "envoy.filters.http.ext_authz",
        "extensions.filters.http.ext_authz.v3.ExtAuthz",
        json!({
            "transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": "opa"}, "timeout": "10s"},
            "with_request_body": {"max_request_bytes": LARGEST, "allow_partial_message": false},
        }),
    )
}

fn cluster(name: &str, address: SocketAddr) -> Value {
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": socket(address)}}]},
        ]},
    })
}

fn socket(address: SocketAddr) -> Value {
    let (host, port) = (address.ip().to_string(), address.port());
    json!({"socket_address": {"address": host, "port_value": port}})
}

fn typed(name: &str, kind: &str, mut config: Value) -> Value {
    config["@type"] = json!(format!("type.googleapis.com/envoy.{kind}"));
    json!({"name": name, "typed_config": config})
}
