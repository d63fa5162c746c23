//! JSON Schema over the tree that policy reads: 2020-12, and 2019-09 and draft-07 where `$schema`
//! says so. The only place that knows the validator.
//!
//! A document is screened before it is compiled: another dialect, a reference that leaves the
//! document, or more of anything than a tool's contract needs is refused at load, by name.
//! [`Schema::is_valid`] decides. [`Schema::violations`] explains afterwards, within bounds.
//! `format` and `contentEncoding` and the like stay annotations in every dialect, as 2020-12 has
//! them (validation §7.2.1 and §8.2) and draft-07 allows (§7.2 and §8.2).

mod dialect;
mod explain;
mod mixed;
mod node;
mod outline;
mod pointer;
mod reach;
mod screen;
mod survey;

use std::{fmt, sync::OnceLock};

use jsonschema::{PatternOptions, ValidationError, Validator, error::ValidationErrorKind};
use regorus::Value;

pub use self::dialect::Dialect;
pub use self::explain::{MOST_VIOLATIONS, Violation};
pub use self::screen::{MAX_BYTES, MAX_PATTERNS, MAX_SUBSCHEMAS};
use self::{explain::Depth, node::Tree, outline::Outline, reach::Reach, screen::Screened};

/// All compiled patterns of one schema together may take this many bytes.
const PATTERN_BYTES: usize = 8 << 20;

/// One compiled pattern may take this many bytes.
const ONE_PATTERN_BYTES: usize = 2 << 20;

/// Bytes of a schema that compiles in no time.
const QUICK_BYTES: usize = 8 << 10;

/// Its subschemas, references followed.
const QUICK_SUBSCHEMAS: u64 = 200;

/// Its patterns.
const QUICK_PATTERNS: usize = 16;

/// What one of its patterns may take once compiled.
const QUICK_PATTERN_BYTES: usize = 64 << 10;

/// Encodings that the validator would check in draft-07.
const ENCODINGS: [&str; 5] = ["base64", "base64url", "base32", "base32hex", "base16"];

/// The most subschemas of a schema whose arguments get validators of their own.
const MAX_OUTLINED: u64 = 300;

/// A schema that compiles; shared between threads.
///
/// An agent uses few of the tools of a catalogue, and a compiled schema takes many times its text.
/// One that compiles in no time is kept as text until somebody is asked about it.
pub struct Schema {
    /// None when what has compiled before does so no longer: then nothing is valid.
    compiled: OnceLock<Option<Compiled>>,
    text: Box<str>,
}

/// A compiled schema.
struct Compiled {
    validator: Validator<Tree>,
    explain: Depth,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").finish_non_exhaustive()
    }
}

