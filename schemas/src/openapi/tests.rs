#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::needless_pass_by_value,
    clippy::too_many_lines
)]

mod attacks;
mod descriptions;
mod loading;
mod properties;
mod styles;

use serde_json::{Value, json};

use super::*;

/// A description with these paths.
fn described(version: &str, paths: Value, components: Value) -> Value {
    json!({
        "openapi": version,
        "info": {"title": "t", "version": "1"},
        "paths": paths,
        "components": components,
    })
}

fn loaded(document: Value) -> Loaded {
    load(
        document,
        &mut |_| Err("there are no other files".to_owned()),
    )
    .unwrap()
}

fn api(paths: Value) -> Loaded {
    loaded(described("3.1.0", paths, json!({})))
}

/// Why the operation is not served.
fn left_out<'a>(loaded: &'a Loaded, name: &str) -> &'a str {
    let mut all = loaded.report.left_out();
    all.find(|(line, _)| line.name == name)
        .unwrap_or_else(|| panic!("{name} is served: {:?}", loaded.report))
        .1
}

/// A request as a test writes it.
#[derive(Clone, Copy, Default)]
struct Sent<'a> {
    method: &'a str,
    /// With the query.
    target: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: &'a str,
}

fn get(target: &str) -> Sent<'_> {
    Sent {
        method: "GET",
        target,
        ..Sent::default()
    }
}

/// The arguments of a request, or why it is refused, in a word or a sentence.
fn call(loaded: &Loaded, sent: Sent<'_>) -> Result<Value, String> {
    let (path, query) = match sent.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (sent.target, None),
    };
    let (operation, variables) = loaded
        .api
        .find(sent.method, path)
        .map_err(|why| why.to_string())?;
    let headers: Vec<(&str, &[u8])> = sent
        .headers
        .iter()
        .map(|(name, value)| (*name, value.as_bytes()))
        .collect();
    let arguments = operation
        .decode(&Request {
            variables: &variables,
            query,
            headers: &headers,
            body: sent.body.as_bytes(),
        })
        .map_err(|why| why.to_string())?;
    if operation.schema().is_valid(&arguments) {
        Ok(serde_json::from_str(&arguments.to_json_str().unwrap()).unwrap())
    } else {
        let found = operation.schema().violations(&arguments, 8);
        let found: Vec<_> = found
            .iter()
            .map(|found| format!("{}: {}", found.pointer, found.message))
            .collect();
        Err(format!("invalid: {}", found.join("; ")))
    }
}

#[track_caller]
fn accepted(loaded: &Loaded, sent: Sent<'_>, pointer: &str) -> Value {
    let arguments = call(loaded, sent).unwrap_or_else(|why| panic!("{}: {why}", sent.target));
    arguments.pointer(pointer).cloned().unwrap_or_default()
}

#[track_caller]
fn refused(loaded: &Loaded, sent: Sent<'_>, with: &str) {
    match call(loaded, sent) {
        Ok(arguments) => panic!("{} {} passed: {arguments}", sent.method, sent.target),
        Err(why) => assert!(why.contains(with), "{}: {why}", sent.target),
    }
}
