//! Packages, imports and the heads of rules.

use std::collections::{BTreeMap, BTreeSet};

use super::ast::{Assign, AssignOp, Body, Expr, Head, Module, Rule};
use super::scope::{self, pattern_vars, rule_name};
use super::{Context, PACKAGE, uses};
use crate::library::AllowDefault;
use crate::problem::Problem;
use crate::read::is_identifier;

/// The problems of one file.
pub(super) fn check(context: &Context<'_>, module: &Module, problems: &mut Vec<Problem>) {
    check_package(context, module, problems);
    check_imports(context, module, problems);
    for rule in &module.rules {
        if let Err(problem) = check_rule(context, rule) {
            problems.push(problem);
        }
    }
}

fn check_package(context: &Context<'_>, module: &Module, problems: &mut Vec<Problem>) {
    let package = &context.names.package;
    let ours = package == PACKAGE || package.starts_with("outrider.authz.");
    if !ours {
        let message =
            format!("rules belong in `package {PACKAGE}` or below it, not in `{package}`");
        problems.push(context.problem(module.package.span, message));
    }
    // A package below a rule would make two things of one path.
    let shadowed = context.names.rules.keys().find(|rule| {
        package
            .strip_prefix(rule.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    });
    if let Some(rule) = shadowed {
        let message = format!("package `{package}` has the name of rule `{rule}`: rename one");
        problems.push(context.problem(module.package.span, message));
    }
}

fn check_imports(context: &Context<'_>, module: &Module, problems: &mut Vec<Problem>) {
    for import in &module.imports {
        let path = scope::path(&import.refr).unwrap_or_default();
        let known = match path.as_slice() {
            ["rego", "v1"] => import.alias.is_none(),
            ["input", rest @ ..] => !rest.is_empty() && crate::input::field_exists(rest),
            ["data", "outrider", rest @ ..] => !rest.is_empty(),
            _ => false,
        };
        if !known {
            let message = format!(
                "`import {}` is not served: only `rego.v1`, documented fields of `input`, and `data.outrider.…`",
                path.join(".")
            );
            problems.push(context.problem(import.span, message));
        }
    }
}

fn check_rule(context: &Context<'_>, rule: &Rule) -> Result<(), Problem> {
    let (span, name) = match rule {
        Rule::Spec { span, .. } | Rule::Default { span, .. } => (*span, rule_name(rule)),
    };
    let Some(name) = name else {
        return Err(context.problem(
            span,
            "the name of a rule is one plain word here: write `name contains value if …` for a set, or a helper rule",
        ));
    };
    match rule {
        Rule::Default {
            span, args, value, ..
        } => {
            if !args.is_empty() {
                return Err(context.problem(
                    *span,
                    "default functions are not served: give the function an `else`",
                ));
            }
            if context.names.package == PACKAGE
                && name == "allow"
                && !matches!(value, Expr::Bool { value: false, .. })
            {
                return Err(context.problem(*span, "`allow` has the default false and no other"));
            }
            if !value.is_literal() {
                return Err(context.problem(*span, "a default is a literal"));
            }
            Ok(())
        }
        Rule::Spec { head, bodies, .. } => {
            check_assignments(context, head, bodies)?;
            if context.names.package == PACKAGE {
                check_ours(context, name, head, bodies)?;
            }
            Ok(())
        }
    }
}

fn check_assignments(context: &Context<'_>, head: &Head, bodies: &[Body]) -> Result<(), Problem> {
    let values = head
        .assign()
        .into_iter()
        .chain(bodies.iter().filter_map(|body| body.assign.as_ref()));
    for Assign { op, value } in values {
        if *op == AssignOp::Eq {
            return Err(context.problem(value.span(), "write `:=` for the value of a rule"));
        }
    }
    Ok(())
}

/// The four rules with a meaning.
fn check_ours(
    context: &Context<'_>,
    name: &str,
    head: &Head,
    bodies: &[Body],
) -> Result<(), Problem> {
    let span = head.refr().span();
    match (name, head) {
        ("allow", Head::Compr { assign, .. }) => {
            let others = bodies
                .iter()
                .filter(|body| body.is_else)
                .filter_map(|body| body.assign.as_ref());
            if assign
                .iter()
                .chain(others)
                .any(|given| !matches!(given.value, Expr::Bool { .. }))
            {
                return Err(context.problem(span, "`allow` is true or false: write `allow if …`"));
            }
            Ok(())
        }
        ("allow", _) => Err(context.problem(span, "write `allow if …`")),
        ("deny" | "approve", Head::Set { key: Some(key), .. }) => check_reason(context, name, key),
        ("redact", Head::Set { key: Some(key), .. }) => match key.as_text() {
            Some(pointer) if !pointer.starts_with('/') => Err(context.problem(
                key.span(),
                "a redaction is a JSON Pointer such as \"/arguments/email\"",
            )),
            _ => Ok(()),
        },
        ("deny" | "approve" | "redact", _) => Err(context.problem(
            span,
            format!("`{name}` is a set: write `{name} contains … if …`"),
        )),
        _ => Ok(()),
    }
}

fn check_reason(context: &Context<'_>, name: &str, key: &Expr) -> Result<(), Problem> {
    let Expr::Object { fields, .. } = key else {
        let message =
            format!("`{name}` holds objects: write `{name} contains {{\"reason\": …, …}} if …`");
        return Err(context.problem(key.span(), message));
    };
    let field = |name: &str| {
        fields
            .iter()
            .find(|(_, key, _)| key.as_text() == Some(name))
            .map(|(_, _, value)| value)
    };
    let Some(reason) = field("reason") else {
        return Err(context.problem(key.span(), format!("`{name}` needs a \"reason\"")));
    };
    if !reason.as_text().is_some_and(is_identifier) {
        return Err(context.problem(
            reason.span(),
            "a reason is a literal of 1 to 64 of a-z, 0-9 and `_`: it must not carry values of the call",
        ));
    }
    let (needed, allowed): (&str, &[&str]) = if name == "deny" {
        ("message", &["reason", "message", "public"])
    } else {
        (
            "approvers",
            &["reason", "message", "public", "approvers", "ttl"],
        )
    };
    if field(needed).is_none() {
        return Err(context.problem(key.span(), format!("`{name}` needs \"{needed}\"")));
    }
    let stray = fields
        .iter()
        .find(|(_, key, _)| !key.as_text().is_some_and(|key| allowed.contains(&key)));
    match stray {
        Some((_, key, _)) => {
            Err(context.problem(key.span(), format!("`{name}` knows {}", allowed.join(", "))))
        }
        None => Ok(()),
    }
}

/// Whether the user's rules bring the default of `allow`.
pub(super) fn allow_default(contexts: &[(Context<'_>, &Module)]) -> AllowDefault {
    let theirs = contexts.iter().any(|(context, module)| {
        context.names.package == PACKAGE && module.rules.iter().any(is_allow_default)
    });
    if theirs {
        AllowDefault::User
    } else {
        AllowDefault::Library
    }
}

fn is_allow_default(rule: &Rule) -> bool {
    matches!(rule, Rule::Default { .. }) && rule_name(rule) == Some("allow")
}

/// The definitions of one rule, wherever they are.
type Definitions<'a> = Vec<(&'a Context<'a>, &'a Rule)>;

/// The problems that show only when the definitions of a rule are put side by side.
pub(super) fn check_together<'a>(
    contexts: &'a [(Context<'a>, &'a Module)],
    problems: &mut Vec<Problem>,
) {
    let mut rules: BTreeMap<String, Definitions<'a>> = BTreeMap::new();
    for (context, module) in contexts {
        for rule in &module.rules {
            if let Some(name) = rule_name(rule) {
                let path = format!("{}.{name}", context.names.package);
                rules.entry(path).or_default().push((context, rule));
            }
        }
    }
    for (path, definitions) in &rules {
        if let Err(problem) = check_definitions(path, definitions) {
            problems.push(problem);
        }
    }
}

fn check_definitions(path: &str, definitions: &Definitions<'_>) -> Result<(), Problem> {
    let defaults = definitions
        .iter()
        .filter(|(_, rule)| matches!(rule, Rule::Default { .. }));
    if let Some((context, Rule::Default { span, .. })) = defaults.clone().nth(1) {
        return Err(context.problem(*span, format!("`{path}` has a default already")));
    }
    let specs: Vec<(&Context<'_>, &Head, &[Body])> = definitions
        .iter()
        .filter_map(|(context, rule)| match rule {
            Rule::Spec { head, bodies, .. } => Some((*context, head, bodies.as_slice())),
            Rule::Default { .. } => None,
        })
        .collect();
    let Some(((context, first, _), rest)) = specs.split_first() else {
        return Ok(());
    };
    for (context, head, _) in rest {
        if shape(head) != shape(first) {
            let message = format!(
                "`{path}` is defined in two ways: as a value, a set, or functions of different arguments"
            );
            return Err(context.problem(head.refr().span(), message));
        }
    }
    if defaults.count() > 0 && !matches!(first, Head::Compr { .. }) {
        let message = format!("`{path}` has a default, so it is one value: write `:=` or `if`");
        return Err(context.problem(first.refr().span(), message));
    }
    if matches!(first, Head::Set { .. }) {
        return Ok(());
    }
    check_one_value(path, &specs)
}

fn shape(head: &Head) -> Option<usize> {
    match head {
        Head::Compr { .. } => None,
        Head::Set { .. } => Some(usize::MAX),
        Head::Func { args, .. } => Some(args.len()),
    }
}

/// The VM takes the last of several values where Rego reports a conflict, so there must be no second one.
fn check_one_value(path: &str, specs: &[(&Context<'_>, &Head, &[Body])]) -> Result<(), Problem> {
    for (context, head, bodies) in specs {
        check_iteration(context, head, bodies)?;
    }
    let [(context, head, _), _, ..] = specs else {
        return Ok(());
    };
    let values: BTreeSet<Option<String>> = specs
        .iter()
        .flat_map(|(_, head, bodies)| values(head, bodies))
        .map(literal)
        .collect();
    if (values.len() == 1 && !values.contains(&None)) || disjoint(specs) {
        return Ok(());
    }
    let message = format!(
        "`{path}` could have two values at once, which is an error in Rego: chain the definitions with `else`"
    );
    Err(context.problem(head.refr().span(), message))
}

/// The values of a definition; `None` is true.
fn values<'a>(head: &'a Head, bodies: &'a [Body]) -> Vec<Option<&'a Expr>> {
    let own = head.assign().map(|assign| &assign.value);
    let others = bodies.iter().filter(|body| body.is_else);
    std::iter::once(own)
        .chain(others.map(|body| body.assign.as_ref().map(|assign| &assign.value)))
        .collect()
}

/// A literal in one spelling, to compare.
fn literal(value: Option<&Expr>) -> Option<String> {
    let Some(value) = value else {
        return Some("true".to_owned());
    };
    let all = |items: Vec<&Expr>| {
        items
            .into_iter()
            .map(|item| literal(Some(item)))
            .collect::<Option<Vec<_>>>()
    };
    Some(match value {
        Expr::String { value, .. } | Expr::RawString { value, .. } => format!("{value:?}"),
        Expr::Number { value, .. } => value.to_string(),
        Expr::Bool { value, .. } => value.to_string(),
        Expr::Null { .. } => "null".to_owned(),
        Expr::Array { .. } => format!("[{}]", all(value.children())?.join(",")),
        Expr::Set { .. } => format!("{{{}}}", all(value.children())?.join(",")),
        Expr::Object { .. } => format!("{{:{}}}", all(value.children())?.join(",")),
        _ => return None,
    })
}

/// Functions told apart by a literal in the same place never answer together.
fn disjoint(specs: &[(&Context<'_>, &Head, &[Body])]) -> bool {
    let args: Vec<&[Expr]> = specs
        .iter()
        .filter_map(|(_, head, _)| match head {
            Head::Func { args, .. } => Some(args.as_slice()),
            _ => None,
        })
        .collect();
    let places = args.iter().map(|args| args.len()).min().unwrap_or(0);
    (0..places).any(|place| {
        let literals: BTreeSet<_> = args
            .iter()
            .filter_map(|args| args.get(place))
            .filter_map(|arg| literal(Some(arg)))
            .collect();
        literals.len() == specs.len()
    })
}

fn check_iteration(context: &Context<'_>, head: &Head, bodies: &[Body]) -> Result<(), Problem> {
    let mut args = BTreeSet::new();
    if let Head::Func { args: patterns, .. } = head {
        for pattern in patterns {
            pattern_vars(pattern, &mut args);
        }
    }
    let own = head.assign().map(|assign| &assign.value);
    let without_body = own.filter(|_| bodies.is_empty()).map(|value| (value, None));
    let with_body = bodies.iter().filter_map(|body| {
        let value = if body.is_else {
            body.assign.as_ref().map(|assign| &assign.value)
        } else {
            own
        };
        value.map(|value| (value, Some(body)))
    });
    for (value, body) in without_body.into_iter().chain(with_body) {
        let mut bound = args.clone();
        if let Some(body) = body {
            bound.extend(scope::declared_anywhere(body, context.text));
        }
        let many = body.is_some_and(|body| uses::iterates(context, &body.query, &bound))
            && !is_the_same_each_time(context, value, &args);
        if many || uses::expr_iterates(context, value, &bound) {
            return Err(context.problem(
                value.span(),
                "this could have a value for each step of an iteration, which is an error in Rego: collect them in a set and take one, or write a set rule (`contains`)",
            ));
        }
    }
    Ok(())
}

/// Whether a value does not depend on what the body iterates over.
fn is_the_same_each_time(context: &Context<'_>, value: &Expr, args: &BTreeSet<&str>) -> bool {
    let mut same = true;
    super::ast::walk(value, &mut |expr| {
        if let Expr::Var { value: name, .. } = expr {
            same &= args.contains(name.as_str()) || context.names.is_taken(name);
        }
    });
    same
}
