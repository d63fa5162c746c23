//! The tests of the library that are written in Rego, run on the engine's interpreter (the VM knows no `with`).
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use outrider_policy::library;
use regorus::{Engine, Value};

const TESTS: [(&str, &str); 1] = [("guards_test.rego", include_str!("../rego/guards_test.rego"))];

#[test]
fn the_tests_of_the_library_pass() {
    let mut engine = Engine::new();
    for file in library() {
        engine.add_policy(file.name, file.text).unwrap();
    }
    let mut names = Vec::new();
    for (file, text) in TESTS {
        engine.add_policy(file.to_owned(), text.to_owned()).unwrap();
        names.extend(
            text.lines()
                .filter(|line| line.starts_with("test_"))
                .map(|line| line.split_whitespace().next().unwrap().to_owned()),
        );
    }
    assert!(names.len() >= 14);
    let failed: Vec<_> = names
        .iter()
        .filter(|name| {
            let answer = engine.eval_rule(format!("data.outrider_test.{name}"));
            !matches!(answer, Ok(Value::Bool(true)))
        })
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}
