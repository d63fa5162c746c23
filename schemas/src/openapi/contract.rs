//! One operation of a description, from its object to a compiled contract.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use serde_json::{Map, Value, json};

use super::{
    Version,
    body::{Bodies, Kind, Range, Reader},
    convert::Bundle,
    facts::Said,
    fields::Field,
    operation::{Allowed, Named, Operation, Parts, Variable},
    parameters::{self, Declared, Place},
    resolve::{Files, Node},
    style::{Coding, Script},
};
use crate::{
    catalogue::Tool,
    json_schema::{Schema, shown},
};

/// Where an operation stands in its description.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) files: &'a Files,
    pub(super) version: Version,
    pub(super) item: Node<'a>,
    pub(super) operation: Node<'a>,
}

/// What names an operation.
#[derive(Clone)]
pub(super) struct Names<'a> {
    pub(super) name: Arc<str>,
    pub(super) method: Arc<str>,
    pub(super) template: Arc<str>,
    /// The variables of the template in order.
    pub(super) variables: &'a [String],
    /// `info.version`.
    pub(super) edition: Arc<str>,
}

impl Names<'_> {
    fn has(&self, variable: &str) -> bool {
        self.variables.iter().any(|known| known == variable)
    }
}

/// An operation and what is to be known of it.
pub(super) struct Built {
    pub(super) operation: Operation,
    pub(super) notes: Vec<String>,
}

/// Builds one operation.
///
/// # Errors
///
/// Why it cannot be enforced, for people.
pub(super) fn build(source: Source<'_>, names: &Names<'_>, said: Said) -> Result<Built, String> {
    let mut bundle = Bundle::new(source.files, source.version);
    let declared = parameters::declared(source.files, source.item, source.operation, &mut bundle)?;
    let body = body(source, &mut bundle, &said)?;
    let mut builder = Builder {
        notes: Vec::new(),
        root: Map::new(),
        wire: vec![],
        parts: Parts::default(),
    };
    let definitions = bundle.definitions()?;
    let unknown: Vec<_> = bundle
        .unknown
        .iter()
        .map(|key| format!("`{key}`"))
        .collect();
    if !unknown.is_empty() {
        let unknown = unknown.join(", ");
        let note = format!("unknown keywords in schemas mean nothing: {unknown}");
        builder.notes.push(note);
    }
    builder
        .root
        .insert("$defs".to_owned(), Value::Object(definitions));
    builder.parameters(declared, names)?;
    builder.body(body)?;
    builder.finish(names, said)
}

/// The `requestBody` of an operation, its schemas converted.
struct Body<'a> {
    required: bool,
    kinds: Vec<Sent<'a>>,
}

/// One entry of `content`.
struct Sent<'a> {
    range: Range,
    entry: Node<'a>,
    /// What is judged; nothing where the bytes are not.
    schema: Option<Value>,
    opaque: bool,
}

fn body<'a>(
    source: Source<'a>,
    bundle: &mut Bundle<'a>,
    said: &Said,
) -> Result<Option<Body<'a>>, String> {
    let Some(body) = source.operation.get("requestBody") else {
        return Ok(None);
    };
    let body = source.files.follow(body)?;
    let content = body
        .get("content")
        .ok_or("`requestBody` has no `content`")?;
    let entries = content.value.as_object().ok_or("`content` is no object")?;
    let mut kinds: Vec<Sent<'a>> = Vec::new();
    for (key, entry) in entries {
        let range = Range::parse(key);
        let range = range.ok_or_else(|| format!("`{}` is no media type", shown(key)))?;
        if kinds.iter().any(|other| other.range == range) {
            return Err(format!("media type `{}` is declared twice", shown(key)));
        }
        let entry = source.files.follow(content.with(entry))?;
        let judged = range.may_be_json() || range.is_form();
        let schema = if judged && entry.get("itemSchema").is_none() {
            let schema = entry.get("schema").map(|schema| bundle.schema(schema));
            Some(schema.transpose()?.unwrap_or(Value::Bool(true)))
        } else {
            None
        };
        kinds.push(Sent {
            opaque: schema.is_none() && said.allows_opaque_body(),
            range,
            entry,
            schema,
        });
    }
    Ok(Some(Body {
        required: body.is_true("required"),
        kinds,
    }))
}

/// What is told of an object whose members no style can write.
const DEEP_MEMBERS: &str =
    "its members that are lists or objects are refused, no style defines them";

/// Puts an operation together.
pub(super) struct Builder {
    pub(super) notes: Vec<String>,
    /// The schema of the arguments.
    pub(super) root: Map<String, Value>,
    /// How everything is written, for the digest.
    pub(super) wire: Vec<Value>,
    parts: Parts,
}

