//! Random rules, and calls to ask them about.
#![allow(missing_docs, unreachable_pub, dead_code)]

use outrider_policy::Input;
use proptest::prelude::*;
use serde_json::json;

use super::asked;

pub fn inputs() -> Vec<Input> {
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
        "1",
        "2",
        "5000",
        "\"x\"",
        "\"text\"",
        "x",
        "y",
        "z",
        "helper",
        "names",
        "total",
        "true",
        "input.call.arguments.a",
        "input.call.arguments.b",
        "input.call.arguments.list",
        "input.call.arguments.o.k",
        "input.call.arguments.missing",
        "input.tool.id",
        "input.call.port",
        "x.a",
        "input.call.arguments.list[0]",
        "data.outrider.facts.none",
        "input.call.arguments.list[_]",
        "input.call.arguments.list[i]",
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
    pub fn policy()(allow in body(), deny in body(), second in body(), names in body(), function in body()) -> String {
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
pub fn single() -> impl Strategy<Value = String> {
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
