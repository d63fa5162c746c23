//! Requests that try to be something else than they are judged to be.

use super::*;

const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

fn users() -> Loaded {
    let id = json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string"}});
    api(json!({
        "/users": {
            "get": {"operationId": "list", "parameters": [
                {"name": "page", "in": "query", "schema": {"type": "integer", "minimum": 1}},
                {"name": "X-Trace", "in": "header", "schema": {"type": "string"}},
                {"name": "Authorization", "in": "header", "required": true, "schema": {"type": "integer"}},
            ]},
            "post": {"operationId": "create", "requestBody": {"content": {
                "application/json": {"schema": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "id": {"type": "string", "readOnly": true}},
                    "required": ["name", "id"],
                }},
                "multipart/form-data": {"schema": {"type": "object"}},
            }}},
        },
        "/users/me": {"get": {"operationId": "me"}},
        "/users/{id}": {
            "parameters": [id],
            "get": {"operationId": "one"},
            "delete": {"operationId": "remove"},
        },
        "/users/{id}/files/{path}": {"get": {"operationId": "file", "parameters": [id, {
            "name": "path", "in": "path", "required": true, "x-encoded-slash": true,
            "schema": {"type": "string"},
        }]}},
        "/session": {"get": {"operationId": "session", "parameters": [
            {"name": "sid", "in": "cookie", "required": true, "schema": {"type": "string"}},
        ]}},
    }))
}

#[test]
fn what_is_declared_passes() {
    let users = users();
    assert_eq!(users.report.left_out().count(), 0, "{:?}", users.report);
    assert_eq!(
        call(&users, get("/users?page=2")).unwrap(),
        json!({"path": {}, "query": {"page": 2}, "header": {}, "cookie": {}})
    );
    assert_eq!(
        accepted(&users, get("/users/a%20b"), "/path/id"),
        json!("a b")
    );
    assert_eq!(
        accepted(&users, get("/users/7/files/a%2Fb"), "/path/path"),
        json!("a/b")
    );
    let sent = Sent {
        headers: &[("X-Other", "1"), ("x-trace", "t"), ("Cookie", "a=b")],
        ..get("/users")
    };
    assert_eq!(accepted(&users, sent, "/header"), json!({"X-Trace": "t"}));
    assert_eq!(accepted(&users, sent, "/cookie"), json!({}));
}

#[test]
fn a_query_has_nothing_but_what_is_declared_and_that_once() {
    let users = users();
    for (target, why) in [
        (
            "/users?page=1&page=2",
            "/query/page: is given more than once",
        ),
        ("/users?page=1&%70age=2", "more than once"),
        ("/users?Page=1", "/query/Page: is not declared"),
        ("/users?page[]=1", "not declared"),
        ("/users?page=1&admin=true", "not declared"),
        ("/users?X-Trace=t", "not declared"),
        ("/users?_method=DELETE", "/query/_method: is not declared"),
        ("/users?=1", "not declared"),
        ("/users?page=1;admin=true", "semicolon"),
        ("/users?page=%zz", "encoded"),
        ("/users?page=%FF", "encoded"),
        ("/users?page=1%00", "encoded"),
        ("/users?page=0", "/query/page: must be at least 1"),
        ("/users/me?id=5", "not declared"),
        ("/users/5?id=6", "not declared"),
    ] {
        refused(&users, get(target), why);
    }
    assert_eq!(accepted(&users, get("/users?"), "/query"), json!({}));
}

#[test]
fn a_path_is_compared_as_it_is_sent() {
    let users = users();
    for (target, why) in [
        ("/users/", "no operation has this path"),
        ("/users//", "no operation has this path"),
        ("//users", "no operation has this path"),
        ("/users/me/", "no operation has this path"),
        ("/USERS", "no operation has this path"),
        ("/users/ME", "no operation has this path"),
        ("/users/%6De", "no operation has this path"),
        ("/%75sers", "no operation has this path"),
        ("/users/me;x=1", "no operation has this path"),
        ("/users;x=1", "no operation has this path"),
        ("/users/5;admin=true", "/path/id: has a raw semicolon"),
        ("/users/a%2Fb", "/path/id: has an encoded slash"),
        ("/users/a%5Cb", "/path/id: has an encoded slash"),
        ("/users/a%252Fb", "/path/id: has an encoded slash"),
        ("/users/a%00", "encoded"),
        ("/users/%E0", "encoded"),
        ("users", "no operation has this path"),
        ("", "no operation has this path"),
        ("/", "no operation has this path"),
    ] {
        refused(&users, get(target), why);
    }
}

