//! OpenAPI documents: any text is refused or loaded, and a request against what was loaded is
//! decoded or refused.

use outrider_policy::Value as Tree;
use outrider_schemas::{
    catalogue::Contract,
    openapi::{Api, Document, Loaded, Request, load},
};
use serde_json::Value;

use crate::text;

/// What stands between a document and a request.
const REQUEST: &[u8] = b"\n%%%\n";

/// A document, JSON or YAML, and a request against it.
pub fn run(data: &[u8]) {
    let (document, request) = text::cut(data, REQUEST);
    let Some(loaded) = loaded(document) else {
        return;
    };
    let served = loaded.report.served();
    assert_eq!(
        served,
        loaded.api.operations().count(),
        "{:?}",
        loaded.report
    );
    assert_eq!(served, Contract::of_api(&loaded.api).tools().count());
    ask(&loaded.api, request);
}

fn loaded(document: &[u8]) -> Option<Loaded> {
    if let Ok(Document(value)) = Document::from_json(document) {
        let loaded = alone(value)?;
        // Reading leaves out what no request refers to; that must not be seen.
        let Document(whole) = serde_json::from_slice(document).expect("the same document");
        let whole = alone(whole).expect("the same description");
        let lines = |loaded: &Loaded| format!("{:?}", loaded.report.operations);
        assert_eq!(lines(&loaded), lines(&whole), "less was read");
        return Some(loaded);
    }
    let Document(value) = serde_saphyr::from_str(std::str::from_utf8(document).ok()?).ok()?;
    alone(value)
}

fn alone(document: Value) -> Option<Loaded> {
    load(document, &mut |_| Err("no file beside it".to_owned())).ok()
}

/// Sends one request; what is decoded has its parts and no others.
pub fn ask(api: &Api, request: &[u8]) {
    let Some((head, body)) = text::request(request) else {
        return;
    };
    let Ok((operation, variables)) = api.find(head.method.as_str(), head.uri.path()) else {
        return;
    };
    let headers: Vec<(&str, &[u8])> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    let decoded = operation.decode(&Request {
        variables: &variables,
        query: head.uri.query(),
        headers: &headers,
        body,
    });
    match decoded {
        Ok(arguments) => {
            let Tree::Object(parts) = &arguments else {
                panic!("{arguments:?}");
            };
            let known = ["body", "cookie", "header", "path", "query"].map(Tree::from);
            assert!(
                parts.keys().all(|part| known.contains(part)),
                "{arguments:?}"
            );
            let violations = operation.schema().violations(&arguments, 8);
            assert_eq!(
                violations.is_empty(),
                operation.schema().is_valid(&arguments)
            );
        }
        Err(undecodable) => assert!(!undecodable.violation().message.is_empty()),
    }
}
