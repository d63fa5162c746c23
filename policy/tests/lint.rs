//! What users may write, and what is refused at load with what to write instead.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::accepted::ACCEPTED;
use common::{asked, bounds, code, data, source, try_rules, with_rules};
use outrider_policy::{Level, Policy, Problem, Source};
use serde_json::json;

#[test]
fn what_people_write_is_accepted() {
    for rules in ACCEPTED {
        let data = common::data_from(json!({"facts": {"open_tools": ["tickets/read"]}}));
        let text = format!("package outrider.authz\n\n{rules}\n");
        let policy = Policy::compile(&source(&text), &data, bounds())
            .unwrap_or_else(|problems| panic!("{rules}\n{problems:#?}"));
        let answer = asked("tickets/read").decide(&policy);
        assert_ne!(code(&answer), "policy_error", "{rules}\n{answer:#?}");
    }
}

/// Rules that are refused, with a part of the message.
const REFUSED: &[(&str, &str)] = &[
    // Recursion, which takes the stack of the engine.
    ("x if y\n\ny if x\n\nallow if x", "needs itself"),
    ("x if not x\n\nallow if x", "needs itself"),
    ("f(a) := f(a)\n\nallow if f(1)", "needs itself"),
    (
        "f(a) := g(a)\n\ng(a) := f(a)\n\nallow if f(1)",
        "needs itself",
    ),
    ("x if data.outrider.authz.x", "needs itself"),
    ("x if { every a in [1] { x } }", "needs itself"),
    ("x := [a | some a in x]", "needs itself"),
    (
        "allow if count([x | x := 1; x == input.call.port]) > 0",
        "begins with",
    ),
    (
        "allow if count({1 | input.tool.read_only; some x in input.call.arguments.list; x == 1}) > 0",
        "begins with",
    ),
    // Several values, of which the VM would take the last.
    (
        "level := 1 if input.tool.read_only\n\nlevel := 2 if input.tool.destructive",
        "two values",
    ),
    ("f(a) := 1 if a > 0\n\nf(a) := 2 if a > 1", "two values"),
    ("f(a) := a\n\nf(a) := 2", "two values"),
    ("level := x if some x in input.agent.roles", "each step"),
    ("level := input.actors[_].id", "each step"),
    ("level := input.actors[i].id if i > 0", "each step"),
    (
        "level := x if { some i; x := input.actors[i].id }",
        "each step",
    ),
    ("f(a) := x if some x in a", "each step"),
    (
        "x := {a.k: a.v | some a in input.call.arguments.list}",
        "same key",
    ),
    (
        "x := {k: v | some k, v in input.call.arguments; some v in [1, 2]}",
        "same key",
    ),
    // Default functions and other defaults.
    ("default f(_) := true", "default functions"),
    ("default allow := true", "default false"),
    (
        "default allow := false\n\ndefault allow := false",
        "default already",
    ),
    ("default x := input.tool.id", "literal"),
    // Heads that the VM flattens or does not know.
    ("deny[a] contains b if { a := 1; b := 2 }", "plain word"),
    (
        "m[k] := v if some k, v in input.call.arguments",
        "plain word",
    ),
    ("a.b := 1", "plain word"),
    ("deny := {\"reason\": \"x\"}", "is a set"),
    ("allow contains 1 if true", "allow if"),
    ("allow(x) if x", "allow if"),
    ("allow := \"yes\"", "true or false"),
    ("allow := input.tool.id", "true or false"),
    // Reasons.
    ("deny contains \"x\" if true", "objects"),
    (
        "deny contains {\"message\": \"m\"} if true",
        "needs a \"reason\"",
    ),
    (
        "deny contains {\"reason\": input.tool.id, \"message\": \"m\"} if true",
        "a reason is a literal",
    ),
    (
        "deny contains {\"reason\": \"After hours\", \"message\": \"m\"} if true",
        "a reason is a literal",
    ),
    (
        "deny contains {\"reason\": \"x\"} if true",
        "needs \"message\"",
    ),
    (
        "deny contains {\"reason\": \"x\", \"message\": \"m\", \"code\": 1} if true",
        "knows",
    ),
    (
        "approve contains {\"reason\": \"x\"} if true",
        "needs \"approvers\"",
    ),
    ("redact contains \"arguments\" if true", "JSON Pointer"),
    // Undefined taken for an answer.
    (
        "allow if not startswith(input.call.arguments.missing, \"a\")",
        "bind it first",
    ),
    (
        "f(a) if a == 1\n\nallow if not f(input.call.arguments.missing)",
        "bind it first",
    ),
    (
        "f(_) := true\n\nallow if f(input.call.arguments.missing)",
        "bind it first",
    ),
    (
        "allow if not input.call.arguments.missing == 1",
        "bind it first",
    ),
    (
        "allow if not input.call.arguments.missing in [1]",
        "bind it first",
    ),
    (
        "allow if not startswith(lower(input.call.arguments.x), \"a\")",
        "bind it first",
    ),
    (
        "x := 1 if input.tool.read_only\n\nallow if not x == 2",
        "bind it first",
    ),
    ("allow if not input.actors[0].id == \"a\"", "bind it first"),
    (
        "allow if not data.outrider.facts.x[input.call.arguments.y]",
        "bind it first",
    ),
    (
        "allow if count({k: input.call.arguments.x | some k, _ in input.call.arguments}) == 0",
        "bind it first",
    ),
    ("allow if x := input.call.arguments.x", "only binds"),
    // Errors that an iteration would swallow.
    (
        "deny contains {\"reason\": \"x\", \"message\": \"m\"} if { some x in input.call.arguments.list; x + 0 > 1 }",
        "number",
    ),
    (
        "allow if count([1 | some x in input.call.arguments.list; -x > 1]) > 0",
        "number",
    ),
    (
        "allow if count({x | some y in input.call.arguments.list; x := y * 2}) > 0",
        "number",
    ),
    (
        "allow if { every x in input.call.arguments.list { x % 2 == 0 } }",
        "number",
    ),
    // Documents.
    ("allow if count(data.outrider.authz) > 1", "is no rule"),
    ("allow if data.outrider.authz[input.tool.id]", "is no rule"),
    ("allow if data.outrider[input.tool.id]", "not there"),
    ("allow if data[input.tool.id]", "not there"),
    ("allow if data.outrider.decision.allow", "not there"),
    ("allow if data.outrider.index.grants", "not there"),
    ("allow if data.system.x", "not there"),
    (
        "import data.outrider.authz as a\n\nallow if a[input.tool.id]",
        "is no rule",
    ),
    ("import data.system", "not served"),
    ("import future.keywords.not", "not served"),
    // Input.
    ("allow if input", "as a whole"),
    ("allow if input.user == \"admin\"", "cannot exist"),
    ("allow if input.call.argumentz.x", "cannot exist"),
    ("allow if input[input.tool.id]", "cannot exist"),
    ("allow if input.call[input.tool.id]", "cannot exist"),
    ("allow if input.internal.covered", "cannot exist"),
    ("allow if input.tool.id.x", "cannot exist"),
    // Functions.
    (
        "allow if http.send({\"url\": \"http://x\"})",
        "cannot reach the network",
    ),
    (
        "allow if { walk(input.call.arguments, x); x }",
        "name the members",
    ),
    ("allow if time.now_ns() > 0", "input.call.time_ns"),
    ("allow if print(input.tool.id)", "opa test"),
    ("allow if rand.intn(\"x\", 2) == 1", "chance"),
    ("allow if net.cidr_expand(\"10.0.0.0/8\")", "cidr_contains"),
    (
        "allow if count(numbers.range(1, input.call.arguments.n)) > 0",
        "numbers.range",
    ),
    (
        "allow if count(numbers.range(1, 5000000)) > 0",
        "numbers.range",
    ),
    ("allow if io.jwt.decode(\"x\")", "verified before"),
    ("allow if no.such(1)", "no function"),
    ("allow if startswith(\"a\")", "takes 2 arguments"),
    ("f(a, b) if a == b\n\nallow if f(1)", "takes 2 arguments"),
    ("f(a) if a\n\nf(a, b) if a == b", "two ways"),
    ("x if true\n\nallow if x(1)", "no function"),
    ("f(a) if a == 1\n\nallow if f", "call it"),
    (
        "allow if replace(input.tool.id, input.call.arguments.a, input.call.arguments.b) == \"x\"",
        "take too long",
    ),
    ("allow if sprintf(\"%999999999d\", [1]) == \"x\"", "widths"),
    (
        "allow if regex.match(input.call.arguments.p, \"x\")",
        "literal",
    ),
    (
        "allow if regex.match(`^\\w+$`, input.tool.operation)",
        "does not mean the same",
    ),
    (
        "allow if regex.match(\"^\\\\d+$\", input.tool.operation)",
        "does not mean the same",
    ),
    (
        "allow if regex.match(\"a(\", input.tool.operation)",
        "no regular expression",
    ),
    // What is for tests, and old spellings.
    (
        "allow if input.tool.read_only with input.tool as {}",
        "`with`",
    ),
    ("allow if input.tool.id = \"x\"", "`==` to compare"),
    ("x = 1\n\nallow if x == 1", "`:=`"),
    ("allow { true }", "if"),
    // Hidden names.
    ("y if true\n\nx if { y := 1; y == 1 }", "rename"),
    ("f(deny) if deny == 1", "rename"),
    (
        "import data.outrider.facts\n\nx if { some facts in [1]; facts == 1 }",
        "rename",
    ),
];

