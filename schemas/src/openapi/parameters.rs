//! The parameters of an operation: which there are, and how each is written.

use std::sync::Arc;

use serde_json::Value;

use super::{
    body::{Range, is_token},
    convert::Bundle,
    resolve::{Files, Node},
    shape::Shape,
    style::{Coding, Explode, Make, Script, Style},
};
use crate::json_schema::shown;

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Path,
    Query,
    Header,
    Cookie,
}

impl Place {
    pub(super) const ALL: [Self; 4] = [Self::Path, Self::Query, Self::Header, Self::Cookie];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
            Self::Cookie => "cookie",
        }
    }
}

/// One parameter as it is declared, its schema converted.
#[derive(Debug)]
pub(super) struct Declared<'a> {
    pub(super) name: Arc<str>,
    pub(super) place: Place,
    pub(super) required: bool,
    pub(super) schema: Value,
    node: Node<'a>,
    /// Described by `content`, so JSON.
    json: bool,
}

/// The parameters of an operation with those of its path item (3.0.4 §4.7.10).
pub(super) fn declared<'a>(
    files: &'a Files,
    item: Node<'a>,
    operation: Node<'a>,
    bundle: &mut Bundle<'a>,
) -> Result<Vec<Declared<'a>>, String> {
    let mut all = list(files, operation)?;
    for inherited in list(files, item)? {
        if !all.iter().any(|own| same(own, &inherited)) {
            all.push(inherited);
        }
    }
    all.iter()
        .filter(|(name, place, _)| !is_ignored(name, *place))
        .map(|(name, place, node)| declare(name, *place, *node, bundle, files))
        .collect()
}

type Listed<'a> = (&'a str, Place, Node<'a>);

fn list<'a>(files: &'a Files, owner: Node<'a>) -> Result<Vec<Listed<'a>>, String> {
    let listed = match owner.value.get("parameters") {
        None => return Ok(Vec::new()),
        Some(Value::Array(listed)) => listed,
        Some(_) => return Err("`parameters` is no list".to_owned()),
    };
    let mut all: Vec<Listed<'a>> = Vec::new();
    for parameter in listed {
        let node = files.follow(owner.with(parameter))?;
        let name = node.text("name").ok_or("a parameter has no `name`")?;
        let place = match node.text("in") {
            Some("path") => Place::Path,
            Some("query") => Place::Query,
            Some("header") => Place::Header,
            Some("cookie") => Place::Cookie,
            other => {
                let other = shown(other.unwrap_or_default());
                let name = shown(name);
                return Err(format!(
                    "parameter `{name}`: `in: {other}` is not supported"
                ));
            }
        };
        let listed = (name, place, node);
        if all.iter().any(|other| same(other, &listed)) {
            return Err(format!("parameter `{}` is declared twice", shown(name)));
        }
        all.push(listed);
    }
    Ok(all)
}

fn same(one: &Listed<'_>, other: &Listed<'_>) -> bool {
    let name = if one.1 == Place::Header {
        one.0.eq_ignore_ascii_case(other.0)
    } else {
        one.0 == other.0
    };
    name && one.1 == other.1
}

/// Headers that are described elsewhere (3.0.4 §4.7.12.1).
fn is_ignored(name: &str, place: Place) -> bool {
    let names = ["accept", "authorization", "content-type"];
    place == Place::Header && names.iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn declare<'a>(
    name: &str,
    place: Place,
    node: Node<'a>,
    bundle: &mut Bundle<'a>,
    files: &'a Files,
) -> Result<Declared<'a>, String> {
    let wrong = |why: &str| format!("parameter `{}`: {why}", shown(name));
    if matches!(place, Place::Header | Place::Cookie) && !is_token(name) {
        return Err(wrong("no header or cookie has such a name"));
    }
    let (schema, json) = match (node.get("schema"), node.get("content")) {
        (Some(schema), None) => (schema, false),
        (None, Some(content)) => (
            content_schema(files, content).map_err(|why| wrong(&why))?,
            true,
        ),
        _ => return Err(wrong("it needs either `schema` or `content`")),
    };
    let mut schema = bundle.schema(schema).map_err(|why| wrong(&why))?;
    if place == Place::Query && node.is_true("allowEmptyValue") {
        schema = serde_json::json!({"anyOf": [schema, {"const": ""}]});
    }
    Ok(Declared {
        name: name.into(),
        place,
        required: place == Place::Path || node.is_true("required"),
        schema,
        node,
        json,
    })
}

