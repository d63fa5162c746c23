//! `outrider task`: the life of tasks of a running sidecar, from opening to their end.

use std::{
    fmt::Write as _,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use outrider_policy::{Level, Pattern};

use crate::{
    control::{
        client,
        wire::{Fault, OfTask, OpenTask, Reply, Request, TaskView},
    },
    state::LONGEST_TASK,
    task::Confidence,
};

use super::revoke;

/// Finds the control socket in a configuration: the one given, else `./outrider.yaml`.
pub type FindSocket = fn(&Option<PathBuf>) -> anyhow::Result<PathBuf>;

/// Where the sidecar is, and in which form it is to answer.
#[derive(Clone, Debug, clap::Args)]
pub struct At {
    /// Control socket of the sidecar
    #[arg(long, value_name = "SOCKET", global = true)]
    control: Option<PathBuf>,
    /// Configuration that names the control socket [default: ./outrider.yaml]
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
}

impl At {
    /// Whether the socket was named, and not left to the configuration.
    pub(super) fn names_socket(&self) -> bool {
        self.control.is_some()
    }

    /// The configuration that was named.
    #[expect(clippy::ref_option, reason = "the form in which commands take it")]
    pub(super) fn config(&self) -> &Option<PathBuf> {
        &self.config
    }

    pub(super) fn socket(&self, find: FindSocket) -> anyhow::Result<PathBuf> {
        self.control.clone().map_or_else(|| find(&self.config), Ok)
    }

    /// Asks the sidecar. A refusal is said on standard error and becomes an exit status.
    ///
    /// # Errors
    /// When there is no sidecar or it does not answer.
    pub(super) fn ask(
        &self,
        find: FindSocket,
        request: &Request,
    ) -> anyhow::Result<Result<Reply, ExitCode>> {
        let socket: PathBuf = self.socket(find)?;
        Ok(match client::ask(Path::new(&socket), request)? {
            Reply::Refused(refusal) => {
                writeln!(std::io::stderr(), "error: {refusal}")?;
                Err(status(refusal.fault))
            }
            reply => Ok(reply),
        })
    }
}

/// 1: what was asked for is not there. 2: it may not be asked for, or not in this way.
fn status(fault: Fault) -> ExitCode {
    ExitCode::from(match fault {
        Fault::UnknownTask
        | Fault::UnknownIntent
        | Fault::UnknownListener
        | Fault::NotRevoked
        | Fault::Widened
        | Fault::Unavailable
        | Fault::Replaced
        | Fault::Unrecorded => 1,
        Fault::NotAllowed | Fault::Malformed | Fault::CurrentOff => 2,
    })
}

/// Open, show, list, suspend, resume and close tasks
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    at: At,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Open a task and print its token
    Open(Open),
    /// Show a task
    Show(Of),
    /// List tasks, the oldest first
    List,
    /// Stop a task for now: its next call is refused, its open streams are cut
    Suspend(Because),
    /// Let a suspended task go on
    Resume(Because),
    /// Say how sure you are of a task: below `tasks.min_confidence` it is suspended at once
    Confidence {
        #[command(flatten)]
        task: Because,
        /// From 0 to 1
        #[arg(value_parser = confidence)]
        confidence: f64,
    },
    /// End a task whose work is done
    Close(Because),
}

#[derive(Clone, Debug, clap::Args)]
struct Of {
    /// ID that `task open` reported
    id: String,
    /// Issuer of the task, where several have one with this ID
    #[arg(long, value_name = "ISSUER")]
    issuer: Option<String>,
}

#[derive(Clone, Debug, clap::Args)]
struct Because {
    #[command(flatten)]
    of: Of,
    /// Why, for the security log
    #[arg(long)]
    reason: Option<String>,
}

impl From<&Of> for OfTask {
    fn from(of: &Of) -> Self {
        Self {
            id: of.id.clone(),
            issuer: of.issuer.clone(),
            reason: None,
        }
    }
}

impl From<&Because> for OfTask {
    fn from(because: &Because) -> Self {
        Self {
            reason: because.reason.clone(),
            ..Self::from(&because.of)
        }
    }
}

