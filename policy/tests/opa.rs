//! The VM against a real OPA (`$OPA`, else `opa` on the path): the same decision for the library, for what people write
//! and for random rules. Without OPA the tests say that they were skipped.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::accepted::ACCEPTED;
use common::generate::{inputs, policy, single};
use common::{asked, bounds, source};
use outrider_policy::input::TaskState;
use outrider_policy::{ENTRY, Input, Level, Policy, Value, library};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value as Json, json};

fn opa() -> Option<PathBuf> {
    let path = std::env::var_os("OPA").map_or_else(|| PathBuf::from("opa"), PathBuf::from);
    let found = Command::new(&path)
        .arg("version")
        .stdout(Stdio::null())
        .status();
    if found.is_ok_and(|status| status.success()) {
        return Some(path);
    }
    println!("skipped: no opa (set OPA to its path)");
    None
}

fn to_json(value: &Value) -> Json {
    serde_json::from_str(&value.to_json_str().unwrap()).unwrap()
}

/// Sets come in another order.
fn sorted(value: Json) -> Json {
    match value {
        Json::Array(items) => {
            let mut items: Vec<_> = items.into_iter().map(sorted).collect();
            items.sort_by_key(ToString::to_string);
            Json::Array(items)
        }
        Json::Object(members) => members
            .into_iter()
            .map(|(key, value)| (key, sorted(value)))
            .collect(),
        other => other,
    }
}

/// OPA's decisions by the number of the input; none where it is undefined, nothing at all after an error.
///
/// `None` for rules that OPA does not compile, such as `count(1)`: its checks of types go further than ours.
fn answers(
    opa: &Path,
    rules: &str,
    data: &Value,
    questions: &[Value],
) -> Option<BTreeMap<String, Json>> {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    for file in library() {
        if !(file.name.ends_with("allow.rego") && rules.contains("default allow")) {
            write(&format!("rules/{}", file.name), &file.text);
        }
    }
    write("rules/user.rego", rules);
    write("rules/data.json", &data.to_json_str().unwrap());
    let cases: BTreeMap<String, Json> = questions
        .iter()
        .enumerate()
        .map(|(number, question)| (number.to_string(), to_json(question)))
        .collect();
    write("input.json", &json!({ "cases": cases }).to_string());
    let query = format!("{{k: d | some k, i in input.cases; d := {ENTRY} with input as i}}");
    let output = Command::new(opa)
        .args(["eval", "--format", "json", "--data"])
        .arg(folder.path().join("rules"))
        .arg("--input")
        .arg(folder.path().join("input.json"))
        .arg(query)
        .output()
        .unwrap();
    let answer: Json = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let fault = answer
        .pointer("/errors/0/code")
        .and_then(Json::as_str)
        .unwrap_or("");
    if fault.starts_with("rego_") {
        return None;
    }
    let value = answer
        .pointer("/result/0/expressions/0/value")
        .cloned()
        .unwrap_or_default();
    Some(serde_json::from_value(value).unwrap_or_default())
}

/// Whether the rules passed the checks and were compared.
fn compare(opa: &Path, rules: &str, inputs: &[Input]) -> bool {
    let text = format!("package outrider.authz\n\n{rules}\n");
    let data = common::data();
    let Ok(policy) = Policy::compile(&source(&text), &data, bounds()) else {
        return false;
    };
    let questions: Vec<_> = inputs.iter().map(|input| policy.question(input)).collect();
    let Some(answers) = answers(opa, &text, &data.value(), &questions) else {
        return false;
    };
    for (number, input) in inputs.iter().enumerate() {
        let ours = policy.decide(input);
        let theirs = answers.get(&number.to_string());
        if let (Some(theirs), false) = (theirs, matches!(ours.result(), Value::Undefined)) {
            assert_eq!(
                sorted(to_json(&ours.result())),
                sorted(theirs.clone()),
                "{text}\n{:#?}",
                input.call.arguments
            );
        } else {
            // One of the two has an error: it must not be the case that only OPA refuses.
            assert!(
                !ours.allows(),
                "{text}\n{:#?}\n{theirs:?}",
                input.call.arguments
            );
        }
    }
    true
}

/// Every combination of what the guards, the grants and the exceptions look at.
fn corpus() -> Vec<Input> {
    let mut corpus = Vec::new();
    for tool in common::TOOLS {
        for level in Level::ALL {
            for agent in [common::AGENT, "agent:bare", "agent:past", "agent:nobody"] {
                for state in [TaskState::Active, TaskState::Suspended, TaskState::None] {
                    for max in [Level::Internal, Level::Restricted] {
                        let mut call = asked(tool).agent(agent).level(level);
                        call.task.state = state;
                        call.task.max_classification = max;
                        corpus.push(call.input());
                        for actor in [common::AGENT, "agent:bare", "agent:nobody"] {
                            call = call.actors(&[common::AGENT, actor]);
                            corpus.push(call.input());
                        }
                        call = call.actors(&[]);
                        call.input.spent = vec!["EX-7".into()];
                        call.task.intent = "report.write".into();
                        corpus.push(call.input());
                        corpus.push(call.without_task().input());
                    }
                }
            }
        }
    }
    corpus
}

#[test]
fn the_library_decides_as_opa_does() {
    let Some(opa) = opa() else { return };
    assert!(compare(&opa, "", &corpus()));
}

#[test]
fn what_people_write_is_decided_as_opa_does() {
    let Some(opa) = opa() else { return };
    for rules in ACCEPTED {
        assert!(compare(&opa, rules, &inputs()), "{rules}");
    }
}

#[test]
fn random_rules_are_decided_as_opa_does() {
    let Some(opa) = opa() else { return };
    let wanted = std::env::var("OUTRIDER_OPA_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(25);
    let mut runner = TestRunner::deterministic();
    let mut compared = 0;
    for round in 0..wanted * 60 {
        let rules = if round % 8 == 0 {
            policy().new_tree(&mut runner).unwrap().current()
        } else {
            single().new_tree(&mut runner).unwrap().current()
        };
        compared += usize::from(compare(&opa, &rules, &inputs()));
        if compared >= wanted {
            break;
        }
    }
    assert!(
        compared > wanted / 2,
        "only {compared} of the random rules passed the checks"
    );
}
