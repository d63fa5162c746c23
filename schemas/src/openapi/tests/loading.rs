//! What is understood of a description, and what is told.

use super::*;

#[test]
fn what_is_ambiguous_is_left_out_and_the_rest_is_served() {
    let x = |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
    let loaded = api(json!({
        "/a/{x}": {"get": {"operationId": "ax", "parameters": [x("x")]}},
        "/a/{y}": {
            "get": {"operationId": "ay", "parameters": [x("y")]},
            "put": {"operationId": "put", "parameters": [x("y")]},
        },
        "/b": {"get": {"operationId": "twin"}},
        "/c": {"get": {"operationId": "twin"}},
        "/d/{e}/f": {"get": {"operationId": "d", "parameters": [x("e")]}},
        "/d/c/{f}": {"get": {"operationId": "f", "parameters": [x("f")]}},
        "/g/{g}": {"get": {"operationId": "lonely"}},
        "/h/{h}/{h}": {"get": {"operationId": "again"}},
        "/q?x=1": {"get": {"operationId": "with-query"}},
        "/ok": {"get": {}},
    }));
    for name in ["ax", "ay"] {
        assert!(left_out(&loaded, name).contains("the same paths"));
    }
    assert!(left_out(&loaded, "lonely").contains("`g` has no parameter"));
    assert!(left_out(&loaded, "again").contains("twice"));
    assert!(left_out(&loaded, "with-query").contains("no template"));
    assert_eq!(
        loaded
            .report
            .left_out()
            .filter(|(line, _)| line.name == "twin")
            .count(),
        2
    );
    let served: Vec<_> = loaded
        .api
        .operations()
        .map(|one| one.tool.operation.to_string())
        .collect();
    assert_eq!(served, ["put", "f", "d", "GET /ok"]);
    refused(&loaded, get("/a/1"), "cannot be enforced");
    refused(&loaded, get("/d/c/f"), "neither is more concrete");
    assert_eq!(accepted(&loaded, get("/d/x/f"), "/path/e"), json!("x"));
    assert!(
        loaded.report.notes[0].contains("1 pairs"),
        "{:?}",
        loaded.report.notes
    );
}

#[test]
fn what_is_not_understood_leaves_its_operation_out() {
    let schema = |schema: Value| json!({"requestBody": {"required": true, "content": {"application/json": {"schema": schema}}}});
    let query = |parameter: Value| json!({"parameters": [parameter]});
    for (operation, why) in [
        (schema(json!({"$dynamicRef": "#a"})), "$dynamicRef"),
        (schema(json!({"$id": "https://example.org/a"})), "$id"),
        (schema(json!({"$ref": "#anchor"})), "anchor"),
        (
            schema(json!({"$ref": "https://example.org/a.json"})),
            "only files beside",
        ),
        (schema(json!({"$ref": "../a.json"})), "only files beside"),
        (schema(json!({"$ref": "/etc/passwd"})), "only files beside"),
        (schema(json!({"$ref": "a%2fb.json"})), "only files beside"),
        (
            schema(json!({"$ref": "other.json#/a"})),
            "there are no other files",
        ),
        (
            schema(json!({"$schema": "http://json-schema.org/draft-07/schema#"})),
            "$schema",
        ),
        (
            schema(json!({"type": "string", "pattern": "(?=a)"})),
            "pattern",
        ),
        (schema(json!({"type": "strong"})), "not a valid schema"),
        (schema(json!({"allOf": {}})), "allOf"),
        (schema(json!({"items": [{}]})), "no object"),
        (schema(json!(1)), "no object"),
        (
            query(json!({"name": "q", "in": "querystring", "content": {}})),
            "querystring",
        ),
        (query(json!({"name": "q", "in": "body"})), "`in: body`"),
        (
            query(json!({"name": "q", "in": "query"})),
            "either `schema` or `content`",
        ),
        (
            query(json!({"name": "q", "in": "header", "content": {"text/csv": {}}})),
            "text/csv",
        ),
        (
            query(
                json!({"name": "q", "in": "query", "required": true, "style": "odd", "schema": {}}),
            ),
            "odd",
        ),
        (
            query(json!({"name": "a b", "in": "header", "schema": {}})),
            "such a name",
        ),
        (query(json!({"$ref": "#/nowhere"})), "leads nowhere"),
        (
            json!({"parameters": [
                {"name": "q", "in": "query", "schema": {}}, {"name": "q", "in": "query", "schema": {}},
            ]}),
            "twice",
        ),
        (
            json!({"parameters": [
                {"name": "R", "in": "query", "schema": {"type": "integer"}},
                {"name": "c", "in": "query", "schema": {"type": "object", "properties": {"R": {}}}},
            ]}),
            "two meanings",
        ),
        (
            json!({"requestBody": {"required": true, "content": {"text/csv": {}}}}),
            "opaque_body",
        ),
        (
            json!({"x-outrider": {"classification": "secret"}}),
            "classification",
        ),
        (json!({"x-outrider": {"read-only": true}}), "x-outrider"),
        (
            json!({"servers": [{"url": "https://elsewhere.example"}]}),
            "another server",
        ),
    ] {
        let mut operation = operation;
        operation["operationId"] = "bad".into();
        let loaded = api(json!({"/a": {"post": operation.clone()}, "/b": {"get": {}}}));
        let reason = left_out(&loaded, "bad");
        assert!(reason.contains(why), "{operation}: {reason}");
        assert_eq!(loaded.report.served(), 1);
    }
}

