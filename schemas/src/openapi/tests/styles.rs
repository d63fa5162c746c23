//! The table of styles (3.0.4 §4.7.12.4), each line read back.

use super::*;

fn colors() -> Value {
    json!({"type": "array", "items": {"type": "string"}})
}

fn rgb() -> Value {
    let channel = json!({"type": "integer"});
    json!({
        "type": "object",
        "properties": {"R": channel, "G": channel, "B": channel},
        "additionalProperties": false,
    })
}

fn with(place: &str, style: &str, explode: bool, schema: &Value) -> Loaded {
    let template = if place == "path" { "/a/{color}" } else { "/a" };
    api(
        json!({template: {"get": {"operationId": "a", "parameters": [{
            "name": "color", "in": place, "required": place == "path",
            "style": style, "explode": explode, "schema": schema,
        }]}}}),
    )
}

#[test]
fn every_line_of_the_table_of_styles_is_read_back() {
    let (list, object) = (
        json!(["blue", "black", "brown"]),
        json!({"R": 100, "G": 200, "B": 150}),
    );
    let text = json!({"type": "string"});
    let table: &[(&str, &str, bool, &Value, &str, Value)] = &[
        ("path", "simple", false, &text, "blue", json!("blue")),
        ("path", "simple", true, &text, "blue", json!("blue")),
        (
            "path",
            "simple",
            false,
            &colors(),
            "blue,black,brown",
            list.clone(),
        ),
        (
            "path",
            "simple",
            true,
            &colors(),
            "blue,black,brown",
            list.clone(),
        ),
        (
            "path",
            "simple",
            false,
            &rgb(),
            "R,100,G,200,B,150",
            object.clone(),
        ),
        (
            "path",
            "simple",
            true,
            &rgb(),
            "R=100,G=200,B=150",
            object.clone(),
        ),
        ("path", "label", false, &text, ".blue", json!("blue")),
        ("path", "label", true, &text, ".blue", json!("blue")),
        ("path", "label", false, &text, ".", json!("")),
        (
            "path",
            "label",
            false,
            &colors(),
            ".blue,black,brown",
            list.clone(),
        ),
        (
            "path",
            "label",
            true,
            &colors(),
            ".blue.black.brown",
            list.clone(),
        ),
        (
            "path",
            "label",
            false,
            &rgb(),
            ".R,100,G,200,B,150",
            object.clone(),
        ),
        (
            "path",
            "label",
            true,
            &rgb(),
            ".R=100.G=200.B=150",
            object.clone(),
        ),
        ("path", "matrix", false, &text, ";color=blue", json!("blue")),
        ("path", "matrix", true, &text, ";color=blue", json!("blue")),
        ("path", "matrix", false, &text, ";color", json!("")),
        (
            "path",
            "matrix",
            false,
            &colors(),
            ";color=blue,black,brown",
            list.clone(),
        ),
        (
            "path",
            "matrix",
            true,
            &colors(),
            ";color=blue;color=black;color=brown",
            list.clone(),
        ),
        (
            "path",
            "matrix",
            false,
            &rgb(),
            ";color=R,100,G,200,B,150",
            object.clone(),
        ),
        (
            "path",
            "matrix",
            true,
            &rgb(),
            ";R=100;G=200;B=150",
            object.clone(),
        ),
        ("query", "form", false, &text, "color=blue", json!("blue")),
        ("query", "form", true, &text, "color=", json!("")),
        (
            "query",
            "form",
            true,
            &text,
            "color=a%20b+c%2Bd",
            json!("a b c+d"),
        ),
        (
            "query",
            "form",
            false,
            &colors(),
            "color=blue,black,brown",
            list.clone(),
        ),
        (
            "query",
            "form",
            true,
            &colors(),
            "color=blue&color=black&color=brown",
            list.clone(),
        ),
        (
            "query",
            "form",
            false,
            &rgb(),
            "color=R,100,G,200,B,150",
            object.clone(),
        ),
        (
            "query",
            "form",
            true,
            &rgb(),
            "R=100&G=200&B=150",
            object.clone(),
        ),
        (
            "query",
            "spaceDelimited",
            false,
            &colors(),
            "color=blue%20black%20brown",
            list.clone(),
        ),
        (
            "query",
            "spaceDelimited",
            false,
            &rgb(),
            "color=R%20100%20G%20200%20B%20150",
            object.clone(),
        ),
        (
            "query",
            "pipeDelimited",
            false,
            &colors(),
            "color=blue%7Cblack|brown",
            list.clone(),
        ),
        (
            "query",
            "pipeDelimited",
            false,
            &rgb(),
            "color=R%7C100%7CG%7C200%7CB%7C150",
            object.clone(),
        ),
        (
            "query",
            "deepObject",
            true,
            &rgb(),
            "color%5BR%5D=100&color[G]=200&color[B]=150",
            object.clone(),
        ),
        ("header", "simple", false, &text, "blue", json!("blue")),
        (
            "header",
            "simple",
            false,
            &colors(),
            "blue, black,brown",
            list.clone(),
        ),
        (
            "header",
            "simple",
            false,
            &rgb(),
            "R,100,G,200,B,150",
            object.clone(),
        ),
        (
            "header",
            "simple",
            true,
            &rgb(),
            "R=100,G=200,B=150",
            object.clone(),
        ),
        ("cookie", "form", true, &text, "color=blue", json!("blue")),
        (
            "cookie",
            "form",
            false,
            &colors(),
            "color=blue,black,brown",
            list,
        ),
        (
            "cookie",
            "form",
            false,
            &rgb(),
            "color=R,100,G,200,B,150",
            object,
        ),
    ];
    for (place, style, explode, schema, wire, value) in table {
        let loaded = with(place, style, *explode, schema);
        let target = match *place {
            "path" => format!("/a/{wire}"),
            "query" => format!("/a?{wire}"),
            _ => "/a".to_owned(),
        };
        let headers = match *place {
            "header" => vec![("COLOR", *wire)],
            "cookie" => vec![("cookie", *wire)],
            _ => vec![],
        };
        let sent = Sent {
            headers: &headers,
            ..get(&target)
        };
        let read = accepted(&loaded, sent, &format!("/{place}/color"));
        assert_eq!(read, *value, "{place} {style} {explode} {wire}");
    }
}

