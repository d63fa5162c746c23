//! OpenAPI 3.0, 3.1 and 3.2 descriptions as contracts of tools.
//!
//! A parsed document goes in. Out come the operations that can be enforced, what a request is
//! looked up and read by, and a report on everything else. An operation that is not understood
//! to the end is left out, and its paths belong to no other operation. Nothing is fetched:
//! references lead within the document or to files beside it, which the caller gives.
//!
//! What is judged is what is sent: paths are compared as they are written, a query has nothing
//! but what the operation declares, and whatever two servers could read in two ways is refused.

mod body;
mod contract;
mod convert;
mod document;
mod facts;
mod fields;
mod forms;
mod operation;
mod parameters;
mod reach;
mod report;
mod resolve;
mod shape;
mod style;
mod templates;
mod text;
mod undecodable;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::Value;

use self::{
    body::is_token,
    contract::{Built, Names, Source},
    facts::Said,
    resolve::{Files, Node},
    templates::{NoTemplate, Template, Templates},
};
pub use self::{
    document::{Document, MAX_DOCUMENT_DEPTH, MAX_DOCUMENT_VALUES},
    operation::{Operation, Request, Variables},
    report::{Line, Report, Verdict},
    undecodable::{Reason, Undecodable},
};
use crate::json_schema::shown;

/// The methods that path items have words for (3.2.0 §4.9).
const METHODS: [&str; 9] = [
    "delete", "get", "head", "options", "patch", "post", "put", "query", "trace",
];

/// The version of tools whose description has none.
const NO_VERSION: &str = "unversioned";

/// The longest name of an operation in bytes.
const MAX_NAME: usize = 256;

/// A version of the specification, as far as versions differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V3_0,
    V3_1,
    V3_2,
}

/// What a description was read into.
#[derive(Debug)]
pub struct Loaded {
    /// The operations that are served.
    pub api: Api,
    /// What was understood and what was not.
    pub report: Report,
}

/// A document that is no description that could be served at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDescription {
    /// No version of OpenAPI that is read.
    #[error("`openapi` is `{0}`; versions 3.0, 3.1 and 3.2 are read")]
    Version(String),
    /// Not an OpenAPI document: no text in `openapi`.
    #[error("not an OpenAPI document: there is no `openapi`")]
    NotOpenApi,
    /// A member that must be there is not, or has the wrong type.
    #[error("`{0}` is missing or of the wrong type")]
    Member(&'static str),
    /// `jsonSchemaDialect` names a dialect that is not read.
    #[error("`jsonSchemaDialect` is `{0}`; 2020-12 and the dialects of OpenAPI are read")]
    Dialect(String),
    /// What the document says for all its operations is not understood.
    #[error("{0}")]
    Facts(String),
}

/// The operations of one service.
#[derive(Debug, Default)]
pub struct Api {
    operations: Vec<Arc<Operation>>,
    templates: Templates,
    /// For each template: its methods.
    slots: Vec<Slots>,
}

/// The methods of one template.
#[derive(Debug, Default)]
struct Slots {
    methods: BTreeMap<Arc<str>, Slot>,
    /// The path item was not understood: nobody knows which methods it has.
    closed: bool,
}

/// What a method of a template is.
#[derive(Debug, Clone, Copy)]
enum Slot {
    Served(usize),
    LeftOut,
}

/// A request that is of no operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// No template has this path, as it is written.
    #[error("no operation has this path")]
    Path,
    /// Two templates have this path, and neither is the more concrete one.
    #[error("two operations have this path, and neither is more concrete")]
    Ambiguous,
    /// The path is known, the method is not.
    #[error("no operation of this path has this method")]
    Method {
        /// The methods that are served.
        allowed: Vec<Arc<str>>,
    },
    /// The operation is described, but it cannot be enforced.
    #[error("the operation cannot be enforced as it is described")]
    LeftOut,
}

