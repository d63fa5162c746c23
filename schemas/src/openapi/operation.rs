//! One operation: how a request is read into the arguments that policy sees.

use std::{collections::BTreeMap, sync::Arc};

use regorus::Value;

use super::{
    body::{Bodies, Labels},
    fields::Fields,
    style::{Coding, Script},
    undecodable::{Reason, Undecodable},
};
use crate::{catalogue::Tool, json_schema::Schema};

/// One operation of a description, ready to be called.
#[derive(Debug)]
pub struct Operation {
    /// The operation as any tool: its name, its facts, the contract of its arguments.
    pub tool: Arc<Tool>,
    /// Its method, case-sensitive (RFC 9110 §9.1).
    pub method: Arc<str>,
    /// Its path template as written.
    pub template: Arc<str>,
    pub(super) parts: Parts,
}

/// How the parts of a request are read.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// One for each variable of the template, in its order.
    pub(super) path: Vec<Variable>,
    pub(super) query: Fields,
    pub(super) header: Vec<Named>,
    pub(super) cookie: Vec<Named>,
    pub(super) body: Bodies,
}

/// A variable of the path.
#[derive(Debug)]
pub(super) struct Variable {
    pub(super) name: Arc<str>,
    pub(super) coding: Coding,
    pub(super) semicolon: Allowed,
    /// `x-encoded-slash`.
    pub(super) slash: Allowed,
}

/// Whether a character may stand in a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    Yes,
    No,
}

/// A header or cookie.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: Arc<str>,
    pub(super) coding: Coding,
    pub(super) script: Script,
}

/// The text of a path's variables as sent, in the order of the template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables<'p>(pub(super) Vec<&'p str>);

/// A request as it was sent and as it will be sent on.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What [`super::Api::find`] gave with the operation.
    pub variables: &'a Variables<'a>,
    /// What follows `?` in the target; `None` without one.
    pub query: Option<&'a str>,
    /// All header lines; the names are compared without regard to case.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The whole body.
    pub body: &'a [u8],
}

impl Operation {
    /// The contract of [`Self::decode`]'s result, so that violations are at places such as
    /// `/query/page` and `/body/title`.
    pub fn schema(&self) -> &Schema {
        &self.tool.input
    }

    /// Whether a path variable may hold `%2F`.
    pub fn allows_encoded_slash(&self) -> bool {
        self.parts.path.iter().any(|v| v.slash == Allowed::Yes)
    }

    /// Reads a request into `{path, query, header, cookie, body}`; `body` is absent where none was
    /// sent, or where the operation takes bodies that nobody looks into. Values that text cannot
    /// be are left as strings, which the schema refuses: what was decoded is not yet valid.
    ///
    /// Header names are those of the description. Headers that are not declared are not looked
    /// at; cookies only if the operation declares some.
    ///
    /// # Errors
    ///
    /// [`Undecodable`] where the request is not as the operation describes it, or could be read
    /// in more than one way.
    pub fn decode(&self, request: &Request<'_>) -> Result<Value, Undecodable> {
        let labels = Labels {
            content_type: single(request.headers, "content-type")?,
            content_encoding: single(request.headers, "content-encoding")?,
        };
        let path = self.path(&request.variables.0)?;
        let query = self
            .parts
            .query
            .read(request.query.unwrap_or_default(), "query")?;
        let mut header = self.headers(request.headers)?;
        let cookie = self.cookies(request.headers)?;
        let body = self.parts.body.read(labels, request.body)?;
        let mut arguments = BTreeMap::new();
        if let Some(read) = body {
            if self.parts.body.told {
                header.insert(Value::from("content-type"), Value::from(read.range));
            }
            if let Some(value) = read.value {
                arguments.insert(Value::from("body"), value);
            }
        }
        arguments.insert(Value::from("path"), path);
        arguments.insert(Value::from("query"), query);
        arguments.insert(Value::from("header"), header.into());
        arguments.insert(Value::from("cookie"), cookie);
        Ok(arguments.into())
    }