#[derive(Clone, Debug, clap::Args)]
struct Open {
    /// What the task is for: an intent of the policy data [default: its parent's]
    #[arg(long, required_unless_present = "parent")]
    intent: Option<String>,
    /// Task it is derived from: it reaches no further, and ends with it
    #[arg(long, value_name = "ID")]
    parent: Option<String>,
    /// Who the agent acts for [default: uid:<n> of who opens the task]
    #[arg(long)]
    subject: Option<String>,
    /// Tools it may use, such as `tickets/*` [default: the intent's]
    #[arg(long, value_name = "PATTERN", num_args = 1.., value_parser = pattern)]
    tools: Option<Vec<String>>,
    /// Highest class of data it may touch [default: the intent's]
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    max_classification: Option<Level>,
    /// How many calls it may make [default: any number]
    #[arg(long, value_name = "N")]
    calls: Option<u64>,
    /// How long it lasts, at most 24h and no longer than its parent [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = ttl)]
    ttl: Option<Duration>,
    /// Bind it to a listener, for agents that can send no token; off in production
    #[arg(long, value_name = "LISTENER")]
    current: Option<String>,
}

/// Runs `outrider task …`. An error means wrong use or no sidecar: exit status 2.
///
/// # Errors
/// When the sidecar cannot be found or asked, or the answer cannot be printed.
pub fn run(args: &Args, find: FindSocket) -> anyhow::Result<ExitCode> {
    let reply = match args.at.ask(find, &request(&args.command))? {
        Ok(reply) => reply,
        Err(status) => return Ok(status),
    };
    let text = if args.at.json {
        json(&reply)?
    } else {
        human(&reply)
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot print")?;
    Ok(ExitCode::SUCCESS)
}

fn request(command: &Command) -> Request {
    match command {
        Command::Open(open) => Request::TaskOpen(OpenTask {
            intent: open.intent.clone(),
            subject: open.subject.clone(),
            tools: open.tools.clone(),
            max_classification: open.max_classification,
            calls: open.calls,
            ttl_s: open.ttl.map(|ttl| ttl.as_secs()),
            current: open.current.clone(),
            parent: open.parent.clone(),
        }),
        Command::Show(of) => Request::TaskShow(of.into()),
        Command::List => Request::TaskList {},
        Command::Suspend(task) => Request::TaskSuspend(task.into()),
        Command::Resume(task) => Request::TaskResume(task.into()),
        Command::Confidence { task, confidence } => Request::TaskConfidence {
            task: task.into(),
            confidence: *confidence,
        },
        Command::Close(task) => Request::TaskClose(task.into()),
    }
}

/// The reply's content without its envelope.
pub(super) fn json(reply: &Reply) -> anyhow::Result<String> {
    let mut text = match reply {
        Reply::Opened { id, token, expires } => {
            serde_json::json!({"id": id, "token": token, "expires": expires}).to_string()
        }
        Reply::Task(task) => serde_json::to_string(task)?,
        Reply::Tasks(tasks) => serde_json::to_string(tasks)?,
        Reply::Done(done) => serde_json::to_string(done)?,
        Reply::Revocations(revocations) => serde_json::to_string(revocations)?,
        Reply::Keys(keys) => serde_json::to_string(keys)?,
        Reply::Findings(findings) => serde_json::to_string(findings)?,
        Reply::Refused(refusal) => serde_json::to_string(refusal)?,
    };
    text.push('\n');
    Ok(text)
}

pub(super) fn human(reply: &Reply) -> String {
    match reply {
        Reply::Opened { token, .. } => format!("{}\n", token.expose()),
        Reply::Task(task) => sheet(task),
        Reply::Tasks(tasks) if tasks.is_empty() => "no tasks: see `outrider task open`\n".into(),
        Reply::Tasks(tasks) => table(tasks),
        Reply::Done(done) => revoke::done(done),
        Reply::Revocations(revocations) => revoke::table(revocations),
        Reply::Keys(keys) => format!("{}\n", keys.kid),
        Reply::Findings(findings) => super::doctor::human(findings),
        Reply::Refused(refusal) => format!("{refusal}\n"),
    }
}

fn sheet(task: &TaskView) -> String {
    let level = |level: Option<Level>| level.map_or("the intent's", Level::as_str);
    let tools = task
        .tools
        .as_ref()
        .map_or("the intent's".into(), |tools| tools.join(" "));
    let lines = [
        ("task", task.id.clone()),
        ("issuer", task.issuer.clone()),
        ("state", task.state.as_str().into()),
        ("sure", task.confidence.to_string()),
        ("intent", task.intent.clone()),
        ("subject", task.subject.clone()),
        ("agent", task.actors.join(" for ")),
        ("tools", tools),
        ("up to", level(task.max_classification).into()),
        ("touched", task.high_water.as_str().into()),
        ("calls", calls(task)),
        ("opened", format!("{} by {}", task.opened, task.opened_by)),
        ("expires", task.expires.clone()),
        ("token", task.token_id.clone()),
        (
            "parent",
            task.parent.clone().unwrap_or_else(|| "none".into()),
        ),
    ];
    lines.iter().fold(String::new(), |mut text, (name, value)| {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{name:<8} {value}");
        text
    })
}

fn table(tasks: &[TaskView]) -> String {
    let mut text = format!(
        "{:<36}  {:<9}  {:<24}  {:<11}  {:<20}  {}\n",
        "TASK", "STATE", "INTENT", "CALLS", "EXPIRES", "SUBJECT"
    );
    for task in tasks {
        let (state, calls) = (task.state.as_str(), calls(task));
        let TaskView {
            id,
            intent,
            expires,
            subject,
            ..
        } = task;
        let _infallible = writeln!(
            text,
            "{id:<36}  {state:<9}  {intent:<24}  {calls:<11}  {expires:<20}  {subject}"
        );
    }
    text
}

fn calls(task: &TaskView) -> String {
    match task.calls {
        Some(budget) => format!("{} of {budget}", task.used),
        None => task.used.to_string(),
    }
}

fn pattern(text: &str) -> Result<String, String> {
    match Pattern::try_from(text.to_owned()) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("expected a tool pattern such as `tickets/*`".into()),
    }
}