/// Loads a description. `files` gives other files of the same directory by their names, parsed.
///
/// # Errors
///
/// [`BadDescription`] where nothing of the document can be served. Everything smaller is in the
/// report.
pub fn load(
    document: Value,
    files: &mut dyn FnMut(&str) -> Result<Value, String>,
) -> Result<Loaded, BadDescription> {
    let version = version(&document)?;
    if let Some(dialect) = document.get("jsonSchemaDialect") {
        let dialect = dialect
            .as_str()
            .ok_or(BadDescription::Member("jsonSchemaDialect"))?;
        if !convert::is_known(dialect) {
            return Err(BadDescription::Dialect(shown(dialect)));
        }
    }
    let files = Files::collect(document, files);
    let root = files.root();
    let report = head(root)?;
    let said = Said::read(root.value).map_err(BadDescription::Facts)?;
    let mut loader = Loader {
        files: &files,
        version,
        said,
        edition: report.version.as_str().into(),
        report,
        api: Api::default(),
        drafts: Vec::new(),
    };
    match root.value.get("paths") {
        Some(Value::Object(paths)) => {
            for (template, item) in paths {
                loader.path(template, root.with(item));
            }
        }
        None if version > Version::V3_0 => {}
        _ => return Err(BadDescription::Member("paths")),
    }
    Ok(loader.finish())
}

fn version(document: &Value) -> Result<Version, BadDescription> {
    let text = document.get("openapi").and_then(Value::as_str);
    let text = text.ok_or(BadDescription::NotOpenApi)?;
    let mut parts = text.split('.');
    match (parts.next(), parts.next()) {
        (Some("3"), Some("0")) => Ok(Version::V3_0),
        (Some("3"), Some("1")) => Ok(Version::V3_1),
        (Some("3"), Some("2")) => Ok(Version::V3_2),
        _ => Err(BadDescription::Version(shown(text))),
    }
}

/// What the document says of itself.
fn head(root: Node<'_>) -> Result<Report, BadDescription> {
    let info = |key| root.value.get("info")?.get(key)?.as_str();
    let components = root.value.get("components");
    let schemes = components.and_then(|all| all.get("securitySchemes")?.as_object());
    let scheme = |(name, scheme): (&String, &Value)| {
        let part = |key| scheme.get(key).and_then(Value::as_str).unwrap_or_default();
        let words = [part("type"), part("scheme"), part("in"), part("name")];
        let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
        format!("{}: {}", shown(name), shown(&words.join(" ")))
    };
    let webhooks = root.value.get("webhooks").and_then(Value::as_object);
    if !root.value.get("info").is_some_and(Value::is_object) {
        return Err(BadDescription::Member("info"));
    }
    let edition = info("version").filter(|version| !version.trim().is_empty());
    let missing = edition
        .is_none()
        .then(|| format!("`info.version` is missing: the version of all tools is `{NO_VERSION}`"));
    Ok(Report {
        openapi: shown(root.text("openapi").unwrap_or_default()),
        title: shown(info("title").unwrap_or_default()),
        version: shown(edition.unwrap_or(NO_VERSION)),
        notes: missing.into_iter().collect(),
        servers: servers(root.value)
            .into_iter()
            .map(|url| shown(&url))
            .collect(),
        security_schemes: schemes.into_iter().flatten().map(scheme).collect(),
        webhooks: webhooks.map_or(0, serde_json::Map::len),
        ..Report::default()
    })
}

fn servers(owner: &Value) -> Vec<String> {
    let servers = owner.get("servers").and_then(Value::as_array);
    let url = |server: &Value| server.get("url")?.as_str().map(str::to_owned);
    servers.into_iter().flatten().filter_map(url).collect()
}

/// Reads path by path.
struct Loader<'a> {
    files: &'a Files,
    version: Version,
    said: Said,
    edition: Arc<str>,
    report: Report,
    api: Api,
    drafts: Vec<Draft>,
}

/// An operation that was found.
struct Draft {
    name: Arc<str>,
    method: Arc<str>,
    template: Arc<str>,
    /// The number of the template, if it names a path.
    number: Option<usize>,
    /// Equal for operations that nobody can tell apart.
    form: String,
    built: Result<Built, String>,
}