/// A schema that is not compiled, and why. Written for the operator who publishes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSchema {
    /// More bytes than [`MAX_BYTES`].
    #[error("the schema is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// More subschemas than [`MAX_SUBSCHEMAS`], as written or once references are followed.
    #[error("the schema has more than {MAX_SUBSCHEMAS} subschemas, references followed")]
    TooMany,
    /// Deeper than [`crate::json::MAX_DEPTH`].
    #[error("the schema nests deeper than {} levels", crate::json::MAX_DEPTH)]
    TooDeep,
    /// More patterns than [`MAX_PATTERNS`], or one that is too long.
    #[error("the schema has more than {MAX_PATTERNS} patterns, or one longer than 1024 bytes")]
    Patterns,
    /// A `$schema` that names no [`Dialect`].
    #[error("`$schema` at `{pointer}` names `{dialect}`; only {}, {} and {}# are read",
        Dialect::Draft202012.uri(), Dialect::Draft201909.uri(), Dialect::Draft7.uri())]
    Dialect {
        /// Where.
        pointer: String,
        /// What it names.
        dialect: String,
    },
    /// A `$schema` that changes the dialect where no resource begins.
    #[error(
        "`$schema` at `{pointer}` changes the dialect to {dialect}: only a schema with an `$id` of \
         its own can, where the dialect around it expects a schema"
    )]
    Embedded {
        /// Where.
        pointer: String,
        /// What it names.
        dialect: &'static str,
    },
    /// A keyword that looks through the schemas of several dialects.
    #[error("`{keyword}` at `{pointer}` is not served in a document of more than one dialect")]
    Through {
        /// The schema that has it.
        pointer: String,
        /// The keyword.
        keyword: &'static str,
    },
    /// A pointer into a resource of another dialect.
    #[error(
        "reference `{reference}` leads by pointer into a schema of another dialect; refer to it by \
         its `$id`"
    )]
    Across {
        /// The reference.
        reference: String,
    },
    /// An `$id` that is a name and an anchor at once, or an anchor that a `$ref` beside it silences.
    #[error(
        "`$id` at `{pointer}` is `{id}`: a fragment behind a name or beside `$ref` is not served"
    )]
    AnchorId {
        /// Where.
        pointer: String,
        /// The `$id`.
        id: String,
    },
    /// An `$id` that claims a name of the dialects themselves.
    #[error("`$id` at `{pointer}` is `{id}`, a name reserved for JSON Schema itself")]
    ReservedId {
        /// Where.
        pointer: String,
        /// The name it claims.
        id: String,
    },
    /// A reference to something outside the document.
    #[error("reference `{reference}` leads out of the document; nothing is ever fetched")]
    Remote {
        /// The reference.
        reference: String,
    },
    /// A reference that is empty, the root's to itself, or a `$recursiveRef` to other than `#`.
    #[error("reference `{reference}` is not served: write one that leads to another schema")]
    Reference {
        /// The reference.
        reference: String,
    },
    /// A `$recursiveRef` among resources that differ in `$recursiveAnchor`.
    #[error(
        "`$recursiveRef` is not served where one of several `$id` lacks `$recursiveAnchor: true`"
    )]
    Uneven,
    /// A reference to nothing in the document.
    #[error("reference does not resolve: {detail}")]
    Unresolved {
        /// What was looked for.
        detail: String,
    },
    /// A pattern the linear-time engine does not have, or that compiles too large.
    #[error(
        "`{pointer}` has a pattern that is not served: look-around, back references and \
         patterns that compile to more than 2 MiB (all together 8 MiB) are refused"
    )]
    Pattern {
        /// Where.
        pointer: String,
    },
    /// Not a schema by the meta-schema of its dialect.
    #[error("not a valid schema of its dialect at `{pointer}`: {detail}")]
    Invalid {
        /// Where.
        pointer: String,
        /// What the meta-schema says.
        detail: String,
    },
}

impl Schema {
    /// Compiles a schema document. Never fetches anything; work is bounded.
    ///
    /// # Errors
    ///
    /// [`BadSchema`] says what in the document is refused.
    pub fn compile(document: &serde_json::Value) -> Result<Self, BadSchema> {
        let screened = screen::screen(document)?;
        if let Some(text) = quick(document, &screened) {
            return Ok(Self {
                compiled: OnceLock::new(),
                text,
            });
        }
        let compiled = Compiled::new(document, &screened, patterns(screened.patterns))?;
        Ok(Self {
            compiled: OnceLock::from(Some(compiled)),
            text: Box::default(),
        })
    }

    /// Decides whether `value` satisfies the schema.
    pub fn is_valid(&self, value: &Value) -> bool {
        let compiled = self.compiled();
        compiled.is_some_and(|compiled| compiled.validator.is_valid(value))
    }

    /// Explains a refusal: at most `most` places (and never more than [`MOST_VIOLATIONS`]) at
    /// which `value` fails. Empty only for a valid value. Off the hot path.
    pub fn violations(&self, value: &Value, most: usize) -> Vec<Violation> {
        match self.compiled() {
            Some(compiled) if !compiled.validator.is_valid(value) => {
                explain::explain(&compiled.validator, &compiled.explain, value, most)
            }
            _ => Vec::new(),
        }
    }

    fn compiled(&self) -> Option<&Compiled> {
        self.compiled.get_or_init(|| compiled(&self.text)).as_ref()
    }
}

