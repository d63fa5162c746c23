//! The sidecar before a tool server, with everything on that a call passes.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use anyhow::{Context, Result, bail};
use outrider_integration::{Address, Request, Setup, Sidecar, lock_file, message_schema};
use serde_json::{Value, json};

use crate::server;

/// A running sidecar and a call that passes it.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) sidecar: Sidecar,
    pub(crate) address: SocketAddr,
    /// The token of its task.
    pub(crate) token: String,
    /// The bytes of the call.
    pub(crate) call: Vec<u8>,
}

impl Rig {
    /// Starts one whose configuration is changed by `change`.
    pub(crate) fn start(outrider: &Path, change: impl FnOnce(&mut Value)) -> Result<Self> {
        let upstream = server::start()?;
        let binary = outrider.canonicalize().with_context(|| {
            format!(
                "no {}: build it with `cargo build --release`",
                outrider.display()
            )
        })?;
        let tools = BTreeMap::from([("echo".into(), json!({"inputSchema": message_schema()}))]);
        let setup = Setup::bare(&binary.to_string_lossy()).serving(&json!({
            "name": "tools",
            "protocol": "mcp",
            "upstream": format!("http://{upstream}/mcp"),
            "schemas": "tools.json",
        }));
        setup.file("tools.json", &lock_file(&tools).to_string());
        let sidecar = setup.config(change).start();
        let Address::Tcp(address) = sidecar.listener("reverse") else {
            bail!("a TCP listener was configured");
        };
        let token = sidecar.open_task(&[]).token;
        let call = Request::call("echo", &json!({"message": "a".repeat(400)}))
            .field("Outrider-Task-Token", &token)
            .bytes(&address.to_string(), "/tools");
        Ok(Self {
            sidecar,
            address,
            token,
            call,
        })
    }
}
