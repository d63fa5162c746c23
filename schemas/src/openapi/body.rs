//! Bodies: which media types an operation takes, and how each is read (RFC 9110 §8.3).

use regorus::Value;

use super::{
    fields::Fields,
    undecodable::{Reason, Undecodable},
};
use crate::json;

/// The bodies of one operation.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    /// The description has a `requestBody`.
    pub(super) declared: bool,
    /// It is required, and the schema cannot say so because not every body is judged.
    pub(super) required: bool,
    /// The arguments say which media type a body has, because contracts differ by it.
    pub(super) told: bool,
    pub(super) kinds: Vec<Kind>,
}

/// Bodies of one media type, or of one range of them.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) range: Range,
    pub(super) reader: Reader,
}

/// How bodies of a kind are read.
#[derive(Debug)]
pub(super) enum Reader {
    /// As JSON.
    Json,
    /// As a form.
    Form(Fields),
    /// Not at all, because the operation says so.
    Opaque,
    /// Not at all, so they are refused.
    Refused,
}

/// A key of `content`: `type/subtype`, `type/*` or `*/*`, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) text: String,
}

impl Range {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = essence(text)?;
        let (main, sub) = text.split_once('/')?;
        (main != "*" || sub == "*").then_some(Self { text })
    }

    /// How well the range fits; nothing where it does not.
    fn fit(&self, essence: &str) -> Option<u8> {
        if self.text == essence {
            return Some(2);
        }
        let main = self.text.strip_suffix("/*")?;
        match essence.split_once('/') {
            Some((sent, _)) if sent == main => Some(1),
            _ => (main == "*").then_some(0),
        }
    }

    pub(super) fn is_json(&self) -> bool {
        is_json(&self.text)
    }

    pub(super) fn is_form(&self) -> bool {
        self.text == FORM
    }

    /// Whether JSON is among what the range takes.
    pub(super) fn may_be_json(&self) -> bool {
        self.is_json() || matches!(self.text.as_str(), "*/*" | "application/*")
    }
}

const FORM: &str = "application/x-www-form-urlencoded";

fn is_json(essence: &str) -> bool {
    // RFC 8259 §11, RFC 6839 §3.1.
    matches!(essence, "application/json" | "text/json") || essence.ends_with("+json")
}

/// `type/subtype` in lower case, without parameters.
fn essence(text: &str) -> Option<String> {
    let essence = text.split(';').next()?.trim_matches([' ', '\t']);
    let (main, sub) = essence.split_once('/')?;
    (is_token(main) && is_token(sub)).then(|| essence.to_ascii_lowercase())
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(word)
}

/// What a body was read into.
pub(super) struct Read<'a> {
    /// The key of `content` it was read by.
    pub(super) range: &'a str,
    /// The value, unless nobody looks into such a body.
    pub(super) value: Option<Value>,
}

/// The headers that say what a body is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Labels<'a> {
    pub(super) content_type: Option<&'a str>,
    pub(super) content_encoding: Option<&'a str>,
}

impl Bodies {
    /// Reads what was sent; `None` where nothing was.
    pub(super) fn read(
        &self,
        labels: Labels<'_>,
        body: &[u8],
    ) -> Result<Option<Read<'_>>, Undecodable> {
        let bad = |reason| Undecodable::at("body", "", reason);
        if !self.declared {
            return if body.is_empty() {
                Ok(None)
            } else {
                Err(bad(Reason::Undeclared))
            };
        }
        let kind = labels.content_type.map(|text| self.kind(text)).transpose();
        if body.is_empty() && !matches!(&kind, Ok(Some((_, Reader::Form(_))))) {
            return if self.required {
                Err(bad(Reason::NoBody))
            } else {
                Ok(None)
            };
        }
        let (range, reader) = kind.map_err(bad)?.ok_or(bad(Reason::NoMediaType))?;
        let plain = labels
            .content_encoding
            .is_none_or(|coding| coding.eq_ignore_ascii_case("identity"));
        if !plain && !matches!(reader, Reader::Opaque) {
            return Err(bad(Reason::ContentEncoding));
        }
        let value = match reader {
            Reader::Json => Some(json::parse(body).map_err(|why| bad(Reason::Json(why)))?),
            Reader::Form(fields) => {
                let text = std::str::from_utf8(body).map_err(|_| bad(Reason::Encoding))?;
                Some(fields.read(text, "body")?)
            }
            Reader::Opaque => None,
            Reader::Refused => return Err(bad(Reason::MediaType)),
        };
        Ok(Some(Read { range, value }))
    }

    /// How a body of this media type is read.
    fn kind(&self, content_type: &str) -> Result<(&str, &Reader), Reason> {
        let essence = essence(content_type).ok_or(Reason::MediaType)?;
        charset(content_type)?;
        let fits = self.kinds.iter().filter_map(|kind| {
            let fit = kind.range.fit(&essence)?;
            Some((fit, kind))
        });
        let (fit, kind) = fits.max_by_key(|(fit, _)| *fit).ok_or(Reason::MediaType)?;
        // A range takes more than what it is read as.
        if fit < 2 && !is_json(&essence) && !matches!(kind.reader, Reader::Opaque) {
            return Err(Reason::MediaType);
        }
        Ok((&kind.range.text, &kind.reader))
    }
}

/// JSON and forms are UTF-8; a body that says otherwise might be read otherwise.
fn charset(content_type: &str) -> Result<(), Reason> {
    for parameter in content_type.split(';').skip(1) {
        let Some((name, value)) = parameter.split_once('=') else {
            if parameter.trim().is_empty() {
                continue;
            }
            return Err(Reason::MediaType);
        };
        let value = value.trim().trim_matches('"');
        if name.trim().eq_ignore_ascii_case("charset") && !value.eq_ignore_ascii_case("utf-8") {
            return Err(Reason::Charset);
        }
    }
    Ok(())
}
