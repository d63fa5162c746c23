//! What may be undefined where the VM takes undefined for an answer.
//!
//! Rego looks at the arguments of a negated expression, of a function call and at the elements of a comprehension before it
//! goes on: an undefined one makes the whole undefined. The VM does not. So in these places only what is surely there may
//! stand: literals, documented fields, variables (bound ones are there, see [`mend`](super::mend)).

use super::ast::{Expr, Literal, Module, Query, walk};
use super::builtins;
use super::mend::{binding, element, element_guarded, guarded};
use super::scope::{Below, Function, Meaning, every_expression};
use super::uses::queries;
use super::{Context, Span};
use crate::input::{self, Kind};
use crate::problem::Problem;

/// The problems of one mended file.
pub(super) fn check(context: &Context<'_>, module: &Module, problems: &mut Vec<Problem>) {
    for rule in &module.rules {
        queries(rule, &mut |query| query_problems(context, query, problems));
        every_expression(rule, &mut |expr| {
            problems.extend(expression(context, expr).err());
        });
    }
}

fn query_problems(context: &Context<'_>, query: &Query, problems: &mut Vec<Problem>) {
    for stmt in &query.stmts {
        if let Some(name) = binding(stmt).filter(|name| !guarded(query, name)) {
            let message = format!(
                "`{name}` may be undefined here: add a statement that needs it, such as `is_string({name})`"
            );
            problems.push(context.problem(stmt.span, message));
        }
        if let Literal::NotExpr { expr } = &stmt.literal {
            problems.extend(negated(context, expr).err());
        }
    }
}

fn refuse(context: &Context<'_>, span: Span, what: &str) -> Result<(), Problem> {
    let message = format!(
        "{what} may be undefined, and would then be taken for an answer: bind it first (`x := …`) and use x here"
    );
    Err(context.problem(span, message))
}

fn negated(context: &Context<'_>, expr: &Expr) -> Result<(), Problem> {
    match expr {
        Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => indexes(context, expr),
        _ => all(context, &expr.children(), "this part of a negation"),
    }
}

/// What a reference is indexed with.
fn indexes(context: &Context<'_>, expr: &Expr) -> Result<(), Problem> {
    match expr {
        Expr::RefDot { refr, .. } => indexes(context, refr),
        Expr::RefBrack { refr, index, .. } => {
            all(context, &[index], "this index in a negation")?;
            indexes(context, refr)
        }
        Expr::Var { .. } => Ok(()),
        other => all(context, &[other], "this part of a negation"),
    }
}

fn all(context: &Context<'_>, parts: &[&Expr], what: &str) -> Result<(), Problem> {
    match parts.iter().find(|part| !is_there(context, part)) {
        Some(part) => refuse(context, part.span(), what),
        None => Ok(()),
    }
}

fn expression(context: &Context<'_>, expr: &Expr) -> Result<(), Problem> {
    match expr {
        Expr::Call { fcn, params, .. }
            if matches!(context.names.function(fcn), Function::Rule(_)) =>
        {
            all(context, &params.iter().collect::<Vec<_>>(), "this argument")
        }
        Expr::ArrayCompr { query, .. } | Expr::SetCompr { query, .. }
            if element(context, expr).is_some_and(|text| element_guarded(context, query, text)) =>
        {
            Ok(())
        }
        Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. } => {
            all(context, &expr.children(), "this element")
        }
        _ => Ok(()),
    }
}

/// Whether an expression has a value whatever the call is.
pub(super) fn is_there(context: &Context<'_>, expr: &Expr) -> bool {
    if expr.is_literal() {
        return true;
    }
    match expr {
        Expr::Var { value, .. } if value == "_" => false,
        Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => {
            match context.names.meaning(expr) {
                Meaning::Input(path) => {
                    !path.contains(&"[]")
                        && input::kind_of(&path)
                            .is_some_and(|kind| kind != Kind::Free || is_root(&path))
                }
                Meaning::Local(below) => below == Below::Nothing,
                Meaning::Rule(path, Below::Nothing) => context
                    .names
                    .rules
                    .get(&path)
                    .is_some_and(|rule| rule.total),
                Meaning::Data(path) => matches!(path.as_slice(), ["outrider", _]) && is_plain(expr),
                Meaning::Rule(..) | Meaning::Other => false,
            }
        }
        Expr::Array { .. }
        | Expr::Set { .. }
        | Expr::Object { .. }
        | Expr::BoolExpr { .. }
        | Expr::Membership { .. } => expr
            .children()
            .into_iter()
            .all(|part| is_there(context, part)),
        Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. } => true,
        Expr::Call { fcn, params, .. } => match context.names.function(fcn) {
            Function::Builtin(name) => always_answers(context, &name, params),
            Function::Rule(_) | Function::Unknown => false,
        },
        _ => false,
    }
}

/// `input.call.arguments` itself is there, what is below it may not be.
fn is_root(path: &[&str]) -> bool {
    matches!(path, ["call", "arguments" | "input_responses"])
}

/// A reference without an index.
fn is_plain(expr: &Expr) -> bool {
    let mut plain = true;
    walk(expr, &mut |part| {
        plain &= !matches!(part, Expr::RefBrack { .. });
    });
    plain
}

/// Built-ins that have an answer for every argument of these kinds.
fn always_answers(context: &Context<'_>, name: &str, params: &[Expr]) -> bool {
    if !params.iter().all(|param| is_there(context, param)) {
        return false;
    }
    let of_text = || {
        params
            .iter()
            .all(|param| match context.names.meaning(param) {
                Meaning::Input(path) => matches!(
                    input::kind_of(&path),
                    Some(Kind::Text | Kind::Level | Kind::Time)
                ),
                _ => param.as_text().is_some(),
            })
    };
    let of_many = || {
        params.iter().all(|param| match param {
            Expr::Array { .. } | Expr::Set { .. } | Expr::Object { .. } => true,
            _ if param.query().is_some() => true,
            _ => match context.names.meaning(param) {
                Meaning::Input(path) => {
                    matches!(input::kind_of(&path), Some(Kind::Texts | Kind::List))
                }
                _ => false,
            },
        })
    };
    match name {
        "count" => of_many(),
        "lower" | "upper" | "trim_space" | "startswith" | "endswith" | "contains" => of_text(),
        "type_name" => true,
        _ => name.starts_with("is_") && builtins::find(name).is_some(),
    }
}
