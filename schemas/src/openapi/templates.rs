//! Path templates, and which of them a path is of.
//!
//! A path is compared segment by segment, as sent. An upstream may decode it, or take no notice
//! of case, before it routes: so a path that would be of another template when read that way is
//! of none.

use std::collections::{BTreeMap, HashMap};

use super::text::{Plus, percent};

/// One segment of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    /// A variable between two pieces of text, either of which may be empty.
    Variable {
        before: String,
        after: String,
    },
    /// More than one variable: never served, yet its paths belong to nobody else.
    Several(Vec<String>),
}

/// A template as it is written.
#[derive(Debug, Clone)]
pub(super) struct Template {
    segments: Vec<Segment>,
    /// The names of the variables in order.
    pub(super) names: Vec<String>,
    /// Why nothing under it can be served.
    pub(super) trouble: Option<&'static str>,
}

impl Template {
    /// Reads a template; `None` if it names no path at all.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let inner = text.strip_prefix('/')?;
        let mut template = Self {
            segments: Vec::new(),
            names: Vec::new(),
            trouble: None,
        };
        for segment in inner.split('/') {
            let segment = template.segment(segment)?;
            template.segments.push(segment);
        }
        let mut sorted = template.names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() != template.names.len() {
            template.trouble = Some("the template has one variable twice");
        }
        Some(template)
    }

    fn segment(&mut self, text: &str) -> Option<Segment> {
        if text.contains(['?', '#']) {
            return None;
        }
        let Some((before, rest)) = text.split_once('{') else {
            if text.contains('}') {
                return None;
            }
            return Some(Segment::Literal(text.to_owned()));
        };
        let (name, after) = rest.split_once('}')?;
        if name.is_empty() || name.contains('{') || before.contains('}') {
            return None;
        }
        self.names.push(name.to_owned());
        let before = before.to_owned();
        if after.contains(['{', '}']) {
            self.trouble = Some("a segment of the template has more than one variable");
            return pieces(text).map(Segment::Several);
        }
        let after = after.to_owned();
        Some(Segment::Variable { before, after })
    }

    /// How concrete each segment is.
    fn ranks(&self) -> impl Iterator<Item = u8> {
        self.segments.iter().map(|segment| match segment {
            Segment::Literal(_) => 2,
            Segment::Variable { before, after } => {
                u8::from(!before.is_empty() || !after.is_empty())
            }
            Segment::Several(_) => 1,
        })
    }

    /// The template with its names taken away: templates alike in this are of the same paths.
    pub(super) fn form(&self) -> String {
        let mut form = String::new();
        for segment in &self.segments {
            form.push('/');
            match segment {
                Segment::Literal(text) => form.push_str(text),
                Segment::Variable { before, after } => {
                    form.push_str(before);
                    form.push_str("{}");
                    form.push_str(after);
                }
                Segment::Several(pieces) => form.push_str(&pieces.join("{}")),
            }
        }
        form
    }

    /// Whether some path is of both, and neither is the more concrete one.
    pub(super) fn crosses(&self, other: &Self) -> bool {
        let alike = self.segments.len() == other.segments.len();
        let overlap = |(a, b): (&Segment, &Segment)| match (a, b) {
            (Segment::Literal(a), Segment::Literal(b)) => loose(a) == loose(b),
            (Segment::Literal(text), open) | (open, Segment::Literal(text)) => {
                open.take(text).is_some()
            }
            _ => true,
        };
        alike
            && self.segments.iter().zip(&other.segments).all(overlap)
            && !self.beats(other)
            && !other.beats(self)
    }

    /// Whether this one is at least as concrete everywhere, and more so somewhere.
    fn beats(&self, other: &Self) -> bool {
        let mut more = false;
        for (own, other) in self.ranks().zip(other.ranks()) {
            if own < other {
                return false;
            }
            more |= own > other;
        }
        more
    }
}

impl Segment {
    /// What a variable holds in `text`.
    fn take<'p>(&self, text: &'p str) -> Option<&'p str> {
        match self {
            Self::Literal(_) => None,
            Self::Variable { before, after } => {
                let rest = text.strip_prefix(before.as_str())?;
                let inner = rest.strip_suffix(after.as_str())?;
                (!inner.is_empty()).then_some(inner)
            }
            Self::Several(pieces) => has_pieces(text, pieces).then_some(text),
        }
    }

    /// The same for text in its loosest reading.
    fn takes_loosely(&self, loose: &str) -> bool {
        match self {
            Self::Literal(text) => self::loose(text) == loose,
            Self::Several(pieces) => {
                let pieces: Vec<_> = pieces.iter().map(|piece| self::loose(piece)).collect();
                has_pieces(loose, &pieces)
            }
            Self::Variable { before, after } => {
                let rest = loose.strip_prefix(self::loose(before).as_str());
                let inner = rest.and_then(|rest| rest.strip_suffix(self::loose(after).as_str()));
                inner.is_some_and(|inner| !inner.is_empty())
            }
        }
    }
}

/// The text around the variables of a segment.
fn pieces(text: &str) -> Option<Vec<String>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        pieces.push(before.to_owned());
        rest = after.split_once('}')?.1;
    }
    pieces.push(rest.to_owned());
    Some(pieces)
}

/// Whether `text` has all pieces in their order: the loosest reading of several variables.
fn has_pieces(text: &str, pieces: &[String]) -> bool {
    let mut rest = Some(text);
    for piece in pieces {
        rest = rest.and_then(|rest| Some(rest.split_once(piece.as_str())?.1));
    }
    rest.is_some()
}

