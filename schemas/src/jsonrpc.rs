//! The catalogue of a JSON-RPC service: its methods as the operator has read and agreed to them.
//!
//! JSON-RPC 2.0 has no description of its own, so the format is ours, in the manner of the
//! [lock file](crate::lock): strict JSON, unknown members are errors, what is not said is read
//! pessimistically. A method without `params` takes none.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    catalogue::{Contract, Tool},
    json::{self, Malformed},
    json_schema::{BadSchema, Schema},
    lock::{Annotations, attended, canonical_digest},
};

/// The methods of one JSON-RPC service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalogue {
    /// The methods by name.
    pub methods: BTreeMap<String, Method>,
}

/// One method as it was agreed to.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// A name for people.
    #[serde(default)]
    pub title: Option<String>,
    /// What the method does.
    #[serde(default)]
    pub description: Option<String>,
    /// The schema of `params`, an object or an array; none where the method takes none.
    #[serde(default, deserialize_with = "present")]
    pub params: Option<Value>,
    /// The schema of `result`; any where there is none.
    #[serde(default, deserialize_with = "present")]
    pub result: Option<Value>,
    /// What the operator knows of the method's effects.
    #[serde(default)]
    pub annotations: Annotations,
    /// The level of the data, one of [`crate::lock::LEVELS`].
    #[serde(default)]
    pub classification: Option<String>,
    /// Labels such as `pii.email`.
    #[serde(default)]
    pub labels: Vec<String>,
    /// The team that answers for the method.
    pub owner: String,
    /// The version the team gave it.
    pub version: String,
    /// [`digest`] of the two schemas; where it is left out they are not held against one.
    #[serde(default)]
    pub digest: Option<String>,
}

/// A catalogue that is not read, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCatalogue {
    /// Not strict JSON.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Not a catalogue as a whole.
    #[error("not a catalogue: {0}")]
    Form(String),
    /// A version of the format this build does not read.
    #[error("`outrider_catalogue` is {0}; this build reads 1")]
    Version(u64),
    /// A catalogue of another protocol.
    #[error("`protocol` is `{0}`; expected `jsonrpc`")]
    Protocol(String),
    /// A method that is not as the format asks.
    #[error("method `{method}`: {detail}")]
    Method {
        /// The method's name.
        method: String,
        /// What is wrong.
        detail: String,
    },
    /// A method whose schemas are not those the digest was made of.
    #[error(
        "method `{method}`: the schemas do not match `digest`; review them, then write \
         `\"digest\": \"{actual}\"`"
    )]
    Digest {
        /// The method's name.
        method: String,
        /// The digest of the schemas in the file.
        actual: String,
    },
}

/// A method that cannot be enforced as published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("method `{method}`: {member}: {reason}")]
pub struct BadMethod {
    /// The method's name.
    pub method: String,
    /// `params` or `result`.
    pub member: &'static str,
    /// What is wrong with its schema.
    #[source]
    pub reason: BadSchema,
}

/// The whole file, its methods not looked into yet.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    outrider_catalogue: u64,
    protocol: String,
    methods: BTreeMap<String, Value>,
}

/// A member that is there, whatever its value: `null` is no way to leave a schema out.
fn present<'de, D: serde::Deserializer<'de>>(reader: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(reader).map(Some)
}

impl Catalogue {
    /// Reads a catalogue.
    ///
    /// # Errors
    ///
    /// [`BadCatalogue`] names the method and what is wrong with it; one bad method refuses the
    /// file.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadCatalogue> {
        let document = json::parse_document(bytes)?;
        let file: File = serde_json::from_value(document)
            .map_err(|error| BadCatalogue::Form(error.to_string()))?;
        if file.outrider_catalogue != 1 {
            return Err(BadCatalogue::Version(file.outrider_catalogue));
        }
        if file.protocol != "jsonrpc" {
            return Err(BadCatalogue::Protocol(file.protocol));
        }
        let methods = file.methods.into_iter().map(|(name, method)| {
            let method = read(&name, method)?;
            Ok((name, method))
        });
        Ok(Self {
            methods: methods.collect::<Result<_, BadCatalogue>>()?,
        })
    }

    /// Compiles every method.
    ///
    /// # Errors
    ///
    /// Every [`BadMethod`] there is; one of them refuses the whole.
    pub fn compile(self) -> Result<Contract, Vec<BadMethod>> {
        let mut tools = Vec::new();
        let mut bad = Vec::new();
        for (name, method) in self.methods {
            match compile(&name, method) {
                Ok(tool) => tools.push(tool),
                Err(reason) => bad.push(reason),
            }
        }
        if bad.is_empty() {
            Ok(tools.into_iter().collect())
        } else {
            Err(bad)
        }
    }
}

fn read(name: &str, method: Value) -> Result<Method, BadCatalogue> {
    let bad = |detail: String| BadCatalogue::Method {
        method: name.to_owned(),
        detail,
    };
    let method: Method = serde_json::from_value(method).map_err(|error| bad(error.to_string()))?;
    if name.is_empty() {
        return Err(bad("a method needs a name".to_owned()));
    }
    let level = method.classification.as_deref();
    attended(&method.owner, &method.version, level).map_err(bad)?;
    let actual = digest(method.params.as_ref(), method.result.as_ref());
    match &method.digest {
        Some(agreed) if *agreed != actual => Err(BadCatalogue::Digest {
            method: name.to_owned(),
            actual,
        }),
        _ => Ok(method),
    }
}

/// Digests the contract of a method: `sha256:` and the hex of SHA-256 over the RFC 8785 form of
/// `{params, result}`, each only where there is one.
pub fn digest(params: Option<&Value>, result: Option<&Value>) -> String {
    let members = [("params", params), ("result", result)].into_iter();
    canonical_digest(
        &members
            .filter_map(|(name, schema)| Some((name, schema?)))
            .collect(),
    )
}

fn compile(name: &str, method: Method) -> Result<Tool, BadMethod> {
    let bad = |member| {
        move |reason| BadMethod {
            method: name.to_owned(),
            member,
            reason,
        }
    };
    // Nothing is published, so nothing can be passed.
    let none = json!({"type": ["object", "array"], "maxProperties": 0, "maxItems": 0});
    let input = Schema::compile(method.params.as_ref().unwrap_or(&none)).map_err(bad("params"))?;
    let output = method.result.as_ref().map(Schema::compile).transpose();
    Ok(Tool {
        operation: name.into(),
        owner: method.owner.into(),
        version: method.version.into(),
        digest: digest(method.params.as_ref(), method.result.as_ref()).into(),
        classification: method.classification,
        labels: method.labels.into_iter().map(Into::into).collect(),
        read_only: method.annotations.read_only,
        destructive: method.annotations.destructive,
        idempotent: method.annotations.idempotent,
        open_world: method.annotations.open_world,
        input,
        output: output.map_err(bad("result"))?,
        headers: Vec::new(),
    })
}

#[cfg(test)]
mod tests;
