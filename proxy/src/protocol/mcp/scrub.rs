//! Takes `outrider/…` keys out of every `_meta` of an answer: only we speak in that name.
//!
//! In: the bytes of JSON that was read strictly. Out: the same bytes where there is nothing to
//! take out, which is nearly always; otherwise the message written anew.

use bytes::Bytes;
use memchr::memmem;
use serde_json::Value;

/// Removes the keys that are ours to give.
pub(super) fn scrub(message: Bytes) -> Bytes {
    if !suspect(&message) {
        return message;
    }
    let Ok(mut tree) = serde_json::from_slice::<Value>(&message) else {
        return message;
    };
    if !clean(&mut tree) {
        return message;
    }
    serde_json::to_vec(&tree).map_or(message, Bytes::from)
}

/// A key of ours is written plainly, or hidden behind an escape.
fn suspect(message: &[u8]) -> bool {
    memmem::find(message, b"outrider").is_some()
        || (memchr::memchr(b'\\', message).is_some() && memmem::find(message, b"\\u").is_some())
        || memmem::find(message, b"\\/").is_some()
}

/// Whether anything was taken out.
fn clean(tree: &mut Value) -> bool {
    match tree {
        Value::Array(items) => items
            .iter_mut()
            .fold(false, |found, item| clean(item) | found),
        Value::Object(members) => members.iter_mut().fold(false, |found, (name, value)| {
            let ours = name == "_meta" && forget(value);
            clean(value) | ours | found
        }),
        _ => false,
    }
}

fn forget(meta: &mut Value) -> bool {
    let Some(members) = meta.as_object_mut() else {
        return false;
    };
    let before = members.len();
    members.retain(|name, _| !name.starts_with("outrider/"));
    members.len() != before
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_our_name_are_taken_out_however_they_are_spelled() {
        for key in [
            "outrider/decision",
            "outrider\\/decision",
            "\\u006futrider/decision",
        ] {
            let text = format!(
                r#"{{"result":{{"_meta":{{"{key}":{{"id":"x"}},"a":1}},"content":[{{"_meta":{{"{key}":1}}}}]}}}}"#
            );
            let clean: Value = serde_json::from_slice(&scrub(text.into())).unwrap();
            assert_eq!(
                clean,
                serde_json::json!({"result": {"_meta": {"a": 1}, "content": [{"_meta": {}}]}}),
                "{key}"
            );
        }
    }

    #[test]
    fn an_answer_without_them_keeps_its_bytes() {
        let text = r#"{"result": {"n": 1.0, "t": "\u00e9 outrider/decision", "_meta": {"a": 1}}}"#;
        assert_eq!(scrub(text.into()), text);
    }
}