/// Text as the most lenient of routers reads it.
fn loose(text: &str) -> String {
    // Some servers take what follows a semicolon for parameters of the segment (RFC 3986 §3.3).
    let bare = text.split(';').next().unwrap_or_default();
    let text = if bare.is_empty() { text } else { bare };
    percent(text, Plus::Literal).map_or_else(|| text.to_lowercase(), |text| text.to_lowercase())
}

/// All templates of a description.
#[derive(Debug, Default)]
pub(super) struct Templates {
    templates: Vec<Template>,
    nodes: Vec<Branch>,
}

/// A place in the tree of segments.
#[derive(Debug, Default)]
struct Branch {
    /// Literals by their loosest reading; two may share one.
    literals: HashMap<Box<str>, Vec<(Box<str>, usize)>>,
    /// Variables with text around them, or without.
    open: Vec<(Segment, usize)>,
    /// The templates that end here.
    ends: Vec<usize>,
}

/// Why a path is of no template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoTemplate {
    None,
    /// More than one, none of which is the most concrete.
    Ambiguous,
}

impl Templates {
    /// Adds a template, and says by which number it will be found.
    pub(super) fn add(&mut self, template: Template) -> usize {
        if self.nodes.is_empty() {
            self.nodes.push(Branch::default());
        }
        let number = self.templates.len();
        let mut at = 0;
        for segment in &template.segments {
            at = self.below(at, segment);
        }
        if let Some(branch) = self.nodes.get_mut(at) {
            branch.ends.push(number);
        }
        self.templates.push(template);
        number
    }

    fn below(&mut self, at: usize, segment: &Segment) -> usize {
        let fresh = self.nodes.len();
        let Some(branch) = self.nodes.get_mut(at) else {
            return at;
        };
        let next = match segment {
            Segment::Literal(text) => {
                let same = branch.literals.entry(loose(text).into()).or_default();
                let known = same.iter().find(|(known, _)| **known == **text);
                let known = known.map(|(_, next)| *next);
                if known.is_none() {
                    same.push((text.as_str().into(), fresh));
                }
                known.unwrap_or(fresh)
            }
            open => {
                let known = branch.open.iter().find(|(known, _)| known == open);
                let known = known.map(|(_, next)| *next);
                if known.is_none() {
                    branch.open.push((open.clone(), fresh));
                }
                known.unwrap_or(fresh)
            }
        };
        if next == fresh {
            self.nodes.push(Branch::default());
        }
        next
    }

    /// The numbers of the template that `path` is of (several, if written alike) and the text of
    /// its variables.
    pub(super) fn find<'p>(&self, path: &'p str) -> Result<(&[usize], Vec<&'p str>), NoTemplate> {
        let inner = path.strip_prefix('/').ok_or(NoTemplate::None)?;
        let segments: Vec<(&str, String)> = inner
            .split('/')
            .map(|segment| (segment, loose(segment)))
            .collect();
        let mut found = Vec::new();
        self.search(0, &segments, &mut found);
        let best = self.best(&found)?;
        let (Some(branch), Some(number)) = (self.nodes.get(best), self.first(best)) else {
            return Err(NoTemplate::None);
        };
        let mut variables = Vec::with_capacity(number.names.len());
        for (segment, (raw, _)) in number.segments.iter().zip(&segments) {
            match segment {
                Segment::Literal(text) if text == raw => {}
                Segment::Literal(_) => return Err(NoTemplate::None),
                open => variables.push(open.take(raw).ok_or(NoTemplate::None)?),
            }
        }
        Ok((&branch.ends, variables))
    }

    /// All places at which templates end that `segments` could be of, in the loosest reading.
    fn search(&self, at: usize, segments: &[(&str, String)], found: &mut Vec<usize>) {
        let Some(branch) = self.nodes.get(at) else {
            return;
        };
        let Some(((_, loose), rest)) = segments.split_first() else {
            if !branch.ends.is_empty() {
                found.push(at);
            }
            return;
        };
        let literals = branch.literals.get(loose.as_str());
        for (_, next) in literals.into_iter().flatten() {
            self.search(*next, rest, found);
        }
        for (open, next) in &branch.open {
            if open.takes_loosely(loose) {
                self.search(*next, rest, found);
            }
        }
    }

    /// The one place whose template is more concrete than all others.
    fn best(&self, found: &[usize]) -> Result<usize, NoTemplate> {
        if let [only] = found {
            return Ok(*only);
        }
        let best = found.iter().copied().find(|&one| {
            let Some(template) = self.first(one) else {
                return false;
            };
            let others = found.iter().filter(|other| **other != one);
            others
                .filter_map(|&other| self.first(other))
                .all(|other| template.beats(other))
        });
        best.ok_or(if found.is_empty() {
            NoTemplate::None
        } else {
            NoTemplate::Ambiguous
        })
    }

    fn first(&self, at: usize) -> Option<&Template> {
        self.templates.get(*self.nodes.get(at)?.ends.first()?)
    }

    /// The groups of templates that are of the same paths, and the pairs that cross.
    pub(super) fn crossings(&self) -> usize {
        let mut by_length: BTreeMap<usize, Vec<&Template>> = BTreeMap::new();
        for branch in &self.nodes {
            if let Some(template) = branch.ends.first().and_then(|n| self.templates.get(*n)) {
                let same = by_length.entry(template.segments.len()).or_default();
                same.push(template);
            }
        }
        let pairs = by_length.values().map(|same| {
            let pair = |(index, one): (usize, &&Template)| {
                let later = same.iter().skip(index + 1);
                later.filter(|other| one.crosses(other)).count()
            };
            same.iter().enumerate().map(pair).sum::<usize>()
        });
        pairs.sum()
    }
}
