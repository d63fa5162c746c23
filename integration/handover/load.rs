//! Agents that never stop calling: on connections they keep, on new ones, and for streams.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use outrider_integration::{Agent, Answer, Connection, Request, Sidecar, ToolServer, until};
use serde_json::json;

/// How an agent calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// On one connection.
    Kept,
    /// On a new connection each time.
    New,
    /// Streams, on one connection.
    Streams,
}

/// What is permitted to end a call's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nothing: a connection stays as long as its agent wants it.
    Never,
    /// The sidecar stops: after an answer that says so, and before a call is answered not.
    Told,
}

/// Agents at work.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    agents: Vec<thread::JoinHandle<Tally>>,
}

/// What became of the calls.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// The decisions that answers carried.
    pub(crate) decisions: Vec<String>,
    /// What went wrong.
    pub(crate) lost: Vec<String>,
    /// The longest that a call took.
    pub(crate) longest: Duration,
    /// Connections that were accepted by the kernel and by nobody else.
    pub(crate) unaccepted: usize,
}

impl Load {
    /// Starts agents of every manner, all with tokens of that task.
    pub(crate) fn start(sidecar: &Sidecar, ending: Ending) -> Self {
        let token = sidecar.open_task(&[]).token;
        let stop = Arc::new(AtomicBool::new(false));
        let manners = [
            Manner::Kept,
            Manner::Kept,
            Manner::Kept,
            Manner::New,
            Manner::Streams,
        ];
        let agents = manners.map(|manner| {
            let agent = sidecar.stranger().with_token(&token);
            let stop = Arc::clone(&stop);
            thread::spawn(move || work(&agent, manner, ending, &stop))
        });
        Self {
            stop,
            agents: agents.into(),
        }
    }

    /// Lets each agent end its call, and sums up.
    pub(crate) fn end(self) -> Tally {
        self.stop.store(true, Ordering::SeqCst);
        self.wait()
    }

    /// Waits until the agents have ended by themselves, and sums up.
    pub(crate) fn wait(self) -> Tally {
        let mut sum = Tally::default();
        for agent in self.agents {
            let tally = agent.join().expect("an agent that only counts");
            sum.decisions.extend(tally.decisions);
            sum.lost.extend(tally.lost);
            sum.longest = sum.longest.max(tally.longest);
            sum.unaccepted += tally.unaccepted;
        }
        sum
    }
}

fn work(agent: &Agent, manner: Manner, ending: Ending, stop: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    let tool = if manner == Manner::Streams {
        "stream"
    } else {
        "echo"
    };
    let bytes = agent.bytes(&Request::call(tool, &json!({"message": "hi"})));
    let mut connection = None;
    while !stop.load(Ordering::SeqCst) && tally.lost.len() < 10 {
        let (mut open, is_new) = match connection.take() {
            Some(open) => (open, false),
            None => match Connection::open(&agent.address()) {
                Ok(open) => (open, true),
                Err(_) if ending == Ending::Told => return tally,
                Err(error) => {
                    tally
                        .lost
                        .push(format!("{manner:?}: cannot connect: {error}"));
                    continue;
                }
            },
        };
        let begun = Instant::now();
        match exchange(&mut open, &bytes) {
            Ok(Some(answer)) => {
                tally.longest = tally.longest.max(begun.elapsed());
                if !answer.is_tool_success() {
                    tally.lost.push(format!("{manner:?}: {}", answer.text()));
                }
                tally.decisions.push(answer.decision_id());
                let close = answer.head.get("connection") == Some("close");
                if close && ending == Ending::Never {
                    tally.lost.push(format!("{manner:?}: told to go away"));
                }
                connection = (!close && manner != Manner::New).then_some(open);
            }
            // Between the last look at the queue and its end, the kernel may still accept.
            Ok(None) | Err(_) if ending == Ending::Told && is_new => tally.unaccepted += 1,
            other => tally
                .lost
                .push(format!("{manner:?}, new: {is_new}: {other:?}")),
        }
    }
    tally
}

fn exchange(connection: &mut Connection, bytes: &[u8]) -> io::Result<Option<Answer>> {
    connection.send(bytes)?;
    connection.answer()
}

impl Tally {
    /// Checks that no call was lost, that each is in the log once with its end, and that what
    /// reached the server is what the log permits; returns the decision lines' revisions.
    pub(crate) fn check(&self, sidecar: &Sidecar, server: &ToolServer) -> HashMap<String, usize> {
        assert!(
            self.lost.is_empty(),
            "{} lost: {:#?}",
            self.lost.len(),
            self.lost
        );
        let calls = server.calls().len();
        until("the last outcome line", || {
            let ends = sidecar.log_text().matches("\"type\":\"outcome\"").count();
            (ends >= calls).then_some(())
        });
        let (mut decisions, mut outcomes) = (HashMap::new(), HashMap::new());
        let mut revisions = HashMap::new();
        for line in sidecar.log() {
            let id = line["decision_id"].as_str().unwrap_or_default().to_owned();
            match line["type"].as_str() {
                Some("decision") => {
                    assert_eq!(line["outcome"], "allow", "{line}");
                    let revision = line["policy"]["revision"].as_str().unwrap_or_default();
                    *revisions.entry(revision.to_owned()).or_default() += 1;
                    *decisions.entry(id).or_insert(0) += 1;
                }
                Some("outcome") => {
                    assert_eq!(line["ended"], "completed", "{line}");
                    *outcomes.entry(id).or_insert(0) += 1;
                }
                _ => {}
            }
        }
        for id in &self.decisions {
            assert_eq!(decisions.get(id), Some(&1), "decision lines of {id}");
            assert_eq!(outcomes.get(id), Some(&1), "outcome lines of {id}");
        }
        assert_eq!(
            decisions.len(),
            self.decisions.len(),
            "decisions nobody asked for"
        );
        assert_eq!(calls, decisions.len(), "calls that reached the server");
        println!(
            "  {} calls, none lost; the longest took {:?}",
            calls, self.longest
        );
        revisions
    }
}

/// Checks the whole chain with the program's own command.
pub(crate) fn verify(sidecar: &mut Sidecar) {
    let verified = sidecar.setup().run(&["log", "verify", "decisions.jsonl"]);
    assert_eq!(verified.status, 0, "{verified:?}");
    println!("  {}", verified.stdout.trim().replace('\n', "\n  "));
}
