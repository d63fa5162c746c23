//! `outrider schemas import`: what is understood of an OpenAPI description, and what is not.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use outrider_schemas::openapi::{Api, Loaded, Report, Verdict};
use serde_json::{Value, json};

use crate::config::description;

/// `outrider schemas import`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// OpenAPI description, JSON or YAML
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// List every operation that is served
    #[arg(long)]
    operations: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `outrider schemas import`: exit status 1 where an operation was left out. An error means
/// that nothing can be served: exit status 2.
///
/// # Errors
/// When the description cannot be read, or the result cannot be printed.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let described =
        description::load(&args.file).with_context(|| format!("`{}`", args.file.display()))?;
    let loaded = described.loaded;
    let text = if args.json {
        format!("{}\n", as_json(&loaded)?)
    } else {
        for_people(&loaded, args.operations)
    };
    io::stdout()
        .write_all(text.as_bytes())
        .context("cannot print")?;
    let left_out = loaded.report.left_out().next().is_some();
    Ok(ExitCode::from(u8::from(left_out)))
}

/// The report, with the facts of the operations that are served.
fn as_json(loaded: &Loaded) -> anyhow::Result<Value> {
    let mut report = serde_json::to_value(&loaded.report)?;
    let facts = loaded.api.operations().map(|one| {
        let tool = &one.tool;
        json!({
            "operation": tool.operation,
            "method": one.method,
            "template": one.template,
            "owner": tool.owner,
            "version": tool.version,
            "digest": tool.digest,
            "classification": tool.classification,
            "labels": tool.labels,
            "read_only": tool.read_only,
            "destructive": tool.destructive,
            "idempotent": tool.idempotent,
            "open_world": tool.open_world,
        })
    });
    let facts: Vec<Value> = facts.collect();
    if let Value::Object(members) = &mut report {
        members.insert("served".into(), loaded.report.served().into());
        members.insert("tools".into(), facts.into());
    }
    Ok(report)
}

fn for_people(loaded: &Loaded, operations: bool) -> String {
    let report = &loaded.report;
    let mut text = String::new();
    // INVARIANT: writing to a string does not fail.
    head(&mut text, report).ok();
    if operations {
        table(&mut text, &loaded.api).ok();
    }
    rest(&mut text, report).ok();
    text
}

fn head(text: &mut String, report: &Report) -> std::fmt::Result {
    let (served, all) = (report.served(), report.operations.len());
    writeln!(
        text,
        "{} {}, OpenAPI {}",
        report.title, report.version, report.openapi
    )?;
    for server in &report.servers {
        writeln!(text, "server: {server}")?;
    }
    writeln!(text, "operations: {served} of {all} served")
}

fn table(text: &mut String, api: &Api) -> std::fmt::Result {
    for one in api.operations() {
        let tool = &one.tool;
        let facts = [
            (tool.read_only, "read-only"),
            (tool.destructive, "destructive"),
            (tool.idempotent, "idempotent"),
            (tool.open_world, "open-world"),
        ];
        let mut words: Vec<&str> = facts
            .into_iter()
            .filter_map(|(is, word)| is.then_some(word))
            .collect();
        words.extend(tool.classification.as_deref());
        words.extend(tool.labels.iter().map(AsRef::as_ref));
        let words = words.join(", ");
        writeln!(
            text,
            "  {}  {} {}  {words}",
            tool.operation, one.method, one.template
        )?;
    }
    Ok(())
}

fn rest(text: &mut String, report: &Report) -> std::fmt::Result {
    for (line, reason) in report.left_out() {
        writeln!(
            text,
            "left out: {} ({} {}): {reason}",
            line.name, line.method, line.template
        )?;
    }
    for line in &report.operations {
        if let Verdict::Served { notes } = &line.verdict {
            for note in notes {
                writeln!(text, "note: {}: {note}", line.name)?;
            }
        }
    }
    for note in &report.notes {
        writeln!(text, "note: {note}")?;
    }
    for scheme in &report.security_schemes {
        writeln!(
            text,
            "ignored: security scheme {scheme}; credentials are the sidecar's"
        )?;
    }
    for (count, word) in [
        (report.callbacks, "callbacks"),
        (report.webhooks, "webhooks"),
    ] {
        if count > 0 {
            writeln!(text, "ignored: {count} {word}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    const API: &str = r##"{
        "openapi": "3.1.0",
        "info": {"title": "Tickets", "version": "7"},
        "servers": [{"url": "https://tickets.example.org"}],
        "paths": {
            "/tickets": {"get": {"operationId": "list"}, "post": {
                "operationId": "create",
                "x-outrider": {"owner": "support", "labels": ["pii.email"]},
                "requestBody": {"content": {"text/csv": {}}}
            }},
            "/odd": {"get": {"operationId": "odd", "parameters": [{"$ref": "#/nowhere"}]}}
        },
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}
    }"##;

    fn loaded() -> Loaded {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("api.json");
        fs::write(&file, API).unwrap();
        description::load(&file).unwrap().loaded
    }

    #[test]
    fn people_are_told_what_is_served_and_what_is_not() {
        assert_eq!(
            for_people(&loaded(), true),
            "Tickets 7, OpenAPI 3.1.0\n\
             server: https://tickets.example.org\n\
             operations: 2 of 3 served\n  \
               list  GET /tickets  read-only, idempotent, open-world\n  \
               create  POST /tickets  destructive, open-world, pii.email\n\
             left out: odd (GET /odd): reference `#/nowhere` leads nowhere\n\
             note: create: bodies of `text/csv` are refused: nobody can judge them\n\
             ignored: security scheme key: http bearer; credentials are the sidecar's\n"
        );
        assert!(!for_people(&loaded(), false).contains("  list"));
    }

    #[test]
    fn machines_are_told_the_same() {
        let told = as_json(&loaded()).unwrap();
        assert_eq!(told["served"], 2);
        assert_eq!(told["tools"][1]["owner"], "support");
        assert_eq!(told["operations"][0]["verdict"], "left_out");
        assert_eq!(told["operations"][0]["name"], "odd");
    }

    #[test]
    fn the_exit_status_says_whether_everything_is_served() {
        let args = |file: &Path| Args {
            file: file.to_owned(),
            operations: false,
            json: true,
        };
        assert!(run(&args(Path::new("/nowhere.json"))).is_err());
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("api.json");
        fs::write(&file, API).unwrap();
        assert_eq!(run(&args(&file)).unwrap(), ExitCode::from(1));
        fs::write(&file, API.replace("#/nowhere", "#/components/parameters/p").replace(
            "\"components\": {",
            r#""components": {"parameters": {"p": {"name": "p", "in": "query", "schema": {}}}, "#,
        ))
        .unwrap();
        assert_eq!(run(&args(&file)).unwrap(), ExitCode::SUCCESS);
    }
}
