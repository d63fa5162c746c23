use serde_json::json;

use super::*;

fn tool() -> Value {
    let input = json!({ "type": "object", "properties": { "id": { "type": "integer" } } });
    json!({
        "inputSchema": input,
        "labels": ["pii.email"],
        "owner": "team",
        "version": "3",
        "classification": "confidential",
        "digest": digest(&input, None)
    })
}

fn file(tool: &Value) -> Vec<u8> {
    json!({ "outrider_lock": 1, "protocol": "mcp", "tools": { "get": tool } })
        .to_string()
        .into()
}

fn refused(change: impl FnOnce(&mut Value)) -> String {
    let mut tool = tool();
    change(&mut tool);
    Lock::parse(&file(&tool)).unwrap_err().to_string()
}

#[test]
fn the_digest_is_sha256_over_the_canonical_form() {
    // printf '{"inputSchema":{"a":1,"b":1e+30}}' | sha256sum
    let schema: Value = serde_json::from_str(r#"{ "b": 1e30, "a": 1.0 }"#).unwrap();
    let expected = "sha256:8132766a6b2e54913caa60dfbe41673865900766348bcbb50f9b6795d25a47c3";
    assert_eq!(digest(&schema, None), expected);
    assert_ne!(digest(&schema, Some(&json!({}))), expected);
    assert_ne!(
        digest(&schema, Some(&json!({}))),
        digest(&schema, Some(&json!(true)))
    );
}

#[test]
fn absent_annotations_are_read_pessimistically() {
    let lock = Lock::parse(&file(&tool())).unwrap();
    assert_eq!(
        lock.tools["get"].annotations,
        Annotations {
            read_only: false,
            destructive: true,
            idempotent: false,
            open_world: true
        }
    );
    let mut tool = tool();
    tool["annotations"] = json!({ "destructive": false });
    let annotations = Lock::parse(&file(&tool)).unwrap().tools["get"].annotations;
    assert!(!annotations.destructive && annotations.open_world && !annotations.idempotent);
}

#[test]
fn a_schema_that_was_edited_does_not_load_and_says_how_to_renew_it() {
    let text = refused(|tool| tool["inputSchema"]["properties"] = json!({}));
    let renewed = digest(&json!({ "type": "object", "properties": {} }), None);
    assert!(
        text.contains("tool `get`") && text.contains(&renewed),
        "{text}"
    );
    let text = refused(|tool| tool["outputSchema"] = json!({}));
    assert!(text.contains("digest"), "{text}");
}

#[test]
fn a_bad_tool_is_named() {
    for (text, expected) in [
        (
            refused(|tool| tool["readOnlyHint"] = json!(true)),
            "readOnlyHint",
        ),
        (
            refused(|tool| tool["annotations"] = json!({ "readOnly": true })),
            "readOnly",
        ),
        (
            refused(|tool| tool["classification"] = json!("secret")),
            "`secret`",
        ),
        (
            refused(|tool| tool["owner"] = json!(" ")),
            "`owner` is empty",
        ),
        (
            refused(|tool| drop(tool.as_object_mut().unwrap().remove("digest"))),
            "digest",
        ),
        (
            refused(|tool| drop(tool.as_object_mut().unwrap().remove("inputSchema"))),
            "inputSchema",
        ),
    ] {
        assert!(
            text.starts_with("tool `get`: ") && text.contains(expected),
            "{text}"
        );
    }
}

#[test]
fn what_is_no_lock_file_of_this_version_is_refused() {
    let whole = |document: Value| Lock::parse(document.to_string().as_bytes()).unwrap_err();
    assert_eq!(
        whole(json!({ "outrider_lock": 2, "protocol": "mcp", "tools": {} })),
        BadLock::Version(2)
    );
    assert_eq!(
        whole(json!({ "outrider_lock": 1, "protocol": "openapi", "tools": {} })),
        BadLock::Protocol("openapi".to_owned())
    );
    assert!(matches!(whole(json!({ "tools": {} })), BadLock::Form(_)));
    assert!(matches!(
        whole(json!({ "outrider_lock": 1, "protocol": "mcp", "tools": {}, "x": 1 })),
        BadLock::Form(_)
    ));
    for section in ["resources", "prompts"] {
        let mut document = json!({ "outrider_lock": 1, "protocol": "mcp", "tools": {} });
        document[section] = json!({});
        Lock::parse(document.to_string().as_bytes()).unwrap();
        document[section] = json!({ "a": {} });
        assert!(whole(document).to_string().contains("not built yet"));
    }
}

#[test]
fn a_tool_named_twice_is_refused() {
    let text = r#"{"outrider_lock":1,"protocol":"mcp","tools":{"a":{},"a":{}}}"#;
    assert!(matches!(
        Lock::parse(text.as_bytes()),
        Err(BadLock::Malformed(_))
    ));
}

#[test]
fn what_is_written_is_read_back_and_written_the_same() {
    let lock = Lock::parse(&file(&tool())).unwrap();
    let text = lock.to_json();
    assert!(text.ends_with("}\n") && !text.ends_with("\n\n"));
    let again = Lock::parse(text.as_bytes()).unwrap();
    assert_eq!(again, lock);
    assert_eq!(again.to_json(), text);
}

#[test]
fn a_listed_server_is_locked_without_believing_it() {
    let listed = [
        json!({ "name": "b", "title": "B", "description": "does b",
                "inputSchema": { "type": "object" }, "outputSchema": { "type": "object" },
                "annotations": { "readOnlyHint": true, "destructiveHint": false } }),
        json!({ "name": "a", "inputSchema": { "type": "object" } }),
    ];
    let (lock, notes) = Lock::from_listed(&listed, "team");
    assert_eq!(lock.tools.keys().collect::<Vec<_>>(), ["a", "b"]);
    let tool = &lock.tools["b"];
    assert_eq!(tool.annotations, Annotations::default());
    assert_eq!(tool.classification.as_deref(), Some("internal"));
    assert_eq!(
        (tool.owner.as_str(), tool.title.as_deref()),
        ("team", Some("B"))
    );
    let text = notes
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n");
    assert!(
        text.contains("level `internal` was written for 2 tools"),
        "{text}"
    );
    assert!(
        text.contains("hints on 1 tools were not taken over"),
        "{text}"
    );
    Lock::parse(lock.to_json().as_bytes()).unwrap();
}

#[test]
fn a_listed_tool_that_could_not_be_enforced_is_left_out_and_named() {
    let listed = [
        json!({ "name": "old", "inputSchema": { "type": "object",
                "$schema": "http://json-schema.org/draft-04/schema#" } }),
        json!({ "name": "far", "inputSchema": { "type": "object", "$ref": "https://e.org/x" } }),
        json!({ "name": "flat", "inputSchema": {} }),
        json!({ "name": "none" }),
        json!({ "inputSchema": { "type": "object" } }),
        json!({ "name": "twice", "inputSchema": { "type": "object" } }),
        json!({ "name": "twice", "inputSchema": { "type": "object", "not": {} } }),
    ];
    let (lock, notes) = Lock::from_listed(&listed, "team");
    assert_eq!(lock.tools.keys().collect::<Vec<_>>(), ["twice"]);
    assert!(lock.tools["twice"].input_schema.get("not").is_none());
    let text = notes
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n");
    for expected in [
        "draft-04",
        "https://e.org/x",
        "`flat`",
        "`none`",
        "no name",
        "listed twice",
    ] {
        assert!(text.contains(expected), "{text}");
    }
}
