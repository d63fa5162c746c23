use integration::{Tool, ToolServer};
use outrider_integration as integration;
use outrider_schemas::lock::Listed;
use serde_json::{Value, json};

use super::{server::MOST_ENTRIES, *};
use crate::{
    cli::{demo::tool_server, init::TOOLS, parsed},
    protocol::mcp::MODERN,
};

fn args(line: &[&str]) -> Result<Args, clap::Error> {
    parsed(line.iter().copied())
}

fn tools_of(url: &str) -> anyhow::Result<Vec<Value>> {
    Ok(all_of(url)?.0.tools)
}

fn all_of(url: &str) -> anyhow::Result<(Listed, String)> {
    let client = Client::new(url, HeaderMap::new())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (listed, notes) = runtime.block_on(server::listed(&client))?;
    let notes: Vec<String> = notes.iter().map(ToString::to_string).collect();
    Ok((listed, notes.join("\n")))
}

/// A server that answers discovery well and lists with `list`.
fn listing(list: impl Fn(Option<&str>) -> Value + Send + Sync + 'static) -> ToolServer {
    ToolServer::answering(move |exchange| {
        let asked = exchange.request().json();
        let result = if asked["method"] == "server/discover" {
            json!({"supportedVersions": [MODERN]})
        } else {
            list(asked["params"]["cursor"].as_str())
        };
        exchange.result(&result);
    })
}

fn failure(server: &ToolServer) -> String {
    format!("{:#}", tools_of(&server.url()).unwrap_err())
}