impl Builder {
    fn parameters(&mut self, declared: Vec<Declared<'_>>, names: &Names<'_>) -> Result<(), String> {
        let root = Value::Object(std::mem::take(&mut self.root));
        let mut properties = Map::new();
        for place in Place::ALL {
            properties.insert(place.name().to_owned(), empty_object());
        }
        let mut variables = HashMap::new();
        for parameter in declared {
            let coding = match parameter.coding(&root) {
                Ok(coding) => coding,
                Err(why) if parameter.place == Place::Query && !parameter.required => {
                    let why = parameter.wrong(&why);
                    self.notes
                        .push(format!("{why}; calls that give it are refused"));
                    continue;
                }
                Err(why) => return Err(parameter.wrong(&why)),
            };
            if parameter.has_deep_members(&root) {
                self.notes.push(parameter.wrong(DEEP_MEMBERS));
            }
            if parameter.place == Place::Path && !names.has(&parameter.name) {
                let note = parameter.wrong("it is not in the template, and ignored");
                self.notes.push(note);
                continue;
            }
            add_property(&mut properties, &parameter);
            self.wire.push(parameter.wire());
            self.part(&parameter, coding, &mut variables)?;
        }
        for name in names.variables {
            let variable = variables.remove(name.as_str());
            let variable =
                variable.ok_or_else(|| format!("variable `{}` has no parameter", shown(name)))?;
            self.parts.path.push(variable);
        }
        if let Value::Object(root) = root {
            self.root = root;
        }
        self.close(properties);
        Ok(())
    }

    /// Adds what reads one parameter.
    fn part(
        &mut self,
        parameter: &Declared<'_>,
        (coding, script): (Coding, Script),
        variables: &mut HashMap<Arc<str>, Variable>,
    ) -> Result<(), String> {
        let name = Arc::clone(&parameter.name);
        match parameter.place {
            Place::Path => {
                let variable = Variable {
                    name: Arc::clone(&name),
                    coding,
                    semicolon: allowed(parameter.is_matrix()),
                    slash: allowed(parameter.allows_slash()),
                };
                variables.insert(name, variable);
            }
            Place::Query => {
                let field = Field {
                    name,
                    coding,
                    allow_empty: parameter.allows_empty(),
                };
                self.parts.query.declare(field).map_err(|name| {
                    parameter.wrong(&format!("`{}` has two meanings in the query", shown(&name)))
                })?;
            }
            Place::Header => self.parts.header.push(Named {
                name,
                coding,
                script,
            }),
            Place::Cookie => self.parts.cookie.push(Named {
                name,
                coding,
                script,
            }),
        }
        Ok(())
    }

    /// Makes the schema one of an object that has these members and no others.
    fn close(&mut self, properties: Map<String, Value>) {
        for (key, value) in [
            ("type", "object".into()),
            ("properties", Value::Object(properties)),
            ("required", json!(["path", "query", "header", "cookie"])),
            ("additionalProperties", false.into()),
        ] {
            self.root.insert(key.to_owned(), value);
        }
    }

    fn body(&mut self, body: Option<Body<'_>>) -> Result<(), String> {
        let Some(body) = body else {
            return Ok(());
        };
        let mut schemas: Vec<(String, Value)> = Vec::new();
        let mut opaque = Vec::new();
        let mut kinds = Vec::new();
        for sent in body.kinds {
            let range = sent.range.text.clone();
            let reader = match sent.schema {
                Some(schema) => {
                    let reader = if sent.range.is_form() {
                        Reader::Form(self.form(&schema, sent.entry)?)
                    } else {
                        Reader::Json
                    };
                    schemas.push((range.clone(), schema));
                    reader
                }
                None if sent.opaque => {
                    self.notes
                        .push(format!("bodies of `{range}` pass without being looked at"));
                    opaque.push(range.clone());
                    Reader::Opaque
                }
                None => {
                    self.notes.push(format!(
                        "bodies of `{range}` are refused: nobody can judge them"
                    ));
                    Reader::Refused
                }
            };
            self.wire
                .push(json!({"body": range, "reader": reader.word()}));
            kinds.push(Kind {
                range: sent.range,
                reader,
            });
        }
        if schemas.is_empty() && opaque.is_empty() && body.required {
            return Err(
                "it needs a body, and nobody can judge any of its media types; \
                 `x-outrider: {opaque_body: true}` lets them pass"
                    .to_owned(),
            );
        }
        let same = schemas
            .iter()
            .all(|(_, schema)| schemas.first().is_some_and(|(_, first)| first == schema));
        let told = !same || !opaque.is_empty();
        let judged = opaque.is_empty() && body.required;
        self.parts.body = Bodies {
            declared: true,
            required: body.required && !judged,
            told,
            kinds,
        };
        self.body_schema(schemas, told, judged);
        if told {
            self.notes.push(
                "`header.content-type` in the arguments says by which media type the body was read"
                    .to_owned(),
            );
        }
        self.wire.push(json!({"required": body.required}));
        Ok(())
    }