#[test]
fn text_becomes_what_the_schema_says_and_stays_text_where_it_is_not_that() {
    let table = [
        (json!({"type": "integer"}), "5", Some(json!(5))),
        (json!({"type": "integer"}), "-7", Some(json!(-7))),
        (
            json!({"type": "integer"}),
            "18446744073709551615",
            Some(json!(u64::MAX)),
        ),
        (json!({"type": "integer"}), "18446744073709551616", None),
        (json!({"type": "integer"}), "05", None),
        (json!({"type": "integer"}), "+5", None),
        (json!({"type": "integer"}), "5.0", None),
        (json!({"type": "integer"}), "1e2", None),
        (json!({"type": "integer"}), "-0", None),
        (json!({"type": "integer"}), "0x1f", None),
        (json!({"type": "integer"}), "%205", None),
        (json!({"type": "integer"}), "", None),
        (json!({"type": "integer"}), "\u{664}", None),
        (json!({"type": "number"}), "5.25", Some(json!(5.25))),
        (json!({"type": "number"}), "1e2", Some(json!(100.0))),
        (json!({"type": "number"}), "1e999", None),
        (json!({"type": "number"}), "NaN", None),
        (json!({"type": "number"}), ".5", None),
        (json!({"type": "boolean"}), "true", Some(json!(true))),
        (json!({"type": "boolean"}), "True", None),
        (json!({"type": "boolean"}), "1", None),
        (json!({"type": "string"}), "5", Some(json!("5"))),
        (json!({"type": "string"}), "true", Some(json!("true"))),
        (json!({"enum": [1, 2]}), "2", Some(json!(2))),
        (json!({"type": ["integer", "null"]}), "null", None),
        (
            json!({"oneOf": [{"type": "integer"}, {"type": "string", "maxLength": 3}]}),
            "abc",
            Some(json!("abc")),
        ),
        (
            json!({"oneOf": [{"type": "integer"}, {"type": "string", "maxLength": 3}]}),
            "12345",
            Some(json!(12345)),
        ),
        (json!({}), "5", Some(json!("5"))),
    ];
    for (schema, text, expected) in table {
        let loaded = with("query", "form", true, &schema);
        let target = format!("/a?color={text}");
        match (call(&loaded, get(&target)), expected) {
            (Ok(read), Some(expected)) => {
                let read = read.pointer("/query/color").unwrap();
                assert_eq!(read.as_f64(), expected.as_f64(), "{schema} {text}");
                assert_eq!(read.as_str(), expected.as_str(), "{schema} {text}");
                assert_eq!(read.as_bool(), expected.as_bool(), "{schema} {text}");
            }
            (Err(why), None) => assert!(why.contains("/query/color"), "{why}"),
            (read, _) => panic!("{schema} `{text}`: {read:?}"),
        }
    }
}

#[test]
fn an_encoded_delimiter_in_a_list_is_refused() {
    for (place, style, explode, wire) in [
        ("path", "simple", false, "a%2Cb"),
        ("path", "label", true, ".a%2Eb"),
        ("path", "label", false, ".a.b"),
        ("path", "matrix", true, ";color=a%3Bb"),
        ("query", "form", false, "color=a%2Cb"),
    ] {
        let loaded = with(place, style, explode, &colors());
        let target = format!("/a{}{wire}", if place == "path" { "/" } else { "?" });
        refused(&loaded, get(&target), "encoded delimiter");
    }
}

