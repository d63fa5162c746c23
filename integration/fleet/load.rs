//! A steady load on two sidecars, and what of it reached the server.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use outrider_integration::{Agent, Sidecar, Tool, ToolServer, text_result};
use serde_json::json;

/// Agents of each sidecar, and how often each calls: 24 calls a second by two sidecars.
const AGENTS: usize = 6;
const BEAT: Duration = Duration::from_millis(500);

/// When calls reached the server.
#[derive(Clone, Default)]
pub(crate) struct Arrivals(Arc<Mutex<Vec<Instant>>>);

impl Arrivals {
    /// A server that notes them.
    pub(crate) fn server(&self) -> ToolServer {
        let arrivals = self.clone();
        ToolServer::start(vec![Tool::doing("echo", move |exchange| {
            arrivals.0.lock().unwrap().push(Instant::now());
            exchange.result(&text_result("done"));
        })])
    }

    pub(crate) fn all(&self) -> Vec<Instant> {
        let mut all = self.0.lock().unwrap().clone();
        all.sort_unstable();
        all
    }

    /// How many came since.
    pub(crate) fn since(&self, then: Instant) -> usize {
        self.all()
            .iter()
            .filter(|arrival| **arrival >= then)
            .count()
    }
}

/// Agents that call until they are stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    agents: Vec<thread::JoinHandle<BTreeMap<String, usize>>>,
}

impl Load {
    pub(crate) fn start(sidecars: &[Sidecar]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut agents = Vec::new();
        for sidecar in sidecars {
            let token = sidecar.open_task(&["--ttl", "1h"]).token;
            for number in 0..AGENTS {
                let agent = sidecar.stranger().with_token(&token);
                let stop = Arc::clone(&stop);
                agents.push(thread::spawn(move || work(agent, number, &stop)));
            }
        }
        Self { stop, agents }
    }

    /// Stops, and says how often each code was answered.
    pub(crate) fn end(self) -> BTreeMap<String, usize> {
        self.stop.store(true, Ordering::SeqCst);
        let mut sum = BTreeMap::new();
        for agent in self.agents {
            for (code, count) in agent.join().expect("an agent that only counts") {
                *sum.entry(code).or_default() += count;
            }
        }
        sum
    }
}

fn work(mut agent: Agent, number: usize, stop: &AtomicBool) -> BTreeMap<String, usize> {
    let mut codes = BTreeMap::new();
    let mut due = Instant::now() + BEAT * u32::try_from(number).unwrap() / 6;
    while !stop.load(Ordering::SeqCst) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        due = (due + BEAT).max(Instant::now());
        let answer = agent.call("echo", &json!({"message": "hi"}));
        let code = if answer.is_tool_success() {
            "ok".to_owned()
        } else {
            answer.decision()["code"].as_str().unwrap_or("?").to_owned()
        };
        *codes.entry(code).or_default() += 1;
    }
    codes
}
