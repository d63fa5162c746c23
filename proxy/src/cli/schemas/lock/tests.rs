use integration::{Tool, ToolServer};
use outrider_integration as integration;
use serde_json::json;

use super::*;
use crate::cli::{demo::tool_server, init::TOOLS, parsed};

fn args(line: &[&str]) -> Result<Args, clap::Error> {
    parsed(line.iter().copied())
}

fn tools_of(url: &str) -> anyhow::Result<Vec<Value>> {
    let client = Client::new(url, HeaderMap::new())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(listed(&client))
}

/// A server that answers discovery well and lists with `list`.
fn listing(list: impl Fn(Option<&str>) -> Value + Send + Sync + 'static) -> ToolServer {
    ToolServer::answering(move |exchange| {
        let asked = exchange.request().json();
        let result = if asked["method"] == "server/discover" {
            json!({"supportedVersions": [REVISION]})
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
    let many = listing(|_| json!({"tools": vec![json!({}); MOST_TOOLS + 1]}));
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
        exchange.end_events(&json!({"supportedVersions": [REVISION], "tools": [{"name": "a"}]}));
    });
    assert_eq!(tools_of(&server.url()).unwrap(), [json!({"name": "a"})]);
}

#[test]
fn a_server_of_an_older_revision_is_told_apart() {
    let unknown =
        ToolServer::answering(|exchange| exchange.json(404, &json!({"error": {"code": -32601}})));
    assert!(
        failure(&unknown)
            .contains("(HTTP status 404, code -32601); older revisions are not built yet")
    );
    let older = ToolServer::answering(|exchange| {
        exchange.result(&json!({"supportedVersions": ["2025-11-25"]}));
    });
    assert!(failure(&older).contains("does not speak MCP 2026-07-28"));
    let page = ToolServer::answering(|exchange| exchange.answer(200, "text/html", &[], b"<p>"));
    assert!(failure(&page).contains("no MCP server of revision 2026-07-28"));
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
