//! Headers that mirror the body must agree with it (MCP 2026-07-28, header mirroring).

use outrider_integration::{Request, Tool, ToolServer, sentinel};
use serde_json::{Value, json};

use crate::support::{Form::Rpc, before, hi, refused};

const MISMATCH: (crate::support::Form, &str) = (Rpc(400, -32020), "header_mismatch");

#[test]
fn a_name_beyond_ascii_is_mirrored_in_the_sentinel() {
    let server = ToolServer::start(vec![Tool::echo("h\u{e9}llo")]);
    let sidecar = before(&server);
    let answer = sidecar.agent().call("h\u{e9}llo", &hi());
    assert!(answer.is_tool_success(), "{}", answer.text());
    assert_eq!(
        server.calls()[0].head.get("mcp-name"),
        Some(sentinel("h\u{e9}llo").as_str())
    );
}

#[test]
fn a_sentinel_is_compared_by_what_it_says() {
    let server = ToolServer::start(vec![Tool::echo("Hello")]);
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let call = Request::call("Hello", &hi());
    let plain = agent.send(&call.clone().with("Mcp-Name", "=?base64?SGVsbG8=?="));
    assert!(plain.is_tool_success(), "{}", plain.text());
    for bad in [
        "=?base64?SGVsbG8?=",
        "=?base64?!!!!?=",
        "=?BASE64?SGVsbG8=?=",
        "SGVsbG8=",
        "=?base64?b3RoZXI=?=",
    ] {
        let request = call.clone().with("Mcp-Name", bad);
        refused(&sidecar, &server, MISMATCH, || agent.send(&request));
    }
}

#[test]
fn space_around_a_header_value_is_no_difference() {
    let server = ToolServer::start(vec![Tool::echo("echo")]);
    let sidecar = before(&server);
    let request = Request::call("echo", &hi()).with("Mcp-Name", "  echo \t");
    assert!(sidecar.agent().send(&request).is_tool_success());
}

/// A tool whose arguments `region`, `count` and `deep.flag` are mirrored.
fn mirrored() -> ToolServer {
    let schema = json!({
        "type": "object",
        "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "count": {"type": "integer", "x-mcp-header": "Count"},
            "deep": {
                "type": "object",
                "properties": {"flag": {"type": "boolean", "x-mcp-header": "Flag"}},
            },
        },
    });
    ToolServer::start(vec![Tool::new("query", &schema, |exchange| {
        exchange.result(&outrider_integration::text_result("ok"));
    })])
}

#[test]
fn a_mirrored_argument_must_be_in_its_header() {
    let server = mirrored();
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let call = |arguments: Value, fields: &[(&str, &str)]| {
        let call = Request::call("query", &arguments);
        fields
            .iter()
            .fold(call, |call, (name, value)| call.field(name, value))
    };
    let west = json!({"region": "us-west1"});
    let padded = sentinel(" padded ");
    for (request, good) in [
        (call(json!({}), &[]), true),
        (
            call(west.clone(), &[("Mcp-Param-Region", "us-west1")]),
            true,
        ),
        (
            call(west.clone(), &[("mcp-param-region", "us-west1")]),
            true,
        ),
        (
            call(
                json!({"region": " padded "}),
                &[("Mcp-Param-Region", &padded)],
            ),
            true,
        ),
        (
            call(json!({"count": 42}), &[("Mcp-Param-Count", "42")]),
            true,
        ),
        (
            call(json!({"count": 42}), &[("Mcp-Param-Count", "42.0")]),
            true,
        ),
        (
            call(
                json!({"deep": {"flag": true}}),
                &[("Mcp-Param-Flag", "true")],
            ),
            true,
        ),
        (call(json!({}), &[("Mcp-Param-Unheard-Of", "x")]), true),
        (call(west.clone(), &[]), false),
        (
            call(west.clone(), &[("Mcp-Param-Region", "us-east1")]),
            false,
        ),
        (
            call(west.clone(), &[("Mcp-Param-Region", "US-WEST1")]),
            false,
        ),
        (
            call(
                west.clone(),
                &[
                    ("Mcp-Param-Region", "us-west1"),
                    ("Mcp-Param-Region", "us-east1"),
                ],
            ),
            false,
        ),
        (call(json!({}), &[("Mcp-Param-Region", "us-west1")]), false),
        (
            call(json!({"count": 42}), &[("Mcp-Param-Count", "43")]),
            false,
        ),
        (
            call(
                json!({"deep": {"flag": true}}),
                &[("Mcp-Param-Flag", "TRUE")],
            ),
            false,
        ),
    ] {
        if good {
            let answer = agent.send(&request);
            assert!(
                answer.is_tool_success(),
                "{:?}: {}",
                request.fields,
                answer.text()
            );
        } else {
            refused(&sidecar, &server, MISMATCH, || agent.send(&request));
        }
    }
}

