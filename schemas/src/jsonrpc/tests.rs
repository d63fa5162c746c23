#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use serde_json::json;

use super::*;

fn method() -> Value {
    json!({
        "params": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]},
        "result": {"type": "string"},
        "owner": "team",
        "version": "3",
    })
}

fn file(method: &Value) -> Value {
    json!({"outrider_catalogue": 1, "protocol": "jsonrpc", "methods": {"get": method}})
}

fn parsed(method: &Value) -> Result<Catalogue, BadCatalogue> {
    Catalogue::parse(file(method).to_string().as_bytes())
}

fn refused(change: impl FnOnce(&mut Value)) -> String {
    let mut file = file(&method());
    change(&mut file);
    Catalogue::parse(file.to_string().as_bytes())
        .unwrap_err()
        .to_string()
}

#[test]
fn absent_annotations_are_read_pessimistically() {
    let contract = parsed(&method()).unwrap().compile().unwrap();
    let tool = contract.tool("get").unwrap();
    assert!(!tool.read_only && tool.destructive && !tool.idempotent && tool.open_world);
    assert!(tool.classification.is_none());
}

#[test]
fn params_and_result_are_held_against_their_schemas() {
    let contract = parsed(&method()).unwrap().compile().unwrap();
    let tool = contract.tool("get").unwrap();
    let value = |text: &str| json::parse(text.as_bytes()).unwrap();
    assert!(tool.input.is_valid(&value(r#"{"id":1}"#)));
    assert!(!tool.input.is_valid(&value("[1]")));
    let output = tool.output.as_ref().unwrap();
    assert!(output.is_valid(&value(r#""x""#)) && !output.is_valid(&value("1")));
}

#[test]
fn a_method_without_params_takes_none() {
    let mut bare = method();
    bare.as_object_mut().unwrap().remove("params");
    bare.as_object_mut().unwrap().remove("result");
    let contract = parsed(&bare).unwrap().compile().unwrap();
    let tool = contract.tool("get").unwrap();
    for (text, valid) in [
        ("{}", true),
        ("[]", true),
        (r#"{"a":1}"#, false),
        ("[0]", false),
    ] {
        let value = json::parse(text.as_bytes()).unwrap();
        assert_eq!(tool.input.is_valid(&value), valid, "{text}");
    }
    assert!(tool.output.is_none());
}

#[test]
fn the_digest_is_sha256_over_the_canonical_form_and_only_checked_where_it_is_written() {
    // printf '{"params":{"a":1,"b":1e+30}}' | sha256sum
    let schema: Value = serde_json::from_str(r#"{ "b": 1e30, "a": 1.0 }"#).unwrap();
    assert_eq!(
        digest(Some(&schema), None),
        "sha256:9bb578747ff9e29b2135f513ba6eb529bd99f3986964af7200a6d335304a1baa"
    );
    let mut agreed = method();
    let renewed = digest(agreed.get("params"), agreed.get("result"));
    agreed["digest"] = json!(renewed);
    let contract = parsed(&agreed).unwrap().compile().unwrap();
    assert_eq!(&*contract.tool("get").unwrap().digest, renewed);
    agreed["result"] = json!({"type": "integer"});
    let text = parsed(&agreed).unwrap_err().to_string();
    let renewed = digest(agreed.get("params"), agreed.get("result"));
    assert!(
        text.contains("method `get`") && text.contains(&renewed),
        "{text}"
    );
}

#[test]
fn what_is_wrong_is_named() {
    let texts = [
        (
            refused(|file| file["outrider_catalogue"] = json!(2)),
            "reads 1",
        ),
        (
            refused(|file| file["protocol"] = json!("mcp")),
            "expected `jsonrpc`",
        ),
        (refused(|file| file["servers"] = json!([])), "servers"),
        (
            refused(|file| file["methods"]["get"]["inputSchema"] = json!({})),
            "inputSchema",
        ),
        (
            refused(|file| file["methods"]["get"]["owner"] = json!(" ")),
            "method `get`: `owner` is empty",
        ),
        (
            refused(|file| file["methods"]["get"]["classification"] = json!("secret")),
            "secret",
        ),
        (
            refused(|file| file["methods"][""] = method()),
            "needs a name",
        ),
    ];
    for (text, expected) in texts {
        assert!(text.contains(expected), "{text}");
    }
    let twice = br#"{"outrider_catalogue":1,"protocol":"jsonrpc","methods":{},"methods":{}}"#;
    let text = Catalogue::parse(twice).unwrap_err().to_string();
    assert!(text.contains("duplicate"), "{text}");
}

#[test]
fn every_schema_that_does_not_compile_is_named() {
    let mut bad = file(&method());
    bad["methods"]["get"]["result"] = json!({"type": "strung"});
    bad["methods"]["set"] = method();
    // Left out is one thing, `null` another.
    bad["methods"]["set"]["params"] = json!(null);
    let catalogue = Catalogue::parse(bad.to_string().as_bytes()).unwrap();
    let found = catalogue.compile().unwrap_err();
    let texts: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert!(texts[0].starts_with("method `get`: result: "), "{texts:?}");
    assert!(texts[1].starts_with("method `set`: params: "), "{texts:?}");
}