    fn path(&self, texts: &[&str]) -> Result<Value, Undecodable> {
        let mut values = BTreeMap::new();
        if texts.len() != self.parts.path.len() {
            return Err(Undecodable::at("path", "", Reason::Style));
        }
        for (variable, text) in self.parts.path.iter().zip(texts) {
            let value = variable.read(text);
            let value = value.map_err(|why| Undecodable::at("path", &variable.name, why))?;
            values.insert(Value::from(&*variable.name), value);
        }
        Ok(values.into())
    }

    fn headers(&self, sent: &[(&str, &[u8])]) -> Result<BTreeMap<Value, Value>, Undecodable> {
        let mut values = BTreeMap::new();
        if let Some(twin) = self.twin(sent) {
            return Err(Undecodable::at("header", twin, Reason::Undeclared));
        }
        for header in &self.parts.header {
            if let Some(text) = single(sent, &header.name)? {
                let value = header.coding.read(&header.name, text, header.script);
                let value = value.map_err(|why| Undecodable::at("header", &header.name, why))?;
                values.insert(Value::from(&*header.name), value);
            }
        }
        Ok(values)
    }

    /// A header that a lax reader takes for a declared one: `_` for `-` (RFC 3875 §4.1.18).
    fn twin<'a>(&self, sent: &[(&'a str, &[u8])]) -> Option<&'a str> {
        let dash = |byte: u8| if byte == b'_' { b'-' } else { byte };
        let loosely = |a: &str, b: &str| a.bytes().map(dash).eq(b.bytes().map(dash));
        let mut names = sent.iter().map(|(name, _)| *name);
        names.find(|name| {
            self.parts.header.iter().any(|declared| {
                !declared.name.eq_ignore_ascii_case(name)
                    && loosely(
                        &declared.name.to_ascii_lowercase(),
                        &name.to_ascii_lowercase(),
                    )
            })
        })
    }

    fn cookies(&self, sent: &[(&str, &[u8])]) -> Result<Value, Undecodable> {
        let mut values = BTreeMap::new();
        if self.parts.cookie.is_empty() {
            return Ok(values.into());
        }
        let at = |name: &str, reason| Undecodable::at("cookie", name, reason);
        let text = single(sent, "cookie")?.unwrap_or_default();
        // RFC 6265 §4.2.1.
        for pair in text.split(';').map(|pair| pair.trim_matches([' ', '\t'])) {
            if pair.is_empty() {
                continue;
            }
            let (name, raw) = pair.split_once('=').ok_or(at("", Reason::Style))?;
            let known = self.parts.cookie.iter().find(|known| *known.name == *name);
            let known = known.ok_or_else(|| at(name, Reason::Undeclared))?;
            let value = known.coding.read(name, raw, known.script);
            let value = value.map_err(|why| at(name, why))?;
            if values.insert(Value::from(name), value).is_some() {
                return Err(at(name, Reason::Twice));
            }
        }
        Ok(values.into())
    }
}

impl Variable {
    fn read(&self, text: &str) -> Result<Value, Reason> {
        if self.semicolon == Allowed::No && text.contains(';') {
            return Err(Reason::Semicolon);
        }
        let decoded = Script::Percent.read(text)?;
        if self.slash == Allowed::No && hides_slash(&decoded) {
            return Err(Reason::EncodedSlash);
        }
        self.coding.read(&self.name, text, Script::Percent)
    }
}

/// Whether there is a slash or backslash in what was decoded once, raw or encoded once more.
fn hides_slash(decoded: &str) -> bool {
    let lower = decoded.to_ascii_lowercase();
    ["/", "\\", "%2f", "%5c"]
        .iter()
        .any(|hidden| lower.contains(hidden))
}

/// The text of a header that may be there once.
fn single<'a>(sent: &[(&str, &'a [u8])], name: &str) -> Result<Option<&'a str>, Undecodable> {
    let mut lines = sent
        .iter()
        .filter(|(sent, _)| sent.eq_ignore_ascii_case(name));
    let Some((_, bytes)) = lines.next() else {
        return Ok(None);
    };
    if lines.next().is_some() {
        return Err(Undecodable::at("header", name, Reason::Twice));
    }
    let text = std::str::from_utf8(bytes);
    let text = text.map_err(|_| Undecodable::at("header", name, Reason::NotText))?;
    Ok(Some(text.trim_matches([' ', '\t'])))
}
