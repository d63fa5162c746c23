//! Whatever is sent, nothing panics, and nothing is served that was not declared.

use proptest::prelude::*;

use super::*;

fn everything() -> Loaded {
    let styles = json!([
        {"name": "id", "in": "path", "required": true, "style": "matrix", "explode": true,
            "schema": {"type": "object", "properties": {"a": {"type": "integer"}}}},
        {"name": "list", "in": "query", "style": "pipeDelimited",
            "schema": {"type": "array", "items": {"type": "number"}}},
        {"name": "deep", "in": "query", "style": "deepObject",
            "schema": {"type": "object", "properties": {"a": {"type": "boolean"}}}},
        {"name": "spread", "in": "query",
            "schema": {"type": "object", "additionalProperties": {"type": "string"}}},
        {"name": "h", "in": "header", "schema": {"type": "array", "items": {"type": "integer"}}},
        {"name": "c", "in": "cookie", "schema": {"type": "string"}},
    ]);
    api(json!({
        "/a/{id}": {"post": {"parameters": styles, "requestBody": {"content": {
            "application/json": {}, "application/x-www-form-urlencoded": {"schema": {
                "type": "object", "properties": {"x": {"type": "array", "items": {"type": "string"}}},
            }},
        }}}},
        "/a/b": {"post": {}},
    }))
}

proptest! {
    #[test]
    fn no_request_makes_it_panic(
        path in "/a/[;=a%.,b/A-F0-9]{0,12}|\\PC{0,20}",
        query in proptest::option::of("[a-z\\[\\]=&%+|;_0-9]{0,40}|\\PC{0,20}"),
        header in proptest::collection::vec(any::<u8>(), 0..12),
        cookie in "[c=;, %a]{0,12}",
        media in prop_oneof!["application/json", "application/x-www-form-urlencoded", "\\PC{0,12}"],
        body in proptest::collection::vec(any::<u8>(), 0..24),
    ) {
        let loaded = everything();
        if let Ok((operation, variables)) = loaded.api.find("POST", &path) {
            let headers = [
                ("H", header.as_slice()),
                ("cookie", cookie.as_bytes()),
                ("content-type", media.as_bytes()),
            ];
            let request = Request {
                variables: &variables,
                query: query.as_deref(),
                headers: &headers,
                body: &body,
            };
            if let Ok(arguments) = operation.decode(&request) {
                operation.schema().violations(&arguments, 3);
            }
        }
    }

    #[test]
    fn no_description_makes_it_panic(keyword in "[a-zA-Z$]{1,12}", value in anything(), spot in 0_usize..6) {
        let mut document = described(
            "3.0.0",
            json!({"/a/{b}": {"post": {
                "parameters": [{"name": "b", "in": "path", "schema": {"type": "string"}}],
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/S"}}}},
            }}}),
            json!({"schemas": {"S": {"type": "object"}}}),
        );
        let places = [
            "", "/paths", "/paths/~1a~1{b}", "/paths/~1a~1{b}/post",
            "/paths/~1a~1{b}/post/parameters/0", "/components/schemas/S",
        ];
        let keys = ["parameters", "schema", "requestBody", "x-outrider", "allOf", "$ref", "servers"];
        for key in keys.into_iter().chain([keyword.as_str()]) {
            let mut document = document.clone();
            document.pointer_mut(places[spot]).unwrap()[key] = value.clone();
            drop(load(document, &mut |_| Err(String::new())));
        }
        document["paths"] = value;
        drop(load(document, &mut |_| Err(String::new())));
    }

    #[test]
    fn a_query_with_a_name_that_is_not_declared_is_refused(name in "[a-z_]{1,8}", value in "[a-z0-9]{0,8}") {
        let loaded = api(json!({"/a": {"get": {"parameters": [
            {"name": "known", "in": "query", "schema": {"type": "string"}},
        ]}}}));
        prop_assume!(name != "known");
        let target = format!("/a?known=1&{name}={value}");
        prop_assert!(call(&loaded, get(&target)).is_err());
    }
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "#?/?[a-z/~0-9%{}]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z$/{}]{1,8}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
