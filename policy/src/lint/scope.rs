//! Names: what a reference means in its file.

use std::collections::{BTreeMap, BTreeSet};

use super::ast::{AssignOp, Body, Expr, Head, Literal, Module, Query, Rule, walk, walk_query};

/// What kind of rule a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RuleKind {
    /// One value.
    Complete,
    /// A set (`contains`).
    Set,
    /// A function of so many arguments.
    Function(usize),
}

/// Every rule of all files by its path, such as `outrider.authz.lib.is_open`.
pub(super) type Rules = BTreeMap<String, RuleInfo>;

#[derive(Debug, Clone, Copy)]
pub(super) struct RuleInfo {
    pub(super) kind: RuleKind,
    /// Whether it always has a value: it has a default, or is a set.
    pub(super) total: bool,
}

/// One step of a reference.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<'a> {
    Name(&'a str),
    /// Any other index, numbers included.
    Index,
}

/// What a reference means.
#[derive(Debug)]
pub(super) enum Meaning<'a> {
    /// A path below `input`; `[]` for an index.
    Input(Vec<&'a str>),
    /// A rule, and whether the reference goes on below it.
    Rule(String, Below),
    /// A path below `data` that is no rule, up to its first index.
    Data(Vec<&'a str>),
    /// A local variable, and whether the reference goes on below it.
    Local(Below),
    /// Something else is indexed, such as the result of a call.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Below {
    Nothing,
    Something,
}

impl Below {
    fn from(steps: usize) -> Self {
        if steps == 0 {
            Self::Nothing
        } else {
            Self::Something
        }
    }
}

/// The names of one file.
pub(super) struct Names<'a> {
    pub(super) package: String,
    imports: BTreeMap<&'a str, Vec<&'a str>>,
    pub(super) rules: &'a Rules,
}

impl<'a> Names<'a> {
    pub(super) fn new(module: &'a Module, text: &'a str, rules: &'a Rules) -> Self {
        Self {
            package: package(module),
            imports: module
                .imports
                .iter()
                .filter_map(|import| {
                    let path = path(&import.refr)?;
                    let name = import
                        .alias
                        .map_or_else(|| path.last().copied(), |span| Some(span.text(text)))?;
                    (path.first() != Some(&"rego")).then_some((name, path))
                })
                .collect(),
            rules,
        }
    }

    /// Whether a name is taken in this file, so that no local variable may have it.
    pub(super) fn is_taken(&self, name: &str) -> bool {
        matches!(name, "input" | "data")
            || self.imports.contains_key(name)
            || self.rules.contains_key(&self.own(name))
    }

    fn own(&self, name: &str) -> String {
        format!("{}.{name}", self.package)
    }

    /// What a reference (a variable, or one with dots and brackets) means.
    pub(super) fn meaning<'e>(&self, expr: &'e Expr) -> Meaning<'e>
    where
        'a: 'e,
    {
        let (root, mut steps) = chain(expr);
        let Expr::Var { value: root, .. } = root else {
            return Meaning::Other;
        };
        if let Some(imported) = self.imports.get(root.as_str()) {
            let rest = steps;
            steps = imported
                .iter()
                .skip(1)
                .map(|name| Step::Name(name))
                .collect();
            steps.extend(rest);
            return self.rooted(imported.first().copied().unwrap_or(""), &steps);
        }
        match root.as_str() {
            "input" | "data" => self.rooted(root, &steps),
            name if self.rules.contains_key(&self.own(name)) => {
                Meaning::Rule(self.own(name), Below::from(steps.len()))
            }
            _ => Meaning::Local(Below::from(steps.len())),
        }
    }

    fn rooted<'e>(&self, root: &str, steps: &[Step<'e>]) -> Meaning<'e> {
        if root == "input" {
            return Meaning::Input(
                steps
                    .iter()
                    .map(|step| match step {
                        Step::Name(name) => name,
                        Step::Index => "[]",
                    })
                    .collect(),
            );
        }
        let names: Vec<&str> = steps
            .iter()
            .map_while(|step| match step {
                Step::Name(name) => Some(*name),
                Step::Index => None,
            })
            .collect();
        let rule = (1..=names.len()).find_map(|length| {
            let path = names.get(..length)?.join(".");
            self.rules.contains_key(&path).then_some((path, length))
        });
        match rule {
            Some((path, length)) => Meaning::Rule(path, Below::from(steps.len() - length)),
            None => Meaning::Data(names),
        }
    }

    /// The path of a function's name: a rule's, or the built-in's.
    pub(super) fn function<'e>(&self, name: &'e Expr) -> Function
    where
        'a: 'e,
    {
        match self.meaning(name) {
            Meaning::Rule(path, Below::Nothing) => Function::Rule(path),
            Meaning::Rule(..) | Meaning::Input(_) => Function::Unknown,
            _ => path(name).map_or(Function::Unknown, |path| Function::Builtin(path.join("."))),
        }
    }
}

/// What is called.
pub(super) enum Function {
    Rule(String),
    Builtin(String),
    Unknown,
}

/// The root of a reference and its steps.
fn chain(expr: &Expr) -> (&Expr, Vec<Step<'_>>) {
    let mut steps = Vec::new();
    let mut at = expr;
    loop {
        at = match at {
            Expr::RefDot { refr, field, .. } => {
                steps.push(Step::Name(&field.1));
                refr
            }
            Expr::RefBrack { refr, index, .. } => {
                steps.push(index.as_text().map_or(Step::Index, Step::Name));
                refr
            }
            root => {
                steps.reverse();
                return (root, steps);
            }
        };
    }
}