#[test]
fn what_the_engine_would_answer_otherwise_is_refused_with_what_to_write_instead() {
    for (rules, part) in REFUSED {
        let Err(problems) = try_rules(rules) else {
            panic!("accepted:\n{rules}")
        };
        assert!(
            problems
                .iter()
                .any(|problem| problem.message.contains(part)),
            "{rules}\nexpected `{part}`\n{problems:#?}"
        );
        assert!(
            problems.iter().all(|problem| problem.file == "user.rego"
                && problem.line > 0
                && problem.column > 0),
            "{problems:#?}"
        );
    }
}

#[test]
fn every_problem_is_reported_with_its_place() {
    let problems = try_rules("allow if input.nope\n\ndeny contains {\"reason\": \"x\", \"message\": \"m\"} if http.send({})").unwrap_err();
    let places: Vec<_> = problems
        .iter()
        .map(|problem| (problem.line, problem.column))
        .collect();
    assert_eq!(places, [(3, 10), (5, 50)], "{problems:#?}");
    assert!(problems[0].to_string().starts_with("user.rego:3:10: "));
}

#[test]
fn a_syntax_error_has_its_line() {
    let problems = try_rules("allow if {\n\tinput.tool.id ==\n}").unwrap_err();
    assert_eq!((problems.len(), problems[0].line), (1, 5), "{problems:#?}");
}