    /// Adds the body to the schema of the arguments, for each media type its own where they
    /// differ.
    fn body_schema(&mut self, schemas: Vec<(String, Value)>, told: bool, required: bool) {
        if required && let Some(Value::Array(names)) = self.root.get_mut("required") {
            names.push("body".into());
        }
        let Some(Value::Object(properties)) = self.root.get_mut("properties") else {
            return;
        };
        if !told {
            let schema = schemas.into_iter().next().map(|(_, schema)| schema);
            properties.insert("body".to_owned(), schema.unwrap_or(Value::Bool(false)));
            return;
        }
        properties.insert("body".to_owned(), Value::Bool(true));
        let media = properties
            .get_mut("header")
            .and_then(|header| header.get_mut("properties")?.as_object_mut());
        if let Some(media) = media {
            media.insert("content-type".to_owned(), json!({"type": "string"}));
        }
        let mut read_as: Vec<Value> = schemas.iter().map(|(range, _)| json!(range)).collect();
        let mut rules: Vec<Value> = schemas
            .into_iter()
            .map(|(range, schema)| {
                let told = told_as(&json!({"const": range}));
                json!({"if": told, "then": {"properties": {"body": schema}}})
            })
            .collect();
        // A body without a word on how it was read satisfies nothing.
        read_as.sort_by_key(Value::to_string);
        rules.push(json!({
            "if": {"required": ["body"]},
            "then": told_as(&json!({"enum": read_as})),
        }));
        self.root.insert("allOf".to_owned(), Value::Array(rules));
    }

    fn finish(self, names: &Names<'_>, said: Said) -> Result<Built, String> {
        let root = Value::Object(self.root);
        let input = Schema::compile(&root).map_err(|bad| bad.to_string())?;
        let digest = digest(&json!({
            "method": &*names.method,
            "template": &*names.template,
            "wire": self.wire,
            "schema": root,
        }));
        let facts = said.facts(&names.method);
        let tool = Tool {
            operation: Arc::clone(&names.name),
            owner: facts.owner,
            version: Arc::clone(&names.edition),
            digest: digest.into(),
            classification: facts.classification,
            labels: facts.labels,
            read_only: facts.read_only,
            destructive: facts.destructive,
            idempotent: facts.idempotent,
            open_world: facts.open_world,
            input,
            output: None,
            headers: Vec::new(),
        };
        Ok(Built {
            operation: Operation {
                tool: Arc::new(tool),
                method: Arc::clone(&names.method),
                template: Arc::clone(&names.template),
                parts: self.parts,
            },
            notes: self.notes,
        })
    }
}

impl Reader {
    fn word(&self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Form(_) => "form",
            Self::Opaque => "opaque",
            Self::Refused => "refused",
        }
    }
}

/// The arguments whose body was read by a media type.
fn told_as(media: &Value) -> Value {
    json!({
        "required": ["header"],
        "properties": {"header": {
            "required": ["content-type"],
            "properties": {"content-type": media},
        }},
    })
}

fn empty_object() -> Value {
    json!({"type": "object", "properties": {}, "required": [], "additionalProperties": false})
}

fn add_property(places: &mut Map<String, Value>, parameter: &Declared<'_>) {
    let Some(place) = places.get_mut(parameter.place.name()) else {
        return;
    };
    let properties = place.get_mut("properties").and_then(Value::as_object_mut);
    if let Some(properties) = properties {
        properties.insert(parameter.name.to_string(), parameter.schema.clone());
    }
    if let (true, Some(Value::Array(required))) = (parameter.required, place.get_mut("required")) {
        required.push((&*parameter.name).into());
    }
}

fn allowed(yes: bool) -> Allowed {
    if yes { Allowed::Yes } else { Allowed::No }
}

/// `sha256:` and the hex of SHA-256 over the RFC 8785 form.
fn digest(contract: &Value) -> String {
    let canonical = serde_jcs::to_vec(contract).unwrap_or_default();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &canonical);
    let mut text = String::from("sha256:");
    for byte in hash.as_ref() {
        // INVARIANT: writing to a string does not fail.
        write!(text, "{byte:02x}").ok();
    }
    text
}