#[test]
fn the_concrete_path_wins_and_keeps_its_methods() {
    let users = users();
    let name = |method: &str, path| {
        let found = users.api.find(method, path);
        found.map(|(operation, _)| operation.tool.operation.to_string())
    };
    assert_eq!(name("GET", "/users/me"), Ok("me".to_owned()));
    assert_eq!(name("GET", "/users/you"), Ok("one".to_owned()));
    // A server might route this one to the template; it is nobody's.
    let allowed = vec![Arc::from("GET")];
    assert_eq!(
        name("DELETE", "/users/me"),
        Err(NotFound::Method { allowed })
    );
    assert_eq!(name("DELETE", "/users/you"), Ok("remove".to_owned()));
    for method in ["get", "Get", "HEAD", "OPTIONS", "PUT", "GET ", ""] {
        assert!(
            matches!(name(method, "/users/you"), Err(NotFound::Method { .. })),
            "{method}"
        );
    }
}

#[test]
fn headers_and_cookies_that_are_declared_stand_once() {
    let users = users();
    let with = |target, headers| Sent {
        headers,
        ..get(target)
    };
    refused(
        &users,
        with("/users", &[("X-Trace", "a"), ("x-trace", "b")]),
        "more than once",
    );
    for (headers, why) in [
        (
            &[("cookie", "sid=1; sid=2")][..],
            "/cookie/sid: is given more than once",
        ),
        (
            &[("cookie", "sid=1"), ("Cookie", "sid=2")][..],
            "more than once",
        ),
        (
            &[("cookie", "sid=1; admin=1")][..],
            "/cookie/admin: is not declared",
        ),
        (&[("cookie", "admin")][..], "style"),
        (&[][..], "/cookie/sid: is required"),
    ] {
        refused(&users, with("/session", headers), why);
    }
    let read = accepted(&users, with("/session", &[("Cookie", "sid=1")]), "/cookie");
    assert_eq!(read, json!({"sid": "1"}));
}

#[test]
fn a_body_is_what_is_declared_or_nothing() {
    let users = users();
    let post = |headers, body| Sent {
        method: "POST",
        target: "/users",
        headers,
        body,
    };
    assert_eq!(
        accepted(&users, post(JSON, r#"{"name": "a"}"#), "/body"),
        json!({"name": "a"})
    );
    assert_eq!(call(&users, post(&[], "")).unwrap().get("body"), None);
    for (headers, body, why) in [
        (JSON, r#"{"name": "a", "name": "b"}"#, "duplicate"),
        (JSON, r#"{"name": 1}"#, "/body/name: must be of type string"),
        (
            JSON,
            r#"{"name": "a", "id": "7"}"#,
            "/body/id: is not allowed here",
        ),
        (JSON, "{", "strict json"),
        (&[], "{}", "no `Content-Type`"),
        (&[("content-type", "text/plain")], "{}", "media type"),
        (
            &[("content-type", "multipart/form-data; boundary=x")],
            "--x--",
            "media type",
        ),
        (
            &[("content-type", "application/x-www-form-urlencoded")],
            "name=a",
            "media type",
        ),
        (
            &[("content-type", "application/json; charset=utf-16")],
            "{}",
            "charset",
        ),
        (
            &[("content-type", "application/json;charset=utf-7")],
            "{}",
            "charset",
        ),
        (&[("content-type", "json")], "{}", "media type"),
        (
            &[
                ("content-type", "application/json"),
                ("Content-Type", "text/plain"),
            ],
            "{}",
            "more than once",
        ),
        (
            &[
                ("content-type", "application/json"),
                ("content-encoding", "gzip"),
            ],
            "{}",
            "compressed",
        ),
    ] {
        refused(&users, post(headers, body), why);
    }
    let sent = Sent {
        headers: JSON,
        body: "{}",
        ..get("/users")
    };
    refused(&users, sent, "/body: is not declared");
}

#[test]
fn a_path_of_an_operation_that_is_left_out_belongs_to_nobody_else() {
    let name =
        json!({"name": "name", "in": "path", "required": true, "schema": {"type": "string"}});
    let loaded = api(json!({
        "/v1/{name}": {"post": {"operationId": "touch", "parameters": [name]}},
        "/v1/special": {"post": {"operationId": "special", "parameters": [
            {"name": "x", "in": "header", "schema": {"$ref": "#/nowhere"}},
        ]}},
        "/v1/{a}.{b}": {"post": {"operationId": "two"}},
        "/v1/{name}:cancel": {"post": {"operationId": "cancel", "parameters": [name]}},
    }));
    assert!(left_out(&loaded, "special").contains("#/nowhere"));
    assert!(left_out(&loaded, "two").contains("more than one variable"));
    let post = |target| Sent {
        method: "POST",
        target,
        ..Sent::default()
    };
    assert_eq!(accepted(&loaded, post("/v1/x"), "/path/name"), json!("x"));
    assert_eq!(
        accepted(&loaded, post("/v1/x:cancel"), "/path/name"),
        json!("x")
    );
    let (operation, _) = loaded.api.find("POST", "/v1/x:cancel").unwrap();
    assert_eq!(&*operation.tool.operation, "cancel");
    refused(&loaded, post("/v1/x%3Acancel"), "no operation");
    refused(&loaded, post("/v1/special"), "cannot be enforced");
}
