//! REST services under an OpenAPI description: which operation a request is, and how policy sees it.

use outrider_integration::{
    Agent, Exchange, PlainServer, Request, Setup, Sidecar, ToolServer, sha256_base64url, until,
    verify_with_jwks,
};
use serde_json::{Value, json};

use crate::support::{Form::Problem, OUTRIDER, refused};

/// What the service publishes, as YAML.
pub(crate) const PETS: &str = r#"
openapi: 3.1.0
info: {title: Pets, version: "7"}
x-outrider: {owner: pets@example.org, classification: internal}
paths:
  /pets:
    get:
      operationId: listPets
      parameters:
        - {name: name, in: query, schema: {type: string}}
        - {name: limit, in: query, schema: {type: integer, minimum: 1}}
        - {name: weight, in: query, schema: {type: number}}
        - {name: tag, in: query, schema: {type: array, items: {type: string}}}
        - {name: X-Trace, in: header, schema: {type: string, maxLength: 8}}
        - {name: Idempotency-Key, in: header, schema: {type: integer}}
    post:
      operationId: createPet
      requestBody:
        required: true
        content:
          application/json:
            schema:
              type: object
              required: [id, name]
              properties:
                id: {type: integer, readOnly: true}
                name: {type: string}
                age: {type: integer, minimum: 0}
                more: {}
              additionalProperties: false
  /pets/mine:
    get: {operationId: myPets}
  /pets/{id}:
    parameters:
      - {name: id, in: path, required: true, schema: {type: integer}}
    get: {operationId: getPet}
    delete:
      x-outrider: {classification: confidential, labels: [gone], idempotent: false, open_world: false}
  /pets/{id}/photo:
    put:
      operationId: putPhoto
      x-outrider: {opaque_body: true}
      parameters:
        - {name: id, in: path, required: true, schema: {type: integer}}
      requestBody: {content: {image/png: {}}}
  /owners/{name}:
    get:
      operationId: getOwner
      parameters:
        - {name: name, in: path, required: true, schema: {type: string}}
  /files/{path}:
    get:
      operationId: getFile
      parameters:
        - {name: path, in: path, required: true, x-encoded-slash: true, schema: {type: string}}
  /notes:
    post:
      operationId: addNote
      requestBody:
        required: true
        content:
          application/x-www-form-urlencoded:
            schema:
              type: object
              required: [text]
              properties:
                text: {type: string}
                stars: {type: integer}
  /session:
    get:
      operationId: session
      parameters:
        - {name: sid, in: cookie, required: true, schema: {type: string, pattern: "^[a-z]+$"}}
  /events:
    get: {operationId: events}
"#;

/// A server that answers everything with a JSON object and a field of its own.
pub(crate) fn rest() -> ToolServer {
    ToolServer::answering(|exchange: &mut Exchange<'_>| {
        exchange.answer(
            200,
            "application/json",
            &[("X-Own", "1")],
            b"{\"ok\": true}",
        );
    })
}

/// The section of a service under `pets.yaml`.
fn section(address: impl std::fmt::Display) -> Value {
    json!({
        "name": "pets",
        "protocol": "openapi",
        "upstream": format!("http://{address}/base"),
        "schemas": "pets.yaml",
    })
}

/// A sidecar before that server.
pub(crate) fn before(address: impl std::fmt::Display) -> Sidecar {
    with(address, &json!({}), |setup| setup)
}

/// The same with changes of the section and of anything else.
pub(crate) fn with(
    address: impl std::fmt::Display,
    changes: &Value,
    change: impl FnOnce(Setup) -> Setup,
) -> Sidecar {
    let mut section = section(address);
    for (key, value) in changes.as_object().unwrap() {
        section[key] = value.clone();
    }
    let setup = Setup::bare(OUTRIDER).serving(&section);
    setup.file("pets.yaml", PETS);
    change(setup).start()
}

pub(crate) fn get(target: &str) -> Request {
    Request::raw("GET", target, Vec::new())
}

pub(crate) fn post(target: &str, kind: &str, body: impl Into<Vec<u8>>) -> Request {
    Request::raw("POST", target, body.into()).field("Content-Type", kind)
}

pub(crate) fn post_json(body: &str) -> Request {
    post("/pets/pets", "application/json", body)
}

const FORM: &str = "application/x-www-form-urlencoded";