fn content_schema<'a>(files: &'a Files, content: Node<'a>) -> Result<Node<'a>, String> {
    const ANYTHING: &Value = &Value::Bool(true);
    let entries = content.value.as_object().into_iter().flatten();
    let [(media, entry)] = entries.collect::<Vec<_>>()[..] else {
        return Err("`content` must have one media type".to_owned());
    };
    if !Range::parse(media).is_some_and(|range| range.is_json()) {
        return Err(format!("`content` of `{}` is not supported", shown(media)));
    }
    let entry = files.follow(content.with(entry))?;
    Ok(entry.get("schema").unwrap_or(entry.with(ANYTHING)))
}

impl Declared<'_> {
    /// How the parameter is written; the words say why that is not supported.
    pub(super) fn coding(&self, root: &Value) -> Result<(Coding, Script), String> {
        let script = match self.place {
            Place::Query => Script::Form,
            Place::Header => Script::Plain,
            Place::Cookie if self.node.text("style") == Some("cookie") => Script::Plain,
            Place::Path | Place::Cookie => Script::Percent,
        };
        if self.json {
            return Ok((Coding::Json, script));
        }
        let style = self.style()?;
        let explode = self.explode(style);
        let shape = Shape::of(root, &self.schema).ok_or("its schema has no end")?;
        let make = Make::of(&shape)?;
        check(self.place, style, explode, &make)?;
        let coding = Coding::Styled {
            style,
            explode,
            make,
        };
        Ok((coding, script))
    }

    /// A sentence about the parameter.
    pub(super) fn wrong(&self, why: &str) -> String {
        format!("parameter `{}`: {why}", shown(&self.name))
    }

    /// What of the parameter no style can write.
    pub(super) fn has_deep_members(&self, root: &Value) -> bool {
        !self.json
            && Shape::of(root, &self.schema)
                .is_some_and(|shape| super::style::has_deep_members(&shape))
    }

    pub(super) fn allows_empty(&self) -> bool {
        self.place == Place::Query && self.node.is_true("allowEmptyValue")
    }

    pub(super) fn allows_slash(&self) -> bool {
        self.node.is_true("x-encoded-slash")
    }

    pub(super) fn is_matrix(&self) -> bool {
        self.node.text("style") == Some("matrix")
    }

    fn style(&self) -> Result<Style, String> {
        let default = match self.place {
            Place::Path | Place::Header => "simple",
            Place::Query | Place::Cookie => "form",
        };
        let text = self.node.text("style").unwrap_or(default);
        style(text).ok_or_else(|| format!("style `{}` is not supported", shown(text)))
    }

    fn explode(&self, style: Style) -> Explode {
        explode(self.node, style)
    }

    /// What the wire format of the parameter is, for the digest.
    pub(super) fn wire(&self) -> Value {
        serde_json::json!({
            "in": self.place.name(),
            "name": &*self.name,
            "json": self.json,
            "style": self.node.text("style"),
            "explode": self.node.value.get("explode"),
            "empty": self.allows_empty(),
            "slash": self.allows_slash(),
        })
    }
}

pub(super) fn style(text: &str) -> Option<Style> {
    Some(match text {
        "simple" => Style::Simple,
        "label" => Style::Label,
        "matrix" => Style::Matrix,
        "form" | "cookie" => Style::Form,
        "spaceDelimited" => Style::Space,
        "pipeDelimited" => Style::Pipe,
        "deepObject" => Style::Deep,
        _ => return None,
    })
}

/// `explode`, which for the style `form` is the default.
pub(super) fn explode(node: Node<'_>, style: Style) -> Explode {
    match node.value.get("explode").and_then(Value::as_bool) {
        Some(true) => Explode::Yes,
        None if style == Style::Form => Explode::Yes,
        Some(false) | None => Explode::No,
    }
}

/// Whether the specification defines this combination (3.0.4 §4.7.12.3).
pub(super) fn check(
    place: Place,
    style: Style,
    explode: Explode,
    make: &Make,
) -> Result<(), &'static str> {
    let fits = match place {
        Place::Path => matches!(style, Style::Simple | Style::Label | Style::Matrix),
        Place::Header => style == Style::Simple,
        Place::Cookie => style == Style::Form,
        Place::Query => matches!(
            style,
            Style::Form | Style::Space | Style::Pipe | Style::Deep
        ),
    };
    let defined = match (style, make) {
        (Style::Deep, make) => matches!(make, Make::Object(_)),
        (Style::Space | Style::Pipe, Make::One(_)) => false,
        (Style::Space | Style::Pipe, _) => explode == Explode::No,
        (Style::Form, Make::List { .. } | Make::Object(_)) if place == Place::Cookie => {
            explode == Explode::No
        }
        (Style::Form, Make::Object(members)) if explode == Explode::Yes => {
            !members.one.is_primitive() && (!members.known.is_empty() || members.rest.is_some())
        }
        _ => true,
    };
    if fits && defined {
        Ok(())
    } else {
        Err("its style is not defined for its place and type, or gives its parts no names")
    }
}