#[test]
fn documents_that_are_no_description_are_refused_whole() {
    let info = json!({"title": "t", "version": "1"});
    for (document, why) in [
        (json!(1), "not an OpenAPI"),
        (json!({"swagger": "2.0"}), "not an OpenAPI"),
        (json!({"openapi": "4.0.0"}), "4.0.0"),
        (json!({"openapi": "3.0.0", "info": info}), "`paths`"),
        (json!({"openapi": "3.1.0", "paths": {}}), "`info`"),
        (
            json!({"openapi": "3.1.0", "info": info, "x-outrider": 1}),
            "x-outrider",
        ),
        (
            json!({"openapi": "3.1.0", "info": info, "jsonSchemaDialect": "http://json-schema.org/draft-07/schema"}),
            "draft-07",
        ),
    ] {
        let bad = load(document.clone(), &mut |_| Err(String::new())).unwrap_err();
        assert!(bad.to_string().contains(why), "{document}: {bad}");
    }
}

#[test]
fn the_dialect_of_3_0_becomes_2020_12() {
    let schema = json!({
        "type": "object",
        "required": ["n", "own"],
        "properties": {
            "n": {"type": "integer", "minimum": 0, "exclusiveMinimum": true, "maximum": 9, "exclusiveMaximum": false},
            "maybe": {"type": "string", "nullable": true, "example": 5},
            "sibling": {"$ref": "#/components/schemas/Id", "maxLength": 1, "nullable": true},
            "own": {"$ref": "#/components/schemas/Own"},
        },
        "additionalProperties": false,
        "discriminator": {"propertyName": "n"},
    });
    let components = json!({"schemas": {
        "Id": {"type": "string", "format": "uuid"},
        "Own": {"type": "string", "readOnly": true},
    }});
    let paths = json!({"/a": {"post": {"requestBody": {"required": true, "content": {
        "application/json": {"schema": schema},
    }}}}});
    let loaded = loaded(described("3.0.3", paths, components));
    let post = |body| Sent {
        method: "POST",
        target: "/a",
        headers: &[
            ("content-type", "application/vnd.x+json; v=1"),
            ("content-type2", ""),
        ],
        body,
    };
    refused(&loaded, post("{}"), "media type");
    let post = |body| Sent {
        headers: &[("content-type", "application/json; v=1")],
        ..post(body)
    };
    accepted(
        &loaded,
        post(r#"{"n": 9, "maybe": null, "sibling": "longer"}"#),
        "/body",
    );
    for (body, why) in [
        (r#"{"n": 0}"#, "/body/n: must be more than 0"),
        (r#"{"n": 10}"#, "/body/n: must be at most 9"),
        (
            r#"{"n": 1, "sibling": null}"#,
            "/body/sibling: must be of type string",
        ),
        (r#"{"n": 1, "own": "x"}"#, "/body/own: is not allowed here"),
        (r#"{"n": 1, "more": "x"}"#, "/body/more"),
        ("{}", "/body/n: is required"),
    ] {
        refused(&loaded, post(body), why);
    }
    refused(&loaded, post(""), "/body: is required");
}

#[test]
fn references_are_followed_in_circles_and_to_files_beside() {
    let paths = json!({
        "/a": {"post": {"operationId": "a", "requestBody": {"$ref": "parts.json#/bodies/tree"}}},
        "/b": {"$ref": "parts.json#/item"},
        "/c": {"post": {"operationId": "loop", "requestBody": {"$ref": "#/components/requestBodies/l"}}},
    });
    let parts = json!({
        "bodies": {"tree": {"content": {"application/json": {"schema": {"$ref": "#/node"}}}}},
        "node": {
            "type": "object",
            "properties": {"children": {"type": "array", "items": {"$ref": "./parts.json#/node"}}},
            "additionalProperties": false,
        },
        "item": {"get": {"operationId": "b", "parameters": [{"$ref": "more.yaml#/n"}]}},
    });
    let more = json!({"n": {"name": "n", "in": "query", "schema": {"type": "integer"}}});
    let components = json!({"requestBodies": {"l": {"$ref": "#/components/requestBodies/l"}}});
    let mut asked = Vec::new();
    let loaded = load(described("3.1.0", paths, components), &mut |name| {
        asked.push(name.to_owned());
        match name {
            "parts.json" => Ok(parts.clone()),
            "more.yaml" => Ok(more.clone()),
            _ => Err("unknown".to_owned()),
        }
    })
    .unwrap();
    assert_eq!(asked, ["parts.json", "more.yaml"]);
    assert!(left_out(&loaded, "loop").contains("one another"));
    let post = |body| Sent {
        method: "POST",
        target: "/a",
        headers: &[("content-type", "application/json")],
        body,
    };
    accepted(
        &loaded,
        post(r#"{"children": [{"children": []}]}"#),
        "/body",
    );
    refused(&loaded, post(r#"{"children": [{"child": []}]}"#), "/body");
    assert_eq!(accepted(&loaded, get("/b?n=3"), "/query/n"), json!(3));
}

#[test]
fn each_media_type_is_judged_by_its_own_schema() {
    let object = |name: &str| json!({"schema": {"type": "object", "required": [name], "properties": {name: {"type": "string"}}}});
    let loaded = api(
        json!({"/a": {"post": {"requestBody": {"required": true, "content": {
            "application/json": object("a"),
            "application/*": object("b"),
            "application/x-www-form-urlencoded": object("c"),
        }}}}}),
    );
    let post = |media, body| {
        let headers = [("content-type", media)];
        call(
            &loaded,
            Sent {
                method: "POST",
                target: "/a",
                headers: &headers,
                body,
            },
        )
    };
    let told = post("application/json", r#"{"a": "1"}"#).unwrap();
    assert_eq!(told["header"], json!({"content-type": "application/json"}));
    assert!(post("application/json", r#"{"b": "1"}"#).is_err());
    assert!(post("application/merge-patch+json", r#"{"b": "1"}"#).is_ok());
    assert!(post("application/merge-patch+json", r#"{"a": "1"}"#).is_err());
    assert!(post("application/x-www-form-urlencoded", "c=1").is_ok());
    assert!(post("application/x-www-form-urlencoded", "a=1").is_err());
    assert!(post("application/octet-stream", "a").is_err());
    assert!(
        post("application/json", "")
            .unwrap_err()
            .contains("/body: is required")
    );
}

#[test]
fn bodies_pass_without_being_judged_only_where_the_description_says_so() {
    let loaded = api(json!({"/a": {"post": {
        "x-outrider": {"opaque_body": true},
        "requestBody": {"required": true, "content": {
            "application/json": {"schema": {"type": "object"}}, "image/*": {},
        }},
    }}}));
    let post = |media, body| {
        let headers = [("content-type", media)];
        call(
            &loaded,
            Sent {
                method: "POST",
                target: "/a",
                headers: &headers,
                body,
            },
        )
    };
    let told = post("image/png", "\u{1}").unwrap();
    assert_eq!(told["header"], json!({"content-type": "image/*"}));
    assert_eq!(told.get("body"), None);
    assert!(
        post("image/png", "")
            .unwrap_err()
            .contains("/body: is required")
    );
    assert!(
        post("application/json", "[]")
            .unwrap_err()
            .contains("/body")
    );
    assert!(post("text/csv", "a").unwrap_err().contains("media type"));
}

#[test]
fn facts_come_from_the_nearest_that_says_them_else_from_the_method() {
    let mut document = described(
        "3.2.0",
        json!({"/a": {
            "x-outrider": {"classification": "internal"},
            "get": {"operationId": "get"},
            "put": {"operationId": "put"},
            "post": {"operationId": "post", "x-outrider": {
                "owner": "b", "labels": ["pii.email"], "read_only": true, "open_world": false,
            }},
            "query": {"operationId": "query"},
            "additionalOperations": {
                "COPY": {"operationId": "copy"}, "CONNECT": {"operationId": "connect"},
            },
        }}),
        json!({}),
    );
    document["x-outrider"] = json!({"owner": "a", "classification": "restricted"});
    let loaded = loaded(document);
    let facts = |name: &str| {
        let mut all = loaded.api.operations();
        let tool = &all.find(|one| *one.tool.operation == *name).unwrap().tool;
        assert_eq!(tool.classification.as_deref(), Some("internal"));
        assert!(tool.digest.starts_with("sha256:") && tool.digest.len() == 71);
        (
            tool.owner.to_string(),
            tool.read_only,
            tool.destructive,
            tool.idempotent,
            tool.open_world,
        )
    };
    let a = || "a".to_owned();
    assert_eq!(facts("get"), (a(), true, false, true, true));
    assert_eq!(facts("query"), (a(), true, false, true, true));
    assert_eq!(facts("put"), (a(), false, true, true, true));
    assert_eq!(facts("copy"), (a(), false, true, false, true));
    assert_eq!(facts("post"), ("b".to_owned(), true, false, true, false));
    assert!(left_out(&loaded, "connect").contains("method"));
    let contract = crate::catalogue::Contract::of_api(&loaded.api);
    let names: Vec<_> = contract
        .tools()
        .map(|tool| tool.operation.to_string())
        .collect();
    assert_eq!(names, ["copy", "get", "post", "put", "query"]);
}

#[test]
fn the_digest_is_of_what_a_request_must_be_and_of_nothing_else() {
    let with = |schema: Value, more: Value| {
        let mut operation = more;
        operation["parameters"] = json!([{"name": "q", "in": "query", "schema": schema}]);
        let loaded = api(json!({"/a": {"get": operation}}));
        let mut all = loaded.api.operations();
        all.next().unwrap().tool.digest.to_string()
    };
    let plain = with(json!({"type": "integer"}), json!({}));
    let prose = json!({"summary": "s", "responses": {"200": {}}, "deprecated": true});
    assert_eq!(
        plain,
        with(json!({"type": "integer", "description": "d"}), prose)
    );
    assert_ne!(plain, with(json!({"type": "string"}), json!({})));
}

#[test]
fn the_report_says_what_is_ignored() {
    let mut document = described(
        "3.1.0",
        json!({"/a": {"get": {"callbacks": {"done": {}}, "security": [{"key": []}]}}}),
        json!({"securitySchemes": {
            "key": {"type": "apiKey", "in": "query", "name": "token"},
        }}),
    );
    document["webhooks"] = json!({"w": {"post": {}}});
    document["servers"] = json!([{"url": "https://api.example.org/v1"}]);
    let report = loaded(document).report;
    assert_eq!(report.security_schemes, ["key: apiKey query token"]);
    assert_eq!((report.webhooks, report.callbacks), (1, 1));
    assert_eq!(report.servers, ["https://api.example.org/v1"]);
    assert_eq!((report.served(), report.operations.len()), (1, 1));
}

#[test]
fn a_document_with_a_name_twice_is_not_read() {
    for text in [
        r#"{"a": 1, "a": 2}"#,
        r#"{"a": {"description": "x", "description": "y"}}"#,
    ] {
        assert!(serde_json::from_str::<Document>(text).is_err(), "{text}");
        assert!(serde_saphyr::from_str::<Document>(text).is_err(), "{text}");
    }
    let text = "paths:\n  /a:\n    get:\n      description: dropped\n      tags: {200: {}}\n";
    let Document(read) = serde_saphyr::from_str(text).unwrap();
    assert_eq!(
        read,
        json!({"paths": {"/a": {"get": {"tags": {"200": {}}}}}})
    );
    let text =
        r#"{"properties": {"description": {"type": "string"}}, "enum": [{"description": "kept"}]}"#;
    let Document(read) = serde_json::from_str(text).unwrap();
    assert_eq!(read, serde_json::from_str::<Value>(text).unwrap());
    let deep = "[".repeat(125) + &"]".repeat(125);
    assert!(serde_json::from_str::<Document>(&deep).is_err());
}

#[test]
fn schemas_that_are_nothing_but_themselves_do_not_hang_or_overflow() {
    let paths = json!({"/a": {"post": {
        "operationId": "a",
        "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/A"}}}},
        "parameters": [{"name": "q", "in": "query", "schema": {"$ref": "#/components/schemas/B"}}],
    }}});
    let components = json!({"schemas": {
        "A": {"$ref": "#/components/schemas/A"},
        "B": {"allOf": [{"$ref": "#/components/schemas/B"}, {"$ref": "#/components/schemas/B"}]},
    }});
    let loaded = loaded(described("3.1.0", paths, components));
    let sent = Sent {
        method: "POST",
        target: "/a",
        headers: &[("content-type", "application/json")],
        body: "{}",
    };
    // Served or left out, it comes to an end.
    drop(call(&loaded, sent));
    drop(call(
        &loaded,
        Sent {
            target: "/a?q=1",
            ..sent
        },
    ));
}

#[test]
fn json_is_read_without_the_schemas_that_only_responses_need() {
    let text = json!({
        "paths": {"/a": {"post": {
            "requestBody": {"$ref": "#/components/requestBodies/r"},
            "responses": {"200": {"$ref": "#/components/schemas/answer"}},
        }}},
        "components": {
            "requestBodies": {"r": {"$ref": "#/components/schemas/one"}},
            "schemas": {
                "one": {"$ref": "#/components/schemas/two/items"}, "two": {}, "answer": {}, "alone": {},
            },
        },
    });
    let names = |document: &Value| {
        let Document(read) = Document::from_json(document.to_string().as_bytes()).unwrap();
        let schemas = read["components"]["schemas"].as_object().unwrap();
        schemas.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(names(&text), ["one", "two"]);
    for reference in [
        "other.json#/a",
        "#",
        "#/components/schemas/t%77o",
        "#anchor",
    ] {
        let mut text = text.clone();
        text["components"]["schemas"]["alone"]["$ref"] = reference.into();
        assert_eq!(names(&text).len(), 4, "{reference}");
    }
    let twice = r#"{"components": {"schemas": {"a": 1, "a": 2}}}"#;
    assert!(Document::from_json(twice.as_bytes()).is_err());
    assert!(Document::from_json(b"{} {}").is_err());
}
