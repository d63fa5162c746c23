//! One URI template: read from its text, matched without going back.

use std::collections::HashSet;

use super::{MOST_BYTES, uri::Uri};

/// Names of variables in one template.
const MOST_NAMES: usize = 32;

/// What is wrong with a key of `resources`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// No `scheme:` at its start.
    #[error("expected a URI that begins with its scheme, such as `file:`")]
    Scheme,
    /// Braces that do not enclose an expression.
    #[error("a brace without its other one")]
    Brace,
    /// An operator or modifier of RFC 6570 that is not served.
    #[error(
        "the expression `{{{0}}}` is not served: {{var}}, {{+var}}, {{/var}}, {{?var}} and {{&var}} are"
    )]
    Expression(String),
    /// A name twice: values that must be equal are not compared.
    #[error("the variable `{0}` stands twice in it")]
    Twice(String),
    /// What no URI in normal form is.
    #[error(
        "no URI matches it: it has a dot segment, a character that a URI has not, or a percent-encoding that is \
         needless, wrong or in lower case"
    )]
    Never,
    /// Longer than is served.
    #[error("it has more than {MOST_BYTES} bytes or {MOST_NAMES} variables")]
    TooLong,
    /// More templates than one service may have.
    #[error("there are more than {max} templates", max = super::MOST_TEMPLATES)]
    TooMany,
}

/// A template, ready to be matched.
#[derive(Debug)]
pub(super) struct Pattern {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    /// These bytes.
    Literal(Vec<u8>),
    /// One value.
    Value(Class),
    /// `{?a,b}` or `{&a,b}`: any of `a=`, `b=` with their values, in this order.
    Query {
        /// What stands before the first: `?` or `&`.
        first: char,
        names: Vec<String>,
    },
}

/// What a value is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Neither `/`, encoded or not, nor `?`, `#`, `&`.
    Segment,
    /// Anything.
    Reserved,
    /// Neither `/`, `?`, `#` nor `&`; a slash may be encoded.
    Query,
}

/// Where in the URI the parts so far may end.
type Places = Vec<bool>;

impl Pattern {
    /// Reads a template.
    pub(super) fn parse(text: &str) -> Result<Self, Flaw> {
        scheme(text)?;
        let (mut parts, mut names, mut rest) = (Vec::new(), HashSet::new(), text);
        while let Some((literal, tail)) = rest.split_once('{') {
            let (expression, tail) = tail.split_once('}').ok_or(Flaw::Brace)?;
            parts.extend(self::literal(literal)?);
            parts.extend(self::expression(expression, &mut names)?);
            rest = tail;
        }
        parts.extend(literal(rest)?);
        let pattern = Self { parts };
        if text.len() > MOST_BYTES || names.len() > MOST_NAMES {
            return Err(Flaw::TooLong);
        }
        match Uri::read(&pattern.sample()) {
            Some(_) => Ok(pattern),
            None => Err(Flaw::Never),
        }
    }

    /// How much of it is literal.
    pub(super) fn literal_bytes(&self) -> usize {
        let length = |part: &Part| match part {
            Part::Literal(bytes) => bytes.len(),
            Part::Value(_) | Part::Query { .. } => 0,
        };
        self.parts.iter().map(length).sum()
    }

