//! `outrider revoke`: takes authority back from a running sidecar, at once.

use std::{io::Write, process::ExitCode};

use anyhow::Context;

use super::task::{At, FindSocket, human, json};
use crate::control::wire::Request;

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
    /// Revoke a task: its next call is refused, its open streams are cut
    Task {
        /// ID that `outrider task open` reported
        id: String,
        /// Why, for the security log
        #[arg(long)]
        reason: Option<String>,
    },
}

/// Runs `outrider revoke …`. When it returns, the next call sees it. An error means wrong use or
/// no sidecar: exit status 2.
///
/// # Errors
/// When the sidecar cannot be found or asked, or the answer cannot be printed.
pub fn run(args: &Args, find: FindSocket) -> anyhow::Result<ExitCode> {
    let What::Task { id, reason } = &args.what;
    let request = Request::RevokeTask {
        id: id.clone(),
        reason: reason.clone(),
    };
    let reply = match args.at.ask(find, &request)? {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parsed;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        parsed(line.split_whitespace())
    }

    #[test]
    fn a_task_is_named_by_its_id_and_a_reason_may_be_given() {
        let What::Task { id, reason } = parse("task 42 --reason leaked").unwrap().what;
        assert_eq!((id.as_str(), reason.as_deref()), ("42", Some("leaked")));
        for line in ["", "task", "agent 42", "task 42 43"] {
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
                "{\"revoke_task\":{\"id\":\"42\",\"reason\":\"leaked\"}}\n"
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