fn files(texts: &[(&str, &str)]) -> Result<Policy, Vec<Problem>> {
    let sources: Vec<_> = texts
        .iter()
        .map(|(name, text)| Source {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
        })
        .collect();
    Policy::compile(&sources, &data(), bounds())
}

#[test]
fn helper_packages_below_ours_work_and_others_are_refused() {
    let policy = files(&[
        ("a.rego", "package outrider.authz\n\nimport data.outrider.authz.lib\n\nallow if lib.is_read(input.tool.operation)"),
        ("b.rego", "package outrider.authz.lib\n\nis_read(operation) if startswith(operation, \"read\")"),
    ])
    .unwrap();
    assert_eq!(code(&asked("tickets/read").decide(&policy)), "ok");
    for package in [
        "outrider",
        "authz",
        "outrider.authzx",
        "outrider.facts",
        "system.log",
    ] {
        let text = format!("package {package}\n\nx := 1");
        assert!(
            files(&[("a.rego", &text)]).unwrap_err()[0]
                .message
                .contains("package outrider.authz")
        );
    }
    let shadowed = files(&[
        ("a.rego", "package outrider.authz\n\nlib := 1"),
        ("b.rego", "package outrider.authz.lib\n\nx := 1"),
    ]);
    assert!(
        shadowed.unwrap_err()[0]
            .message
            .contains("has the name of rule")
    );
}

