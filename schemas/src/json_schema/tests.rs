use serde_json::json;

use super::*;

mod dialects;

fn compiled(document: &serde_json::Value) -> Schema {
    Schema::compile(document).unwrap()
}

fn value(text: &str) -> Value {
    crate::json::parse(text.as_bytes()).unwrap()
}

fn refused(document: &serde_json::Value) -> BadSchema {
    Schema::compile(document).unwrap_err()
}

#[test]
fn a_schema_decides() {
    let schema = compiled(&json!({
        "type": "object",
        "properties": { "id": { "type": "integer", "minimum": 1 } },
        "required": ["id"],
        "additionalProperties": false
    }));
    assert!(schema.is_valid(&value(r#"{"id":1}"#)));
    assert!(schema.is_valid(&value(r#"{"id":1.0}"#)));
    for bad in [
        r#"{"id":0}"#,
        r#"{"id":1.5}"#,
        r#"{"id":"1"}"#,
        "{}",
        r#"{"id":1,"x":1}"#,
        "[]",
    ] {
        assert!(!schema.is_valid(&value(bad)), "{bad}");
    }
}

#[test]
fn numbers_compare_as_numbers() {
    let max = compiled(&json!({ "const": u64::MAX }));
    assert!(max.is_valid(&value("18446744073709551615")));
    assert!(!max.is_valid(&value("18446744073709551616")));
    assert!(!max.is_valid(&value("18446744073709551614")));
    let below = compiled(&json!({ "maximum": u64::MAX }));
    assert!(below.is_valid(&value("18446744073709551615")));
    assert!(!below.is_valid(&value("18446744073709551616")));
    assert!(compiled(&json!({ "const": 1 })).is_valid(&value("1.0")));
    assert!(compiled(&json!({ "enum": [{ "a": [1.0] }] })).is_valid(&value(r#"{"a":[1]}"#)));
    assert!(!compiled(&json!({ "uniqueItems": true })).is_valid(&value(r#"[{"a":1},{"a":1.0}]"#)));
    assert!(compiled(&json!({ "uniqueItems": true })).is_valid(&value("[1,true,\"1\",[1]]")));
    assert!(compiled(&json!({ "multipleOf": 0.01 })).is_valid(&value("19.99")));
    assert!(compiled(&json!({ "type": "integer" })).is_valid(&value("1e300")));
    assert!(!compiled(&json!({ "exclusiveMinimum": 0 })).is_valid(&value("-0.0")));
}

#[test]
fn format_is_an_annotation() {
    assert!(compiled(&json!({ "format": "ipv4" })).is_valid(&value("\"no address\"")));
}

#[test]
fn another_dialect_is_refused_by_name_wherever_it_stands() {
    for dialect in [
        "http://json-schema.org/draft-04/schema#",
        "http://json-schema.org/draft-06/schema#",
        "https://json-schema.org/draft-07/schema#",
        "http://json-schema.org/draft-07/schema##",
        "https://json-schema.org/draft/next/schema",
        "https://example.org/mine",
    ] {
        for document in [
            json!({ "$schema": dialect }),
            json!({ "properties": { "a": { "$id": "https://e.org/a", "$schema": dialect } } }),
            json!({ "$defs": { "a": { "$schema": dialect } } }),
            json!({ "x-own": { "deep": [{ "$schema": dialect }] } }),
            json!({ "enum": [{ "$schema": dialect }], "$ref": "#/enum/0" }),
        ] {
            let error = refused(&document);
            assert!(matches!(error, BadSchema::Dialect { .. }), "{error:?}");
            assert!(error.to_string().contains(dialect));
        }
    }
    for dialect in [Dialect::Draft7, Dialect::Draft201909, Dialect::Draft202012] {
        compiled(&json!({ "$schema": dialect.uri() }));
        compiled(&json!({ "$schema": format!("{}#", dialect.uri()) }));
    }
}

#[test]
fn a_property_may_be_named_like_a_keyword() {
    compiled(&json!({
        "properties": {
            "$schema": { "type": "string" }, "$ref": { "type": "string" },
            "$id": { "type": "string" }, "enum": { "type": "string" }, "pattern": { "type": "string" }
        },
        "dependentRequired": { "$schema": ["$id"] },
        "examples": [{ "$ref": "https://example.org/x" }]
    }));
}

#[test]
fn a_reference_that_leaves_the_document_is_refused_by_name() {
    for reference in [
        "https://example.org/other.json",
        "http://127.0.0.1:1/x",
        "file:///etc/hostname",
        "other.json",
        "urn:example:x",
        "http://json-schema.org/draft-07/schema#",
    ] {
        for document in [
            json!({ "$ref": reference }),
            json!({ "properties": { "a": { "items": { "$ref": reference } } } }),
            json!({ "$defs": { "never": { "$dynamicRef": reference } } }),
            json!({ "x-own": { "$ref": reference }, "$ref": "#/x-own" }),
        ] {
            let error = refused(&document);
            assert!(
                matches!(error, BadSchema::Remote { .. }),
                "{document} {error:?}"
            );
        }
    }
    assert!(
        refused(&json!({ "$ref": "https://example.org/x" }))
            .to_string()
            .contains("example.org/x")
    );
}

#[test]
fn references_within_the_document_resolve() {
    let documents = [
        json!({ "$ref": "#/$defs/a", "$defs": { "a": { "type": "string" } } }),
        json!({ "$ref": "#a", "$defs": { "x": { "$anchor": "a", "type": "string" } } }),
        json!({ "$id": "https://e.org/root", "$ref": "part",
                "$defs": { "x": { "$id": "part", "type": "string" } } }),
        json!({ "$dynamicRef": "#n", "$defs": { "x": { "$dynamicAnchor": "n", "type": "string" } } }),
    ];
    for document in documents {
        let schema = compiled(&document);
        assert!(schema.is_valid(&value("\"x\"")), "{document}");
        assert!(!schema.is_valid(&value("1")), "{document}");
    }
    assert!(matches!(
        refused(&json!({ "$ref": "#/nowhere" })),
        BadSchema::Unresolved { .. }
    ));
}

#[test]
fn a_document_may_not_take_the_name_of_the_dialect() {
    let document = json!({ "$defs": { "a": { "$id": Dialect::Draft202012.uri(), "not": {} } } });
    assert!(matches!(refused(&document), BadSchema::ReservedId { .. }));
}

#[test]
fn patterns_run_in_linear_time_or_not_at_all() {
    for pattern in [
        "(?=a)b",
        "(?!a)b",
        "(?<=a)b",
        r"(a)\1",
        "((a{1,100}){1,100}){1,100}",
        "(",
    ] {
        for document in [
            json!({ "properties": { "a": { "pattern": pattern } } }),
            json!({ "patternProperties": { pattern: true } }),
        ] {
            let error = refused(&document);
            assert!(
                matches!(error, BadSchema::Pattern { .. }),
                "{pattern} {error:?}"
            );
        }
    }
    let schema = compiled(&json!({ "pattern": "^(a+)+$" }));
    assert!(!schema.is_valid(&value(&format!("\"{}b\"", "a".repeat(5_000)))));
}

#[test]
fn a_digit_is_an_ascii_digit() {
    let schema = compiled(&json!({ "pattern": "^\\d+$" }));
    assert!(schema.is_valid(&value("\"12\"")));
    assert!(!schema.is_valid(&value("\"١٢\"")));
    assert!(!compiled(&json!({ "pattern": "^\\w+$" })).is_valid(&value("\"жук\"")));
    assert!(!compiled(&json!({ "pattern": "^a$" })).is_valid(&value("\"a\\n\"")));
}

#[test]
fn size_depth_and_number_are_capped() {
    let long = "x".repeat(MAX_BYTES);
    assert_eq!(
        refused(&json!({ "description": long })),
        BadSchema::TooLarge
    );
    let many: Vec<_> = (0..=MAX_SUBSCHEMAS).map(|_| json!({})).collect();
    assert_eq!(refused(&json!({ "anyOf": many })), BadSchema::TooMany);
    let deep = (0..100).fold(json!({}), |inner, _| json!({ "not": inner }));
    assert_eq!(refused(&deep), BadSchema::TooDeep);
    let patterns: serde_json::Map<_, _> = (0..=MAX_PATTERNS)
        .map(|n| (format!("^{n}$"), json!(true)))
        .collect();
    assert_eq!(
        refused(&json!({ "patternProperties": patterns })),
        BadSchema::Patterns
    );
    assert_eq!(
        refused(&json!({ "pattern": "a".repeat(2_000) })),
        BadSchema::Patterns
    );
}

#[test]
fn definitions_that_double_are_refused_before_they_are_compiled() {
    let chain = |name: fn(usize) -> String, key: fn(usize) -> serde_json::Value| {
        let defs: serde_json::Map<_, _> = (0..40)
            .map(|n| {
                let next = json!({ "$ref": name(n + 1) });
                let mut def = key(n);
                def["allOf"] = json!([next, next]);
                (format!("d{n}"), def)
            })
            .chain([("d40".to_owned(), key(40))])
            .collect();
        json!({ "$ref": name(0), "$defs": defs })
    };
    let by_pointer = chain(|n| format!("#/$defs/d{n}"), |_| json!({}));
    let by_encoded_pointer = chain(|n| format!("#/%24defs/d{n}"), |_| json!({}));
    let by_anchor = chain(
        |n| format!("#a{n}"),
        |n| json!({ "$anchor": format!("a{n}") }),
    );
    assert_eq!(refused(&by_pointer), BadSchema::TooMany);
    assert_eq!(refused(&by_anchor), BadSchema::TooMany);
    assert_eq!(refused(&by_encoded_pointer), BadSchema::TooMany);
    // an index is one however it is written
    let twice = |n: usize| json!({ "allOf": [{ "$ref": format!("#/x/0{n}") }, { "$ref": format!("#/x/0{n}") }] });
    let list: Vec<_> = (1..40).map(twice).chain([json!({})]).collect();
    assert_eq!(
        refused(&json!({ "$ref": "#/x/00", "x": list })),
        BadSchema::TooMany
    );
    // in data with a name of its own, pointers are not those of the document
    let list: Vec<_> = (1..40).map(|n| json!({ "allOf": [{ "$ref": format!("#/x/{n}") }, { "$ref": format!("#/x/{n}") }] })).collect();
    let data = json!({ "$id": "https://e.org/x", "$ref": "#/x/0", "x": list });
    assert_eq!(
        refused(&json!({ "$ref": "#/enum/0", "enum": [data] })),
        BadSchema::TooMany
    );
}

#[test]
fn a_long_chain_of_references_is_refused_and_does_not_exhaust_the_stack() {
    let defs: serde_json::Map<_, _> = (0..5_000)
        .map(|n| {
            (
                format!("d{n}"),
                json!({ "$ref": format!("#/$defs/d{}", n + 1) }),
            )
        })
        .chain([("d5000".to_owned(), json!({}))])
        .collect();
    assert_eq!(
        refused(&json!({ "$ref": "#/$defs/d0", "$defs": defs })),
        BadSchema::TooMany
    );
}

#[test]
fn what_is_no_schema_is_refused() {
    for document in [
        json!({ "type": "strin" }),
        json!({ "items": [{}] }),
        json!(1),
        json!([]),
    ] {
        assert!(
            matches!(refused(&document), BadSchema::Invalid { .. }),
            "{document}"
        );
    }
}

#[test]
fn violations_tell_the_place_and_not_the_value() {
    let schema = compiled(&json!({
        "type": "object",
        "properties": {
            "a/b": { "type": "array", "items": { "type": "string", "maxLength": 3 } },
            "level": { "enum": ["low", "high"] },
            "n": { "maximum": 9 }
        },
        "required": ["id"],
        "additionalProperties": false
    }));
    let arguments = r#"{"a/b":["x","hunter2"],"level":"hunter2","n":12345,"ssn":"hunter2"}"#;
    let mut found: Vec<_> = schema
        .violations(&value(arguments), 8)
        .into_iter()
        .map(|v| (v.pointer, v.message))
        .collect();
    found.sort();
    let expected = [
        ("/a~1b/1", "must have at most 3 characters"),
        ("/id", "is required"),
        ("/level", "must be one of the values the schema lists"),
        ("/n", "must be at most 9"),
        ("/ssn", "is a property that the schema does not define"),
    ];
    assert_eq!(found, expected.map(|(p, m)| (p.to_owned(), m.to_owned())));
}

#[test]
fn violations_are_few_and_empty_only_for_what_is_valid() {
    let schema = compiled(&json!({ "items": { "type": "string" }, "maxItems": 100 }));
    let many = value(&format!("[{}1]", "1,".repeat(90)));
    assert_eq!(schema.violations(&many, 3).len(), 3);
    assert_eq!(schema.violations(&many, 1_000).len(), MOST_VIOLATIONS);
    assert_eq!(schema.violations(&many, 0).len(), 1);
    assert!(schema.violations(&value("[\"a\"]"), 8).is_empty());
}

#[test]
fn a_name_too_long_to_repeat_is_not_repeated() {
    let schema = compiled(&json!({ "additionalProperties": false }));
    let found = schema.violations(&value(&format!("{{\"{}\":1}}", "k".repeat(5_000))), 8);
    assert_eq!(found[0].pointer, "");
}

/// Schemas in which several ways lead from each level to the one below.
fn recursive() -> Vec<serde_json::Value> {
    let to = |below: &serde_json::Value, other: &str| json!({ "properties": { "a": below, (other): { "type": "string" } } });
    let two = |below: serde_json::Value| json!([to(&below, "b"), to(&below, "c")]);
    let root = || json!({ "$ref": "#" });
    let dynamic = || json!({ "$dynamicRef": "#n" });
    vec![
        json!({ "type": "object", "anyOf": two(root()) }),
        json!({ "type": "object", "oneOf": two(root()) }),
        json!({ "type": "object", "allOf": two(root()), "anyOf": two(root()) }),
        json!({ "type": "object", "anyOf": two(root()), "unevaluatedProperties": false }),
        json!({ "type": "object", "anyOf": two(root()), "unevaluatedProperties": root() }),
        json!({ "type": "object", "patternProperties": { "^a": root(), "a$": root() } }),
        json!({ "type": "object", "if": to(&root(), "b"), "then": to(&root(), "c"),
                "else": to(&root(), "d") }),
        json!({ "type": "object", "$dynamicAnchor": "n", "anyOf": two(dynamic()) }),
        json!({ "type": "object", "anyOf": two(json!({ "$ref": "#/$defs/m" })),
                "$defs": { "m": { "type": "object", "anyOf": two(root()) } } }),
    ]
}

#[test]
fn schemas_that_refer_to_themselves_do_not_take_exponential_time() {
    let deep = value(&format!("{}1{}", "{\"a\":".repeat(60), "}".repeat(60)));
    for document in recursive() {
        let schema = compiled(&document);
        assert!(!schema.is_valid(&deep), "{document}");
        assert_eq!(schema.violations(&deep, 8).len(), 1, "{document}");
    }
}

#[test]
fn a_schema_that_refers_to_itself_still_tells_which_argument_fails() {
    let schema = compiled(&json!({
        "type": "object",
        "properties": {
            "filter/by": { "$ref": "#/$defs/node" }, "limit": { "type": "integer" }, "ok": true
        },
        "required": ["limit", "order"],
        "$defs": { "node": { "anyOf": [
            { "type": "string" }, { "type": "array", "items": { "$ref": "#/$defs/node" } }
        ] } }
    }));
    assert!(schema.is_valid(&value(r#"{"filter/by":[["x"]],"limit":1,"order":1}"#)));
    let found = schema.violations(&value(r#"{"filter/by":[["x",1]],"limit":"1","ok":1}"#), 8);
    let pointers: Vec<_> = found.iter().map(|v| v.pointer.as_str()).collect();
    assert_eq!(pointers, ["/order", "/filter~1by", "/limit"]);
}

#[test]
fn what_a_document_says_is_shown_short_and_without_control_characters() {
    let long = format!("https://e.org/\u{1b}[2J{}", "x".repeat(1_000));
    for document in [json!({ "$ref": long }), json!({ "$schema": long })] {
        let text = refused(&document).to_string();
        assert!(text.len() < 400 && !text.contains('\u{1b}'), "{text:?}");
    }
}

#[test]
fn a_large_value_is_refused_with_one_sentence() {
    let schema = compiled(&json!({ "items": { "type": "string" } }));
    let large = value(&format!("[{}1]", "1,".repeat(200_000)));
    let found = schema.violations(&large, 8);
    assert_eq!((found.len(), found[0].pointer.as_str()), (1, ""));
}

#[test]
fn a_schema_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Schema>();
}

/// With the validator's default features a policy's `json.match_schema` could fetch what it names.
#[test]
fn nothing_in_the_tree_turns_on_fetching() {
    let output = std::process::Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--workspace",
            "-e",
            "normal,build,features",
            "--prefix",
            "none",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(
        tree.contains("jsonschema v"),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for feature in ["default", "resolve-http", "resolve-file", "resolve-async"] {
        let line = format!("jsonschema feature \"{feature}\"");
        assert!(!tree.contains(&line), "{line}");
    }
    assert!(!tree.contains("reqwest v"));
    assert!(!tree.contains("serde_json feature \"arbitrary_precision\""));
}

#[test]
fn a_large_schema_that_refers_to_itself_is_compiled_and_explained_as_a_whole() {
    let definition =
        |n: usize| json!({ "properties": { "a": { "$ref": "#" } }, "minProperties": n });
    let all: serde_json::Map<_, _> = (0..1_000)
        .map(|n| (format!("d{n}"), definition(n)))
        .collect();
    let any: Vec<_> = all
        .keys()
        .map(|name| json!({ "$ref": format!("#/$defs/{name}") }))
        .collect();
    let schema = compiled(&json!({ "type": "object", "anyOf": any, "$defs": all }));
    assert!(schema.is_valid(&value(r#"{"a":{"a":{}}}"#)));
    assert_eq!(schema.violations(&value(r#"{"a":{"a":1}}"#), 8).len(), 1);
}