#[test]
fn a_parameter_of_json_content_is_parsed_strictly() {
    let loaded = api(json!({"/a": {"get": {"parameters": [{
        "name": "q", "in": "query",
        "content": {"application/json": {"schema": {"type": "object", "required": ["a"]}}},
    }]}}}));
    let read = accepted(&loaded, get("/a?q=%7B%22a%22%3A1%7D"), "/query/q");
    assert_eq!(read, json!({"a": 1}));
    refused(
        &loaded,
        get("/a?q=%7B%22a%22%3A1%2C%22a%22%3A2%7D"),
        "duplicate",
    );
    refused(&loaded, get("/a?q=%7B%7D"), "/query/q/a: is required");
    refused(&loaded, get("/a?q=1&q=2"), "more than once");
}

#[test]
fn nothing_stands_for_an_empty_value_only_where_that_is_allowed() {
    let parameter = |allowed: bool| {
        api(json!({"/a": {"get": {"parameters": [{
            "name": "n", "in": "query", "allowEmptyValue": allowed, "schema": {"type": "integer"},
        }]}}}))
    };
    assert_eq!(
        accepted(&parameter(true), get("/a?n="), "/query/n"),
        json!("")
    );
    assert_eq!(
        accepted(&parameter(true), get("/a?n"), "/query/n"),
        json!("")
    );
    assert_eq!(
        accepted(&parameter(true), get("/a?n=4"), "/query/n"),
        json!(4)
    );
    refused(&parameter(false), get("/a?n="), "/query/n");
}

#[test]
fn styles_that_the_specification_does_not_define_are_not_guessed() {
    let nested = json!({"type": "array", "items": {"type": "array", "items": {"type": "string"}}});
    let open = json!({"type": "object"});
    for (place, style, explode, schema) in [
        ("query", "form", true, &nested),
        ("query", "form", true, &open),
        ("query", "spaceDelimited", true, &colors()),
        ("query", "deepObject", true, &colors()),
        ("query", "simple", true, &colors()),
    ] {
        let loaded = with(place, style, explode, schema);
        let Verdict::Served { notes } = &loaded.report.operations[0].verdict else {
            panic!("{style}: {:?}", loaded.report);
        };
        assert!(notes[0].contains("`color`"), "{notes:?}");
        refused(&loaded, get("/a?color=a"), "not declared");
    }
    for (place, style, explode) in [
        ("path", "form", true),
        ("cookie", "form", true),
        ("header", "form", false),
    ] {
        let loaded = with(place, style, explode, &colors());
        assert!(left_out(&loaded, "a").contains("style"), "{place}");
    }
}

#[test]
fn forms_are_read_by_the_schemas_of_their_properties() {
    let loaded = api(
        json!({"/a": {"post": {"requestBody": {"required": true, "content": {
            "application/x-www-form-urlencoded": {
                "schema": {"type": "object", "required": ["n"], "properties": {
                    "n": {"type": "integer"},
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "ids": {"type": "array", "items": {"type": "integer"}},
                    "meta": {"type": "object", "properties": {"k": {"type": "string"}}},
                    "deep": {"type": "object", "properties": {"k": {"type": "integer"}}},
                }},
                "encoding": {
                    "ids": {"style": "form", "explode": false},
                    "deep": {"style": "deepObject", "explode": true},
                },
            },
        }}}}}),
    );
    let form = |body| Sent {
        method: "POST",
        target: "/a",
        headers: &[(
            "content-type",
            "application/x-www-form-urlencoded; charset=UTF-8",
        )],
        body,
    };
    let read = accepted(
        &loaded,
        form("n=5&tags=a&tags=b+c&ids=1,2&meta=%7B%22k%22%3A%22v%22%7D&deep[k]=3"),
        "/body",
    );
    assert_eq!(
        read,
        json!({"n": 5, "tags": ["a", "b c"], "ids": [1, 2], "meta": {"k": "v"}, "deep": {"k": 3}})
    );
    refused(&loaded, form("n=5&n=6"), "/body/n: is given more than once");
    refused(&loaded, form("n=5&other=1"), "/body/other: is not declared");
    refused(
        &loaded,
        form("n=5&_method=DELETE"),
        "/body/_method: is not declared",
    );
    refused(&loaded, form("n=5;other=1"), "semicolon");
    refused(&loaded, form("n=x"), "/body/n: must be of type integer");
    refused(&loaded, form(""), "/body/n: is required");
}
