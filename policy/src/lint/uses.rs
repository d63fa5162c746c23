//! What expressions refer to and call.

use std::collections::BTreeSet;

use super::ast::{AssignOp, Expr, Head, Literal, Module, Query, Rule, Stmt, walk};
use super::scope::{self, Function, Meaning, RuleKind, every_expression, pattern_vars};
use super::{Context, builtins};
use crate::input;
use crate::problem::Problem;

/// The documents under `data.outrider` that rules may read.
const DOCUMENTS: [&str; 6] = [
    "agents",
    "intents",
    "grants",
    "exceptions",
    "subjects",
    "facts",
];

/// The problems of one file.
pub(super) fn check(context: &Context<'_>, module: &Module, problems: &mut Vec<Problem>) {
    for rule in &module.rules {
        every_expression(rule, &mut |expr| {
            problems.extend(call(context, expr).err());
            problems.extend(assignment(context, expr).err());
            problems.extend(object_comprehension(context, expr).err());
            problems.extend(comprehension(context, expr).err());
        });
        references(context, rule, problems);
        statements(context, rule, problems);
        locals(context, rule, problems);
    }
}

/// Each reference once, as a whole: `input.call.id` is not also `input`.
fn references(context: &Context<'_>, rule: &Rule, problems: &mut Vec<Problem>) {
    top_references(rule, &mut |expr| {
        problems.extend(reference(context, expr).err());
    });
}

/// Visits every reference of a rule that is not part of a longer one.
pub(super) fn top_references<'a>(rule: &'a Rule, visit: &mut impl FnMut(&'a Expr)) {
    let mut inner: BTreeSet<*const Expr> = BTreeSet::new();
    every_expression(rule, &mut |expr| {
        if let Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } = expr {
            inner.insert(std::ptr::from_ref(&**refr));
        }
        let refers = matches!(
            expr,
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. }
        );
        if refers && !inner.contains(&std::ptr::from_ref(expr)) {
            visit(expr);
        }
    });
}

fn reference(context: &Context<'_>, expr: &Expr) -> Result<(), Problem> {
    let refuse = |message: String| Err(context.problem(expr.span(), message));
    match context.names.meaning(expr) {
        Meaning::Input(path) if path.is_empty() => {
            refuse("`input` as a whole is not served: name the fields you read".to_owned())
        }
        Meaning::Input(path) if !input::field_exists(&path) => refuse(format!(
            "`input.{}` cannot exist: the table of `input` in docs/policy.md shows what does",
            path.join(".")
        )),
        Meaning::Data(path) => match path.as_slice() {
            ["outrider", document, ..] if DOCUMENTS.contains(document) => Ok(()),
            ["outrider", "authz", ..] => refuse(format!(
                "`data.{}` is no rule: name one, without a computed key before it",
                path.join(".")
            )),
            _ => refuse(format!(
                "`data.{}` is not there: rules read data.outrider.{{{}}} and each other; free data goes under `facts`",
                path.join("."),
                DOCUMENTS.join(",")
            )),
        },
        Meaning::Rule(path, _) if is_function(context, &path) => {
            refuse(format!("`{path}` is a function: call it"))
        }
        Meaning::Input(_) | Meaning::Rule(..) | Meaning::Local(_) | Meaning::Other => Ok(()),
    }
}

fn is_function(context: &Context<'_>, path: &str) -> bool {
    let rule = context.names.rules.get(path);
    rule.is_some_and(|rule| matches!(rule.kind, RuleKind::Function(_)))
}

fn call(context: &Context<'_>, expr: &Expr) -> Result<(), Problem> {
    let Expr::Call { fcn, params, .. } = expr else {
        return Ok(());
    };
    let refuse = |message: String| Err(context.problem(expr.span(), message));
    let (name, arity) = match context.names.function(fcn) {
        Function::Unknown => return refuse("this is no function".to_owned()),
        Function::Rule(path) => match context.names.rules.get(&path).map(|rule| rule.kind) {
            Some(RuleKind::Function(arity)) => (path, arity),
            _ => return refuse(format!("`{path}` is no function")),
        },
        Function::Builtin(name) => match builtins::find(&name) {
            None => return refuse(builtins::refusal(&name)),
            Some(builtin) => {
                arguments(context, builtin, params)?;
                (name, builtin.arity)
            }
        },
    };
    if params.len() == arity {
        Ok(())
    } else {
        refuse(format!(
            "`{name}` takes {arity} arguments, not {}",
            params.len()
        ))
    }
}