/// Sends a request that must pass, and returns the tool of its record.
fn tool_of(sidecar: &Sidecar, agent: &mut Agent, request: &Request) -> String {
    let answer = agent.send(request);
    assert_eq!(
        answer.status,
        200,
        "{} {}: {}",
        request.method,
        request.target,
        answer.text()
    );
    let line = sidecar.decision(&answer.decision_id());
    assert_eq!(line["outcome"], "allow", "{line}");
    line["tool"].as_str().unwrap().to_owned()
}

#[test]
fn an_operation_is_found_by_method_and_template_the_concrete_one_first() {
    let server = rest();
    let sidecar = before(server.address());
    let mut agent = sidecar.agent_of("pets");
    for (request, tool) in [
        (get("/pets/pets"), "pets/listPets"),
        (get("/pets/pets?limit=2&tag=a&tag=b"), "pets/listPets"),
        (get("/pets/pets/mine"), "pets/myPets"),
        (get("/pets/pets/7"), "pets/getPet"),
        (
            Request::raw("DELETE", "/pets/pets/7", Vec::new()),
            "pets/DELETE /pets/{id}",
        ),
        (post_json(r#"{"name": "Rex"}"#), "pets/createPet"),
        (post("/pets/notes", FORM, "text=a+b"), "pets/addNote"),
        (get("/pets/files/a%2Fb"), "pets/getFile"),
    ] {
        assert_eq!(tool_of(&sidecar, &mut agent, &request), tool);
        let head = server.received().pop().unwrap().head;
        let told = head.get("outrider-tool").unwrap();
        assert_eq!(told, tool.replace(' ', "%20"));
    }
}

#[test]
fn a_request_passes_as_it_was_sent() {
    let server = rest();
    let sidecar = before(server.address());
    let mut agent = sidecar.agent_of("pets");
    let body = b" {\"name\" : \"R\\u0065x\", \"more\":[1.0, 1e2 ,\"\xc3\xa9\"] }\n".to_vec();
    let request = post_json("")
        .with_body(body.clone())
        .field("X-Undeclared", "kept")
        .field("Accept", "application/json;q=0.5");
    let answer = agent.send(&request);
    assert_eq!(
        (answer.status, &*answer.body),
        (200, &b"{\"ok\": true}"[..])
    );
    assert_eq!(answer.head.get("x-own"), Some("1"));
    let received = server.wait_for(1).remove(0);
    assert_eq!(received.head.line, "POST /base/pets HTTP/1.1");
    assert_eq!(received.body, body);
    assert_eq!(received.head.get("x-undeclared"), Some("kept"));
    assert_eq!(received.head.get("accept"), Some("application/json;q=0.5"));
    assert_eq!(received.head.get("content-type"), Some("application/json"));
    assert_eq!(
        received.head.get("content-length"),
        Some(&*body.len().to_string())
    );
    for (target, line) in [
        (
            "/pets/owners/J%C3%BCrgen%20~x,%3B?",
            "GET /base/owners/J%C3%BCrgen%20~x,%3B? HTTP/1.1",
        ),
        ("/pets/pets?name=a+b%20%2f&&tag=%41&n%61me=", ""),
        (
            "/pets/pets?name=a+b%20%2f&t%61g=%41&tag=..%2F",
            "GET /base/pets?name=a+b%20%2f&t%61g=%41&tag=..%2F HTTP/1.1",
        ),
    ] {
        let answer = agent.send(&get(target));
        let sent = server.received().pop().unwrap().head.line;
        if line.is_empty() {
            assert_eq!(answer.status, 422, "{target}");
        } else {
            assert_eq!((answer.status, &*sent), (200, line), "{target}");
        }
    }
}

#[test]
fn policy_sees_the_arguments_by_their_place_and_type() {
    let server = rest();
    let rules = r#"package outrider.authz

args := input.call.arguments

allow if {
	input.tool.id == "pets/getPet"
	args.path.id == 7
}

allow if {
	input.tool.id == "pets/listPets"
	args.query.limit == 2
	args.query.name == "a b"
	args.query.tag == ["x", "y"]
	args.header["X-Trace"] == "t"
	not args.body
}

allow if {
	input.tool.id == "pets/session"
	args.cookie.sid == "abc"
}

allow if {
	input.tool.id == "pets/createPet"
	args.body.name == "Rex"
	input.call.method == "POST"
	input.call.path == "/base/pets"
	input.call.protocol == "openapi"
	not input.content.opaque
}

allow if {
	input.tool.id == "pets/addNote"
	args.body == {"text": "a b", "stars": 5}
}

allow if {
	input.tool.id == "pets/putPhoto"
	input.content.opaque
	not args.body
}
"#;
    let sidecar = with(
        server.address(),
        &json!({"passthrough": ["cookie"]}),
        |setup| setup.data(|data| data["grants"] = json!([])).rules(rules),
    );
    let mut agent = sidecar.agent_of("pets");
    let photo = Request::raw("PUT", "/pets/pets/7/photo", b"\x89PNG".to_vec());
    let list = get("/pets/pets?limit=2&name=a%20b&tag=x&tag=y").field("x-trace", "t");
    for request in [
        get("/pets/pets/7"),
        list.clone(),
        get("/pets/session").field("Cookie", "sid=abc"),
        post_json(r#"{"name": "Rex"}"#),
        post("/pets/notes", FORM, "stars=5&text=a+b"),
        photo.field("Content-Type", "image/png"),
    ] {
        tool_of(&sidecar, &mut agent, &request);
    }
    for request in [
        get("/pets/pets/8"),
        list.target("/pets/pets?limit=3&name=a%20b&tag=x&tag=y"),
        get("/pets/session").field("Cookie", "sid=abd"),
        post_json(r#"{"name": "Tom"}"#),
        post("/pets/notes", FORM, "stars=5&text=a%2Bb"),
    ] {
        refused(&sidecar, &server, (Problem(403), "policy_denied"), || {
            agent.send(&request)
        });
    }
}

#[test]
fn facts_come_from_the_method_and_from_the_description() {
    let server = rest();
    let sidecar = with(
        server.address(),
        &json!({"classification": "public"}),
        |s| s,
    );
    let mut agent = sidecar.agent_of("pets");
    let mut input = |request: &Request| {
        let answer = agent.send(request);
        assert_eq!(answer.status, 200, "{}", answer.text());
        sidecar.decision(&answer.decision_id())["input"].clone()
    };
    let tool = input(&get("/pets/pets/7"))["tool"].clone();
    for (key, value) in [
        ("id", json!("pets/getPet")),
        ("owner", json!("pets@example.org")),
        ("version", json!("7")),
        ("classification", json!("internal")),
        ("read_only", json!(true)),
        ("destructive", json!(false)),
        ("idempotent", json!(true)),
        ("open_world", json!(true)),
    ] {
        assert_eq!(tool[key], value, "{key}: {tool}");
    }
    let delete = Request::raw("DELETE", "/pets/pets/7", Vec::new());
    let removed = input(&delete);
    let tool = &removed["tool"];
    for (key, value) in [
        ("owner", json!("pets@example.org")),
        ("classification", json!("confidential")),
        ("labels", json!(["gone"])),
        ("read_only", json!(false)),
        ("destructive", json!(true)),
        ("idempotent", json!(false)),
        ("open_world", json!(false)),
    ] {
        assert_eq!(tool[key], value, "{key}: {tool}");
    }
    assert_eq!(removed["content"]["opaque"], false, "{removed}");
}

#[test]
fn a_task_touches_no_operation_above_its_level() {
    let server = rest();
    let sidecar = with(server.address(), &json!({}), |setup| {
        setup.data(|data| data["intents"][0]["max_classification"] = json!("internal"))
    });
    let mut agent = sidecar.agent_of("pets");
    tool_of(&sidecar, &mut agent, &get("/pets/pets/7"));
    let delete = Request::raw("DELETE", "/pets/pets/7", Vec::new());
    let answer = refused(
        &sidecar,
        &server,
        (Problem(403), "classification_exceeded"),
        || agent.send(&delete),
    );
    assert!(answer.decision()["violations"].is_null());
}

#[test]
fn a_json_description_in_3_0_is_served_too() {
    let server = rest();
    let description = json!({
        "openapi": "3.0.3",
        "info": {"title": "Old", "version": "1"},
        "paths": {
            "/a/{id}": {
                "parameters": [{"$ref": "#/components/parameters/Id"}],
                "put": {"operationId": "put", "requestBody": {"content": {"application/json": {
                    "schema": {"$ref": "#/components/schemas/Thing"},
                }}}},
            },
        },
        "components": {
            "parameters": {"Id": {"name": "id", "in": "path", "required": true,
                "schema": {"type": "number", "minimum": 0, "exclusiveMinimum": true}}},
            "schemas": {"Thing": {"type": "object", "properties": {
                "note": {"type": "string", "nullable": true},
                "made": {"type": "string", "readOnly": true},
            }}},
        },
    });
    let sidecar = with(server.address(), &json!({"schemas": "old.json"}), |setup| {
        setup.file("old.json", &description.to_string());
        setup
    });
    let mut agent = sidecar.agent_of("pets");
    let put = |target: &str, body: &str| {
        Request::raw("PUT", target, body.as_bytes().to_vec())
            .field("Content-Type", "Application/JSON; charset=UTF-8")
    };
    for body in [r#"{"note": null}"#, r#"{"note": "x", "other": 1}"#] {
        let tool = tool_of(&sidecar, &mut agent, &put("/pets/a/0.5", body));
        assert_eq!(tool, "pets/put");
    }
    let empty = Request::raw("PUT", "/pets/a/1", Vec::new());
    assert_eq!(agent.send(&empty).status, 200, "an optional body");
    for (target, body) in [
        ("/pets/a/0", "{}"),
        ("/pets/a/1", r#"{"note": 1}"#),
        ("/pets/a/1", r#"{"made": "x"}"#),
        ("/pets/a/x", "{}"),
    ] {
        refused(
            &sidecar,
            &server,
            (Problem(422), "schema_violation"),
            || agent.send(&put(target, body)),
        );
    }
}

#[test]
fn what_does_not_fit_is_told_where() {
    let server = rest();
    let sidecar = before(server.address());
    let mut agent = sidecar.agent_of("pets");
    for (request, pointer) in [
        (get("/pets/pets/seven"), "/path/id"),
        (get("/pets/pets?limit=0"), "/query/limit"),
        (get("/pets/pets?unknown=1"), "/query/unknown"),
        (
            get("/pets/pets").field("X-Trace", "123456789"),
            "/header/X-Trace",
        ),
        (post_json(r#"{"age": 1}"#), "/body/name"),
        (post_json(r#"{"name": "a", "age": -1}"#), "/body/age"),
        (post_json(r#"{"name": "a", "id": 1}"#), "/body/id"),
        (post_json(r#"{"name": "a", "other": 1}"#), "/body/other"),
        (post_json("[]"), "/body"),
        (post_json(""), "/body"),
        (Request::raw("POST", "/pets/pets", Vec::new()), "/body"),
        (post("/pets/notes", FORM, ""), "/body/text"),
        (post("/pets/notes", FORM, "text=a&other=b"), "/body/other"),
        (
            post("/pets/notes", FORM, "text=a&stars=many"),
            "/body/stars",
        ),
    ] {
        let answer = refused(
            &sidecar,
            &server,
            (Problem(422), "schema_violation"),
            || agent.send(&request),
        );
        let body = answer.json();
        let pointers: Vec<_> = body["violations"].as_array().unwrap().iter().collect();
        assert!(
            pointers.iter().any(|one| one["pointer"] == pointer),
            "{pointer}: {body}"
        );
        assert_eq!(body["type"], "urn:outrider:refusal:schema_violation");
        assert_eq!(body["retry"], "with_change", "{body}");
    }
}

#[test]
fn violations_are_told_only_to_a_task_that_could_use_the_tool() {
    let server = rest();
    let sidecar = with(server.address(), &json!({}), |setup| {
        setup.data(|data| data["grants"][0]["tools"] = json!(["pets/listPets"]))
    });
    let mut agent = sidecar.agent_of("pets");
    for request in [
        get("/pets/pets/seven"),
        post_json(r#"{"age": "zz9"}"#),
        get("/pets/pets/7?unknown=1"),
    ] {
        let answer = agent.send(&request);
        let body = answer.json();
        assert!((403..=422).contains(&answer.status), "{body}");
        assert!(body.get("violations").is_none(), "{body}");
    }
    assert_eq!(server.bytes(), 0);
}

#[test]
fn each_refusal_has_its_code_and_status() {
    let server = rest();
    let sidecar = with(server.address(), &json!({}), |setup| {
        setup.config(|config| config["body"] = json!({"max_request": 10_000}))
    });
    let mut agent = sidecar.agent_of("pets");
    let large = format!(r#"{{"name": "{}"}}"#, "x".repeat(10_000));
    for (request, status, code) in [
        (get("/pets/nothing"), 403, "tool_unknown"),
        (get("/pets"), 403, "tool_unknown"),
        (get("/pets/"), 403, "tool_unknown"),
        (
            Request::raw("PUT", "/pets/pets/7", Vec::new()),
            403,
            "tool_unknown",
        ),
        (
            post("/pets/pets", "text/plain", "{}"),
            415,
            "media_type_refused",
        ),
        (post_json("{"), 400, "call_malformed"),
        (post_json(&large), 413, "body_too_large"),
        (get("/pets/pets/x"), 422, "schema_violation"),
    ] {
        refused(&sidecar, &server, (Problem(status), code), || {
            agent.send(&request)
        });
    }
    let mut stranger = Agent::new(sidecar.listener("reverse"), "/pets");
    refused(&sidecar, &server, (Problem(401), "task_missing"), || {
        stranger.send(&get("/pets/pets/7"))
    });
}

#[test]
fn the_base_path_and_query_of_the_upstream_come_first() {
    let server = rest();
    for (upstream, line) in [
        ("/", "GET /pets?limit=2 HTTP/1.1"),
        ("", "GET /pets?limit=2 HTTP/1.1"),
        ("/v1/", "GET /v1/pets?limit=2 HTTP/1.1"),
        ("/a/b?key=1", "GET /a/b/pets?key=1&limit=2 HTTP/1.1"),
    ] {
        let upstream = format!("http://{}{upstream}", server.address());
        let sidecar = with("", &json!({"upstream": upstream}), |setup| setup);
        let answer = sidecar.agent_of("pets").send(&get("/pets/pets?limit=2"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(server.received().pop().unwrap().head.line, line);
    }
}

#[test]
fn the_assertion_names_the_whole_target_the_tool_and_the_body() {
    let server = rest();
    let sidecar = before(server.address());
    let mut agent = sidecar.agent_of("pets");
    let jwks = sidecar.get("/.well-known/jwks.json").json();
    let body = r#"{"name": "Rex"}"#;
    for (request, path, method, tool, hash) in [
        (
            get("/pets/pets?name=a%20b&limit=2"),
            "/base/pets?name=a%20b&limit=2",
            "GET",
            "pets/listPets",
            sha256_base64url(b""),
        ),
        (
            post_json(body),
            "/base/pets",
            "POST",
            "pets/createPet",
            sha256_base64url(body.as_bytes()),
        ),
    ] {
        assert_eq!(agent.send(&request).status, 200);
        let head = server.received().pop().unwrap().head;
        let claims = verify_with_jwks(head.get("outrider-assertion").unwrap(), &jwks).claims;
        let uri = format!("http://{}{path}", server.address());
        assert_eq!(claims["htu"], json!(uri), "{claims}");
        assert_eq!(claims["htm"], method, "{claims}");
        assert_eq!(claims["tool"], tool, "{claims}");
        assert_eq!(claims["bsh"], json!(hash), "{claims}");
    }
}

#[test]
fn answers_pass_unread_with_their_status() {
    let server = ToolServer::answering(|exchange| {
        let line = exchange.request().head.line.clone();
        if line.contains("/mine") {
            exchange.answer(302, "text/html", &[("Location", "/elsewhere")], b"moved");
        } else {
            exchange.answer(404, "application/json", &[], b"{\"a\": 1, \"a\": \xff");
        }
    });
    let sidecar = before(server.address());
    let mut agent = sidecar.agent_of("pets");
    let answer = agent.send(&get("/pets/pets/mine"));
    assert_eq!((answer.status, &*answer.body), (302, &b"moved"[..]));
    assert_eq!(answer.head.get("location"), Some("/elsewhere"));
    let answer = agent.send(&get("/pets/pets/7"));
    assert_eq!(answer.status, 404);
    assert_eq!(answer.body, b"{\"a\": 1, \"a\": \xff");
    let outcome = sidecar.outcome(&answer.decision_id());
    assert_eq!(outcome["ended"], "completed", "{outcome}");
    assert_eq!(outcome["response"]["status"], 404, "{outcome}");
}

/// The server is silent after its first event, so that only the revocation can end the answer.
#[test]
fn a_streamed_answer_of_a_revoked_task_is_cut() {
    let server = PlainServer::start();
    let sidecar = before(server.address());
    let task = sidecar.open_task(&[]);
    let mut agent = Agent::new(sidecar.listener("reverse"), "/pets").with_token(&task.token);
    let mut reading = agent.start(&get("/pets/events"));
    let mut upstream = server.accept();
    let head = upstream.request().unwrap().unwrap();
    assert_eq!(head.line, "GET /base/events HTTP/1.1");
    upstream
        .send(
            b"HTTP/1.1 200 -\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
              b\r\ndata: one\n\n\r\n",
        )
        .unwrap();
    let head = reading.head().unwrap().unwrap();
    assert_eq!(reading.event().unwrap().as_deref(), Some("one"));
    let id = head.get("outrider-decision-id").unwrap();
    let run = sidecar.command(&["revoke", "task", &task.id]);
    assert_eq!(run.status, 0, "{run:?}");
    assert_eq!(
        reading.rest(),
        (Vec::new(), false),
        "an end that looks whole"
    );
    let outcome = sidecar.outcome(id);
    assert_eq!(outcome["ended"], "cut", "{outcome}");
    assert_eq!(outcome["code"], "task_revoked", "{outcome}");
    assert!(!matches!(upstream.piece(), Ok(Some(_))), "not cancelled");
    let answer = agent.send(&get("/pets/events"));
    assert_eq!((answer.status, answer.code()), (401, "task_revoked".into()));
}

#[test]
fn a_streamed_answer_arrives_event_by_event() {
    let server = PlainServer::start();
    let sidecar = before(server.address());
    let mut reading = sidecar.agent_of("pets").start(&get("/pets/events"));
    let mut upstream = server.accept();
    upstream.request().unwrap().unwrap();
    upstream
        .send(b"HTTP/1.1 200 -\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    let head = reading.head().unwrap().unwrap();
    for word in ["one", "two"] {
        let event = format!("data: {word}\n\n");
        upstream
            .send(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())
            .unwrap();
        assert_eq!(reading.event().unwrap().as_deref(), Some(word));
    }
    upstream.send(b"0\r\n\r\n").unwrap();
    assert_eq!(reading.event().unwrap(), None);
    let outcome = sidecar.outcome(head.get("outrider-decision-id").unwrap());
    assert_eq!(outcome["ended"], "completed", "{outcome}");
}

#[test]
fn a_changed_description_holds_from_then_on_and_a_bad_one_changes_nothing() {
    let server = rest();
    let sidecar = before(server.address());
    let mut agent = sidecar.agent_of("pets");
    let attempts = || sidecar.metric("outrider_policy_reload_total", &[]);
    let file = sidecar.path("pets.yaml");
    for bad in ["openapi: [", "openapi: 3.1.0\ninfo: {}\npaths: {}\n"] {
        let earlier = attempts();
        std::fs::write(&file, bad).unwrap();
        sidecar.signal("HUP");
        until("the attempt", || (attempts() > earlier).then_some(()));
        assert_eq!(agent.send(&get("/pets/pets/7")).status, 200, "{bad}");
    }
    std::fs::write(
        &file,
        PETS.replace("type: integer}}\n    get:", "type: boolean}}\n    get:"),
    )
    .unwrap();
    sidecar.signal("HUP");
    until("the change", || {
        (agent.send(&get("/pets/pets/7")).code() == "schema_violation").then_some(())
    });
    assert_eq!(agent.send(&get("/pets/pets/true")).status, 200);
}

#[test]
fn a_description_is_read_with_the_files_beside_it() {
    let server = rest();
    let whole = "openapi: 3.1.0\ninfo: {title: t, version: '1'}\npaths:\n  /a/{n}:\n    get:\n      \
                 operationId: a\n      parameters: [{$ref: 'parts.json#/n'}]\n";
    let part =
        r#"{"n": {"name": "n", "in": "path", "required": true, "schema": {"enum": ["no"]}}}"#;
    let sidecar = with(
        server.address(),
        &json!({"schemas": "whole.yaml"}),
        |setup| {
            setup.file("whole.yaml", whole);
            setup.file("parts.json", part);
            setup
        },
    );
    let mut agent = sidecar.agent_of("pets");
    assert_eq!(tool_of(&sidecar, &mut agent, &get("/pets/a/no")), "pets/a");
    refused(
        &sidecar,
        &server,
        (Problem(422), "schema_violation"),
        || agent.send(&get("/pets/a/yes")),
    );
}

#[test]
fn a_description_that_cannot_be_served_is_a_mistake_of_the_configuration() {
    for (description, word) in [
        (
            "openapi: 3.1.0\ninfo: {title: t, version: '1'}\npaths: {}\n",
            "none of its operations",
        ),
        ("swagger: '2.0'\n", "openapi"),
        ("openapi: 3.1.0\nopenapi: 3.1.0\n", "pets.yaml"),
    ] {
        let setup = Setup::bare(OUTRIDER).serving(&section("127.0.0.1:9"));
        setup.file("pets.yaml", description);
        setup.write();
        let check = setup.run(&["check", "-c", "outrider.yaml"]);
        assert_eq!(check.status, 1, "{check:?}");
        let said = format!("{}{}", check.stdout, check.stderr);
        assert!(said.contains(word), "{said}");
    }
}