#[test]
fn all_pages_of_the_demo_server_give_the_contracts_of_the_starter() {
    let server = tool_server::ToolServer::start("127.0.0.1:0".parse().unwrap()).unwrap();
    let tools = tools_of(&server.url()).unwrap();
    let (lock, _) = Lock::from_listed(&tools, "support@example.org");
    let starter = Lock::parse(TOOLS.as_bytes()).unwrap();
    let digests = |lock: &Lock| {
        lock.tools
            .iter()
            .map(|(name, tool)| (name.clone(), tool.digest.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(digests(&lock), digests(&starter));
}

#[test]
fn a_lock_file_is_written_once_unless_forced() {
    let server = tool_server::ToolServer::start("127.0.0.1:0".parse().unwrap()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tools.json");
    let (url, path) = (server.url(), file.to_str().unwrap().to_owned());
    let line = [
        "--from",
        &url,
        "--output",
        &path,
        "--owner",
        "a@example.org",
    ];
    run(&args(&line).unwrap()).unwrap();
    let first = fs::read_to_string(&file).unwrap();
    assert!(
        Lock::parse(first.as_bytes())
            .unwrap()
            .tools
            .values()
            .all(|tool| tool.owner == "a@example.org")
    );
    let error = run(&args(&line).unwrap()).unwrap_err().to_string();
    assert!(
        error.contains("tools.json") && error.contains("--force"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), first);
    run(&args(&[&line[..4], &["--force"]].concat()).unwrap()).unwrap();
    assert!(
        fs::read_to_string(&file)
            .unwrap()
            .contains("\"owner\": \"unassigned\"")
    );
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_list_without_an_end_is_given_up() {
    let same = listing(|_| json!({"tools": [], "nextCursor": "again"}));
    assert!(failure(&same).contains("one cursor twice"));
    let longer = listing(
        |cursor| json!({"tools": [], "nextCursor": format!("{}x", cursor.unwrap_or_default())}),
    );
    assert!(failure(&longer).contains("more than 64 pages"));
    let many = listing(|_| json!({"tools": vec![json!({}); MOST_ENTRIES + 1]}));
    assert!(failure(&many).contains("more than 10000 tools"));
}

#[test]
fn an_answer_beyond_the_bound_is_given_up() {
    let server = listing(|_| json!({"tools": [{"name": "x".repeat(10 << 20)}]}));
    assert!(failure(&server).contains("the answer cannot be read"));
}

#[test]
fn a_list_may_come_as_a_stream() {
    let server = ToolServer::answering(|exchange| {
        exchange.begin_events();
        exchange.event(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {}}));
        exchange.end_events(&json!({"supportedVersions": [MODERN], "tools": [{"name": "a"}]}));
    });
    assert_eq!(tools_of(&server.url()).unwrap(), [json!({"name": "a"})]);
}

/// What a server answers to a method's parameters.
type Answer = dyn Fn(&str, &Value) -> Option<Value> + Send + Sync;

/// A server with a handshake that gives a session; `answer` has the results of the lists.
fn legacy(revision: &'static str, capabilities: Value, answer: Box<Answer>) -> ToolServer {
    ToolServer::answering(move |exchange| {
        let request = exchange.request().clone();
        let (asked, method) = (request.json(), request.method());
        let initialized = request.head.get("mcp-session-id") == Some("s-1")
            && request.head.get("mcp-protocol-version") == Some(revision);
        match method.as_str() {
            "initialize" => {
                let result = json!({"protocolVersion": revision, "capabilities": capabilities});
                let body = json!({"jsonrpc": "2.0", "id": asked["id"], "result": result});
                let session = [("Mcp-Session-Id", "s-1")];
                exchange.answer(
                    200,
                    "application/json",
                    &session,
                    body.to_string().as_bytes(),
                );
            }
            _ if !initialized => exchange.json(400, &json!({"error": {"code": -32000}})),
            "notifications/initialized" => exchange.answer(202, "application/json", &[], b""),
            // The end of the session.
            "" => exchange.answer(405, "text/plain", &[], b""),
            method => match answer(method, &asked["params"]) {
                Some(result) => exchange.result(&result),
                None => exchange.error(-32601, "unknown"),
            },
        }
    })
}

fn tools_alone(method: &str) -> Option<Value> {
    (method == "tools/list").then(|| json!({"tools": [{"name": "a"}]}))
}

fn received(server: &ToolServer) -> Vec<String> {
    let received = server.received();
    received.iter().map(integration::Received::method).collect()
}

#[test]
fn a_server_with_a_handshake_is_locked_in_each_of_its_revisions() {
    for revision in ["2025-11-25", "2025-06-18", "2025-03-26"] {
        let capabilities = json!({"tools": {}});
        let server = legacy(
            revision,
            capabilities,
            Box::new(|method, _| tools_alone(method)),
        );
        let (listed, notes) = all_of(&server.url()).unwrap();
        assert_eq!(listed.tools, [json!({"name": "a"})]);
        assert!(notes.contains(&format!("speaks MCP {revision}")), "{notes}");
        let asked = received(&server);
        let expected = [
            "server/discover",
            "initialize",
            "notifications/initialized",
            "tools/list",
            "",
        ];
        assert_eq!(asked, expected);
        let received = server.received();
        assert_eq!(
            received[1].json()["params"]["protocolVersion"],
            "2025-11-25"
        );
        assert!(received[1].head.get("mcp-protocol-version").is_none());
        let (list, end) = (&received[3], &received[4]);
        assert!(list.head.get("mcp-method").is_none() && list.json().get("params").is_none());
        assert!(end.head.line.starts_with("DELETE "), "{}", end.head.line);
        assert_eq!(end.head.get("mcp-session-id"), Some("s-1"));
    }
}

#[test]
fn whatever_is_not_modern_is_asked_for_the_handshake() {
    type Act = fn(&mut integration::Exchange<'_>);
    let answers: [Act; 6] = [
        |exchange| exchange.json(404, &json!({"error": {"code": -32601}})),
        |exchange| exchange.json(400, &json!({"error": {"code": -32000}})),
        |exchange| exchange.error(-32602, "bad"),
        |exchange| exchange.answer(400, "text/plain", &[], b"no session"),
        |exchange| exchange.result(&json!({"supportedVersions": ["2025-06-18"]})),
        |exchange| {
            let data = json!({"supported": ["2025-11-25"], "requested": MODERN});
            exchange.json(400, &json!({"error": {"code": -32022, "data": data}}));
        },
    ];
    for answer in answers {
        let server =
            ToolServer::answering(move |exchange| match exchange.request().method().as_str() {
                "server/discover" => answer(exchange),
                "initialize" => exchange.result(&json!({"protocolVersion": "2025-11-25"})),
                "tools/list" => exchange.result(&json!({"tools": [{"name": "a"}]})),
                _ => exchange.answer(202, "application/json", &[], b""),
            });
        assert_eq!(tools_of(&server.url()).unwrap(), [json!({"name": "a"})]);
        assert_eq!(
            received(&server).len(),
            4,
            "nobody ends a session that there is not"
        );
    }
}

#[test]
fn a_modern_server_that_cannot_answer_is_not_taken_for_an_old_one() {
    for (status, code) in [
        (400, -32020),
        (400, -32021),
        (401, 0),
        (403, 0),
        (429, 0),
        (500, 0),
        (503, 0),
    ] {
        let server = ToolServer::answering(move |exchange| {
            exchange.json(status, &json!({"error": {"code": code}}));
        });
        let error = failure(&server);
        assert!(error.contains(&status.to_string()), "{error}");
        assert_eq!(received(&server), ["server/discover"]);
    }
    let neither = ToolServer::answering(|exchange| {
        exchange.result(&json!({"supportedVersions": ["2027-01-01"]}));
    });
    assert!(failure(&neither).contains("speaks none of MCP 2026-07-28, 2025-11-25"));
}

#[test]
fn a_server_without_a_revision_of_ours_is_named_and_says_what_to_do() {
    let sse = ToolServer::answering(|exchange| exchange.answer(405, "text/plain", &[], b""));
    let error = failure(&sse);
    assert!(
        error.contains("did not answer `initialize` (HTTP status 405)")
            && error.contains("HTTP+SSE"),
        "{error}"
    );
    let old = legacy("2024-11-05", json!({}), Box::new(|_, _| None));
    let error = failure(&old);
    assert!(
        error.contains("speaks MCP `2024-11-05`") && error.contains("HTTP+SSE"),
        "{error}"
    );
    let page = ToolServer::answering(|exchange| exchange.answer(200, "text/html", &[], b"<p>"));
    let error = failure(&page);
    assert!(
        error.contains("no MCP server") && !error.contains("HTTP+SSE"),
        "{error}"
    );
    let refusing = ToolServer::answering(|exchange| match exchange.request().method().as_str() {
        "server/discover" => exchange.error(-32601, "unknown"),
        _ => exchange.json(401, &json!({})),
    });
    assert!(failure(&refusing).contains("--header"));
}

#[test]
fn a_session_that_no_header_can_carry_is_refused_and_one_that_cannot_be_ended_is_told() {
    let server = ToolServer::answering(|exchange| {
        let body = json!({"id": exchange.request().json()["id"], "result": {"protocolVersion": "2025-11-25"}});
        let session = [("Mcp-Session-Id", "two words")];
        match exchange.request().method().as_str() {
            "initialize" => exchange.answer(
                200,
                "application/json",
                &session,
                body.to_string().as_bytes(),
            ),
            _ => exchange.error(-32601, "unknown"),
        }
    });
    assert!(failure(&server).contains("visible ASCII"));
    let stuck = ToolServer::answering(|exchange| {
        let asked = exchange.request().json();
        let body =
            json!({"id": asked["id"], "result": {"protocolVersion": "2025-11-25", "tools": []}});
        let session = [("Mcp-Session-Id", "s")];
        match exchange.request().method().as_str() {
            "server/discover" => exchange.error(-32601, "unknown"),
            "" => exchange.answer(500, "text/plain", &[], b""),
            _ => exchange.answer(
                200,
                "application/json",
                &session,
                body.to_string().as_bytes(),
            ),
        }
    });
    let (_, notes) = all_of(&stuck.url()).unwrap();
    assert!(
        notes.contains("the session could not be ended: HTTP status 500"),
        "{notes}"
    );
}

/// A server of everything; a first page of each list leads to a second.
fn everything(method: &str, params: &Value) -> Option<Value> {
    let second = params["cursor"] == "2";
    let entry = |first: Value, then: Value| {
        if second {
            json!([then])
        } else {
            json!([first])
        }
    };
    let (member, entries) = match method {
        "tools/list" => ("tools", entry(json!({"name": "a"}), json!({"name": "b"}))),
        "resources/list" => (
            "resources",
            entry(json!({"uri": "x:a"}), json!({"uri": "x:b"})),
        ),
        "resources/templates/list" => (
            "resourceTemplates",
            entry(
                json!({"uriTemplate": "x:c/{d}"}),
                json!({"uriTemplate": "x:d/{e}"}),
            ),
        ),
        "prompts/list" => ("prompts", entry(json!({"name": "p"}), json!({"name": "q"}))),
        _ => return None,
    };
    let mut result = json!({});
    result[member] = entries;
    if !second {
        result["nextCursor"] = "2".into();
    }
    Some(result)
}

fn complete(listed: &Listed) {
    assert_eq!(listed.tools.len(), 2);
    assert_eq!(
        listed.resources,
        [json!({"uri": "x:a"}), json!({"uri": "x:b"})]
    );
    assert_eq!(listed.templates.len(), 2);
    assert_eq!(listed.prompts, [json!({"name": "p"}), json!({"name": "q"})]);
}

fn capabilities() -> Value {
    json!({
        "tools": {"listChanged": true},
        "resources": {"subscribe": true, "listChanged": true},
        "prompts": {},
        "completions": {}
    })
}

#[test]
fn all_pages_of_all_lists_are_read_in_both_eras() {
    let old = legacy("2025-11-25", capabilities(), Box::new(everything));
    let (listed, notes) = all_of(&old.url()).unwrap();
    complete(&listed);
    assert_eq!(
        listed.methods,
        ["completion/complete", "resources/subscribe"]
    );
    assert!(notes.contains("list of resources changes"), "{notes}");
    let new = ToolServer::answering(|exchange| {
        let asked = exchange.request().json();
        match everything(asked["method"].as_str().unwrap(), &asked["params"]) {
            Some(result) => exchange.result(&result),
            None => exchange
                .result(&json!({"supportedVersions": [MODERN], "capabilities": capabilities()})),
        }
    });
    let (listed, _) = all_of(&new.url()).unwrap();
    complete(&listed);
    assert_eq!(
        listed.methods,
        ["completion/complete", "subscriptions/listen"]
    );
}

#[test]
fn only_what_the_server_says_it_has_is_asked_for() {
    let empty = legacy("2025-06-18", json!({}), Box::new(|_, _| None));
    assert_eq!(all_of(&empty.url()).unwrap().0, Listed::default());
    let some = legacy(
        "2025-06-18",
        json!({"resources": {}}),
        Box::new(|method, params| {
            (method == "resources/list")
                .then(|| everything(method, params))
                .flatten()
        }),
    );
    let (listed, _) = all_of(&some.url()).unwrap();
    assert_eq!((listed.resources.len(), listed.templates.len()), (2, 0));
    let liar = legacy("2025-06-18", json!({"prompts": {}}), Box::new(|_, _| None));
    assert!(failure(&liar).contains("refuses `prompts/list` (HTTP status 200, code -32601)"));
}

#[test]
fn a_server_with_a_handshake_may_answer_with_streams() {
    let server = ToolServer::answering(|exchange| match exchange.request().method().as_str() {
        "server/discover" => exchange.error(-32601, "unknown"),
        "notifications/initialized" => exchange.answer(202, "application/json", &[], b""),
        _ => {
            exchange.begin_events();
            exchange.chunk(b"id: 1\nretry: 10\ndata:\n\n");
            exchange.event(&json!({"jsonrpc": "2.0", "id": 7, "method": "ping"}));
            exchange
                .end_events(&json!({"protocolVersion": "2025-11-25", "tools": [{"name": "a"}]}));
        }
    });
    assert_eq!(tools_of(&server.url()).unwrap(), [json!({"name": "a"})]);
}

#[test]
fn the_file_of_a_server_of_everything_is_read_back_whole() {
    let server = legacy("2025-11-25", capabilities(), Box::new(everything));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("all.json");
    let (url, path) = (server.url(), file.to_str().unwrap().to_owned());
    run(&args(&["--from", &url, "-o", &path]).unwrap()).unwrap();
    let lock = Lock::parse(&fs::read(&file).unwrap()).unwrap();
    // The tools are left out: they have no schema.
    let counts = [
        lock.tools.len(),
        lock.resources.len(),
        lock.prompts.len(),
        lock.methods.len(),
    ];
    assert_eq!(counts, [0, 4, 2, 2]);
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = ToolServer::start(vec![Tool::echo("echo")]);
    let to = elsewhere.url();
    let server = ToolServer::answering(move |exchange| {
        exchange.answer(307, "text/plain", &[("Location", to.as_str())], b"");
    });
    assert!(failure(&server).contains("not followed"));
    assert_eq!(elsewhere.bytes(), 0);
}

#[test]
fn headers_reach_the_server_and_their_values_no_message() {
    let server = ToolServer::answering(|exchange| exchange.json(401, &json!({})));
    let args = args(&[
        "--from",
        &server.url(),
        "--header",
        "Authorization: Bearer s3cret",
    ])
    .unwrap();
    let error = format!("{:#}", run(&args).unwrap_err());
    assert!(
        error.contains("--header") && !error.contains("s3cret"),
        "{error}"
    );
    assert_eq!(
        server.received()[0].head.get("authorization"),
        Some("Bearer s3cret")
    );
    assert!(!format!("{args:?}").contains("s3cret"));
}

#[test]
fn wrong_use_is_refused_before_anything_is_asked() {
    for line in [
        &[][..],
        &["--from", "http://a/", "--force"],
        &["--from", "http://a/", "--owner", " "],
        &["--from", "http://a/", "--header", "no colon"],
        &["--from", "http://a/", "--header", "Host: b"],
        &["--from", "http://a/", "--header", "X: ${what:ever}"],
    ] {
        assert!(args(line).is_err(), "{line:?}");
    }
    for url in ["ftp://a/", "a", "http://u:p@a/"] {
        assert!(Client::new(url, HeaderMap::new()).is_err(), "{url}");
    }
}
