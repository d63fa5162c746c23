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

/// An entry without `inputSchema`, its digest made of `schema`.
fn without(schema: &Value) -> Value {
    json!({ "owner": "team", "version": "1", "digest": digest(schema, None) })
}

fn sections(document: &Value) -> Result<Lock, BadLock> {
    let mut whole = json!({ "outrider_lock": 1, "protocol": "mcp", "tools": {} });
    for (name, section) in document.as_object().unwrap() {
        whole[name] = section.clone();
    }
    Lock::parse(whole.to_string().as_bytes())
}

#[test]
fn resources_and_methods_may_leave_their_schema_out_and_prompts_may_not() {
    let uri = json!({ "type": "object", "properties": { "uri": { "type": "string" } },
                      "required": ["uri"], "additionalProperties": false });
    let any = json!({ "type": "object" });
    let lock = sections(&json!({
        "resources": { "file:///{name}": without(&uri) },
        "prompts": { "review": tool() },
        "methods": { "completion/complete": without(&any) },
    }))
    .unwrap();
    assert_eq!(lock.resources["file:///{name}"].input_schema, uri);
    assert_eq!(lock.methods["completion/complete"].input_schema, any);
    assert_eq!(lock.prompts["review"].labels, ["pii.email"]);
    let text = lock.to_json();
    assert_eq!(text.matches("inputSchema").count(), 1, "{text}");
    assert_eq!(Lock::parse(text.as_bytes()).unwrap(), lock);
    let bad = sections(&json!({ "prompts": { "review": without(&any) } })).unwrap_err();
    assert!(
        bad.to_string()
            .starts_with("prompt `review`: missing field `inputSchema`"),
        "{bad}"
    );
}

#[test]
fn a_schema_of_ones_own_is_kept_and_digested_in_every_section() {
    let own = json!({ "type": "object", "properties": { "uri": { "const": "x:a" } } });
    let mut entry = without(&own);
    let bad = sections(&json!({ "resources": { "x:a": entry } })).unwrap_err();
    assert!(
        matches!(
            &bad,
            BadLock::Digest {
                section: Section::Resources,
                ..
            }
        ),
        "{bad}"
    );
    entry["inputSchema"] = own.clone();
    let lock = sections(&json!({ "resources": { "x:a": entry } })).unwrap();
    assert_eq!(lock.resources["x:a"].input_schema, own);
    assert_eq!(Lock::parse(lock.to_json().as_bytes()).unwrap(), lock);
}

#[test]
fn a_file_without_the_sections_is_written_without_them() {
    let text = Lock::parse(&file(&tool())).unwrap().to_json();
    for section in ["resources", "prompts", "methods"] {
        assert!(!text.contains(section), "{text}");
        let mut entry = json!({});
        entry[section] = json!({ "a": { "owner": "team" } });
        let bad = sections(&entry).unwrap_err().to_string();
        assert!(bad.contains("`a`: missing field"), "{bad}");
    }
}

fn notes(notes: &[Note]) -> String {
    let lines: Vec<String> = notes.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[test]
fn everything_a_server_lists_is_locked_section_by_section() {
    let listed = Listed {
        tools: vec![json!({ "name": "get", "inputSchema": { "type": "object" } })],
        resources: vec![json!({ "uri": "file:///a", "name": "a", "title": "A" })],
        templates: vec![json!({ "uriTemplate": "file:///docs/{name}", "description": "docs" })],
        prompts: vec![
            json!({ "name": "review", "arguments": [
                { "name": "code", "description": "what to review", "required": true },
                { "name": "style", "required": false } ] }),
            json!({ "name": "hello" }),
        ],
        methods: vec!["completion/complete"],
    };
    let (lock, said) = Lock::from_server(&listed, "team");
    assert_eq!(
        lock.resources.keys().collect::<Vec<_>>(),
        ["file:///a", "file:///docs/{name}"]
    );
    assert_eq!(lock.resources["file:///a"].title.as_deref(), Some("A"));
    assert_eq!(
        lock.prompts["review"].input_schema,
        json!({ "type": "object", "properties": {
            "code": { "type": "string", "description": "what to review" },
            "style": { "type": "string" } },
            "required": ["code"], "additionalProperties": false })
    );
    assert_eq!(
        lock.prompts["hello"].input_schema,
        json!({ "type": "object", "properties": {}, "additionalProperties": false })
    );
    assert_eq!(lock.methods["completion/complete"].owner, "team");
    let said = notes(&said);
    let expected = "level `internal` was written for 1 tools, 2 resources, 2 prompts, 1 methods";
    assert!(said.contains(expected), "{said}");
    let again = Lock::parse(lock.to_json().as_bytes()).unwrap();
    assert_eq!(again, lock);
    crate::catalogue::Contract::compile(again).unwrap();
}

#[test]
fn what_is_listed_and_could_not_be_enforced_is_left_out_and_named_in_every_section() {
    let many = (0..1_001).map(|n| json!({ "uriTemplate": format!("x:{n}/{{a}}") }));
    let mut templates = vec![
        json!({ "uriTemplate": "x:{a*}" }),
        json!({ "name": "no template" }),
    ];
    templates.extend(many);
    let listed = Listed {
        tools: vec![json!({ "name": "prompt:a", "inputSchema": { "type": "object" } })],
        resources: vec![
            json!({ "uri": "x:{a}" }),
            json!({ "uri": "plain" }),
            json!({ "uri": "x:a" }),
            json!({ "uri": "x:a" }),
        ],
        templates,
        prompts: vec![
            json!({ "name": "a", "arguments": {} }),
            json!({ "name": "b", "arguments": [{ "name": "c" }, { "name": "c" }] }),
            json!({ "name": "d", "arguments": [{}] }),
        ],
        methods: vec!["tools/call"],
    };
    let (lock, said) = Lock::from_server(&listed, "team");
    assert!(lock.tools.is_empty() && lock.prompts.is_empty() && lock.methods.is_empty());
    assert_eq!(lock.resources.len(), 1 + 998);
    let said = notes(&said);
    for expected in [
        "tool `prompt:a`: left out: a tool of this name",
        "resource `x:{a}`: left out: its uri has braces",
        "resource `plain`: left out: expected a URI",
        "resource `x:a`: left out: it is listed twice",
        "resource `x:{a*}`: left out: the expression `{a*}`",
        "a resource was left out: it has no uriTemplate",
        "3 templates of resources were left out",
        "prompt `a`: left out: its arguments are no list",
        "prompt `b`: left out: an argument is listed twice",
        "prompt `d`: left out: an argument has no name",
        "method `tools/call`: left out: expected one of the methods",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}