impl<'a> Loader<'a> {
    fn path(&mut self, text: &str, item: Node<'a>) {
        if text.starts_with("x-") {
            return;
        }
        let template = Template::parse(text);
        let form = template
            .as_ref()
            .map_or_else(|| text.to_owned(), Template::form);
        let trouble = match &template {
            None => Some("the path is no template of plain segments and variables"),
            Some(template) => template.trouble,
        };
        let variables = template.as_ref().map_or(Vec::new(), |t| t.names.clone());
        let number = template.map(|template| self.api.templates.add(template));
        if number.is_some() {
            self.api.slots.push(Slots::default());
        }
        let item = match self.item(item) {
            Ok(item) => item,
            Err(reason) => {
                if let Some(slots) = self.api.slots.last_mut().filter(|_| number.is_some()) {
                    slots.closed = true;
                }
                self.report
                    .notes
                    .push(format!("path `{}`: {reason}", shown(text)));
                self.drafts.push(Draft {
                    name: text.into(),
                    method: "*".into(),
                    template: text.into(),
                    number: None,
                    form: String::new(),
                    built: Err(reason),
                });
                return;
            }
        };
        for (method, operation) in operations(item) {
            let names = Names {
                name: name(&method, text, operation),
                method,
                template: text.into(),
                variables: &variables,
                edition: Arc::clone(&self.edition),
            };
            let built = match trouble {
                Some(trouble) => Err(trouble.to_owned()),
                None => self.operation(item, operation, &names),
            };
            self.drafts.push(Draft {
                name: names.name,
                form: form.clone(),
                method: names.method,
                template: names.template,
                number,
                built,
            });
        }
    }

    /// The path item itself, wherever it is written.
    fn item(&self, item: Node<'a>) -> Result<Node<'a>, String> {
        let members = item.value.as_object().ok_or("it is no object")?;
        let alone = members
            .keys()
            .all(|key| matches!(key.as_str(), "$ref" | "summary" | "description"));
        if members.contains_key("$ref") && !alone {
            return Err("`$ref` beside other members has no defined meaning".to_owned());
        }
        let item = self.files.follow(item)?;
        if item.value.is_object() {
            Ok(item)
        } else {
            Err("it is no object".to_owned())
        }
    }

    fn operation(
        &mut self,
        item: Node<'a>,
        operation: Node<'a>,
        names: &Names<'_>,
    ) -> Result<Built, String> {
        if !operation.value.is_object() {
            return Err("it is no object".to_owned());
        }
        if !is_token(&names.method) || &*names.method == "CONNECT" {
            return Err("the method cannot be served".to_owned());
        }
        if names.name.len() > MAX_NAME || names.name.chars().any(char::is_control) {
            return Err("its name is too long or has control characters".to_owned());
        }
        self.check_servers(item, operation)?;
        let callbacks = operation.value.get("callbacks").and_then(Value::as_object);
        self.report.callbacks += callbacks.map_or(0, serde_json::Map::len);
        let outer = Said::read(item.value)?.within(&self.said);
        let said = Said::read(operation.value)?.within(&outer);
        let source = Source {
            files: self.files,
            version: self.version,
            item,
            operation,
        };
        contract::build(source, names, said)
    }

    /// An operation of another server is none of this service's.
    fn check_servers(&self, item: Node<'a>, operation: Node<'a>) -> Result<(), String> {
        let own = [operation, item]
            .into_iter()
            .find(|owner| owner.value.get("servers").is_some());
        let Some(own) = own.map(|owner| servers(owner.value)) else {
            return Ok(());
        };
        let all = servers(self.files.root().value);
        match own.iter().find(|url| !all.contains(url)) {
            None => Ok(()),
            Some(url) => Err(format!(
                "it belongs to another server than the rest: `{}`",
                shown(url)
            )),
        }
    }

    /// Leaves out what cannot be told apart, and numbers the rest.
    fn finish(mut self) -> Loaded {
        self.same_name();
        self.same_path();
        let crossings = self.api.templates.crossings();
        if crossings > 0 {
            self.report.notes.push(format!(
                "{crossings} pairs of templates share paths without one being more concrete; \
                 exactly those paths are refused"
            ));
        }
        for draft in self.drafts {
            let slot = match &draft.built {
                Ok(_) => Slot::Served(self.api.operations.len()),
                Err(_) => Slot::LeftOut,
            };
            if let Some(slots) = draft.number.and_then(|n| self.api.slots.get_mut(n)) {
                slots.methods.insert(Arc::clone(&draft.method), slot);
            }
            let verdict = match draft.built {
                Ok(built) => {
                    self.api.operations.push(Arc::new(built.operation));
                    Verdict::Served { notes: built.notes }
                }
                Err(reason) => Verdict::LeftOut { reason },
            };
            self.report.operations.push(Line {
                name: shown(&draft.name),
                method: draft.method.to_string(),
                template: shown(&draft.template),
                verdict,
            });
        }
        Loaded {
            api: self.api,
            report: self.report,
        }
    }

    fn same_name(&mut self) {
        let mut count: HashMap<Arc<str>, usize> = HashMap::new();
        for draft in &self.drafts {
            *count.entry(Arc::clone(&draft.name)).or_default() += 1;
        }
        for draft in &mut self.drafts {
            if count.get(&draft.name).is_some_and(|count| *count > 1) {
                draft.built = Err("another operation has the same name".to_owned());
            }
        }
    }

    fn same_path(&mut self) {
        let mut count: HashMap<(String, Arc<str>), usize> = HashMap::new();
        for draft in &self.drafts {
            let key = (draft.form.clone(), Arc::clone(&draft.method));
            *count.entry(key).or_default() += 1;
        }
        for draft in &mut self.drafts {
            let key = (draft.form.clone(), Arc::clone(&draft.method));
            if !draft.form.is_empty() && count.get(&key).is_some_and(|count| *count > 1) {
                draft.built =
                    Err("another operation has the same method and the same paths".to_owned());
            }
        }
    }
}

/// The operations of a path item by method.
fn operations(item: Node<'_>) -> Vec<(Arc<str>, Node<'_>)> {
    let fixed = METHODS.iter().filter_map(|method| {
        let operation = item.get(method)?;
        Some((method.to_ascii_uppercase().into(), operation))
    });
    let others = item
        .value
        .get("additionalOperations")
        .and_then(Value::as_object);
    let others = others.into_iter().flatten();
    let others = others.map(|(method, operation)| (method.as_str().into(), item.with(operation)));
    fixed.chain(others).collect()
}

/// The `operationId`, else method and template.
fn name(method: &str, template: &str, operation: Node<'_>) -> Arc<str> {
    match operation.text("operationId") {
        Some(name) if !name.trim().is_empty() => name.into(),
        _ => format!("{method} {template}").into(),
    }
}

impl Api {
    /// All operations that are served, in the order of their templates.
    pub fn operations(&self) -> impl Iterator<Item = &Arc<Operation>> {
        self.operations.iter()
    }

