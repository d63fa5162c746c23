//! Requests that an operation's description cannot be read into.

use crate::{json::Malformed, json_schema::Violation, walk::push};

/// A request that is not as the operation describes it, and where. Holds names, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {reason}")]
pub struct Undecodable {
    /// The place in the arguments (RFC 6901), such as `/query/page`.
    pub pointer: String,
    /// What is wrong.
    pub reason: Reason,
}

/// What is wrong with a part of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Percent-encoding that is invalid, not UTF-8 or hides a NUL.
    #[error("is not well encoded")]
    Encoding,
    /// A header or cookie that is not UTF-8 text.
    #[error("is not text")]
    NotText,
    /// `/` or `\` inside a path variable.
    #[error("has an encoded slash or backslash")]
    EncodedSlash,
    /// `;` where some servers begin parameters.
    #[error("has a raw semicolon, which servers read differently: encode it as %3B")]
    Semicolon,
    /// Not written as the parameter's `style` has it.
    #[error("is not written in the style that the operation declares")]
    Style,
    /// An encoded delimiter within a delimited list.
    #[error("has an encoded delimiter, which servers read differently")]
    Delimiter,
    /// Given more than once.
    #[error("is given more than once")]
    Twice,
    /// Not declared.
    #[error("is not declared by the operation")]
    Undeclared,
    /// Not strict JSON.
    #[error("is not strict json: {0}")]
    Json(Malformed),
    /// A body without a media type.
    #[error("has no `Content-Type`")]
    NoMediaType,
    /// A media type that is not declared, or whose bodies cannot be judged.
    #[error("has a media type that is not served for this operation")]
    MediaType,
    /// A `charset` other than UTF-8.
    #[error("has a charset other than utf-8")]
    Charset,
    /// A `Content-Encoding`.
    #[error("is compressed or otherwise encoded, and cannot be judged")]
    ContentEncoding,
    /// The operation wants a body.
    #[error("is required")]
    NoBody,
}

impl Undecodable {
    /// The same as a violation of the contract.
    pub fn violation(&self) -> Violation {
        Violation {
            pointer: self.pointer.clone(),
            message: self.reason.to_string(),
        }
    }

    /// At `name` in one of the places of the arguments. A long name is left away.
    pub(super) fn at(place: &str, name: &str, reason: Reason) -> Self {
        let mut pointer = format!("/{place}");
        let plain = !name.chars().any(char::is_control);
        if !name.is_empty() && name.len() <= 200 && plain {
            push(&mut pointer, name);
        }
        Self { pointer, reason }
    }
}
