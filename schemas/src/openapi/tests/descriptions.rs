//! Real descriptions. `integration/descriptions/fetch` puts them where `OUTRIDER_DESCRIPTIONS`
//! says; without it these tests say that they are skipped.
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::{fs, path::Path};

use super::*;

fn real(file: &str) -> Option<Loaded> {
    let Some(directory) = std::env::var_os("OUTRIDER_DESCRIPTIONS") else {
        eprintln!("skipped: OUTRIDER_DESCRIPTIONS is not set");
        return None;
    };
    let text = fs::read_to_string(Path::new(&directory).join(file)).unwrap();
    let Document(document) = if Path::new(file).extension().is_some_and(|e| e == "json") {
        Document::from_json(text.as_bytes()).unwrap()
    } else {
        serde_saphyr::from_str(&text).unwrap()
    };
    Some(loaded(document))
}

fn operation(loaded: &Loaded, method: &str, path: &str) -> String {
    loaded.api.find(method, path).map_or_else(
        |why| why.to_string(),
        |(found, _)| found.tool.operation.to_string(),
    )
}

/// Fills a template in and expects to find its own operation.
fn every_template_finds_its_operation(loaded: &Loaded) {
    for one in loaded.api.operations() {
        let mut path = String::new();
        let mut rest = &*one.template;
        while let Some((before, after)) = rest.split_once('{') {
            path.push_str(before);
            path.push_str("zz9");
            rest = after.split_once('}').unwrap().1;
        }
        path.push_str(rest);
        let name = operation(loaded, &one.method, &path);
        assert_eq!(name, *one.tool.operation, "{} {path}", one.method);
    }
}

#[test]
fn the_operations_of_github_are_recognised() {
    let Some(github) = real("github.json") else {
        return;
    };
    assert!(github.report.operations.len() > 1000);
    let left_out: Vec<_> = github
        .report
        .left_out()
        .map(|(line, _)| &line.name)
        .collect();
    assert!(left_out.len() <= 5, "{left_out:?}");
    every_template_finds_its_operation(&github);
    for (method, path, name) in [
        ("GET", "/repos/o/r/issues/1", "issues/get"),
        ("POST", "/repos/o/r/issues", "issues/create"),
        ("GET", "/repos/o/r/pulls/1/files", "pulls/list-files"),
        ("GET", "/user", "users/get-authenticated"),
        ("GET", "/users/octocat", "users/get-by-username"),
        ("DELETE", "/repos/o/r", "repos/delete"),
    ] {
        assert_eq!(operation(&github, method, path), name);
    }
    let issue = |body| Sent {
        method: "POST",
        target: "/repos/o/r/issues",
        headers: &[("Content-Type", "application/json")],
        body,
    };
    accepted(
        &github,
        issue(r#"{"title": "t", "labels": ["bug"]}"#),
        "/body",
    );
    refused(&github, issue(r#"{"body": "t"}"#), "/body");
    let list = "/repos/o/r/issues?state=open&per_page=5";
    assert_eq!(accepted(&github, get(list), "/query/per_page"), json!(5));
    refused(&github, get("/repos/o/r/issues?state=odd"), "/query/state");
}

#[test]
fn the_operations_of_openai_are_recognised() {
    let Some(openai) = real("openai.yaml") else {
        return;
    };
    assert!(openai.report.served() > 200, "{:?}", openai.report.served());
    every_template_finds_its_operation(&openai);
    let chat = |body| Sent {
        method: "POST",
        target: "/chat/completions",
        headers: &[("Content-Type", "application/json")],
        body,
    };
    let valid = r#"{"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}"#;
    accepted(&openai, chat(valid), "/body");
    refused(&openai, chat(r#"{"model": "gpt-4o"}"#), "/body");
}

#[test]
fn the_operations_of_shipengine_are_recognised() {
    let Some(shipengine) = real("shipengine.json") else {
        return;
    };
    assert!(
        shipengine.report.served() > 60,
        "{:?}",
        shipengine.report.served()
    );
    every_template_finds_its_operation(&shipengine);
}
