//! A sidecar and its files.

use std::{
    fs,
    io::BufReader,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use outrider::{
    config::{Compiler, load},
    record::{checkpoint::PublicKeys, verify::Verification},
    serve::{Options, Running, start},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{journal::Journal, service::Service};
use crate::fixture::{AGENT, catalogue, lock_file};

/// What only the service may see.
pub const SECRET: &str = "Bearer fuzz-4711";

/// A running sidecar before one server that is all its services.
pub struct Room {
    directory: TempDir,
    pub service: Service,
    pub socket: PathBuf,
    pub inputs: u64,
    /// Every call of the last input was answered.
    pub settled: bool,
    running: Running,
    journal: Arc<Mutex<Journal>>,
}

impl Room {
    pub fn start() -> Self {
        let directory = TempDir::new().expect("a directory");
        let write = |name: &str, text: &str| {
            fs::write(directory.path().join(name), text).expect("a file");
        };
        let service = Service::start();
        write("tools.json", &lock_file());
        write("methods.json", &catalogue());
        write(
            "everything.json",
            include_str!("../fixture/everything.json"),
        );
        write("data.yaml", include_str!("../fixture/data.yaml"));
        write("outrider.yaml", &config(service.port()).to_string());
        let loaded = match load(&directory.path().join("outrider.yaml")) {
            Ok(loaded) => loaded,
            Err(failure) => panic!("{failure:?}"),
        };
        let options = Options {
            compiler: Compiler::Here,
            open_task: true,
            take_over: false,
        };
        let running = start(loaded, &options).expect("a sidecar");
        let journal = Journal::of(&directory.path().join("decisions.jsonl"));
        let journal = Arc::new(Mutex::new(journal));
        service.reads(&journal);
        Self {
            socket: directory.path().join("agent.sock"),
            directory,
            service,
            inputs: 0,
            settled: true,
            running,
            journal,
        }
    }

    /// The log as it now is.
    pub fn journal(&self) -> MutexGuard<'_, Journal> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.refresh();
        journal
    }

    /// Stops the sidecar; what it leaves is a whole log.
    pub fn stop(self) {
        self.running.stop();
        let path = self.directory.path().join("decisions.jsonl");
        let keys = fs::read_to_string(self.directory.path().join("decisions.jsonl.jwks"));
        let keys = PublicKeys::parse(&keys.expect("the keys are there")).expect("keys");
        let mut verification = Verification::new(&keys, None);
        let log = BufReader::new(fs::File::open(path).expect("the log is there"));
        verification
            .read("decisions.jsonl", log)
            .expect("the log can be read");
        let report = verification.finish();
        assert!(report.is_whole(), "{report:?}");
        assert_eq!(
            report.signed_to, report.verified_to,
            "a stop that is not signed"
        );
        self.service.stop();
    }
}

fn config(port: u16) -> Value {
    let service = |name: &str, protocol: &str, schemas: Option<&str>, more: Value| {
        let mut section = json!({
            "name": name, "protocol": protocol, "upstream": format!("http://127.0.0.1:{port}/{name}"),
            "classification": "internal", "timeout": "2s",
        });
        if let Some(schemas) = schemas {
            section["schemas"] = schemas.into();
        }
        for (key, value) in more.as_object().expect("an object") {
            section[key] = value.clone();
        }
        section
    };
    json!({
        "agent": {"id": AGENT},
        "environment": "test",
        "listeners": [{"mode": "reverse", "address": "unix:agent.sock", "hosts": ["tools.test"]}],
        "control": {"socket": "control.sock"},
        "services": [
            service("tools", "mcp", Some("tools.json"), json!({
                "server_requests": ["sampling/createMessage"],
                "credentials": {"header": "authorization", "value": SECRET},
            })),
            service("rest", "openapi", Some("everything.json"), json!({})),
            service("rpc", "jsonrpc", Some("methods.json"), json!({})),
            service("plain", "http", None, json!({})),
            service("flow", "http", None, json!({"body": "streamed", "encoded_slash": "allow"})),
        ],
        // Instrumented code on a busy machine is slower than the default bound.
        "policy": {"data": ["data.yaml"], "timeout": "10s"},
        "body": {"max_request": "64KiB", "max_response": "64KiB"},
        // Each refusal has a line of its own: that they may share one is tested elsewhere.
        "decision_log": {"path": "decisions.jsonl", "refusals": "1000000/s"},
        "security_log": {"path": "security.jsonl"},
        "workers": 1,
    })
}