#[test]
fn a_second_value_in_another_file_is_found() {
    let problems = files(&[
        ("a.rego", "package outrider.authz\n\nlevel := 1"),
        ("b.rego", "package outrider.authz\n\nlevel := 2"),
    ]);
    assert!(problems.unwrap_err()[0].message.contains("two values"));
}

#[test]
fn what_would_take_the_parsers_time_or_stack_is_refused_before_it_parses() {
    for text in [
        format!("x := {}{}", "[".repeat(40), "]".repeat(40)),
        format!("x := {}1{}", "(".repeat(5000), ")".repeat(5000)),
        format!("x := 1{}", " + 1".repeat(20_000)),
        format!("x := 1{}", "\n+ 1".repeat(20_000)),
        format!("x := input{}", ".a".repeat(20_000)),
        format!("x := input{}", "[0]".repeat(20_000)),
        format!("x if {} true", "not ".repeat(20_000)),
        format!("x := {}1", "-".repeat(20_000)),
        "x".repeat(300 * 1024),
    ] {
        assert!(try_rules(&text).is_err());
    }
}

#[test]
fn a_long_chain_of_rules_is_refused_and_a_short_one_runs() {
    let chain = |length: usize| {
        use std::fmt::Write as _;
        let mut text = "x0 if true\n".to_owned();
        for index in 1..length {
            writeln!(text, "x{index} if x{}", index - 1).unwrap();
        }
        format!("{text}\nallow if x{}", length - 1)
    };
    assert!(
        try_rules(&chain(3000)).unwrap_err()[0]
            .message
            .contains("chain")
    );
    assert_eq!(
        code(&asked("crm/lookup").decide(&with_rules(&chain(20)))),
        "ok"
    );
}

/// Policies that real OPA answers with undefined or an error: nothing may be allowed.
#[test]
fn what_is_accepted_answers_as_rego_does_where_a_field_is_missing() {
    for rules in [
        "allow if { x := input.call.arguments.missing; not startswith(x, \"a\") }",
        "allow if { x := input.call.arguments.missing; not x == 1 }",
        "allow if {\n\tx := input.call.arguments.missing\n\tnot x in [1]\n}",
        "allow if { x := input.call.arguments.missing }",
        "f(_) := true\n\nallow if { x := input.call.arguments.missing; f(x) }",
        "allow if count([line.x | some line in input.call.arguments.lines]) > 0",
        "allow if count([x | some line in input.call.arguments.lines; x := line.x]) > 0",
        "allow if { x := {\"a\": input.call.arguments.missing}; not x.b }",
        "allow if { every x in input.call.arguments.missing { x == 1 } }",
        "allow if { every x in input.call.arguments.text { x == 1 } }",
        "allow if { x := lower(input.call.arguments.number); not startswith(x, \"a\") }",
        "allow if { x := input.call.arguments.text + 1; not x == 2 }",
        "allow if input.call.arguments.missing <= 100",
        "allow if not deny",
    ] {
        let mut data = common::documents();
        data["grants"] = json!([]);
        let policy = with_rules(rules).with_data(&common::data_from(data));
        let call =
            asked("tickets/read").arguments(json!({"text": "x", "number": 5, "lines": [{}, {}]}));
        assert_eq!(code(&call.decide(&policy)), "policy_denied", "{rules}");
    }
}

