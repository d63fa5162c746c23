//! REST requests that try to be another one than the one that is judged. Nothing of them arrives.

use outrider_integration::{Request, Sidecar, ToolServer};
use serde_json::json;

use crate::{
    openapi::{before, get, post, post_json, rest, with},
    support::{Form::Problem, refused},
};

const FORM: &str = "application/x-www-form-urlencoded";

fn delete(target: &str) -> Request {
    Request::raw("DELETE", target, Vec::new())
}

/// Sends each request, which must be refused like that.
fn all_refused(
    sidecar: &Sidecar,
    server: &ToolServer,
    (status, code): (u16, &str),
    requests: impl IntoIterator<Item = Request>,
) {
    let mut agent = sidecar.agent_of("pets");
    for request in requests {
        eprintln!("{} {} {:?}", request.method, request.target, request.fields);
        refused(sidecar, server, (Problem(status), code), || {
            agent.send(&request)
        });
    }
}

const VIOLATION: (u16, &str) = (422, "schema_violation");
const UNKNOWN: (u16, &str) = (403, "tool_unknown");
const MALFORMED: (u16, &str) = (400, "call_malformed");
const MEDIA: (u16, &str) = (415, "media_type_refused");

#[test]
fn a_query_has_nothing_but_what_is_declared_and_that_once() {
    let server = rest();
    let sidecar = before(server.address());
    let queries = [
        "limit=1&limit=2",
        "limit=1&limit=1",
        "limit=1&l%69mit=2",
        "name=a&name=b",
        "tag[]=a",
        "tag%5B%5D=a",
        "tag[0]=a",
        "limit[]=1",
        "limit%5B%5D=1",
        "limit[x]=1",
        "Limit=1",
        "LIMIT=1",
        "limit%00=1",
        "limit%20=1",
        "%20limit=1",
        "limit.=1",
        "limit+=1",
        "li%256dit=1",
        "other=1",
        "other",
        "=1",
        "=",
        "_method=DELETE",
        "_METHOD=DELETE",
        "%5Fmethod=DELETE",
        "X-HTTP-Method-Override=DELETE",
        "limit=1;name=a",
        "name=a;b",
        "limit=1,2",
        "limit=1%26name=a",
        "limit=1%23",
        "limit=",
        "limit",
        "tag=%",
        "name=%zz",
        "name=%4",
        "name=%ff",
        "name=%c0%ae",
        "name=%ed%a0%80",
        "name=%00",
        "name=a%00b",
        "access_token=zz9",
    ];
    let requests = queries.map(|query| get(&format!("/pets/pets?{query}")));
    all_refused(&sidecar, &server, VIOLATION, requests);
}

#[test]
fn a_number_is_written_in_the_one_way_that_all_readers_share() {
    let server = rest();
    let sidecar = before(server.address());
    let integers = [
        "1e3",
        "1.0",
        "+1",
        "%2B1",
        " 1",
        "%201",
        "1%20",
        "0x10",
        "010",
        "-0",
        "1_000",
        "1,000",
        "%31%30%2e",
        "NaN",
        "Infinity",
        "null",
        "true",
        "%D9%A1",
        "18446744073709551616",
        "-9223372036854775809",
        "99999999999999999999999999999999999999999999",
    ];
    let floats = [
        "+1.5",
        ".5",
        "1.",
        "0x1p3",
        "1e999",
        "inf",
        "01.5",
        "18446744073709551617",
        "9007199254740993000000",
        "1%2C5",
    ];
    let requests = integers
        .map(|number| format!("/pets/pets?limit={number}"))
        .into_iter()
        .chain(floats.map(|number| format!("/pets/pets?weight={number}")))
        .filter(|target| !target.contains(' '))
        .map(|target| get(&target));
    all_refused(&sidecar, &server, VIOLATION, requests);
    let paths = ["1e3", "+1", "%2B1", "0x10", "1%20", "%201", "1.0", "007"];
    let requests = paths.map(|number| get(&format!("/pets/pets/{number}")));
    all_refused(&sidecar, &server, VIOLATION, requests);
    let headers = ["+1", "1 1", "0x10", "1e3", "1,2", "1;2", "\"1\""];
    let requests = headers.map(|number| get("/pets/pets").field("Idempotency-Key", number));
    all_refused(&sidecar, &server, VIOLATION, requests);
    let mut agent = sidecar.agent_of("pets");
    for target in [
        "/pets/pets?limit=9223372036854775807",
        "/pets/pets?weight=1.5e3",
        "/pets/pets?weight=-0.25",
        "/pets/pets/-1",
    ] {
        assert_eq!(agent.send(&get(target)).status, 200, "{target}");
    }
}

