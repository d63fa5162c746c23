//! What Outrider reads: every check is on.
#![expect(
    clippy::indexing_slicing,
    reason = "members of JSON objects, made by writing them"
)]

use std::net::SocketAddr;

use outrider_integration::{Setup, lock_file};
use serde_json::{Value, json};

use super::{FORWARD, LISTENERS, Settings};
use crate::{
    shape::{SERVICE, Shape},
    tls::{self, Certificates},
};

/// How many grants one file has at most: a file has a bound.
const GRANTS: usize = 10_000;
/// More than anything here can do: limits are counted and never reached.
const RATE: &str = "1000000/s";

/// A schema for each tool, two limits, the shipped policy over the grants, the decision log.
pub(super) fn write(
    setup: &mut Setup,
    settings: &Settings,
    upstream: SocketAddr,
    certificates: Option<&Certificates>,
) {
    let place = upstream;
    let upstream = match certificates {
        None => format!("http://{upstream}/{SERVICE}"),
        Some(files) => {
            setup.environment("SSL_CERT_FILE", &files.root().to_string_lossy());
            format!("https://{}:{}/{SERVICE}", tls::NAME, upstream.port())
        }
    };
    let services = services(setup, settings, &upstream);
    let data = data(setup, settings.shape);
    let config = &mut setup.config;
    config["listeners"] = LISTENERS
        .iter()
        .map(|name| listener(name, certificates))
        .collect();
    config["services"] = services;
    if certificates.is_some() {
        by_host(config, place);
    }
    config["policy"]["data"] = data;
    config["limits"] = json!([
        {"name": "per-agent", "key": ["agent"], "rate": RATE},
        {"name": "per-tool", "key": ["agent", "tool"], "rate": RATE},
    ]);
    // As many connections as are asked for are carried, however long they wait for one another.
    config["overload"] = json!({"max_delay": "1h"});
    config["decision_log"] = json!({"path": "decisions.jsonl", "durability": settings.durability});
    config["body"] = json!({"max_request": "4MiB", "max_response": "8MiB"});
    config["workers"] = json!(2);
}

fn listener(name: &str, certificates: Option<&Certificates>) -> Value {
    let mut listener = json!({
        "name": name, "mode": "reverse", "address": "127.0.0.1:0", "hosts": [tls::NAME],
    });
    if let Some(files) = certificates {
        listener["tls"] = json!({"certificate": files.certificate(), "key": files.key()});
    }
    listener
}

/// A listener that is asked for the tool server itself: by its name it is one service, by its address a tunnel.
fn by_host(config: &mut Value, place: SocketAddr) {
    let forward = json!({
        "name": FORWARD, "mode": "forward", "address": "127.0.0.1:0", "tls": "intercept",
    });
    if let Some(listeners) = config["listeners"].as_array_mut() {
        listeners.push(forward);
    }
    for service in config["services"].as_array_mut().into_iter().flatten() {
        if service["name"] != SERVICE {
            let name = service["name"].as_str().unwrap_or_default();
            service["hosts"] = json!([format!("{name}.test")]);
        }
    }
    if let Some(services) = config["services"].as_array_mut() {
        services.push(json!({
            "name": "far", "protocol": "tunnel", "classification": "internal",
            "hosts": [place.to_string()], "addresses": [format!("{}/32", place.ip())],
        }));
    }
}

fn services(setup: &Setup, settings: &Settings, upstream: &str) -> Value {
    let catalogue = settings.shape.catalogue().into_iter();
    let services = catalogue.map(|(name, tools)| {
        let schemas = format!("{name}.json");
        setup.file(&schemas, &lock_file(&tools).to_string());
        json!({
            "name": name, "protocol": "mcp", "upstream": upstream, "schemas": schemas,
            "classification": "internal", "identity": settings.identity,
        })
    });
    services.collect()
}

/// The user's rules, and the data in files of bounded size.
fn data(setup: &mut Setup, shape: Shape) -> Value {
    if let Some(rules) = shape.rules() {
        setup.file("policy/rules.rego", &rules);
    }
    setup.data = shape.document();
    let grants = setup.data["grants"].take();
    setup.data["grants"] = json!([]);
    let mut files = vec!["data.yaml".to_owned()];
    let grants = grants.as_array().map(|all| all.chunks(GRANTS));
    for (number, grants) in grants.into_iter().flatten().enumerate() {
        let name = format!("grants-{number}.yaml");
        setup.file(&name, &json!({"grants": grants}).to_string());
        files.push(name);
    }
    json!(files)
}
