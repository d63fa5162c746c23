//! MCP and JSON-RPC messages of an agent, of every revision, with their headers: what is read is
//! what a second reader finds in the body, and every refusal can be said.

use outrider::{
    call::{DecisionId, ToolCall},
    protocol::{Asked, Exchange, Kind, Message, Spoken},
    rejection::Rejection,
};
use outrider_schemas::json::parse;

use crate::{
    fixture::{JSONRPC, MCP},
    json::{
        reader::{Tree, read},
        same,
    },
    text,
};

/// A request to the MCP service, or, after `rpc `, to the JSON-RPC service.
pub fn run(data: &[u8]) {
    let (spoken, data) = match data.strip_prefix(b"rpc ") {
        Some(rest) => (&*JSONRPC, rest),
        None => (&*MCP, data),
    };
    let Some((head, body)) = text::request(data) else {
        return;
    };
    let asked = Asked {
        head: &head,
        rest: "",
        query: None,
        body,
        websocket: false,
    };
    let protocol = &spoken.protocol;
    if let Err(rejection) = protocol.admit(&asked) {
        return said(spoken, &Exchange::opaque(), &rejection);
    }
    match protocol.read(&asked) {
        Ok(message) => understood(spoken, &asked, message),
        Err(unreadable) => said(spoken, &unreadable.exchange, &unreadable.rejection),
    }
}

fn understood(spoken: &Spoken, asked: &Asked<'_>, message: Message) {
    if asked.body.is_empty() {
        assert!(matches!(message.kind, Kind::Own), "{message:?}");
        return;
    }
    let tree = read(asked.body).expect("what is read is strict JSON");
    let Some(told) = text_of(&tree, "method") else {
        assert!(message.session.is_some(), "an answer outside a session");
        return;
    };
    // A JSON-RPC method that nobody published has no name here.
    if !message.method.is_empty() {
        assert_eq!(told, &*message.method, "another method");
    }
    if spoken.protocol.name() == "mcp" {
        let mirrored = asked.head.headers.get("mcp-method");
        assert!(mirrored.is_none_or(|mirrored| mirrored.as_bytes() == told.as_bytes()));
    }
    let id = message.exchange.id.as_deref();
    match member(&tree, "id") {
        None => assert_eq!(id, None),
        Some(expected) => {
            let id = parse(id.expect("an ID").as_bytes()).expect("an ID is JSON");
            assert!(same(&id, expected), "another ID");
        }
    }
    if let Kind::Call(call) = message.kind {
        called(spoken, asked, &message.exchange, &tree, call);
    }
}

fn called(spoken: &Spoken, asked: &Asked<'_>, exchange: &Exchange, tree: &Tree, call: ToolCall) {
    let params = member(tree, "params");
    let named = |name| params.and_then(|params| text_of(params, name));
    match text_of(tree, "method") {
        Some("tools/call") => {
            assert_eq!(named("name"), Some(&*call.operation), "another tool");
            let none = Tree::Object(Default::default());
            let arguments = params.and_then(|params| member(params, "arguments"));
            assert!(
                same(&call.arguments, arguments.unwrap_or(&none)),
                "other arguments"
            );
        }
        Some("prompts/get") => {
            let name = named("name").expect("a name");
            assert_eq!(*call.operation, format!("prompt:{name}"));
        }
        Some("resources/read") => assert!(call.operation.starts_with("resource:")),
        method => assert_eq!(method, Some(&*call.operation), "another operation"),
    }
    let Some(tool) = spoken.contract.tool(&call.operation) else {
        return;
    };
    let violations = tool.input.violations(&call.arguments, 8);
    assert_eq!(violations.is_empty(), tool.input.is_valid(&call.arguments));
    if let Err(rejection) = spoken.protocol.works(&call) {
        said(spoken, exchange, &rejection);
    }
    if let Err(rejection) = spoken.protocol.agree(asked.head, &call, tool) {
        said(spoken, exchange, &rejection);
    }
}

/// A refusal in the protocol's words is strict JSON with the ID of the request.
fn said(spoken: &Spoken, exchange: &Exchange, rejection: &Rejection) {
    let id = DecisionId::mint();
    let Some(refusal) = spoken.protocol.refuse(exchange, rejection, id) else {
        return;
    };
    if refusal.body.is_empty() {
        return;
    }
    let told = read(&refusal.body).expect("a refusal is strict JSON");
    let text = String::from_utf8_lossy(&refusal.body);
    assert!(
        text.contains(&id.to_string()),
        "a refusal without its decision: {text}"
    );
    if let (Some(asked), Some(told)) = (exchange.id.as_deref(), member(&told, "id")) {
        let asked = parse(asked.as_bytes()).expect("an ID is JSON");
        assert!(same(&asked, told), "the refusal of another request: {text}");
    }
}

/// A member of an object.
pub fn member<'a>(tree: &'a Tree, name: &str) -> Option<&'a Tree> {
    match tree {
        Tree::Object(members) => members.get(name),
        _ => None,
    }
}

/// A text member of an object.
pub fn text_of<'a>(tree: &'a Tree, name: &str) -> Option<&'a str> {
    match member(tree, name) {
        Some(Tree::Text(text)) => Some(text),
        _ => None,
    }
}