#[test]
fn a_path_is_the_one_that_is_judged() {
    let server = rest();
    let sidecar = before(server.address());
    let malformed = [
        "/pets/owners/..",
        "/pets/owners/../pets/7",
        "/pets/owners/./x",
        "/pets/owners/%2e%2e",
        "/pets/owners/%2e%2E/x",
        "/pets/owners/..;a=b/x",
        "/pets/owners/%252e%252e%252fx",
        "/pets/owners/a%5Cb",
        "/pets/owners/a%255Cb",
        "/pets/owners/a%00b",
        "/pets/owners/a%2500b",
        "/pets/owners/a%0d%0ab",
        "/pets/owners//a",
        "/pets/owners//",
        "/pets//pets",
        "/pets/owners/%",
        "/pets/owners/%zz",
        "/pets/owners/%ff",
        "/pets/owners/%c0%af",
        "/pets/files/..%2Fadmin",
        "/pets/files/a%2F..%2Fb",
        "/pets/files/a%252Fb",
        "/pets/files/a%5Cb",
    ];
    all_refused(&sidecar, &server, MALFORMED, malformed.map(get));
    // The service has operations that may hold an encoded slash; this one may not.
    all_refused(
        &sidecar,
        &server,
        VIOLATION,
        ["/pets/owners/a%2Fb", "/pets/owners/%2F"].map(get),
    );
    all_refused(
        &sidecar,
        &server,
        VIOLATION,
        [
            "/pets/owners/a;b=c",
            "/pets/owners/a;",
            "/pets/pets/7;x=1",
            "/pets/files/a;b",
        ]
        .map(get),
    );
    let unknown = [
        "/pets/pets/",
        "/pets/pets/7/",
        "/pets/owners/",
        "/pets/owners",
        "/pets/owners/a/b",
        "/pets/Pets",
        "/pets/p%65ts",
        "/pets/pets/mine;x",
        "/pets/pets/MINE",
        "/pets/pets/min%65",
        "/pets/pets;x=1/7",
        "/pets/pets%2F7",
        "/pets/pets.json",
        "/pets/base/pets",
    ];
    all_refused(&sidecar, &server, UNKNOWN, unknown.map(get));
}