    /// Finds the operation of a request and the text of its path variables. `path` is as sent,
    /// percent-encoded, relative to the service's base and begins with `/`.
    ///
    /// # Errors
    ///
    /// [`NotFound`] where there is none, or not exactly one.
    pub fn find<'p>(
        &self,
        method: &str,
        path: &'p str,
    ) -> Result<(&Arc<Operation>, Variables<'p>), NotFound> {
        let (numbers, texts) = self.templates.find(path).map_err(|none| match none {
            NoTemplate::None => NotFound::Path,
            NoTemplate::Ambiguous => NotFound::Ambiguous,
        })?;
        let slots = || numbers.iter().filter_map(|number| self.slots.get(*number));
        if slots().any(|slots| slots.closed) {
            return Err(NotFound::LeftOut);
        }
        let mut found = slots().filter_map(|slots| slots.methods.get(method));
        match found.next() {
            Some(Slot::Served(number)) => {
                let operation = self.operations.get(*number).ok_or(NotFound::LeftOut)?;
                Ok((operation, Variables(texts)))
            }
            Some(Slot::LeftOut) => Err(NotFound::LeftOut),
            None => {
                let served = slots().flat_map(|slots| &slots.methods);
                let served = served.filter(|(_, slot)| matches!(slot, Slot::Served(_)));
                let allowed = served.map(|(method, _)| Arc::clone(method)).collect();
                Err(NotFound::Method { allowed })
            }
        }
    }
}

#[cfg(test)]
mod tests;
