//! The one gap that is closed and not refused.
//!
//! In Rego `x := input.call.arguments.to` fails where there is no `to`. In the VM it goes on with an undefined `x`, and
//! `not endswith(x, "@example.org")` is then true. So behind each such binding `; [x]` is written, which fails where `x` is
//! undefined and nowhere else. An element of a comprehension that may be undefined is guarded alike. The mended text is what is parsed, checked and compiled; lines stay where they are.

use super::Context;
use super::ast::{AssignOp, Expr, Literal, Module, Query, Rule, Stmt};
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

fn text(context: &Context<'_>, module: &Module, problems: &mut Vec<Problem>) -> String {
    let mut guards: Vec<(usize, String)> = Vec::new();
    for rule in &module.rules {
        problems.extend(bare_binding(context, rule));
        queries(rule, &mut |query| guards.extend(query.stmts.iter().filter_map(|stmt| guard(context, stmt))));
        every_expression(rule, &mut |expr| guards.extend(element_guard(context, expr)));
    }
    guards.sort();
    guards.dedup();
    let mut mended = context.text.to_owned();
    for (place, guard) in guards.into_iter().rev() {
        if mended.is_char_boundary(place) {
            mended.insert_str(place, &guard);
        }
    }
    mended
}

/// The variable that a statement binds to what may be undefined.
pub(super) fn binding(stmt: &Stmt) -> Option<&str> {
    match &stmt.literal {
        Literal::Expr { expr: Expr::AssignExpr { op: AssignOp::ColEq, lhs, rhs, .. } } if !rhs.is_literal() => {
            match &**lhs {
                Expr::Var { value, .. } => Some(value),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether a query holds the guard of a variable.
pub(super) fn guarded(query: &Query, name: &str) -> bool {
    query.stmts.iter().any(|stmt| match &stmt.literal {
        Literal::Expr { expr: Expr::Array { items, .. } } => {
            matches!(items.as_slice(), [Expr::Var { value, .. }] if value == name)
        }
        _ => false,
    })
}

/// The text of the element of an array or set comprehension, where it could be undefined.
pub(super) fn element<'a>(context: &Context<'a>, expr: &Expr) -> Option<&'a str> {
    let (Expr::ArrayCompr { span, term, query } | Expr::SetCompr { span, term, query }) = expr else {
        return None;
    };
    if is_there(context, term) {
        return None;
    }
    let text = context.text.get(span.start + 1..query.span.start)?.trim_end();
    Some(text.strip_suffix('|').unwrap_or(text).trim())
}

/// Whether a query holds the guard of an element.
pub(super) fn element_guarded(context: &Context<'_>, query: &Query, element: &str) -> bool {
    query.stmts.iter().any(|stmt| stmt.span.text(context.text) == format!("[{element}]"))
}

fn element_guard(context: &Context<'_>, expr: &Expr) -> Option<(usize, String)> {
    let element = element(context, expr)?;
    let last = expr.query()?.stmts.last()?;
    Some((end(context, last)?, format!("; [{element}]")))
}

/// Where a statement ends. The span of one that ends in a string ends before its quote.
fn end(context: &Context<'_>, stmt: &Stmt) -> Option<usize> {
    let after = context.text.get(stmt.span.end..)?;
    Some(stmt.span.end + usize::from(after.starts_with(['"', '`'])))
}

fn guard(context: &Context<'_>, stmt: &Stmt) -> Option<(usize, String)> {
    let name = binding(stmt)?;
    Some((end(context, stmt)?, format!("; [{name}]")))
}

/// Without braces there is no room for a guard, and nothing the binding is good for.
fn bare_binding(context: &Context<'_>, rule: &Rule) -> Option<Problem> {
    let Rule::Spec { bodies, .. } = rule else { return None };
    let body = bodies.iter().find(|body| {
        let braced = context.text.get(body.query.span.start..).is_some_and(|text| text.starts_with('{'));
        !braced && body.query.stmts.iter().any(|stmt| binding(stmt).is_some())
    })?;
    Some(context.problem(body.span, "this body only binds a variable: write the condition, or braces around the body"))
}
