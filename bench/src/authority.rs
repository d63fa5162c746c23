//! What proving authority costs a call, and how soon its end is felt.
#![expect(
    clippy::indexing_slicing,
    reason = "members of JSON objects, made by writing them"
)]

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use outrider_integration::{
    Agent, IssuerKey, Request, Setup, Sidecar, Store, Tool, ToolServer, key_set, task_claims, until,
};
use serde_json::{Value, json};

use crate::{
    compare::Common,
    goals::{self, Goal},
    process::Cpu,
    sample::{Spread, count},
    shape::Shape,
};

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Streams that are cut, one after the other [default: 200]
    #[arg(long)]
    trials: Option<usize>,
    #[command(flatten)]
    common: Common,
}

/// Whose tokens are believed.
const ISSUER: &str = "https://iam.example.org";
/// More than anything here can do: limits are counted and never reached.
const RATE: &str = "1000000/s";
/// Between a command's exit and the last byte of what it cuts.
const BOUND: f64 = 1.0;

/// One way to have authority.
struct Row {
    title: String,
    proof: Proof,
    sidecar: Sidecar,
    /// Kept while its sidecar runs.
    _store: Option<Store>,
    /// Processor time per call in microseconds, a round each.
    cpu: Vec<f64>,
}

enum Proof {
    /// One token for all calls.
    Same(String),
    /// A token of its own for each call.
    Fresh(Box<IssuerKey>),
}

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    let server = ToolServer::start(vec![Tool::echo("echo"), silent()]);
    let rows = costs(options, &server)?;
    print!("{}", table(&rows));
    let trials = options
        .trials
        .unwrap_or(if options.common.quick { 5 } else { 200 });
    let cut = revocations(options, &server, trials)?;
    let figures = json!({
        "rows": rows.iter().map(|row| Row::json(row, &rows)).collect::<Vec<_>>(),
        "revocation_to_last_byte_s": cut,
    });
    let slowest = Spread::of([*cut.last().context("no trial")?]).context("no trial")?;
    let quantile = |share: usize| {
        cut.get(cut.len() * share / 100)
            .copied()
            .unwrap_or_default()
    };
    println!(
        "revocation to last byte, {trials} trials: p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms\n",
        quantile(50) * 1e3,
        quantile(99) * 1e3,
        slowest.high * 1e3
    );
    let goal = Goal::at_most(
        "revocation to last byte, the longest, s",
        BOUND,
        0.1,
        slowest,
    );
    goals::finish(
        &[goal],
        &figures,
        options.common.output.as_deref(),
        "authority",
    )
}

/// A tool that streams one event and then stays silent.
fn silent() -> Tool {
    Tool::doing("stream", |exchange| {
        exchange.begin_events();
        exchange.event(&json!({
            "jsonrpc": "2.0",
            "method": "notifications/progress",
            "params": {"progressToken": 1, "progress": 1},
        }));
        exchange.wait_until_gone();
    })
}

fn setup(options: &Options, server: &ToolServer) -> Result<Setup> {
    let binary = options.common.settings(Shape::default())?.binary;
    let binary = binary.canonicalize().with_context(|| {
        format!(
            "no {}: build it with `cargo build --release`",
            binary.display()
        )
    })?;
    let setup = Setup::new(&binary.to_string_lossy(), server);
    Ok(setup.config(|config| {
        config["limits"] = json!([
            {"name": "per-agent", "key": ["agent"], "rate": RATE},
            {"name": "per-task", "key": ["task"], "rate": RATE},
        ]);
        config["policy"]["timeout"] = json!("100ms");
    }))
}

/// All rows stand ready at once and take turns.
fn costs(options: &Options, server: &ToolServer) -> Result<Vec<Row>> {
    let mut rows = vec![Row::local(
        "local token",
        setup(options, server)?.start(),
        None,
    )];
    for algorithm in ["EdDSA", "ES256", "RS256"] {
        rows.push(Row::foreign(options, server, algorithm, true)?);
        rows.push(Row::foreign(options, server, algorithm, false)?);
    }
    if let Some(binary) = Store::binary() {
        let store = Store::start(&binary, outrider_integration::Kept::Nothing);
        let setup = store.shared(setup(options, server)?);
        rows.push(Row::local(
            "local token, shared limits",
            setup.start(),
            Some(store),
        ));
    }
    let (rounds, calls) = if options.common.quick {
        (2, 20)
    } else {
        (9, 1000)
    };
    for row in &mut rows {
        row.round(calls / 10)?;
        row.cpu.clear();
    }
    for round in 0..rounds {
        for place in 0..rows.len() {
            let place = (place + round) % rows.len();
            if let Some(row) = rows.get_mut(place) {
                row.round(calls)?;
            }
        }
    }
    Ok(rows)
}