#[test]
fn an_element_of_the_wrong_type_does_not_silence_a_deny_about_the_others() {
    for rules in [
        "deny contains {\"reason\": \"x\", \"message\": \"m\"} if {\n\tsome x in input.call.arguments.list\n\tis_number(x)\n\tx + 0 > 1000\n}",
        "deny contains {\"reason\": \"x\", \"message\": \"m\"} if {\n\tsome x in input.call.arguments.list\n\tx > 1000\n\tis_number(x)\n}",
        "deny contains {\"reason\": \"x\", \"message\": \"m\"} if {\n\tsome x in input.call.arguments.list\n\tendswith(lower(x), \"z\")\n}",
        "deny contains {\"reason\": \"x\", \"message\": \"m\"} if count([x | some x in input.call.arguments.list; contains(x, \"z\")]) > 0",
    ] {
        let policy = with_rules(rules);
        for list in [
            json!(["a", 5000, "Zz"]),
            json!([5000, null, "z"]),
            json!([{}, [], "zz", 2000]),
        ] {
            let call = asked("tickets/read").arguments(json!({ "list": list }));
            assert_eq!(
                code(&call.decide(&policy)),
                "policy_denied",
                "{rules} {list}"
            );
        }
    }
}

#[test]
fn free_data_cannot_shadow_a_rule() {
    let facts =
        json!({"facts": {"authz": {"allow": true}, "allow": true, "decision": {"allow": true}}});
    let policy = Policy::compile(&[], &common::data_from(facts), bounds()).unwrap();
    assert_eq!(
        code(&asked("tickets/read").decide(&policy)),
        "agent_unknown"
    );
}

#[test]
fn a_deny_stands_against_an_exception_an_allow_and_a_grant() {
    let rules = "allow if true\n\ndeny contains {\"reason\": \"x\", \"message\": \"m\"} if input.content.classification == \"internal\"";
    let policy = with_rules(rules);
    for tool in common::TOOLS {
        assert_ne!(code(&asked(tool).decide(&policy)), "ok");
    }
    assert_eq!(
        code(&asked("tickets/read").level(Level::Public).decide(&policy)),
        "ok"
    );
}

/// The VM loads `input` where a body first names it, were that a place that is never reached.
#[test]
fn an_empty_iteration_does_not_hide_the_input_from_the_rest_of_a_rule() {
    for condition in [
        "every z in data.outrider.facts.blocked { input.tool.id != z }\n\tinput.tool.service == \"tickets\"",
        "count({1 | some z in data.outrider.facts.blocked; z == input.tool.id}) == 0; input.tool.service == \"tickets\"",
        "{1 | some z in []; input.tool.id == z} != {\"l\": input.tool.id}",
        "none == set()",
        "no_tool == \"tickets/read\"",
        "way == \"tickets/read\"",
    ] {
        let rules = format!(
            "none := {{z | some z in []; z == input.tool.id; data.outrider.facts.blocked}}\n\n\
             no_tool := input.tool.id if every z in [] {{ z == input.tool.id }}\n\n\
             way := \"x\" if {{\n\tevery z in [] {{ input.tool.id == z }}\n\tinput.tool.id == \"b\"\n}} else := input.tool.id if every z in [] {{ input.tool.id == z }}\n\n\
             deny contains {{\"reason\": \"x\", \"message\": \"m\"}} if {{\n\t{condition}\n}}"
        );
        let policy = with_rules(&rules).with_data(&common::data_from({
            let mut data = common::documents();
            data["facts"] = json!({"blocked": []});
            data
        }));
        assert_eq!(
            code(&asked("tickets/read").decide(&policy)),
            "policy_denied",
            "{rules}"
        );
    }
}