fn arguments(
    context: &Context<'_>,
    builtin: &builtins::Builtin,
    params: &[Expr],
) -> Result<(), Problem> {
    let name = builtin.name;
    for param in builtin.fixed.iter().filter_map(|place| params.get(*place)) {
        if !is_operators(context, param) {
            let message = format!(
                "this argument of `{name}` is a literal or data.outrider.facts: what the caller chooses could make it take too long"
            );
            return Err(context.problem(param.span(), message));
        }
    }
    if name == "numbers.range" && !builtins::range_is_bounded(params) {
        let span = params.first().map_or(
            super::ast::Span {
                line: 0,
                col: 0,
                start: 0,
                end: 0,
            },
            Expr::span,
        );
        return Err(context.problem(
            span,
            "both ends of `numbers.range` are literals, at most 10,000 apart",
        ));
    }
    if name == "sprintf" {
        let format = params.first().filter(|format| {
            format
                .as_text()
                .is_none_or(|text| !builtins::format_is_modest(text))
        });
        if let Some(format) = format {
            return Err(context.problem(
                format.span(),
                "the format is a literal, its widths at most 999",
            ));
        }
    }
    match builtin.pattern.and_then(|place| params.get(place)) {
        Some(pattern) => regular_expression(context, pattern),
        None => Ok(()),
    }
}

/// Chosen by the operator and not by the caller.
fn is_operators(context: &Context<'_>, expr: &Expr) -> bool {
    expr.is_literal() || matches!(context.names.meaning(expr), Meaning::Data(_))
}

fn regular_expression(context: &Context<'_>, expr: &Expr) -> Result<(), Problem> {
    let refuse = |message: String| Err(context.problem(expr.span(), message));
    let Some(pattern) = expr.as_text() else {
        return refuse("a regular expression is a literal here".to_owned());
    };
    if let Some(class) = builtins::differs(pattern) {
        return refuse(format!(
            "`\\{class}` does not mean the same everywhere: write the characters out, such as [0-9A-Za-z_]"
        ));
    }
    if is_regular(pattern) {
        Ok(())
    } else {
        refuse("this is no regular expression that the engine knows".to_owned())
    }
}

fn is_regular(pattern: &str) -> bool {
    let mut engine = regorus::Engine::new();
    engine.set_input(regorus::Value::from(pattern));
    engine
        .eval_query("regex.is_valid(input)".to_owned(), false)
        .ok()
        .and_then(|results| {
            let value = results.result.first()?.expressions.first()?.value.clone();
            value.as_bool().ok().copied()
        })
        .unwrap_or(false)
}

fn assignment(context: &Context<'_>, expr: &Expr) -> Result<(), Problem> {
    match expr {
        Expr::AssignExpr {
            op: AssignOp::Eq, ..
        } => Err(context.problem(
            expr.span(),
            "`=` is not served: write `==` to compare, `:=` to bind",
        )),
        _ => Ok(()),
    }
}

/// In the VM a condition that fails before a comprehension's first step ends something else than the comprehension.
fn comprehension(context: &Context<'_>, expr: &Expr) -> Result<(), Problem> {
    let Some(query) = expr.query() else {
        return Ok(());
    };
    let bound = scope::declared(query, context.text);
    let mut first = query
        .stmts
        .iter()
        .filter(|stmt| !matches!(stmt.literal, Literal::SomeVars { .. }));
    if first
        .next()
        .is_some_and(|stmt| stmt_iterates(context, stmt, &bound))
    {
        return Ok(());
    }
    Err(context.problem(
        expr.span(),
        "a comprehension begins with what it iterates over: write `some x in …` first, and conditions after it",
    ))
}