fn level(text: &str) -> Result<Level, String> {
    text.parse()
        .map_err(|_| "expected public, internal, confidential or restricted".into())
}

fn confidence(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number
        .and_then(|number| Confidence::try_from(number).ok())
        .map(f64::from)
        .ok_or_else(|| "expected a number from 0 to 1".into())
}

pub(super) fn ttl(text: &str) -> Result<Duration, String> {
    let expected = || "expected a time such as 90s, 15m or 8h, at most 24h".to_owned();
    let unit = text.chars().next_back().ok_or_else(expected)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(expected()),
    };
    let number = text.strip_suffix(unit).unwrap_or_default();
    let number: u64 = number.parse().map_err(|_| expected())?;
    let ttl = Duration::from_secs(number.checked_mul(seconds).ok_or_else(expected)?);
    if ttl.is_zero() || ttl > LONGEST_TASK {
        Err(expected())
    } else {
        Ok(ttl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parsed;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        parsed(line.split_whitespace())
    }

    fn view() -> TaskView {
        TaskView {
            id: "0198c6f4-0000-7000-8000-000000000001".into(),
            issuer: "outrider:1".into(),
            token_id: "0198c6f4-0000-7000-8000-000000000002".into(),
            parent: None,
            confidence: Confidence::FULL,
            state: crate::task::State::Active,
            intent: "ticket.triage".into(),
            subject: "uid:1000".into(),
            actors: vec!["spiffe://example.org/agent/triage".into()],
            tools: Some(vec!["tickets/*".into(), "crm/lookup".into()]),
            max_classification: None,
            calls: Some(5),
            used: 2,
            high_water: Level::Internal,
            opened: "2026-11-22T10:00:00Z".into(),
            expires: "2026-11-22T11:00:00Z".into(),
            opened_by: "uid:1000".into(),
        }
    }

    #[test]
    fn every_flag_of_open_reaches_the_request() {
        let line = "open --intent ticket.triage --subject user:42 --tools tickets/* crm/lookup \
                    --max-classification internal --calls 3 --ttl 15m --current reverse";
        let Request::TaskOpen(open) = request(&parse(line).unwrap().command) else {
            panic!()
        };
        assert_eq!(open.intent.unwrap(), "ticket.triage");
        assert_eq!(open.subject.unwrap(), "user:42");
        assert_eq!(open.tools.unwrap(), ["tickets/*", "crm/lookup"]);
        assert_eq!(open.max_classification, Some(Level::Internal));
        assert_eq!((open.calls, open.ttl_s), (Some(3), Some(900)));
        assert_eq!(open.current.unwrap(), "reverse");
    }

    #[test]
    fn what_is_left_open_is_the_sidecars_to_say() {
        let args = parse("open --intent ticket.triage").unwrap();
        let Request::TaskOpen(open) = request(&args.command) else {
            panic!()
        };
        assert_eq!(open.ttl_s, None);
        assert!(open.tools.is_none() && open.calls.is_none() && open.current.is_none());
    }

    #[test]
    fn wrong_use_is_refused_before_anything_is_asked() {
        for line in [
            "open",
            "open --intent",
            "open --intent a --ttl 25h",
            "open --intent a --ttl 0s",
            "open --intent a --ttl 1hh",
            "open --intent a --ttl 1d",
            "open --intent a --ttl h",
            "open --intent a --ttl 99999999999999999999h",
            "open --intent a --calls -1",
            "open --intent a --max-classification secret",
            "open --intent a --tools nonsense",
            "open --intent a --tools",
            "show",
            "close",
            "list x",
            "suspend",
            "confidence x",
            "confidence x 1.5",
            "confidence x NaN",
            "",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_socket_may_be_named_before_or_after_the_command() {
        let unused: FindSocket = |_| panic!("the configuration is not needed");
        for line in ["--control /a list", "list --control /a"] {
            assert_eq!(
                parse(line).unwrap().at.socket(unused).unwrap(),
                Path::new("/a")
            );
        }
        let find: FindSocket = |config| Ok(config.clone().unwrap_or_default().join("found"));
        let at = parse("list -c /b").unwrap().at;
        assert_eq!(at.socket(find).unwrap(), Path::new("/b/found"));
    }

    #[test]
    fn open_prints_the_token_alone_or_three_members() {
        let reply = Reply::Opened {
            id: "i".into(),
            token: "t".to_owned().into(),
            expires: "2026-11-22T11:00:00Z".into(),
        };
        assert_eq!(human(&reply), "t\n");
        let printed: serde_json::Value = serde_json::from_str(&json(&reply).unwrap()).unwrap();
        let expected =
            serde_json::json!({"id": "i", "token": "t", "expires": "2026-11-22T11:00:00Z"});
        assert_eq!(printed, expected);
    }

    #[test]
    fn a_task_is_shown_in_lines_and_tasks_in_a_table() {
        insta::assert_snapshot!(human(&Reply::Task(view().into())), @r"
        task     0198c6f4-0000-7000-8000-000000000001
        issuer   outrider:1
        state    active
        sure     1
        intent   ticket.triage
        subject  uid:1000
        agent    spiffe://example.org/agent/triage
        tools    tickets/* crm/lookup
        up to    the intent's
        touched  internal
        calls    2 of 5
        opened   2026-11-22T10:00:00Z by uid:1000
        expires  2026-11-22T11:00:00Z
        token    0198c6f4-0000-7000-8000-000000000002
        parent   none
        ");
        insta::assert_snapshot!(human(&Reply::Tasks(vec![view()])), @r"
        TASK                                  STATE      INTENT                    CALLS        EXPIRES               SUBJECT
        0198c6f4-0000-7000-8000-000000000001  active     ticket.triage             2 of 5       2026-11-22T11:00:00Z  uid:1000
        ");
    }
}