#[test]
fn nothing_that_is_no_request_target_passes() {
    let server = rest();
    let sidecar = before(server.address());
    let mut agent = sidecar.agent_of("pets");
    for target in [
        "/pets/owners/a\\b",
        "/pets/pets?name=a b",
        "/pets/pets/7 ",
        "/pets/pets/7\t",
        "pets/pets",
        "//pets/pets",
        "*",
    ] {
        let answer = agent.send(&get(target));
        assert!(
            (400..=403).contains(&answer.status),
            "{target}: {}",
            answer.text()
        );
    }
    for target in [
        "http://elsewhere.test/pets/pets/7",
        &format!("http://{}/pets/pets/7", server.address()),
    ] {
        let answer = agent.send(&get(target));
        assert_eq!(answer.code(), "destination_refused", "{target}");
    }
    assert_eq!(server.bytes(), 0, "{:?}", server.received());
    let answer = agent.send(&get("/pets/owners/a%23b?"));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// A fragment is no part of a request (RFC 9112 §3.2); who sends one gets what is before it, judged
/// and sent on alike.
#[test]
fn a_fragment_is_neither_judged_nor_sent() {
    let server = rest();
    let sidecar = before(server.address());
    let mut agent = sidecar.agent_of("pets");
    for (target, line) in [
        (
            "/pets/pets?name=a#&limit=0",
            "GET /base/pets?name=a HTTP/1.1",
        ),
        ("/pets/pets#?limit=0", "GET /base/pets HTTP/1.1"),
        ("/pets/pets/7#/photo", "GET /base/pets/7 HTTP/1.1"),
    ] {
        let answer = agent.send(&get(target));
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        assert_eq!(server.received().pop().unwrap().head.line, line);
    }
    all_refused(
        &sidecar,
        &server,
        VIOLATION,
        ["/pets/pets?limit=0#", "/pets/pets?limit=1%23"].map(get),
    );
}

#[test]
fn a_method_is_the_one_of_the_request_line() {
    let server = rest();
    let sidecar = before(server.address());
    let unknown = [
        delete("/pets/pets"),
        delete("/pets/pets/mine"),
        Request::raw("POST", "/pets/pets/7", Vec::new()),
        Request::raw("get", "/pets/pets/7", Vec::new()),
        Request::raw("OPTIONS", "/pets/pets/7", Vec::new()),
        Request::raw("TRACE", "/pets/pets/7", Vec::new()),
        Request::raw("PROPFIND", "/pets/pets/7", Vec::new()),
        get("/pets/notes"),
    ];
    all_refused(&sidecar, &server, UNKNOWN, unknown);
    let mut agent = sidecar.agent_of("pets");
    // An answer to HEAD has no body.
    let mut head = agent.start(&Request::raw("HEAD", "/pets/pets/7", Vec::new()));
    let line = head.head().unwrap().unwrap().line;
    assert!(line.contains(" 403 "), "{line}");
    assert_eq!(server.bytes(), 0);
    let mut request = get("/pets/pets/7");
    for name in [
        "X-HTTP-Method-Override",
        "x-http-method",
        "X_HTTP_Method_Override",
        "X-Method-Override",
        "X-Original-URL",
        "X_Rewrite_URL",
        "X-Original-Method",
    ] {
        request = request.field(name, "DELETE");
    }
    let answer = agent.send(&request);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let head = server.wait_for(1).remove(0).head;
    assert_eq!(head.line, "GET /base/pets/7 HTTP/1.1");
    assert!(!format!("{head:?}").contains("DELETE"), "{head:?}");
    all_refused(
        &sidecar,
        &server,
        VIOLATION,
        [
            post("/pets/notes", FORM, "text=a&_method=DELETE"),
            post("/pets/notes", FORM, "text=a&X-HTTP-Method-Override=PUT"),
        ],
    );
}

#[test]
fn a_form_has_nothing_but_what_is_declared_and_that_once() {
    let server = rest();
    let sidecar = before(server.address());
    let forms = [
        "text=a&text=b",
        "text=a&t%65xt=b",
        "text[]=a",
        "text%5B%5D=a",
        "text=a&Text=b",
        "text=a&other=b",
        "text=a;stars=5",
        "text=a&stars=5&stars=6",
        "text=a&stars=1e3",
        "text=a&stars=+5",
        "text=%ff",
        "text=%00",
        "text=%",
        "text=a&=b",
        "{\"text\": \"a\"}",
        "--b\r\nContent-Disposition: form-data; name=text\r\n\r\na\r\n--b--",
    ];
    let requests = forms.map(|form| post("/pets/notes", FORM, form));
    all_refused(&sidecar, &server, VIOLATION, requests);
    let bytes = post("/pets/notes", FORM, b"text=\xff".to_vec());
    all_refused(&sidecar, &server, VIOLATION, [bytes]);
}

#[test]
fn a_body_is_of_the_media_type_that_is_declared() {
    let server = rest();
    let sidecar = before(server.address());
    let pet = r#"{"name": "Rex"}"#;
    let kinds = [
        "text/plain",
        "text/json",
        "application/xml",
        "application/jsonx",
        "application/vnd.pets+json",
        "application/json; charset=utf-16",
        "application/json; charset=latin1",
        "application/json; charset=\"utf-7\"",
        "application/json;charset=utf-8;charset=utf-16",
        "application/json, text/plain",
        "application/json application/xml",
        "json",
        "*/*",
        "",
        FORM,
        "multipart/form-data; boundary=b",
    ];
    let requests = kinds.map(|kind| post("/pets/pets", kind, pet));
    all_refused(&sidecar, &server, MEDIA, requests);
    all_refused(
        &sidecar,
        &server,
        MEDIA,
        [
            Request::raw("POST", "/pets/pets", pet.into()),
            post("/pets/notes", "application/json", r#"{"text": "a"}"#),
            post("/pets/notes", "multipart/form-data; boundary=b", "--b--"),
            post_json(pet).field("Content-Encoding", "gzip"),
            post_json(pet).field("Content-Encoding", "br, identity"),
            post_json(pet).field("Content-Encoding", "x"),
        ],
    );
    let mut agent = sidecar.agent_of("pets");
    for twice in [
        post_json(pet).field("Content-Type", "text/plain"),
        post_json(pet).field("Content_Type", "text/plain"),
        post_json(pet).field("Content_Encoding", "gzip"),
        post_json(pet)
            .field("Content-Encoding", "identity")
            .field("Content-Encoding", "gzip"),
    ] {
        let answer = agent.send(&twice);
        assert!((400..=422).contains(&answer.status), "{}", answer.text());
        assert!(!answer.code().is_empty());
    }
    assert_eq!(server.bytes(), 0);
}

#[test]
fn a_json_body_has_one_reading() {
    let server = rest();
    let sidecar = before(server.address());
    let deep = format!(
        r#"{{"name": "a", "more": {}1{}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    let bodies: Vec<Vec<u8>> = [
        r#"{"name": "a", "name": "b"}"#,
        r#"{"name": "a", "n\u0061me": "b"}"#,
        r#"{"name": "a", "more": {"x": 1, "x": 2}}"#,
        "\u{feff}{\"name\": \"a\"}",
        r#"{"name": "a"}{}"#,
        r#"{"name": "a"} x"#,
        r#"{"name": "a",}"#,
        r#"{"name": "a", "age": 01}"#,
        r#"{"name": "a", "age": NaN}"#,
        r#"{"name": "a", "more": 1e999}"#,
        r#"{"name": "\ud800"}"#,
        r#"{name: "a"}"#,
        r#"{"name": 'a'}"#,
        "{\"name\": \"a\nb\"}",
        r#"{"name": "a"} // comment"#,
        &deep,
    ]
    .iter()
    .map(|body| body.as_bytes().to_vec())
    .chain([
        b"{\"name\": \"\xff\"}".to_vec(),
        b"{\x00\"\x00n\x00".to_vec(),
        b"{\"name\": \"a\"}\0".to_vec(),
    ])
    .collect();
    let requests = bodies
        .into_iter()
        .map(|body| post("/pets/pets", "application/json", body));
    all_refused(&sidecar, &server, MALFORMED, requests);
    all_refused(
        &sidecar,
        &server,
        VIOLATION,
        [
            post_json(r#"{"name": "a", "age": "1"}"#),
            post_json(r#"{"name": "a", "age": 1.5}"#),
            post_json(r#"{"name": "a", "__proto__": {}}"#),
            post_json(r#"{"Name": "a"}"#),
            post_json(r#""{}""#),
            post_json("null"),
        ],
    );
}

#[test]
fn a_body_where_none_is_declared_is_refused() {
    let server = rest();
    let sidecar = before(server.address());
    all_refused(
        &sidecar,
        &server,
        VIOLATION,
        [
            Request::raw("GET", "/pets/pets/7", b"{}".to_vec())
                .field("Content-Type", "application/json"),
            Request::raw("GET", "/pets/pets", b"limit=1".to_vec()).field("Content-Type", FORM),
            Request::raw("DELETE", "/pets/pets/7", b"x".to_vec()),
            Request::raw("GET", "/pets/pets/7", b"2\r\n{}\r\n0\r\n\r\n".to_vec())
                .field("Transfer-Encoding", "chunked"),
        ],
    );
}

#[test]
fn a_declared_header_stands_once_and_has_no_twin() {
    let server = rest();
    let sidecar = before(server.address());
    let mut agent = sidecar.agent_of("pets");
    for request in [
        get("/pets/pets")
            .field("X-Trace", "a")
            .field("X-Trace", "b"),
        get("/pets/pets")
            .field("X-Trace", "a")
            .field("x-trace", "a"),
        get("/pets/pets")
            .field("X-Trace", "a")
            .field("X_Trace", "b"),
        get("/pets/pets").field("X_Trace", "b"),
        get("/pets/pets")
            .field("Idempotency-Key", "1")
            .field("Idempotency_Key", "2"),
        get("/pets/pets").field("Idempotency_Key", "zz9"),
        get("/pets/pets").field("idempotency_KEY", "zz9"),
        get("/pets/pets").field(
            "X-Trace",
            "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
        ),
    ] {
        let answer = agent.send(&request);
        let shown = &request.fields;
        assert!(
            (400..=422).contains(&answer.status),
            "{shown:?} {}",
            answer.status
        );
        let line = sidecar.decision(&answer.decision_id());
        assert_eq!(line["outcome"], "deny", "{shown:?}");
        assert_eq!(server.bytes(), 0, "{shown:?}");
    }
}

#[test]
fn cookies_are_those_that_are_declared() {
    let server = rest();
    let passing = json!({"passthrough": ["cookie"]});
    let sidecar = with(server.address(), &passing, |setup| setup);
    let cookies = [
        "",
        "sid=",
        "sid=A",
        "sid=abc; sid=abd",
        "sid=abc; Sid=abd",
        "sid=abc; other=1",
        "sid=abc; $Version=1",
        "sid=abc, sid=abd",
        "sid=%61bc%00",
        "sid=\"abc\"",
        "SID=abc",
        "sid",
        "sid[]=abc",
        "s%69d=abc",
    ];
    let mut requests: Vec<_> = cookies
        .iter()
        .map(|cookie| get("/pets/session").field("Cookie", cookie))
        .collect();
    requests.push(get("/pets/session"));
    requests.push(get("/pets/session?sid=abc"));
    requests.push(
        get("/pets/session")
            .field("Cookie", "sid=abc")
            .field("Cookie", "sid=abd"),
    );
    all_refused(&sidecar, &server, VIOLATION, requests);
    let mut agent = sidecar.agent_of("pets");
    let good = get("/pets/session").field("Cookie", "sid=abc");
    assert_eq!(agent.send(&good).status, 200);
    let head = server.wait_for(1).remove(0).head;
    assert_eq!(head.get("cookie"), Some("sid=abc"));
}

#[test]
fn a_cookie_that_does_not_pass_is_not_there() {
    let server = rest();
    let sidecar = before(server.address());
    let request = get("/pets/session").field("Cookie", "sid=abc");
    all_refused(&sidecar, &server, VIOLATION, [request]);
}
