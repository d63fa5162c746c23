//! The lock file of an MCP service, with digests computed by other means than the product's:
//! canonical JSON (RFC 8785, for the strings, integers and booleans that schemas here have) and
//! SHA-256.

use std::{collections::BTreeMap, fmt::Write};

use aws_lc_rs::digest::{SHA256, digest as hash};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Lower-case hex SHA-256.
pub fn sha256_hex(bytes: &[u8]) -> String {
    let mut hex = String::new();
    for byte in hash(&SHA256, bytes).as_ref() {
        write!(hex, "{byte:02x}").unwrap();
    }
    hex
}

/// Unpadded base64url SHA-256.
pub fn sha256_base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(hash(&SHA256, bytes))
}

/// The digest of a tool's definition: over `inputSchema` and, if it has one, `outputSchema`.
pub fn digest(definition: &Value) -> String {
    let parts = ["inputSchema", "outputSchema"].into_iter();
    let parts = parts.filter_map(|part| Some((part.to_owned(), definition.get(part)?.clone())));
    let schemas = Value::Object(parts.collect());
    format!("sha256:{}", sha256_hex(canonical(&schemas).as_bytes()))
}

fn canonical(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(members) => {
            let mut keys: Vec<_> = members.keys().collect();
            keys.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
            let member = |key: &&String| format!("{}:{}", json!(key), canonical(&members[*key]));
            let members: Vec<_> = keys.iter().map(member).collect();
            format!("{{{}}}", members.join(","))
        }
        scalar => scalar.to_string(),
    }
}

/// A lock file of those definitions. `annotations`, `classification`, `labels`, `owner` and
/// `version` of a definition are taken over; what is absent is filled in: an idempotent read.
pub fn lock_file(definitions: &BTreeMap<String, Value>) -> Value {
    let tools = definitions
        .iter()
        .map(|(name, definition)| (name.clone(), locked(definition)));
    json!({"outrider_lock": 1, "protocol": "mcp", "tools": Value::Object(tools.collect())})
}

fn locked(definition: &Value) -> Value {
    let mut tool = json!({
        "annotations": {
            "read_only": true, "destructive": false, "idempotent": true, "open_world": false,
        },
        "labels": [],
        "owner": "owner@example.org",
        "version": "1",
    });
    for (key, value) in definition.as_object().expect("a definition is an object") {
        tool[key] = value.clone();
    }
    tool["digest"] = json!(digest(definition));
    tool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_has_sorted_keys_and_no_spaces() {
        let value = json!({"b": [true, 1, "\u{e9}"], "a": {"z": null, "y": "\n"}});
        let text = "{\"a\":{\"y\":\"\\n\",\"z\":null},\"b\":[true,1,\"\u{e9}\"]}";
        assert_eq!(canonical(&value), text);
    }

    #[test]
    fn a_digest_depends_on_the_schemas_alone() {
        let one = json!({"inputSchema": {"type": "object"}, "description": "one"});
        let two = json!({"inputSchema": {"type": "object"}, "description": "two"});
        let three = json!({"inputSchema": {"type": "object"}, "outputSchema": {}});
        assert_eq!(digest(&one), digest(&two));
        assert_ne!(digest(&one), digest(&three));
    }
}
