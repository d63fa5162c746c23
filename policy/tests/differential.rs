//! The VM against the engine's interpreter, which keeps to Rego where the VM does not: whatever the checks let through,
//! both must answer alike.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::generate::{inputs, policy, single};
use common::{bounds, source};
use outrider_policy::{ENTRY, Input, Policy, Value, library};
use proptest::prelude::*;

/// The interpreter's answer to the user's unmended rules.
fn interpreted(rules: &str, input: Value, data: Value) -> Option<String> {
    let mut engine = regorus::Engine::new();
    for file in library() {
        if !(file.name.ends_with("allow.rego") && rules.contains("default allow")) {
            engine.add_policy(file.name, file.text).unwrap();
        }
    }
    engine
        .add_policy("user.rego".to_owned(), rules.to_owned())
        .unwrap();
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
        if matches!(answer.result(), Value::Undefined) {
            prop_assert!(
                !expected.contains("\"allow\":true"),
                "{}\n{:?}",
                text,
                answer.reasons
            );
        } else {
            prop_assert_eq!(answer.result().to_string(), expected, "{}", text);
        }
    }
    Ok(true)
}

fn cases() -> u32 {
    std::env::var("OUTRIDER_DIFFERENTIAL_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(300)
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
