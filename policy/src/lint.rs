//! What a user's rules may not do, found before the engine compiles them.
//!
//! In the order of the work: [`scan`] refuses what the parser could not bear, [`ast`] parses, [`scope`] resolves names,
//! [`heads`], [`uses`], [`graph`] and [`defined`] refuse what the VM answers otherwise than Rego says, and [`mend`] closes
//! a gap that rules would fall into everywhere.

mod ast;
mod builtins;
mod defined;
mod graph;
mod heads;
mod mend;
mod numbers;
mod scan;
mod scope;
mod uses;

use std::collections::BTreeMap;

use ast::{Module, Span};
use scope::{Names, RuleInfo, RuleKind, Rules};

use crate::library::AllowDefault;
use crate::problem::{Problem, Source};

/// The package of the user's rules; packages below it are theirs too.
const PACKAGE: &str = "outrider.authz";

/// What the rules turned out to be.
#[derive(Debug, Clone)]
pub(crate) struct Findings {
    /// The files as they are compiled.
    pub(crate) sources: Vec<Source>,
    pub(crate) allow_default: AllowDefault,
    /// `allow` reads, directly or through other rules, what there is only once there is a call.
    pub(crate) allow_needs_call: bool,
    /// So does `deny` or `approve`.
    pub(crate) deny_needs_call: bool,
}

/// One file, parsed.
struct File<'a> {
    source: &'a Source,
    module: Module,
}

/// One file with its names, and where its problems go.
struct Context<'a> {
    file: &'a str,
    text: &'a str,
    names: Names<'a>,
}

impl Context<'_> {
    fn problem(&self, span: Span, message: impl Into<String>) -> Problem {
        Problem {
            file: self.file.to_owned(),
            line: span.line,
            column: span.col,
            message: message.into(),
        }
    }
}

/// Checks the user's files.
///
/// # Errors
///
/// All problems, in the order of files and lines.
pub(crate) fn check(user: &[Source]) -> Result<Findings, Vec<Problem>> {
    none(scan::check(user))?;
    let files = parse(user)?;
    let rules = rules(&files);
    let mut problems = Vec::new();
    let contexts: Vec<_> = files
        .iter()
        .map(|file| (context(file, &rules), &file.module))
        .collect();
    for (context, module) in &contexts {
        heads::check(context, module, &mut problems);
        uses::check(context, module, &mut problems);
    }
    heads::check_together(&contexts, &mut problems);
    let graph = graph::Graph::new(&contexts);
    graph.check(&mut problems);
    let mended = mend::sources(&contexts, user, &mut problems);
    check_mended(&mended, &mut problems);
    problems.sort();
    problems.dedup();
    none(problems)?;
    Ok(Findings {
        sources: mended,
        allow_default: heads::allow_default(&contexts),
        allow_needs_call: graph.needs_call(&["allow"]),
        deny_needs_call: graph.needs_call(&["deny", "approve"]),
    })
}

fn none(problems: Vec<Problem>) -> Result<(), Vec<Problem>> {
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
    }
}

fn parse(user: &[Source]) -> Result<Vec<File<'_>>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut files = Vec::new();
    for source in user {
        match ast::parse(source) {
            Ok(module) => files.push(File { source, module }),
            Err(problem) => problems.push(problem),
        }
    }
    none(problems).map(|()| files)
}

/// The mended text is parsed anew, so that what is checked last is what will be compiled.
fn check_mended(mended: &[Source], problems: &mut Vec<Problem>) {
    match parse(mended) {
        Err(found) => problems.extend(found),
        Ok(files) => {
            let rules = rules(&files);
            for file in &files {
                let context = context(file, &rules);
                defined::check(&context, &file.module, problems);
                numbers::check(&context, &file.module, problems);
            }
        }
    }
}

/// The user's rules, and those the library brings to their package.
fn rules(files: &[File<'_>]) -> Rules {
    let mut rules: Rules = BTreeMap::new();
    for (name, kind) in [
        ("allow", RuleKind::Complete),
        ("deny", RuleKind::Set),
        ("approve", RuleKind::Set),
        ("redact", RuleKind::Set),
    ] {
        rules.insert(format!("{PACKAGE}.{name}"), RuleInfo { kind, total: true });
    }
    for file in files {
        scope::collect(&file.module, &mut rules);
    }
    rules
}

fn context<'a>(file: &'a File<'_>, rules: &'a Rules) -> Context<'a> {
    let text = file.source.text.as_str();
    Context {
        file: &file.source.name,
        text,
        names: Names::new(&file.module, text, rules),
    }
}

/// A problem as the engine words it: `--> FILE:LINE:COLUMN … error: MESSAGE`.
pub(crate) fn engine_problem(file: &str, text: &str) -> Problem {
    let place = text
        .split_once("--> ")
        .and_then(|(_, rest)| rest.lines().next())
        .and_then(|place| {
            let mut parts = place.rsplitn(3, ':');
            let column = parts.next()?.trim().parse().ok()?;
            let line = parts.next()?.parse().ok()?;
            Some((parts.next()?.to_owned(), line, column))
        });
    let message = text
        .split_once("error: ")
        .map_or(text, |(_, message)| message);
    let message = message.trim().replace('\n', " ");
    match place {
        Some((file, line, column)) => Problem {
            file,
            line,
            column,
            message,
        },
        None => Problem::in_file(file, message),
    }
}