/// Legacy messages need no mirrored headers; one that has them, for whoever reads them behind us, has
/// the right ones.
#[test]
fn a_legacy_call_may_leave_its_mirrored_arguments_out_and_not_misstate_them() {
    let server = mirrored();
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let call = || Request::legacy_call("query", &json!({"region": "us-west1"}));
    for good in [call(), call().field("Mcp-Param-Region", "us-west1")] {
        assert_ne!(agent.send(&good).code(), "header_mismatch");
    }
    for bad in [
        call().field("Mcp-Param-Region", "us-east1"),
        call().field("Mcp_Param_Region", "us-west1"),
        call().field("Mcp-Param-Count", "7"),
        call()
            .field("Mcp-Param-Region", "us-west1")
            .field("Mcp-Param-Region", "us-east1"),
    ] {
        refused(&sidecar, &server, MISMATCH, || agent.send(&bad));
    }
}

#[test]
fn an_unrecognised_mirrored_header_is_passed_on_untouched() {
    let server = mirrored();
    let sidecar = before(&server);
    let request = Request::call("query", &json!({})).field("Mcp-Param-Unheard-Of", "=?base64?x");
    assert!(sidecar.agent().send(&request).is_tool_success());
    assert_eq!(
        server.calls()[0].head.get("mcp-param-unheard-of"),
        Some("=?base64?x")
    );
}

/// What a `Connection` header names is not sent on, so it is not judged either.
#[test]
fn a_header_that_is_not_sent_on_proves_nothing() {
    let server = mirrored();
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let call = || {
        Request::call("query", &json!({"region": "us-west1"})).field("Mcp-Param-Region", "us-west1")
    };
    assert!(agent.send(&call()).is_tool_success());
    for name in ["mcp-name", "Mcp-Method", "MCP-PARAM-REGION"] {
        for connection in [name.to_owned(), format!("keep-alive, {name}")] {
            let request = call().field("Connection", &connection);
            refused(&sidecar, &server, MISMATCH, || agent.send(&request));
        }
    }
    let two = call()
        .field("Connection", "keep-alive")
        .field("Connection", "mcp-name");
    refused(&sidecar, &server, MISMATCH, || agent.send(&two));
    for (name, status) in [("mcp-protocol-version", 400), ("content-type", 415)] {
        let before = server.bytes();
        let answer = agent.send(&call().field("Connection", name));
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        assert_eq!(server.bytes(), before, "{name}");
        let line = sidecar.decision(&answer.decision_id());
        assert_eq!(line["outcome"], "deny", "{name}: {line}");
    }
}

/// A reader that takes `_` for `-` would see another header than the one that was judged.
#[test]
fn a_header_that_looks_like_a_judged_one_is_refused() {
    let server = mirrored();
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let call = || Request::call("query", &json!({}));
    for (name, value) in [
        ("Mcp_Name", "erase"),
        ("mcp_name", "query"),
        ("MCP_NAME", "query"),
        ("Mcp_Method", "tools/list"),
        ("MCP_Protocol-Version", "2025-06-18"),
        ("MCP-Protocol_Version", "2025-06-18"),
        ("Mcp_Param_Region", "us-east1"),
        ("mcp-param_region", "us-east1"),
        ("Content_Type", "text/plain"),
        ("Content_Length", "5"),
        ("Accept_Encoding", "gzip"),
    ] {
        let request = call().field(name, value);
        refused(&sidecar, &server, MISMATCH, || agent.send(&request));
    }
    for (name, twice) in [("Mcp-Name", "query"), ("MCP-METHOD", "tools/call")] {
        let request = call().field(name, twice);
        refused(&sidecar, &server, MISMATCH, || agent.send(&request));
    }
    assert!(agent.send(&call()).is_tool_success());
}

/// An argument's name may have a `_`; what looks like its header is not its header.
#[test]
fn a_mirrored_argument_with_an_underscore_has_exactly_its_own_header() {
    let schema = json!({
        "type": "object",
        "properties": {"dry_run": {"type": "boolean", "x-mcp-header": "dry_run"}},
    });
    let server = ToolServer::start(vec![Tool::new("query", &schema, |exchange| {
        exchange.result(&outrider_integration::text_result("ok"));
    })]);
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let call = || Request::call("query", &json!({"dry_run": true}));
    let good = call().field("Mcp-Param-Dry_Run", "true");
    let answer = agent.send(&good);
    assert!(answer.is_tool_success(), "{}", answer.text());
    for request in [
        call(),
        call().field("Mcp-Param-Dry-Run", "true"),
        call().field("Mcp-Param-Dry_Run", "false"),
        good.clone().field("Mcp-Param-Dry-Run", "false"),
        good.clone().field("Mcp_Param-Dry_Run", "false"),
        good.clone().field("Mcp-Param_Dry-Run", "true"),
    ] {
        refused(&sidecar, &server, MISMATCH, || agent.send(&request));
    }
}
