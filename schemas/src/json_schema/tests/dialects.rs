//! 2019-09 and draft-07: what is theirs, the same bounds, and documents of several dialects.

use serde_json::{Value as Document, json};

use super::{compiled, recursive, refused, value};
use crate::json_schema::{BadSchema, Dialect, MAX_BYTES, MAX_PATTERNS, MAX_SUBSCHEMAS};

const OLDER: [Dialect; 2] = [Dialect::Draft7, Dialect::Draft201909];

/// The document in that dialect.
fn of(dialect: Dialect, mut document: Document) -> Document {
    document["$schema"] = json!(dialect.uri());
    document
}

fn seven(document: Document) -> Document {
    of(Dialect::Draft7, document)
}

fn nineteen(document: Document) -> Document {
    of(Dialect::Draft201909, document)
}

/// Asserts which texts satisfy the document.
fn decides(document: &Document, valid: &[&str], invalid: &[&str]) {
    let schema = compiled(document);
    for text in valid {
        assert!(schema.is_valid(&value(text)), "{document} {text}");
    }
    for text in invalid {
        assert!(!schema.is_valid(&value(text)), "{document} {text}");
        assert!(!schema.violations(&value(text), 8).is_empty());
    }
}

#[test]
fn a_document_without_a_dialect_is_2020_12() {
    decides(
        &json!({ "prefixItems": [{ "type": "string" }] }),
        &[],
        &["[1]"],
    );
    for dialect in OLDER {
        let ignored = of(dialect, json!({ "prefixItems": [{ "type": "string" }] }));
        decides(&ignored, &["[1]"], &[]);
        let tuple = json!({ "items": [{ "type": "string" }], "additionalItems": false });
        decides(
            &of(dialect, tuple.clone()),
            &["[]", "[\"a\"]"],
            &["[1]", "[\"a\",1]"],
        );
        assert!(matches!(refused(&tuple), BadSchema::Invalid { .. }));
    }
}