/// The text of a schema that compiles in no time: a small one with small patterns.
fn quick(document: &serde_json::Value, screened: &Screened) -> Option<Box<str>> {
    if screened.subschemas > QUICK_SUBSCHEMAS || screened.patterns > QUICK_PATTERNS {
        return None;
    }
    let text = document.to_string();
    let quick = text.len() <= QUICK_BYTES
        && Compiled::new(document, screened, quick_patterns(screened.patterns)).is_ok();
    quick.then(|| text.into())
}

/// Compiles a quick schema, which has compiled before.
fn compiled(text: &str) -> Option<Compiled> {
    let document = serde_json::from_str(text).ok()?;
    let screened = screen::screen(&document).ok()?;
    Compiled::new(&document, &screened, quick_patterns(screened.patterns)).ok()
}

impl Compiled {
    fn new(
        document: &serde_json::Value,
        screened: &Screened,
        patterns: PatternOptions<jsonschema::Regex>,
    ) -> Result<Self, BadSchema> {
        let options = jsonschema::options_for::<Tree>()
            .with_draft(screened.dialect.draft())
            .should_validate_formats(false)
            .offline()
            .with_pattern_options(patterns)
            .without_content_media_type_support("application/json");
        let options = ENCODINGS.iter().fold(options, |options, encoding| {
            options.without_content_encoding_support(encoding)
        });
        let validator = options.build(document).map_err(|error| bad(&error))?;
        let explain = match screened.reach {
            Reach::Finite(size) => Depth::Full(size),
            // Parts are compiled over and over where they refer to one another.
            Reach::Open if screened.subschemas > MAX_OUTLINED => Depth::Whole,
            // What stands beside the `$ref` is not what failed.
            Reach::Open
                if document
                    .as_object()
                    .is_some_and(|d| screened.dialect.is_silenced(d)) =>
            {
                Depth::Whole
            }
            Reach::Open => options.build_map(document).map_or(Depth::Whole, |parts| {
                Depth::Arguments(Outline::new(document, parts))
            }),
        };
        Ok(Self { validator, explain })
    }
}

fn patterns(count: usize) -> PatternOptions<jsonschema::Regex> {
    let each = (PATTERN_BYTES / count.max(1)).min(ONE_PATTERN_BYTES);
    PatternOptions::regex()
        .size_limit(each)
        .dfa_size_limit(each)
}

/// As [`patterns`], but none takes more than a quick schema may have.
fn quick_patterns(count: usize) -> PatternOptions<jsonschema::Regex> {
    patterns(count).size_limit(QUICK_PATTERN_BYTES)
}

/// Sorts the compiler's errors into ours.
fn bad(error: &ValidationError<'_>) -> BadSchema {
    use jsonschema::ReferencingError as Ref;
    match error.kind() {
        ValidationErrorKind::Referencing(Ref::Unretrievable { uri, .. }) => BadSchema::Remote {
            reference: shown(uri),
        },
        ValidationErrorKind::Referencing(Ref::UnknownSpecification { specification }) => {
            BadSchema::Dialect {
                pointer: String::new(),
                dialect: shown(specification),
            }
        }
        ValidationErrorKind::Referencing(other) => BadSchema::Unresolved {
            detail: shown(&other.to_string()),
        },
        _ => invalid(error),
    }
}

fn invalid(error: &ValidationError<'_>) -> BadSchema {
    let pointer = shown(error.instance_path().as_str());
    let is_pattern = matches!(
        error.kind(),
        ValidationErrorKind::Format { format } if format == "regex"
    );
    if is_pattern {
        BadSchema::Pattern { pointer }
    } else {
        BadSchema::Invalid {
            pointer,
            detail: shown(&error.masked().to_string()),
        }
    }
}

/// Makes text of a document fit to be read on a terminal: short, and without control characters.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (index, c) in text.chars().enumerate() {
        match c {
            _ if index == 200 => {
                shown.push('…');
                break;
            }
            c if c.is_control() => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests;
