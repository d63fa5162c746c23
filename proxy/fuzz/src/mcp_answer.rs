//! What a service answers, whatever it is: what passes is one strict JSON message that answers the
//! request, shows nothing that is hidden, and does not speak in our name.

use std::{cell::RefCell, sync::Arc};

use bytes::Bytes;
use outrider::protocol::{Exchange, Form, Hangup, Held, Listed, Passed};

use crate::{
    fixture::{JSONRPC, MCP},
    json::reader::{Tree, read},
    mcp::{member, text_of},
};

/// The forms that an exchange can have; the first byte chooses.
const FORMS: [Form; 8] = [
    Form::ToolResult,
    Form::List(Listed::Tools),
    Form::List(Listed::Resources),
    Form::List(Listed::Templates),
    Form::List(Listed::Prompts),
    Form::Request,
    Form::Opening,
    Form::Notification,
];

/// The one operation that may not be shown.
const HIDDEN: &str = "drop";

/// The first byte chooses the exchange, the rest is the answer.
pub fn run(data: &[u8]) {
    let Some((&first, answer)) = data.split_first() else {
        return;
    };
    let form = FORMS[usize::from(first) % FORMS.len()];
    let exchange = Exchange {
        id: (form != Form::Notification).then(|| "1".into()),
        form,
        hangup: Hangup::Cancels,
    };
    let works = RefCell::new(Vec::new());
    let held = Held {
        operation: Some("now"),
        shown: &|operation| operation != HIDDEN,
        session: None,
        goes_on: &|id, _| works.borrow_mut().push(Arc::<str>::from(id)),
        call: None,
    };
    let answer = Bytes::copy_from_slice(answer);
    for spoken in [&*MCP, &*JSONRPC] {
        let inspected = spoken.protocol.inspect(&exchange, answer.clone(), &held);
        let passed = match inspected {
            Ok(Passed::Interim(passed)) => (passed, false),
            Ok(Passed::Final(passed)) => (passed, true),
            Ok(Passed::Dropped) | Err(_) => continue,
        };
        let tree = read(&passed.0).expect("what passes is strict JSON");
        assert!(read(&answer).is_ok(), "what came was no strict JSON");
        if passed.1 {
            answers(&tree, form);
        }
        if spoken.protocol.name() == "mcp" {
            unclaimed(&tree);
            hidden(&tree, form);
        }
    }
    if let Some(adopted) = MCP.protocol.adopt(&exchange, &answer) {
        let tree = read(&adopted).expect("what is adopted is strict JSON");
        assert!(member(&tree, "error").is_some());
        answers(&tree, form);
    }
}

/// A response to request 1, or an error that nobody asked for.
fn answers(tree: &Tree, form: Form) {
    match member(tree, "id") {
        Some(Tree::Number(id)) => assert_eq!(id, "1"),
        id => assert!(
            member(tree, "error").is_some() || form == Form::Notification,
            "answers {id:?}"
        ),
    }
}

/// Nothing under `outrider/` in any `_meta`.
fn unclaimed(tree: &Tree) {
    match tree {
        Tree::Array(items) => items.iter().for_each(unclaimed),
        Tree::Object(members) => {
            for (name, value) in members {
                if let ("_meta", Tree::Object(meta)) = (name.as_str(), value) {
                    let ours = meta.keys().find(|key| key.starts_with("outrider/"));
                    assert_eq!(ours, None, "in our name");
                }
                unclaimed(value);
            }
        }
        _ => {}
    }
}

fn hidden(tree: &Tree, form: Form) {
    let Some(Tree::Array(tools)) =
        member(tree, "result").and_then(|result| member(result, "tools"))
    else {
        return;
    };
    if form == Form::List(Listed::Tools) && text_of(tree, "method").is_none() {
        let mut names: Vec<_> = tools
            .iter()
            .filter_map(|tool| text_of(tool, "name"))
            .collect();
        assert_eq!(names.len(), tools.len(), "a tool without a name");
        assert!(!names.contains(&HIDDEN), "a hidden tool");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), tools.len(), "a tool twice");
    }
}
