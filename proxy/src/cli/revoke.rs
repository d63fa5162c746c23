//! `outrider revoke`: takes authority back from a running sidecar, at once.

use std::{fmt::Write as _, io::Write, process::ExitCode};

use anyhow::Context;
use jiff::Timestamp;

use super::task::{At, FindSocket, human, json};
use crate::{
    control::wire::{Done, Kind, Named, Request},
    state::Revocation,
};

/// Take authority back, at once
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    at: At,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum What {
    /// Revoke an agent: nothing that it is part of goes on
    Agent(Whole),
    /// Revoke a principal: nothing that is done for it goes on
    Subject(Whole),
    /// Revoke a task: its next call is refused, its open streams are cut
    Task(One),
    /// Revoke one token, by its `jti`
    Token(One),
    /// Revoke a key of an issuer, by its `kid`: no token that it signed counts
    Key(One),
    /// List what is revoked
    List,
    /// Let a revocation count no longer; what it ended stays ended
    Lift {
        /// What is revoked
        kind: Word,
        #[command(flatten)]
        one: One,
    },
}

#[derive(Clone, Debug, clap::Args)]
struct Whole {
    /// Its ID
    id: String,
    /// Leave alone what was issued later, such as `2026-11-26T09:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = time)]
    issued_before: Option<Timestamp>,
    /// Why, for the security log
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Clone, Debug, clap::Args)]
struct One {
    /// Its ID; of a task, what `outrider task open` reported
    id: String,
    /// Issuer that vouches for it
    #[arg(long, value_name = "ISSUER")]
    issuer: Option<String>,
    /// Why, for the security log
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Word {
    Agent,
    Subject,
    Task,
    Token,
    Key,
}

impl From<Word> for Kind {
    fn from(word: Word) -> Self {
        match word {
            Word::Agent => Self::Agent,
            Word::Subject => Self::Subject,
            Word::Task => Self::Task,
            Word::Token => Self::Token,
            Word::Key => Self::Key,
        }
    }
}

/// Runs `outrider revoke …`. When it returns, the next call sees it. An error means wrong use or
/// no sidecar: exit status 2.
///
/// # Errors
/// When the sidecar cannot be found or asked, or the answer cannot be printed.
pub fn run(args: &Args, find: FindSocket) -> anyhow::Result<ExitCode> {
    let reply = match args.at.ask(find, &request(&args.what))? {
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

fn request(what: &What) -> Request {
    match what {
        What::Agent(whole) => whole.revoked(Kind::Agent),
        What::Subject(whole) => whole.revoked(Kind::Subject),
        What::Task(one) => one.revoked(Kind::Task),
        What::Token(one) => one.revoked(Kind::Token),
        What::Key(one) => one.revoked(Kind::Key),
        What::List => Request::Revocations {},
        What::Lift { kind, one } => Request::Lift {
            target: one.named((*kind).into()),
            reason: one.reason.clone(),
        },
    }
}

impl Whole {
    fn revoked(&self, kind: Kind) -> Request {
        Request::Revoke {
            target: Named {
                kind,
                id: self.id.clone(),
                issuer: None,
            },
            issued_before: self.issued_before,
            reason: self.reason.clone(),
        }
    }
}

impl One {
    fn named(&self, kind: Kind) -> Named {
        Named {
            kind,
            id: self.id.clone(),
            issuer: self.issuer.clone(),
        }
    }

    fn revoked(&self, kind: Kind) -> Request {
        Request::Revoke {
            target: self.named(kind),
            issued_before: None,
            reason: self.reason.clone(),
        }
    }
}

/// What a revocation, or its end, did, in a line.
pub(super) fn done(done: &Done) -> String {
    let Named { kind, id, .. } = &done.target;
    let kind = match kind {
        Kind::Agent => "agent",
        Kind::Subject => "subject",
        Kind::Task => "task",
        Kind::Token => "token",
        Kind::Key => "key",
    };
    format!("{kind} {id}: {} running task(s) ended\n", done.tasks)
}

/// What is revoked, in a table.
pub(super) fn table(revocations: &[Revocation]) -> String {
    if revocations.is_empty() {
        return "nothing is revoked\n".into();
    }
    let mut text = format!("{:<7}  {:<20}  {:<12}  {}\n", "KIND", "SINCE", "BY", "ID");
    for Revocation { target, at, by, .. } in revocations {
        // Writing to a string cannot fail.
        let _infallible = writeln!(
            text,
            "{:<7}  {:<20}  {by:<12}  {}",
            target.kind(),
            at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            target.id()
        );
    }
    text
}

fn time(text: &str) -> Result<Timestamp, String> {
    text.parse()
        .map_err(|_| "expected a time such as 2026-11-26T09:00:00Z".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parsed;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        parsed(line.split_whitespace())
    }

    #[test]
    fn a_task_is_named_by_its_id_and_a_reason_may_be_given() {
        let What::Task(one) = parse("task 42 --reason leaked").unwrap().what else {
            panic!()
        };
        let given = (one.id.as_str(), one.reason.as_deref());
        assert_eq!(given, ("42", Some("leaked")));
        for line in [
            "",
            "task",
            "task 42 43",
            "agent",
            "agent a --issued-before yesterday",
            "lift task",
            "lift nobody 42",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    /// Answers one request with `reply` and returns the request.
    fn answering(reply: &'static str) -> (tempfile::TempDir, std::thread::JoinHandle<String>) {
        use std::io::{BufRead, BufReader};
        let dir = tempfile::tempdir().unwrap();
        let listener = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
        let server = std::thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let mut request = String::new();
            stream.read_line(&mut request).unwrap();
            stream.get_mut().write_all(reply.as_bytes()).unwrap();
            request
        });
        (dir, server)
    }

    #[test]
    fn what_is_not_there_and_what_is_not_allowed_have_their_own_exit_status() {
        for (reply, status) in [
            (r#"{"refused":{"fault":"unknown_task","message":"m"}}"#, 1),
            (r#"{"refused":{"fault":"not_allowed","message":"m"}}"#, 2),
        ] {
            let (dir, server) = answering(reply);
            let at = dir.path().join("s");
            let args = parse(&format!(
                "task 42 --reason leaked --control {}",
                at.display()
            ));
            let code = run(&args.unwrap(), |_| panic!("not needed")).unwrap();
            assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(status)));
            let request = server.join().unwrap();
            assert_eq!(
                request,
                "{\"revoke\":{\"target\":{\"kind\":\"task\",\"id\":\"42\"},\"issued_before\":null,\"reason\":\"leaked\"}}\n"
            );
        }
    }

    #[test]
    fn without_a_sidecar_there_is_an_error_that_says_what_to_do() {
        let args = parse("task 42 --control /nonexistent/control.sock").unwrap();
        let error = run(&args, |_| panic!("not needed")).unwrap_err();
        assert!(error.to_string().contains("outrider run"), "{error}");
    }
}
