use serde_json::json;

use super::*;
use crate::lock::Annotations;

fn locked(input: Value) -> LockedTool {
    LockedTool {
        title: None,
        description: None,
        digest: crate::lock::digest(&input, None),
        input_schema: input,
        output_schema: None,
        annotations: Annotations::default(),
        classification: None,
        labels: vec!["pii.email".to_owned()],
        owner: "team".to_owned(),
        version: "1".to_owned(),
    }
}

fn contract(tools: Vec<(&str, LockedTool)>) -> Result<Contract, Vec<BadTool>> {
    Contract::compile(Lock {
        tools: tools
            .into_iter()
            .map(|(name, tool)| (name.to_owned(), tool))
            .collect(),
        ..Lock::default()
    })
}

fn reason(input: Value) -> BadContract {
    contract(vec![("t", locked(input))])
        .unwrap_err()
        .remove(0)
        .reason
}

fn headers_of(input: Value) -> Vec<ParamHeader> {
    contract(vec![("t", locked(input))])
        .unwrap()
        .tool("t")
        .unwrap()
        .headers
        .clone()
}

#[test]
fn a_tool_is_found_by_its_exact_name() {
    let plain = || locked(json!({ "type": "object" }));
    let contract = contract(vec![("b", plain()), ("a", plain())]).unwrap();
    let tool = contract.tool("a").unwrap();
    assert!(tool.destructive && tool.open_world && !tool.read_only && !tool.idempotent);
    assert_eq!(&*tool.labels[0], "pii.email");
    assert!(contract.tool("A").is_none() && contract.tool("a ").is_none());
    assert_eq!(
        contract.tools().map(|t| &*t.operation).collect::<Vec<_>>(),
        ["a", "b"]
    );
}

#[test]
fn every_bad_tool_is_reported() {
    let mut output = locked(json!({ "type": "object" }));
    output.output_schema = Some(json!({ "$ref": "https://e.org/x" }));
    let bad = contract(vec![
        ("a", locked(json!({ "type": "string" }))),
        ("b", locked(json!({ "type": "object", "properties": 1 }))),
        ("c", output),
        ("d", locked(json!({ "type": "object" }))),
    ])
    .unwrap_err();
    let text: Vec<_> = bad.iter().map(ToString::to_string).collect();
    assert_eq!(text.len(), 3);
    assert!(
        text[0].starts_with("tool `a`: the root of `inputSchema`"),
        "{text:?}"
    );
    assert!(text[1].starts_with("tool `b`: inputSchema: "), "{text:?}");
    assert!(
        text[2].starts_with("tool `c`: outputSchema: ") && text[2].contains("e.org"),
        "{text:?}"
    );
}

#[test]
fn the_root_must_say_object() {
    for input in [
        json!({}),
        json!(true),
        json!({ "type": ["object"] }),
        json!({ "type": "array" }),
    ] {
        assert_eq!(reason(input), BadContract::NotAnObject);
    }
}

#[test]
fn annotated_arguments_travel_in_headers() {
    let found = headers_of(json!({
        "type": "object",
        "properties": {
            "region": { "type": "string", "x-mcp-header": "Region" },
            "where": { "type": "object", "properties": {
                "shard": { "type": "integer", "x-mcp-header": "Shard-ID" },
                "x-mcp-header": { "type": "string" }
            } },
            "dry": { "type": "boolean", "x-mcp-header": "dry_run" }
        },
        "examples": [{ "x-mcp-header": "Not Me" }]
    }));
    let seen: Vec<_> = found
        .iter()
        .map(|h| (h.name.as_str(), h.path.join("/"), h.kind))
        .collect();
    assert_eq!(
        seen,
        [
            ("mcp-param-dry_run", "dry".to_owned(), Kind::Boolean),
            ("mcp-param-region", "region".to_owned(), Kind::String),
            (
                "mcp-param-shard-id",
                "where/shard".to_owned(),
                Kind::Integer
            ),
        ]
    );
}