/// The names of a reference without indexes.
pub(super) fn path(expr: &Expr) -> Option<Vec<&str>> {
    let (Expr::Var { value, .. }, steps) = chain(expr) else {
        return None;
    };
    let names = steps.into_iter().map(|step| match step {
        Step::Name(name) => Some(name),
        Step::Index => None,
    });
    std::iter::once(Some(value.as_str())).chain(names).collect()
}

/// The package's path, without `data`.
pub(super) fn package(module: &Module) -> String {
    path(&module.package.refr).unwrap_or_default().join(".")
}

/// The plain name of a rule.
pub(super) fn rule_name(rule: &Rule) -> Option<&str> {
    let refr = match rule {
        Rule::Spec { head, .. } => head.refr(),
        Rule::Default { refr, .. } => refr,
    };
    match refr {
        Expr::Var { value, .. } => Some(value),
        _ => None,
    }
}

/// Adds the rules of a file to those of all.
pub(super) fn collect(module: &Module, rules: &mut Rules) {
    let package = package(module);
    for rule in &module.rules {
        let Some(name) = rule_name(rule) else {
            continue;
        };
        let found = match rule {
            Rule::Default { .. } => RuleInfo {
                kind: RuleKind::Complete,
                total: true,
            },
            Rule::Spec { head, .. } => match head {
                Head::Set { .. } => RuleInfo {
                    kind: RuleKind::Set,
                    total: true,
                },
                Head::Func { args, .. } => RuleInfo {
                    kind: RuleKind::Function(args.len()),
                    total: false,
                },
                Head::Compr { .. } => RuleInfo {
                    kind: RuleKind::Complete,
                    total: false,
                },
            },
        };
        rules
            .entry(format!("{package}.{name}"))
            .and_modify(|known| known.total |= found.total)
            .or_insert(found);
    }
}

/// The variables of a pattern: of an argument, or left of `:=`.
pub(super) fn pattern_vars<'a>(pattern: &'a Expr, vars: &mut BTreeSet<&'a str>) {
    match pattern {
        Expr::Var { value, .. } => {
            vars.insert(value);
        }
        Expr::Array { items, .. } | Expr::Set { items, .. } => {
            for item in items {
                pattern_vars(item, vars);
            }
        }
        Expr::Object { fields, .. } => {
            for (_, _, value) in fields {
                pattern_vars(value, vars);
            }
        }
        _ => {}
    }
}

/// The locals that a query itself declares, nested queries left out.
pub(super) fn declared<'a>(query: &'a Query, text: &'a str) -> BTreeSet<&'a str> {
    let mut vars = BTreeSet::new();
    for stmt in &query.stmts {
        match &stmt.literal {
            Literal::SomeVars { vars: spans } => {
                vars.extend(spans.iter().map(|span| span.text(text)));
            }
            Literal::SomeIn { key, value, .. } => {
                key.iter()
                    .chain([value])
                    .for_each(|pattern| pattern_vars(pattern, &mut vars));
            }
            Literal::Expr {
                expr:
                    Expr::AssignExpr {
                        op: AssignOp::ColEq,
                        lhs,
                        ..
                    },
            } => {
                pattern_vars(lhs, &mut vars);
            }
            Literal::Expr { .. } | Literal::NotExpr { .. } | Literal::Every { .. } => {}
        }
    }
    vars
}

/// Every local that a body declares, nested queries included.
pub(super) fn declared_anywhere<'a>(body: &'a Body, text: &'a str) -> BTreeSet<&'a str> {
    let mut vars = BTreeSet::new();
    deep(&body.query, text, &mut vars);
    if let Some(assign) = &body.assign {
        deep_expr(&assign.value, text, &mut vars);
    }
    vars
}

fn deep<'a>(query: &'a Query, text: &'a str, vars: &mut BTreeSet<&'a str>) {
    vars.extend(declared(query, text));
    for stmt in &query.stmts {
        if let Literal::Every {
            key, value, query, ..
        } = &stmt.literal
        {
            vars.extend(key.iter().chain([value]).map(|span| span.text(text)));
            deep(query, text, vars);
        }
        for expr in stmt.expressions() {
            deep_expr(expr, text, vars);
        }
    }
}

fn deep_expr<'a>(expr: &'a Expr, text: &'a str, vars: &mut BTreeSet<&'a str>) {
    if let Some(query) = expr.query() {
        deep(query, text, vars);
    }
    for child in expr.children() {
        deep_expr(child, text, vars);
    }
}

/// Every expression of a rule: heads, values, bodies.
pub(super) fn every_expression<'a>(rule: &'a Rule, visit: &mut impl FnMut(&'a Expr)) {
    match rule {
        Rule::Default { value, .. } => walk(value, visit),
        Rule::Spec { head, bodies, .. } => {
            if let Head::Set { key: Some(key), .. } = head {
                walk(key, visit);
            }
            if let Head::Func { args, .. } = head {
                for arg in args {
                    walk(arg, visit);
                }
            }
            if let Some(assign) = head.assign() {
                walk(&assign.value, visit);
            }
            for body in bodies {
                if let Some(assign) = &body.assign {
                    walk(&assign.value, visit);
                }
                walk_query(&body.query, visit);
            }
        }
    }
}
