//! The VM against the engine's interpreter, which keeps to Rego where the VM does not: whatever the checks let through,
//! both must answer alike.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{asked, bounds, source};
use outrider_policy::{ENTRY, Input, Policy, Value, library};
use proptest::prelude::*;
use serde_json::json;

/// The interpreter's answer to the user's unmended rules.
fn interpreted(rules: &str, input: Value, data: Value) -> Option<String> {
    let mut engine = regorus::Engine::new();
    for file in library() {
        if !(file.name.ends_with("allow.rego") && rules.contains("default allow")) {
            engine.add_policy(file.name, file.text).unwrap();
        }
    }
    engine.add_policy("user.rego".to_owned(), rules.to_owned()).unwrap();
    engine.add_data(data).unwrap();
    engine.set_input(input);
    Some(engine.eval_rule(ENTRY.to_owned()).ok()?.to_string())
}

fn compare(rules: &str, inputs: &[Input]) -> Result<bool, TestCaseError> {
    let text = format!("package outrider.authz\n\n{rules}\n");
    let data = common::data();
    let Ok(policy) = Policy::compile(&source(&text), &data, bounds()) else {
        return Ok(false);
    };
    for input in inputs {
        let answer = policy.decide(input);
        // The interpreter reports an error where Rego says undefined (`some x in 5`, `"a" + 1`): OPA is asked about those.
        let Some(expected) = interpreted(&text, policy.question(input), data.value()) else {
            continue;
        };
        if matches!(answer.result, Value::Undefined) {
            prop_assert!(!expected.contains("\"allow\":true"), "{}\n{:?}", text, answer.reasons);
        } else {
            prop_assert_eq!(answer.result.to_string(), expected, "{}", text);
        }
    }
    Ok(true)
}

fn inputs() -> Vec<Input> {
    [
        json!({}),
        json!({"a": 1, "b": "text", "list": [1, "x", 5000], "o": {"k": 1, "l": "m"}}),
        json!({"a": "x", "b": 5, "list": [], "o": {}}),
        json!({"a": null, "b": [1], "list": ["a", {"a": 1}, [1], null, 3], "o": {"k": [1, 2]}}),
        json!({"a": true, "b": false, "list": {"k": 2, "j": "x"}, "o": 7}),
        json!({"list": 5, "o": "text", "a": [[1, 2], [3]], "b": {"a": {"a": 1}}}),
    ]
    .into_iter()
    .map(|arguments| asked("tickets/read").arguments(arguments).input())
    .collect()
}

fn leaf() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "1", "2", "5000", "\"x\"", "\"text\"", "x", "y", "z", "helper", "names", "total", "true",
        "input.call.arguments.a", "input.call.arguments.b", "input.call.arguments.list", "input.call.arguments.o.k",
        "input.call.arguments.missing", "input.tool.id", "input.call.port", "x.a", "input.call.arguments.list[0]",
        "data.outrider.facts.none", "input.call.arguments.list[_]", "input.call.arguments.list[i]",
    ])
    .prop_map(str::to_owned)
}

fn term() -> impl Strategy<Value = String> {
    leaf().prop_recursive(3, 12, 3, |inner| {
        let statement = statement_of(inner.clone().boxed());
        prop_oneof![
            3 => inner.clone(),
            1 => inner.clone().prop_map(|a| format!("lower({a})")),
            1 => inner.clone().prop_map(|a| format!("count({a})")),
            1 => inner.clone().prop_map(|a| format!("f({a})")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} + {b})")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[{a}, {b}]")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{{\"k\": {a}, \"l\": {b}}}")),
            1 => (inner.clone(), inner.clone(), statement.clone())
                .prop_map(|(a, b, s)| format!("[{a} | some z in {b}; {s}]")),
            1 => (inner.clone(), inner.clone(), statement)
                .prop_map(|(a, b, s)| format!("{{{a} | some z in {b}; {s}}}")),
            1 => (inner.clone(), inner).prop_map(|(a, b)| format!("{{w: {a} | some w, z in {b}}}")),
        ]
    })
}

fn statement_of(term: BoxedStrategy<String>) -> BoxedStrategy<String> {
    let operator = prop::sample::select(vec!["==", "!=", "<", ">=", "in"]);
    prop_oneof![
        3 => (term.clone(), operator.clone(), term.clone()).prop_map(|(a, o, b)| format!("{a} {o} {b}")),
        2 => (term.clone(), operator, term.clone()).prop_map(|(a, o, b)| format!("not {a} {o} {b}")),
        2 => term.clone().prop_map(|a| format!("x := {a}")),
        1 => term.clone().prop_map(|a| format!("y := {a}")),
        1 => term.clone().prop_map(|a| format!("some x in {a}")),
        1 => (term.clone(), term.clone()).prop_map(|(a, b)| format!("every v in {a} {{ v != {b} }}")),
        1 => term.clone(),
        1 => term.clone().prop_map(|a| format!("not {a}")),
        1 => term.clone().prop_map(|a| format!("is_number({a})")),
        1 => (term.clone(), term.clone()).prop_map(|(a, b)| format!("startswith({a}, {b})")),
        1 => (term.clone(), term).prop_map(|(a, b)| format!("not startswith({a}, {b})")),
    ]
    .boxed()
}

fn body() -> impl Strategy<Value = String> {
    prop::collection::vec(statement_of(term().boxed()), 1..5).prop_map(|lines| lines.join("\n\t"))
}

prop_compose! {
    fn policy()(allow in body(), deny in body(), second in body(), names in body(), function in body()) -> String {
        format!(
            "allow if {{\n\t{allow}\n}}\n\n\
             deny contains {{\"reason\": \"a\", \"message\": \"m\"}} if {{\n\t{deny}\n}}\n\n\
             deny contains {{\"reason\": \"b\", \"message\": \"m\"}} if {{\n\t{second}\n}}\n\n\
             names contains x if {{\n\tx := input.tool.id\n\t{names}\n}}\n\n\
             f(p) if {{\n\tp != 0\n\t{function}\n}}\n\n\
             helper := \"x\" if input.call.arguments.a == 1\n\ntotal := 3\n"
        )
    }
}

/// Only one rule of random statements at a time, so that more of them pass the checks.
fn single() -> impl Strategy<Value = String> {
    (body(), prop::sample::select(vec![
        "allow",
        "deny contains {\"reason\": \"a\", \"message\": \"m\"}",
        "approve contains {\"reason\": \"a\", \"approvers\": [\"ada\"]}",
    ]))
    .prop_map(|(body, head)| {
        format!(
            "{head} if {{\n\t{body}\n}}\n\ndeny contains {{\"reason\": \"c\", \"message\": \"m\"}} if {{\n\tsome x in input.call.arguments.list\n\tx == 3\n}}\n\n\
             names contains x if some x in input.call.arguments.list\n\nf(p) if p != 1\n\n\
             helper := \"x\" if input.call.arguments.a == 1\n\ntotal := 3\n"
        )
    })
}

fn cases() -> u32 {
    std::env::var("OUTRIDER_DIFFERENTIAL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_policy_that_passes_the_checks_is_answered_as_the_interpreter_answers(rules in policy()) {
        compare(&rules, &inputs())?;
    }

    #[test]
    fn a_rule_that_passes_the_checks_is_answered_as_the_interpreter_answers(rules in single()) {
        compare(&rules, &inputs())?;
    }
}