impl Row {
    fn local(title: &str, sidecar: Sidecar, store: Option<Store>) -> Self {
        // A sidecar that joins a fleet counts nothing before it knows what the others know.
        until("the sidecar to be ready", || {
            (sidecar.get("/readyz").status == 200).then_some(())
        });
        Self {
            title: title.into(),
            proof: Proof::Same(sidecar.open_task(&[]).token),
            sidecar,
            _store: store,
            cpu: Vec::new(),
        }
    }

    fn foreign(
        options: &Options,
        server: &ToolServer,
        algorithm: &str,
        cached: bool,
    ) -> Result<Self> {
        let key = IssuerKey::new(algorithm, "k1");
        let setup = setup(options, server)?.config(|config| {
            config["tasks"]["issuers"] = json!([{
                "issuer": ISSUER, "jwks": "file:jwks.json", "audience": "outrider",
            }]);
        });
        setup.file("jwks.json", &key_set([&key]).to_string());
        let (how, proof) = if cached {
            ("seen before", Proof::Same(token(&key)))
        } else {
            ("first seen", Proof::Fresh(Box::new(key)))
        };
        Ok(Self {
            title: format!("another issuer's token, {algorithm}, {how}"),
            proof,
            sidecar: setup.start(),
            _store: None,
            cpu: Vec::new(),
        })
    }

    /// Calls so many times over one connection.
    fn round(&mut self, calls: usize) -> Result<()> {
        let tokens: Vec<_> = match &self.proof {
            Proof::Same(token) => vec![token.clone()],
            Proof::Fresh(key) => (0..calls).map(|_| token(key)).collect(),
        };
        let mut agent = self.sidecar.stranger();
        let arguments = json!({"message": "hi"});
        let before = Cpu::of(&[self.sidecar.pid()])?;
        for token in tokens.iter().cycle().take(calls) {
            let call = Request::call("echo", &arguments).field("Outrider-Task-Token", token);
            let answer = agent.send(&call);
            ensure!(
                answer.is_tool_success(),
                "{}: {}",
                self.title,
                answer.text()
            );
        }
        let spent = Cpu::of(&[self.sidecar.pid()])?.since(&before);
        self.cpu.push(spent.as_secs_f64() * 1e6 / count(calls));
        Ok(())
    }

    fn to(&self, first: &Self) -> Option<Spread> {
        Spread::of(
            self.cpu
                .iter()
                .zip(&first.cpu)
                .map(|(ours, theirs)| ours / theirs),
        )
    }

    fn json(&self, rows: &[Self]) -> Value {
        let ratio = rows.first().and_then(|first| self.to(first));
        json!({
            "title": self.title, "cpu_us_per_call": Spread::of(self.cpu.iter().copied()).map(Spread::json),
            "to_local": ratio.map(Spread::json),
        })
    }
}

/// A token of a task of its own.
fn token(key: &IssuerKey) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    key.sign(&task_claims(ISSUER, &format!("t-{number}")))
}

fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.title.len()).max().unwrap_or(0);
    let mut table = format!(
        "{:<width$} {:>26} {:>22}\n",
        "", "CPU µs per call", "to the first"
    );
    for row in rows {
        let cpu = Spread::of(row.cpu.iter().copied()).map_or("-".into(), |cpu| cpu.to_string());
        let ratio = rows.first().and_then(|first| row.to(first));
        let ratio = ratio.map_or("-".into(), |ratio| ratio.to_string());
        // Writing to a string cannot fail.
        let _infallible = writeln!(table, "{:<width$} {cpu:>26} {ratio:>22}", row.title);
    }
    table.push('\n');
    table
}

/// Seconds from the exit of `outrider revoke task` to the end of the stream that it cuts, sorted.
fn revocations(options: &Options, server: &ToolServer, trials: usize) -> Result<Vec<f64>> {
    let sidecar = setup(options, server)?.start();
    let mut all = Vec::new();
    for _ in 0..trials {
        let task = sidecar.open_task(&[]);
        let agent: Agent = sidecar.stranger().with_token(&task.token);
        let mut stream = agent.start(&Request::call("stream", &json!({"message": "hi"})));
        stream.head()?.context("no answer")?;
        stream.event()?.context("no event")?;
        let ended = thread::spawn(move || {
            stream.rest();
            Instant::now()
        });
        let run = sidecar.command(&["revoke", "task", &task.id]);
        let acknowledged = Instant::now();
        ensure!(run.status == 0, "{run:?}");
        let ended = ended.join().ok().context("the stream was not read")?;
        let late = ended.saturating_duration_since(acknowledged);
        ensure!(late < Duration::from_secs(10), "a stream goes on");
        all.push(late.as_secs_f64());
    }
    all.sort_by(f64::total_cmp);
    Ok(all)
}