/// The VM lets the last of two values under one key win where Rego reports a conflict.
fn object_comprehension(context: &Context<'_>, expr: &Expr) -> Result<(), Problem> {
    let Expr::ObjectCompr {
        key, value, query, ..
    } = expr
    else {
        return Ok(());
    };
    let own_key = query
        .stmts
        .iter()
        .any(|stmt| match (&stmt.literal, &**key) {
            (
                Literal::SomeIn {
                    key: Some(Expr::Var { value: step, .. }),
                    ..
                },
                Expr::Var { value: key, .. },
            ) => step == key,
            _ => false,
        });
    let steps = query
        .stmts
        .iter()
        .filter(|stmt| stmt_iterates(context, stmt, &scope::declared(query, context.text)));
    if value.is_literal() || (own_key && steps.count() == 1) {
        return Ok(());
    }
    Err(context.problem(
        expr.span(),
        "two values could have the same key here, which is an error in Rego: take the key of one `some key, value in …`",
    ))
}

fn statements(context: &Context<'_>, rule: &Rule, problems: &mut Vec<Problem>) {
    queries(rule, &mut |query| {
        for stmt in &query.stmts {
            if !stmt.with_mods.is_empty() {
                problems.push(context.problem(
                    stmt.span,
                    "`with` is for tests: it is not served in a policy",
                ));
            }
        }
    });
}

/// Visits every query of a rule, nested ones included.
pub(super) fn queries<'a>(rule: &'a Rule, visit: &mut impl FnMut(&'a Query)) {
    if let Rule::Spec { bodies, .. } = rule {
        for body in bodies {
            within(&body.query, visit);
        }
    }
    every_expression(rule, &mut |expr| {
        if let Some(query) = expr.query() {
            within(query, visit);
        }
    });
}

/// A query and the bodies of its `every`, which are no expressions.
fn within<'a>(query: &'a Query, visit: &mut impl FnMut(&'a Query)) {
    visit(query);
    for stmt in &query.stmts {
        if let Literal::Every { query, .. } = &stmt.literal {
            within(query, visit);
        }
    }
}

/// A local with the name of something else would hide what the rule depends on.
fn locals(context: &Context<'_>, rule: &Rule, problems: &mut Vec<Problem>) {
    let Rule::Spec { span, head, bodies } = rule else {
        return;
    };
    let mut vars = BTreeSet::new();
    if let Head::Func { args, .. } = head {
        for arg in args {
            pattern_vars(arg, &mut vars);
        }
    }
    for body in bodies {
        vars.extend(scope::declared_anywhere(body, context.text));
    }
    for name in vars.into_iter().filter(|name| context.names.is_taken(name)) {
        let message = format!("the local `{name}` has the name of a rule or an import: rename it");
        problems.push(context.problem(*span, message));
    }
}

/// Whether a query can be true in more than one way.
pub(super) fn iterates(context: &Context<'_>, query: &Query, bound: &BTreeSet<&str>) -> bool {
    query
        .stmts
        .iter()
        .any(|stmt| stmt_iterates(context, stmt, bound))
}

fn stmt_iterates(context: &Context<'_>, stmt: &Stmt, bound: &BTreeSet<&str>) -> bool {
    match &stmt.literal {
        Literal::SomeVars { .. } | Literal::SomeIn { .. } => true,
        Literal::Expr { .. } | Literal::NotExpr { .. } | Literal::Every { .. } => stmt
            .expressions()
            .into_iter()
            .any(|expr| expr_iterates(context, expr, bound)),
    }
}

/// Whether an expression indexes with a variable that nothing binds: it then stands for every key.
pub(super) fn expr_iterates(context: &Context<'_>, expr: &Expr, bound: &BTreeSet<&str>) -> bool {
    let own = match expr {
        Expr::RefBrack { index, .. } => {
            let mut free = false;
            walk(index, &mut |part| {
                if let Expr::Var { value, .. } = part {
                    free |= !bound.contains(value.as_str()) && !context.names.is_taken(value);
                }
            });
            free
        }
        _ => false,
    };
    own || expr
        .children()
        .into_iter()
        .any(|child| expr_iterates(context, child, bound))
}