#[test]
fn an_annotation_that_is_not_valid_invalidates_the_tool() {
    use BadHeaderReason as Bad;
    let annotated = |name: Value| json!({ "type": "string", "x-mcp-header": name });
    let property = |schema: Value| json!({ "type": "object", "properties": { "a": schema } });
    let plain = || annotated(json!("A"));
    let cases = [
        (property(annotated(json!(""))), Bad::NotAToken),
        (property(annotated(json!("two words"))), Bad::NotAToken),
        (property(annotated(json!("A\r\nB"))), Bad::NotAToken),
        (property(annotated(json!("Ä"))), Bad::NotAToken),
        (property(annotated(json!(1))), Bad::NotAToken),
        (
            property(json!({ "type": "number", "x-mcp-header": "A" })),
            Bad::Type,
        ),
        (
            property(json!({ "type": "object", "x-mcp-header": "A" })),
            Bad::Type,
        ),
        (
            property(json!({ "type": ["string", "null"], "x-mcp-header": "A" })),
            Bad::Type,
        ),
        (property(json!({ "x-mcp-header": "A" })), Bad::Type),
        (
            property(json!({ "type": "array", "items": plain() })),
            Bad::Unreachable,
        ),
        (property(json!({ "anyOf": [plain()] })), Bad::Unreachable),
        (
            property(json!({ "allOf": [{ "properties": { "b": plain() } }] })),
            Bad::Unreachable,
        ),
        (property(json!({ "not": plain() })), Bad::Unreachable),
        (
            json!({ "type": "object", "then": { "properties": { "a": plain() } } }),
            Bad::Unreachable,
        ),
        (
            json!({ "type": "object", "$defs": { "d": plain() } }),
            Bad::Unreachable,
        ),
        (
            json!({ "type": "object", "patternProperties": { "a": plain() } }),
            Bad::Unreachable,
        ),
        (
            json!({ "type": "object", "additionalProperties": plain() }),
            Bad::Unreachable,
        ),
        (
            json!({ "type": "object", "x-mcp-header": "A" }),
            Bad::Unreachable,
        ),
        (
            json!({ "type": "object", "properties": {
                "a": annotated(json!("Same")), "b": annotated(json!("sAME")) } }),
            Bad::Repeated,
        ),
        (
            json!({ "type": "object", "properties": {
                "a": annotated(json!("dry_run")), "b": annotated(json!("Dry-Run")) } }),
            Bad::Repeated,
        ),
    ];
    for (input, expected) in cases {
        let BadContract::Header(bad) = reason(input.clone()) else {
            panic!("{input}")
        };
        assert_eq!(bad.reason, expected, "{input}");
    }
}

fn entries(names: &[&str], input: &Value) -> crate::lock::Entries {
    names
        .iter()
        .map(|name| ((*name).to_owned(), locked(input.clone())))
        .collect()
}

#[test]
fn every_section_gives_its_operations() {
    let any = json!({ "type": "object" });
    let contract = Contract::compile(Lock {
        tools: entries(&["get"], &any),
        resources: entries(&["file:///a", "file:///docs/{name}"], &any),
        prompts: entries(&["review"], &any),
        methods: entries(&crate::lock::METHODS, &any),
    })
    .unwrap();
    let operations: Vec<_> = contract.tools().map(|t| &*t.operation).collect();
    assert_eq!(
        operations,
        [
            "get",
            "resource:file:///a",
            "resource:file:///docs/{name}",
            "prompt:review",
            "completion/complete",
            "resources/subscribe",
            "subscriptions/listen",
        ]
    );
    let operation = contract.resources().find("file:///docs/b").unwrap();
    assert_eq!(&**operation, "resource:file:///docs/{name}");
    assert!(contract.tool(operation).is_some());
    assert!(contract.resources().find("file:///b").is_none());
}

#[test]
fn one_operation_is_one_thing_and_every_bad_entry_is_reported() {
    let any = json!({ "type": "object" });
    let mirrored = json!({ "type": "object", "properties": {
        "a": { "type": "string", "x-mcp-header": "A" } } });
    let bad = Contract::compile(Lock {
        tools: entries(
            &[
                "completion/complete",
                "prompt:a",
                "resource:file:///a",
                "get",
            ],
            &any,
        ),
        resources: entries(&["file:///{a*}", "plain"], &any),
        prompts: entries(&["a"], &mirrored),
        methods: entries(&["tools/call"], &any),
    })
    .unwrap_err();
    let text: Vec<_> = bad.iter().map(ToString::to_string).collect();
    for expected in [
        "resource `file:///{a*}`: the expression `{a*}` is not served",
        "resource `plain`: expected a URI",
        "tool `completion/complete`: a tool of this name would be mistaken for a method",
        "tool `prompt:a`: a tool of this name would be mistaken for a prompt",
        "tool `resource:file:///a`: a tool of this name would be mistaken for a resource",
        "prompt `a`: `x-mcp-header` in inputSchema",
        "method `tools/call`: expected one of the methods completion/complete, ",
    ] {
        assert!(text.iter().any(|t| t.starts_with(expected)), "{text:#?}");
    }
    assert_eq!(text.len(), 7, "{text:#?}");
}
