//! Requests against one description in which every style, place and media type stands.

use std::sync::LazyLock;

use outrider_schemas::openapi::{Document, Loaded, load};

use crate::openapi::ask;

static EVERYTHING: LazyLock<Loaded> = LazyLock::new(|| {
    let text = include_bytes!("fixture/everything.json");
    let Document(value) = Document::from_json(text).expect("a document");
    let loaded = load(value, &mut |_| Err(String::new())).expect("a description");
    assert_eq!(loaded.report.left_out().count(), 0, "{:?}", loaded.report);
    loaded
});

/// One request.
pub fn run(data: &[u8]) {
    ask(&EVERYTHING.api, data);
}