    /// A URI that matches, if any does.
    fn sample(&self) -> String {
        let text = |part: &Part| match part {
            Part::Literal(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Part::Value(_) => "x".to_owned(),
            Part::Query { .. } => String::new(),
        };
        self.parts.iter().map(text).collect()
    }

    /// Whether the whole URI is one that the template can be expanded to.
    pub(super) fn matches(&self, uri: &Uri<'_>) -> bool {
        let mut parts = self.parts.iter();
        // Most templates are ruled out by their first or last bytes, before anything is counted.
        if let Some(Part::Literal(last)) = self.parts.last()
            && !uri.ends_with(last)
        {
            return false;
        }
        let Some(Part::Literal(first)) = parts.next() else {
            return false;
        };
        let Some(place) = uri.behind(0, first) else {
            return false;
        };
        let mut places = vec![false; uri.len() + 1];
        mark(&mut places, place);
        for part in parts {
            places = part.step(uri, places);
            if !places.contains(&true) {
                return false;
            }
        }
        places.last() == Some(&true)
    }
}

impl Part {
    fn step(&self, uri: &Uri<'_>, places: Places) -> Places {
        match self {
            Self::Literal(bytes) => behind(uri, &places, bytes),
            Self::Value(class) => values(uri, &places, *class),
            Self::Query { first, names } => query(uri, places, *first, names),
        }
    }
}

fn mark(places: &mut Places, place: usize) {
    if let Some(marked) = places.get_mut(place) {
        *marked = true;
    }
}

fn either(mut places: Places, others: &Places) -> Places {
    let both = places.iter_mut().zip(others);
    both.for_each(|(marked, other)| *marked |= other);
    places
}

fn marked(places: &Places) -> impl Iterator<Item = usize> {
    let places = places.iter().enumerate();
    places.filter_map(|(place, marked)| marked.then_some(place))
}

fn behind(uri: &Uri<'_>, places: &Places, literal: &[u8]) -> Places {
    let mut found = vec![false; places.len()];
    for place in marked(places) {
        if let Some(place) = uri.behind(place, literal) {
            mark(&mut found, place);
        }
    }
    found
}

/// Where a value of one or more bytes ends that begins at one of `places`. It neither is, begins
/// nor ends with a dot segment; those between are refused with the whole URI.
fn values(uri: &Uri<'_>, places: &Places, class: Class) -> Places {
    let mut found = vec![false; places.len()];
    // Whether a value may begin one, two, or more bytes back.
    let (mut one, mut two, mut more) = (false, false, false);
    let mut dots = 0_usize;
    for (place, begins) in places.iter().enumerate().take(uri.len()) {
        if !class.takes(uri, place) {
            (one, two, more, dots) = (false, false, false, 0);
            continue;
        }
        dots = if uri.byte(place) == Some(b'.') {
            dots + 1
        } else {
            0
        };
        more |= two;
        two = one;
        one = *begins && !uri.dots_from(place);
        let good = more || two && dots < 2 || one && dots < 1;
        if good && !uri.dots_before(place + 1) {
            mark(&mut found, place + 1);
        }
    }
    found
}

fn query(uri: &Uri<'_>, places: Places, first: char, names: &[String]) -> Places {
    let mut after: Places = vec![false; places.len()];
    for name in names {
        let begun = behind(uri, &places, format!("{first}{name}=").as_bytes());
        let begun = either(begun, &behind(uri, &after, format!("&{name}=").as_bytes()));
        let ended = values(uri, &begun, Class::Query);
        after = either(either(after, &begun), &ended);
    }
    either(places, &after)
}

impl Class {
    fn takes(self, uri: &Uri<'_>, place: usize) -> bool {
        let plain = matches!(uri.plain(place), Some(b'/' | b'?' | b'#' | b'&'));
        match self {
            Self::Segment => !plain && uri.byte(place) != Some(b'/'),
            Self::Query => !plain,
            Self::Reserved => true,
        }
    }
}

/// Checks that a key begins with the scheme of a URI (RFC 3986 §3.1).
pub(super) fn scheme(text: &str) -> Result<(), Flaw> {
    let (scheme, _) = text.split_once(':').ok_or(Flaw::Scheme)?;
    let letter = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    let good = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    if letter && scheme.chars().all(good) {
        Ok(())
    } else {
        Err(Flaw::Scheme)
    }
}

/// What stands outside of braces, if anything does.
fn literal(text: &str) -> Result<Option<Part>, Flaw> {
    if text.contains('}') {
        return Err(Flaw::Brace);
    }
    Ok((!text.is_empty()).then(|| Part::Literal(text.as_bytes().to_vec())))
}

/// Reads what stands between braces.
fn expression(text: &str, known: &mut HashSet<String>) -> Result<Vec<Part>, Flaw> {
    let (operator, list) = match text.chars().next() {
        Some(operator) if "+/?&".contains(operator) => {
            (Some(operator), text.trim_start_matches(operator))
        }
        _ => (None, text),
    };
    let names: Vec<&str> = list.split(',').collect();
    // One operator only, and none of the modifiers `*` and `:n`.
    if list.len() + operator.map_or(0, char::len_utf8) != text.len()
        || !names.iter().all(|n| named(n))
    {
        return Err(Flaw::Expression(crate::json_schema::shown(text)));
    }
    for name in &names {
        if !known.insert((*name).to_owned()) {
            return Err(Flaw::Twice((*name).to_owned()));
        }
    }
    Ok(parts(operator, &names))
}

/// Whether a name is one (RFC 6570 §2.3), without percent-encoding.
fn named(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty()
        && name
            .split('.')
            .all(|part| !part.is_empty() && part.chars().all(good))
}

fn parts(operator: Option<char>, names: &[&str]) -> Vec<Part> {
    let (class, between) = match operator {
        Some(first @ ('?' | '&')) => {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            return vec![Part::Query { first, names }];
        }
        Some('+') => (Class::Reserved, ","),
        Some('/') => (Class::Segment, "/"),
        _ => (Class::Segment, ","),
    };
    let mut parts = Vec::new();
    for (index, _) in names.iter().enumerate() {
        if index > 0 || operator == Some('/') {
            parts.push(Part::Literal(between.into()));
        }
        parts.push(Part::Value(class));
    }
    parts
}
