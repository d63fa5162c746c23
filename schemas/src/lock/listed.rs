//! From what a server lists to what an operator can review.

use std::fmt;

use serde_json::{Map, Value, json};

use super::{Annotations, Entries, Lock, LockedTool, Section, digest};
use crate::{json_schema::shown, template::MOST_TEMPLATES};

/// The level an entry is written with; the operator is told.
const LEVEL: &str = "internal";

/// The version an entry is written with; MCP tools have none.
const VERSION: &str = "1";

/// What a server lists of itself, all pages of each list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listed {
    /// The `Tool` objects of `tools/list`.
    pub tools: Vec<Value>,
    /// The `Resource` objects of `resources/list`.
    pub resources: Vec<Value>,
    /// The `ResourceTemplate` objects of `resources/templates/list`.
    pub templates: Vec<Value>,
    /// The `Prompt` objects of `prompts/list`.
    pub prompts: Vec<Value>,
    /// The methods that its capabilities speak of, of [`METHODS`](super::METHODS).
    pub methods: Vec<&'static str>,
}

/// One sentence for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The entry it is about, or the whole file.
    pub about: Option<(Section, String)>,
    /// The sentence.
    pub text: String,
}

impl Note {
    /// A note about the whole file.
    pub fn whole(text: impl Into<String>) -> Self {
        Self {
            about: None,
            text: text.into(),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.about {
            Some((section, name)) => write!(f, "{section} `{}`: {}", shown(name), self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Locks what is listed, leaving out what could not be enforced.
pub(super) fn lock(listed: &Listed, owner: &str) -> (Lock, Vec<Note>) {
    let mut scribe = Scribe {
        owner,
        notes: Vec::new(),
        hints: 0,
    };
    let methods: Vec<Value> = listed.methods.iter().map(|n| json!({"name": n})).collect();
    let mut resources = Entries::new();
    scribe.all(
        &mut resources,
        Section::Resources,
        &listed.resources,
        resource,
    );
    let (templates, more) = listed
        .templates
        .split_at(listed.templates.len().min(MOST_TEMPLATES));
    scribe.all(&mut resources, Section::Resources, templates, template);
    if !more.is_empty() {
        scribe.notes.push(Note::whole(format!(
            "{} templates of resources were left out: at most {MOST_TEMPLATES} are served",
            more.len()
        )));
    }
    let lock = Lock {
        tools: scribe.section(Section::Tools, &listed.tools, tool),
        resources,
        prompts: scribe.section(Section::Prompts, &listed.prompts, prompt),
        methods: scribe.section(Section::Methods, &methods, method),
    };
    let mut notes = scribe.notes;
    notes.extend(summary(&lock, scribe.hints).into_iter().map(Note::whole));
    (lock, notes)
}

/// What is read of one listed object: its name, its schemas.
struct Read {
    name: String,
    input: Value,
    output: Option<Value>,
}

/// How the objects of one list are read, or why one of them is left out.
type Reader = fn(&Value) -> Result<Read, Refused>;

/// Why an object is left out, and its name if it has one.
struct Refused(String, &'static str);

struct Scribe<'a> {
    owner: &'a str,
    notes: Vec<Note>,
    /// Tools that come with annotations of the server.
    hints: usize,
}

impl Scribe<'_> {
    fn section(&mut self, section: Section, listed: &[Value], reader: Reader) -> Entries {
        let mut entries = Entries::new();
        self.all(&mut entries, section, listed, reader);
        entries
    }

    fn all(&mut self, entries: &mut Entries, section: Section, listed: &[Value], reader: Reader) {
        for object in listed {
            let (name, locked) = match reader(object) {
                Ok(read) => {
                    let name = read.name.clone();
                    (name, self.locked(section, object, read, entries))
                }
                Err(Refused(name, why)) => (name, Err(why.to_owned())),
            };
            match locked {
                Ok(tool) => {
                    let hinted = object.get("annotations").is_some_and(Value::is_object);
                    self.hints += usize::from(section == Section::Tools && hinted);
                    entries.insert(name, tool);
                }
                Err(why) => self.left_out(section, name, &why),
            }
        }
    }

    fn left_out(&mut self, section: Section, name: String, why: &str) {
        let text = format!("left out: {why}");
        self.notes.push(if name.is_empty() {
            Note::whole(format!("a {section} was {text}"))
        } else {
            Note {
                about: Some((section, name)),
                text,
            }
        });
    }

    fn locked(
        &self,
        section: Section,
        object: &Value,
        read: Read,
        known: &Entries,
    ) -> Result<LockedTool, String> {
        if known.contains_key(&read.name) {
            return Err("it is listed twice; the first was taken".to_owned());
        }
        let tool = LockedTool {
            title: text(object, "title"),
            description: text(object, "description"),
            digest: digest(&read.input, read.output.as_ref()),
            input_schema: read.input,
            output_schema: read.output,
            annotations: Annotations::default(),
            classification: Some(LEVEL.to_owned()),
            labels: Vec::new(),
            owner: self.owner.to_owned(),
            version: VERSION.to_owned(),
        };
        crate::catalogue::check(section, &read.name, &tool).map_err(|why| why.to_string())?;
        Ok(tool)
    }
}

fn named(object: &Value, key: &str, why: &'static str) -> Result<String, Refused> {
    let name = text(object, key).filter(|name| !name.is_empty());
    name.ok_or_else(|| Refused(String::new(), why))
}

fn tool(object: &Value) -> Result<Read, Refused> {
    let name = named(object, "name", "it has no name")?;
    let Some(input) = object.get("inputSchema").cloned() else {
        return Err(Refused(name, "it has no inputSchema"));
    };
    Ok(Read {
        name,
        input,
        output: object.get("outputSchema").cloned(),
    })
}

fn resource(object: &Value) -> Result<Read, Refused> {
    let name = named(object, "uri", "it has no uri")?;
    if name.contains(['{', '}']) {
        // As a key it would be a template, and match more than what the server lists.
        return Err(Refused(name, "its uri has braces, which no URI has"));
    }
    Ok(without(Section::Resources, name))
}

fn template(object: &Value) -> Result<Read, Refused> {
    let name = named(object, "uriTemplate", "it has no uriTemplate")?;
    Ok(without(Section::Resources, name))
}

fn method(object: &Value) -> Result<Read, Refused> {
    let name = named(object, "name", "it has no name")?;
    Ok(without(Section::Methods, name))
}

/// What has no schema of its own.
fn without(section: Section, name: String) -> Read {
    Read {
        name,
        input: section.schema().unwrap_or_default(),
        output: None,
    }
}

fn prompt(object: &Value) -> Result<Read, Refused> {
    let name = named(object, "name", "it has no name")?;
    match arguments(object.get("arguments")) {
        Ok(input) => Ok(Read {
            name,
            input,
            output: None,
        }),
        Err(why) => Err(Refused(name, why)),
    }
}

/// The schema of a prompt's arguments: strings, no others than the listed.
fn arguments(listed: Option<&Value>) -> Result<Value, &'static str> {
    let listed = match listed {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(listed)) => listed,
        Some(_) => return Err("its arguments are no list"),
    };
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for argument in listed {
        let name = text(argument, "name").ok_or("an argument has no name")?;
        let mut schema = Map::from_iter([("type".to_owned(), Value::from("string"))]);
        for key in ["title", "description"] {
            if let Some(text) = text(argument, key) {
                schema.insert(key.to_owned(), text.into());
            }
        }
        if argument.get("required") == Some(&Value::Bool(true)) {
            required.push(Value::from(name.clone()));
        }
        if properties.insert(name, schema.into()).is_some() {
            return Err("an argument is listed twice");
        }
    }
    let mut schema = Map::from_iter([
        ("type".to_owned(), Value::from("object")),
        ("properties".to_owned(), properties.into()),
        ("additionalProperties".to_owned(), Value::from(false)),
    ]);
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    Ok(schema.into())
}

fn summary(lock: &Lock, hints: usize) -> Vec<String> {
    let mut notes = Vec::new();
    let counts = [
        (lock.tools.len(), "tools"),
        (lock.resources.len(), "resources"),
        (lock.prompts.len(), "prompts"),
        (lock.methods.len(), "methods"),
    ];
    let counted: Vec<String> = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if !counted.is_empty() {
        let all = counted.join(", ");
        notes.push(format!(
            "level `{LEVEL}` was written for {all}; set what is right"
        ));
        notes.push(format!(
            "annotations were written as destructive, not idempotent, open-world for {all}"
        ));
    }
    if hints > 0 {
        notes.push(format!(
            "the server's own hints on {hints} tools were not taken over; they are no evidence"
        ));
    }
    notes
}

fn text(listed: &Value, key: &str) -> Option<String> {
    listed.get(key).and_then(Value::as_str).map(str::to_owned)
}