#[test]
fn draft_07_has_its_own_keywords_and_not_those_that_came_later() {
    let dependencies = json!({ "dependencies": { "a": ["b"], "c": { "required": ["d"] } } });
    decides(
        &seven(dependencies),
        &["{}", r#"{"a":1,"b":1}"#, r#"{"c":1,"d":1}"#],
        &[r#"{"a":1}"#, r#"{"c":1}"#],
    );
    let later = json!({
        "dependentRequired": { "a": ["b"] }, "dependentSchemas": { "a": false },
        "unevaluatedProperties": false, "$dynamicRef": "#x", "$recursiveRef": "#",
        "minContains": 2, "contains": { "const": 1 }
    });
    decides(&seven(later), &[r#"{"a":1}"#, "[1]"], &["[2]"]);
}

#[test]
fn in_draft_07_a_reference_silences_what_stands_beside_it() {
    let document = json!({
        "type": "object",
        "properties": { "a": { "$ref": "#/definitions/a", "maximum": 3, "$id": "https://e.org/" } },
        "definitions": { "a": { "type": "integer" } }
    });
    decides(&seven(document.clone()), &[r#"{"a":9}"#], &[r#"{"a":"x"}"#]);
    let mut newer = document;
    newer["properties"]["a"]
        .as_object_mut()
        .unwrap()
        .remove("$id");
    decides(&nineteen(newer), &[r#"{"a":3}"#], &[r#"{"a":9}"#]);
}

#[test]
fn what_a_reference_silences_explains_nothing() {
    let document = seven(json!({
        "$ref": "#/definitions/a", "required": ["never"],
        "definitions": { "a": { "properties": { "b": { "$ref": "#/definitions/a" } }, "maxProperties": 1 } }
    }));
    let found = compiled(&document).violations(&value(r#"{"b":{"x":1,"y":2}}"#), 8);
    assert_eq!((found.len(), found[0].pointer.as_str()), (1, ""));
}

#[test]
fn in_draft_07_an_id_of_a_fragment_is_an_anchor() {
    let document = json!({
        "$ref": "#text", "definitions": { "x": { "$id": "#text", "type": "string" } }
    });
    decides(&seven(document), &["\"x\""], &["1"]);
    let named = json!({
        "$id": "https://e.org/root", "allOf": [{ "$ref": "part#text" }],
        "definitions": { "x": { "$id": "part", "definitions": { "y": { "$id": "#text", "type": "string" } } } }
    });
    decides(&seven(named), &["\"x\""], &["1"]);
}

#[test]
fn an_id_that_is_a_name_and_an_anchor_or_a_silenced_anchor_is_refused() {
    for part in [
        json!({ "$id": "https://e.org/a#b" }),
        json!({ "$id": "#b", "$ref": "#/definitions/other" }),
    ] {
        let error = refused(&seven(json!({ "definitions": { "x": part, "other": {} } })));
        assert!(matches!(error, BadSchema::AnchorId { .. }), "{error:?}");
    }
    compiled(&seven(json!({ "$id": "https://e.org/a#" })));
}

#[test]
fn the_2019_09_keywords_decide() {
    decides(
        &nineteen(json!({
            "dependentRequired": { "a": ["b"] }, "dependentSchemas": { "c": { "required": ["d"] } }
        })),
        &[r#"{"a":1,"b":1}"#],
        &[r#"{"a":1}"#, r#"{"c":1}"#],
    );
    decides(
        &nineteen(json!({
            "allOf": [{ "properties": { "a": true } }], "unevaluatedProperties": false
        })),
        &[r#"{"a":1}"#],
        &[r#"{"b":1}"#],
    );
    decides(
        &nineteen(json!({ "allOf": [{ "items": [true] }], "unevaluatedItems": false })),
        &["[1]"],
        &["[1,2]"],
    );
    let tree = json!({ "$recursiveAnchor": true, "type": "object",
                       "properties": { "a": { "$recursiveRef": "#" } } });
    decides(
        &nineteen(tree),
        &[r#"{"a":{"a":{}}}"#],
        &[r#"{"a":{"a":1}}"#],
    );
}

#[test]
fn a_recursive_reference_follows_its_outermost_anchor_or_is_refused() {
    let tree = |anchor: bool| {
        nineteen(json!({
            "$id": "https://e.org/strict", "$recursiveAnchor": anchor,
            "$ref": "tree", "required": ["name"],
            "$defs": { "tree": {
                "$id": "tree", "$recursiveAnchor": true,
                "properties": { "below": { "$recursiveRef": "#" } }
            } }
        }))
    };
    let loose = r#"{"name":1,"below":{}}"#;
    decides(
        &tree(true),
        &[r#"{"name":1,"below":{"name":1}}"#],
        &[loose, "{}"],
    );
    decides(&tree(false), &[loose], &["{}"]);
    let mut between = tree(true);
    between["$ref"] = json!("between");
    between["$defs"]["between"] = json!({ "$id": "between", "$ref": "tree" });
    assert_eq!(refused(&between), BadSchema::Uneven);
}

#[test]
fn references_that_lead_to_nothing_else_are_refused() {
    for reference in ["#/$defs/a", "#a", ""] {
        let document = nineteen(json!({ "properties": { "a": { "$recursiveRef": reference } } }));
        assert!(
            matches!(refused(&document), BadSchema::Reference { .. }),
            "{reference}"
        );
    }
    for dialect in [Dialect::Draft7, Dialect::Draft201909, Dialect::Draft202012] {
        for document in [
            json!({ "$ref": "#" }),
            json!({ "properties": { "a": { "$ref": "" } } }),
        ] {
            let error = refused(&of(dialect, document));
            assert!(matches!(error, BadSchema::Reference { .. }), "{error:?}");
        }
    }
}

#[test]
fn nothing_leads_out_of_a_document_of_any_dialect() {
    for dialect in OLDER {
        for keyword in ["$ref", "$recursiveRef", "$dynamicRef"] {
            for reference in [
                "https://example.org/x",
                "other.json",
                "file:///x",
                "json-schema:///",
            ] {
                for document in [
                    json!({ (keyword): reference }),
                    json!({ "definitions": { "a": { (keyword): reference } } }),
                    json!({ "dependencies": { "a": { (keyword): reference } } }),
                    json!({ "items": [{ (keyword): reference }] }),
                    json!({ "additionalItems": { (keyword): reference } }),
                ] {
                    let error = refused(&of(dialect, document));
                    assert!(matches!(error, BadSchema::Remote { .. }), "{error:?}");
                    assert!(error.to_string().contains(reference));
                }
            }
        }
        let named = json!({ "$id": "https://e.org/a", "definitions": { "b": { "$ref": "c" } } });
        let error = refused(&of(dialect, named)).to_string();
        assert!(error.contains("`https://e.org/c` leads out"), "{error}");
    }
}

#[test]
fn a_document_may_refer_to_the_meta_schema_of_its_own_dialect_alone() {
    let all = [Dialect::Draft7, Dialect::Draft201909, Dialect::Draft202012];
    for dialect in all {
        for other in all {
            let document = of(
                dialect,
                json!({ "properties": { "a": { "$ref": other.uri() } } }),
            );
            if dialect == other {
                decides(
                    &document,
                    &[r#"{"a":{"minLength":1}}"#],
                    &[r#"{"a":{"minLength":-1}}"#],
                );
            } else {
                assert!(
                    matches!(refused(&document), BadSchema::Remote { .. }),
                    "{document}"
                );
            }
        }
    }
}

#[test]
fn the_bounds_hold_in_every_dialect() {
    for dialect in OLDER {
        let refused = |document| refused(&of(dialect, document));
        let long = "x".repeat(MAX_BYTES);
        assert_eq!(refused(json!({ "description": long })), BadSchema::TooLarge);
        let many: Vec<_> = (0..=MAX_SUBSCHEMAS).map(|_| json!({})).collect();
        assert_eq!(refused(json!({ "items": many })), BadSchema::TooMany);
        let many: serde_json::Map<_, _> = (0..=MAX_SUBSCHEMAS)
            .map(|n| (n.to_string(), json!({})))
            .collect();
        assert_eq!(refused(json!({ "dependencies": many })), BadSchema::TooMany);
        let deep = (0..100).fold(json!({}), |inner, _| json!({ "additionalItems": inner }));
        assert_eq!(refused(deep), BadSchema::TooDeep);
        let patterns: Vec<_> = (0..=MAX_PATTERNS)
            .map(|n| json!({ "pattern": n.to_string() }))
            .collect();
        assert_eq!(refused(json!({ "items": patterns })), BadSchema::Patterns);
        let document = json!({ "definitions": { "a": { "pattern": "(?=a)b" } },
                               "properties": { "a": { "pattern": "(?=a)b" } } });
        assert!(matches!(refused(document), BadSchema::Pattern { .. }));
        let recursive: Vec<_> = (0..40).map(|_| json!({ "$recursiveRef": "#" })).collect();
        assert_eq!(refused(json!({ "items": recursive })), BadSchema::TooMany);
    }
}

#[test]
fn definitions_that_double_are_refused_in_every_dialect() {
    for dialect in OLDER {
        for (names, anchor) in [("#/definitions/d", None), ("#d", Some(dialect))] {
            let definition = |n: usize| {
                let next = json!({ "$ref": format!("{names}{}", n + 1) });
                let mut definition = json!({ "items": [next, next], "additionalItems": next });
                match anchor {
                    Some(Dialect::Draft7) => definition["$id"] = json!(format!("#d{n}")),
                    Some(_) => definition["$anchor"] = json!(format!("d{n}")),
                    None => {}
                }
                (format!("d{n}"), definition)
            };
            let mut all: serde_json::Map<_, _> = (0..40).map(definition).collect();
            all.insert("d40".to_owned(), json!({ "$id": "#d40" }));
            let document =
                json!({ "allOf": [{ "$ref": format!("{names}0") }], "definitions": all });
            assert_eq!(refused(&of(dialect, document)), BadSchema::TooMany);
        }
    }
}

#[test]
fn schemas_that_refer_to_themselves_take_no_exponential_time_in_any_dialect() {
    let deep = value(&format!("{}1{}", "{\"a\":".repeat(60), "}".repeat(60)));
    let mut all = recursive();
    let below = |other: &str| json!({ "properties": { "a": { "$recursiveRef": "#" }, (other): { "type": "string" } } });
    all.push(
        json!({ "type": "object", "$recursiveAnchor": true, "anyOf": [below("b"), below("c")] }),
    );
    all.push(json!({ "type": "object", "dependencies": { "a": { "anyOf": [below("b"), { "$ref": "#/anyOf/0" }] } },
                     "anyOf": [below("b"), { "properties": { "a": { "$ref": "#" } } }] }));
    for document in all {
        for dialect in OLDER {
            let schema = compiled(&of(dialect, document.clone()));
            let found = schema.violations(&deep, 8).len();
            assert_eq!(found, usize::from(!schema.is_valid(&deep)), "{document}");
        }
    }
}

#[test]
fn annotations_stay_annotations_in_every_dialect() {
    for dialect in OLDER {
        decides(
            &of(dialect, json!({ "format": "ipv4" })),
            &["\"no address\""],
            &[],
        );
        for encoding in ["base64", "base64url", "base32", "base32hex", "base16"] {
            let document =
                json!({ "contentEncoding": encoding, "contentMediaType": "application/json" });
            decides(&of(dialect, document), &["\"{\""], &[]);
        }
    }
}

/// A 2020-12 document with that schema as its property `v`.
fn around(schema: &Document) -> Document {
    json!({ "properties": { "v": schema } })
}

#[test]
fn a_resource_of_another_dialect_is_read_in_its_own() {
    let tuple = json!({ "$id": "v", "items": [{ "type": "string" }], "additionalItems": false });
    for dialect in OLDER {
        decides(
            &around(&of(dialect, tuple.clone())),
            &[r#"{"v":["a"]}"#],
            &[r#"{"v":[1]}"#, r#"{"v":["a",1]}"#],
        );
    }
    let newer = of(
        Dialect::Draft202012,
        json!({ "$id": "v", "prefixItems": [{ "type": "string" }] }),
    );
    decides(
        &seven(around(&newer)),
        &[r#"{"v":["a"]}"#],
        &[r#"{"v":[1]}"#],
    );
    let by_name = json!({
        "$ref": "v#x",
        "$defs": { "v": seven(json!({ "$id": "v", "definitions": {
            "x": { "$id": "#x", "prefixItems": false, "items": [{ "type": "string" }] } } })) }
    });
    decides(&by_name, &["[\"a\"]"], &["[1]"]);
}

#[test]
fn a_change_of_dialect_without_a_resource_is_refused_by_name() {
    let silenced = json!({ "$id": "v", "$ref": "#/definitions/a", "definitions": { "a": {} } });
    for document in [
        around(&seven(json!({}))),
        around(&seven(json!({ "$id": "#v" }))),
        around(&seven(silenced)),
        json!({ "x-own": seven(json!({ "$id": "v" })) }),
        json!({ "examples": [seven(json!({ "$id": "v" }))] }),
        json!({ "additionalItems": seven(json!({ "$id": "v" })) }),
        seven(json!({ "$defs": { "v": nineteen(json!({ "$id": "v" })) } })),
        around(&seven(
            json!({ "$id": "v", "items": of(Dialect::Draft202012, json!({})) }),
        )),
    ] {
        let error = refused(&document);
        assert!(
            matches!(error, BadSchema::Embedded { .. }),
            "{document} {error:?}"
        );
        assert!(error.to_string().contains("json-schema.org/draft"));
    }
    compiled(&seven(
        json!({ "items": seven(json!({ "type": "string" })) }),
    ));
}

#[test]
fn one_dialect_does_not_look_into_another() {
    let old = seven(json!({ "$id": "v", "definitions": { "a": { "type": "string" } } }));
    for reference in [
        "#/$defs/v",
        "#/$defs/v/definitions/a",
        "#/%24defs/v",
        "r#/$defs/v",
    ] {
        let document =
            json!({ "$id": "https://e.org/r", "$ref": reference, "$defs": { "v": old } });
        let error = refused(&document);
        assert!(
            matches!(error, BadSchema::Across { .. }),
            "{reference} {error:?}"
        );
    }
    for keyword in ["unevaluatedProperties", "unevaluatedItems"] {
        let document = json!({ "$defs": { "v": old }, "$ref": "v", (keyword): false });
        assert!(
            matches!(refused(&document), BadSchema::Through { .. }),
            "{keyword}"
        );
    }
    let document = json!({ "$defs": { "v": old }, "properties": { "a": { "$dynamicRef": "#a" } } });
    assert!(
        refused(&document)
            .to_string()
            .contains("`$dynamicRef` at `/properties/a`")
    );
}

#[test]
fn an_embedded_resource_is_held_to_its_own_meta_schema() {
    let bad = around(&seven(json!({ "$id": "v", "dependencies": { "a": 1 } })));
    assert!(matches!(refused(&bad), BadSchema::Invalid { .. }));
    let pattern = around(&seven(json!({ "$id": "v", "pattern": "(?<=a)b" })));
    assert!(matches!(refused(&pattern), BadSchema::Pattern { .. }));
    let remote = around(&seven(json!({ "$id": "v", "items": [{ "$ref": "w" }] })));
    assert!(matches!(refused(&remote), BadSchema::Remote { .. }));
}
