//! The two gaps that are closed and not refused.
//!
//! In Rego `x := input.call.arguments.to` fails where there is no `to`. In the VM it goes on with an undefined `x`, and
//! `not endswith(x, "@example.org")` is then true. So behind each such binding `; [x]` is written, which fails where `x` is
//! undefined and nowhere else. An element of a comprehension that may be undefined is guarded alike.
//!
//! The VM loads `input` and `data` where a body first names them. Is that inside an `every` or a comprehension over nothing,
//! they are undefined in the rest of the body. So a body with one of these begins with naming both.
//!
//! The mended text is what is parsed, checked and compiled; lines stay where they are.

use super::Context;
use super::ast::{AssignOp, Expr, Literal, Module, Query, Rule, Span, Stmt};
use super::defined::is_there;
use super::scope::every_expression;
use super::uses::queries;
use crate::problem::{Problem, Source};

/// The mended files.
pub(super) fn sources(
    contexts: &[(Context<'_>, &Module)],
    user: &[Source],
    problems: &mut Vec<Problem>,
) -> Vec<Source> {
    contexts
        .iter()
        .zip(user)
        .map(|((context, module), source)| Source {
            name: source.name.clone(),
            text: text(context, module, problems),
        })
        .collect()
}

/// Something to write at a place. What closes comes after what guards.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Insertion {
    place: usize,
    order: u8,
    text: String,
}

impl Insertion {
    fn guard(place: usize, text: String) -> Self {
        Self {
            place,
            order: 0,
            text,
        }
    }

    fn opening(place: usize, text: &str) -> Self {
        Self {
            place,
            order: 1,
            text: text.to_owned(),
        }
    }

    fn closing(place: usize, text: &str) -> Self {
        Self {
            place,
            order: 2,
            text: text.to_owned(),
        }
    }
}

/// What a body begins with: both are always there and true.
const LOADED: &str = " input; data.outrider.facts; ";
/// A body that holds nothing else.
const LOADED_BODY: &str = " if { input; data.outrider.facts }";

fn text(context: &Context<'_>, module: &Module, problems: &mut Vec<Problem>) -> String {
    let mut insertions = Vec::new();
    for rule in &module.rules {
        problems.extend(bare_binding(context, rule));
        queries(rule, &mut |query| {
            insertions.extend(query.stmts.iter().filter_map(|stmt| guard(context, stmt)));
        });
        every_expression(rule, &mut |expr| {
            insertions.extend(element_guard(context, expr));
        });
        load(context, rule, &mut insertions);
    }
    insertions.sort();
    insertions.dedup();
    let mut mended = context.text.to_owned();
    for insertion in insertions.into_iter().rev() {
        if mended.is_char_boundary(insertion.place) {
            mended.insert_str(insertion.place, &insertion.text);
        }
    }
    mended
}

/// Lets every body of a rule with nested queries begin with naming `input` and `data`.
fn load(context: &Context<'_>, rule: &Rule, insertions: &mut Vec<Insertion>) {
    let Rule::Spec { span, bodies, .. } = rule else {
        return;
    };
    let mut count = 0;
    queries(rule, &mut |_| count += 1);
    if count == bodies.len() {
        return;
    }
    if bodies.is_empty() {
        insertions.push(Insertion::closing(after_quote(context, *span), LOADED_BODY));
    }
    for body in bodies {
        let written = body.query.span.text(context.text);
        if written.starts_with('{') {
            insertions.push(Insertion::opening(body.query.span.start + 1, LOADED));
        } else if body.query.stmts.is_empty() {
            insertions.push(Insertion::closing(
                after_quote(context, body.span),
                LOADED_BODY,
            ));
        } else {
            insertions.push(Insertion::opening(
                body.query.span.start,
                "{ input; data.outrider.facts; ",
            ));
            insertions.push(Insertion::closing(
                after_quote(context, body.query.span),
                " }",
            ));
        }
    }
}

/// The variable that a statement binds to what may be undefined.
pub(super) fn binding(stmt: &Stmt) -> Option<&str> {
    match &stmt.literal {
        Literal::Expr {
            expr:
                Expr::AssignExpr {
                    op: AssignOp::ColEq,
                    lhs,
                    rhs,
                    ..
                },
        } if !rhs.is_literal() => match &**lhs {
            Expr::Var { value, .. } => Some(value),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a query holds the guard of a variable.
pub(super) fn guarded(query: &Query, name: &str) -> bool {
    query.stmts.iter().any(|stmt| match &stmt.literal {
        Literal::Expr {
            expr: Expr::Array { items, .. },
        } => {
            matches!(items.as_slice(), [Expr::Var { value, .. }] if value == name)
        }
        _ => false,
    })
}

/// The text of the element of an array or set comprehension, where it could be undefined.
pub(super) fn element<'a>(context: &Context<'a>, expr: &Expr) -> Option<&'a str> {
    let (Expr::ArrayCompr { span, term, query } | Expr::SetCompr { span, term, query }) = expr
    else {
        return None;
    };
    if is_there(context, term) {
        return None;
    }
    let text = context
        .text
        .get(span.start + 1..query.span.start)?
        .trim_end();
    Some(text.strip_suffix('|').unwrap_or(text).trim())
}

/// Whether a query holds the guard of an element.
pub(super) fn element_guarded(context: &Context<'_>, query: &Query, element: &str) -> bool {
    query
        .stmts
        .iter()
        .any(|stmt| stmt.span.text(context.text) == format!("[{element}]"))
}

fn element_guard(context: &Context<'_>, expr: &Expr) -> Option<Insertion> {
    let element = element(context, expr)?;
    let last = expr.query()?.stmts.last()?;
    Some(Insertion::guard(
        after_quote(context, last.span),
        format!("; [{element}]"),
    ))
}

/// Where something ends. The span of what ends in a string ends before its quote.
fn after_quote(context: &Context<'_>, span: Span) -> usize {
    let quoted = context
        .text
        .get(span.end..)
        .is_some_and(|after| after.starts_with(['"', '`']));
    span.end + usize::from(quoted)
}

fn guard(context: &Context<'_>, stmt: &Stmt) -> Option<Insertion> {
    let name = binding(stmt)?;
    Some(Insertion::guard(
        after_quote(context, stmt.span),
        format!("; [{name}]"),
    ))
}

/// Without braces there is no room for a guard, and nothing the binding is good for.
fn bare_binding(context: &Context<'_>, rule: &Rule) -> Option<Problem> {
    let Rule::Spec { bodies, .. } = rule else {
        return None;
    };
    let body = bodies.iter().find(|body| {
        let braced = context
            .text
            .get(body.query.span.start..)
            .is_some_and(|text| text.starts_with('{'));
        !braced && body.query.stmts.iter().any(|stmt| binding(stmt).is_some())
    })?;
    Some(context.problem(
        body.span,
        "this body only binds a variable: write the condition, or braces around the body",
    ))
}
