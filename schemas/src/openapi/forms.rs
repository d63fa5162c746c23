//! Bodies that are forms: how each property is written (3.0.4 §4.7.14.4, §4.7.15).

use serde_json::{Value, json};

use super::{
    body::Range,
    contract::Builder,
    fields::{Field, Fields},
    parameters::{self, Place},
    resolve::Node,
    shape::Shape,
    style::{Coding, Explode, Make, Style},
};
use crate::json_schema::shown;

impl Builder {
    /// Declares the properties of `schema` as fields.
    pub(super) fn form(&mut self, schema: &Value, entry: Node<'_>) -> Result<Fields, String> {
        let root = Value::Object(self.root.clone());
        let shape = Shape::of(&root, schema).ok_or("the schema of a form has no end")?;
        let mut fields = Fields::default();
        if shape.rest.is_some() || shape.members.is_empty() {
            self.notes
                .push("fields of a form that have no name in its schema are refused".to_owned());
        }
        for (name, member) in &shape.members {
            let encoding = entry.get("encoding").and_then(|all| all.get(name));
            match form_field(member, encoding) {
                Ok(coding) => {
                    let field = Field {
                        name: name.as_str().into(),
                        coding,
                        allow_empty: false,
                    };
                    fields
                        .declare(field)
                        .map_err(|name| format!("`{}` has two meanings in a form", shown(&name)))?;
                    let encoding = encoding.map(|encoding| encoding.value);
                    self.wire.push(json!({"field": name, "encoding": encoding}));
                }
                Err(why) => self.notes.push(format!(
                    "field `{}` of a form is refused: {why}",
                    shown(name)
                )),
            }
        }
        Ok(fields)
    }
}

fn form_field(member: &Shape, encoding: Option<Node<'_>>) -> Result<Coding, String> {
    let types = member.types;
    let named = encoding.and_then(|encoding| encoding.text("style"));
    let stated = encoding.filter(|e| named.is_some() || e.get("explode").is_some());
    if let Some(encoding) = stated {
        let word = named.unwrap_or("form");
        let style = parameters::style(word).ok_or("its style is not supported")?;
        let explode = parameters::explode(encoding, style);
        let make = Make::of(member)?;
        parameters::check(Place::Query, style, explode, &make)?;
        return Ok(Coding::Styled {
            style,
            explode,
            make,
        });
    }
    match encoding.and_then(|encoding| encoding.text("contentType")) {
        Some(media) if Range::parse(media).is_some_and(|media| media.is_json()) => {
            return Ok(Coding::Json);
        }
        Some("text/plain") | None => {}
        Some(_) => return Err("its content type is not supported".to_owned()),
    }
    if types.object && !types.array && !types.is_primitive() {
        return Ok(Coding::Json);
    }
    Ok(Coding::Styled {
        style: Style::Form,
        explode: Explode::Yes,
        make: match Make::of(member)? {
            Make::Object(_) => {
                return Err("is an object or a value, which text does not tell apart".to_owned());
            }
            make => make,
        },
    })
}
