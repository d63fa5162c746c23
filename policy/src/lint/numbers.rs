//! Arithmetic inside an iteration.
//!
//! In Rego `x + 1` with a text for `x` is undefined, and an iteration goes on to the next `x`. In the VM it ends the whole
//! rule, so that one element the caller chose could silence a `deny` about all others. So within an iteration only what is
//! surely a number is reckoned with.

use std::collections::BTreeSet;

use super::ast::{ArithOp, Expr, Head, Literal, Module, Query, Rule};
use super::scope::{Function, Meaning, RuleKind, declared_anywhere, pattern_vars};
use super::{Context, builtins, uses};
use crate::input::{self, Kind};
use crate::problem::Problem;

/// Whether an error would be lost: not at the top of a body that nothing iterates over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Plain,
    Iteration,
}

/// What variables are known to be.
#[derive(Clone, Default)]
struct Known<'a> {
    numbers: BTreeSet<&'a str>,
    sets: BTreeSet<&'a str>,
}

/// The problems of one mended file.
pub(super) fn check(context: &Context<'_>, module: &Module, problems: &mut Vec<Problem>) {
    for rule in &module.rules {
        if let Rule::Spec { head, bodies, .. } = rule {
            let mut args = BTreeSet::new();
            if let Head::Func { args: patterns, .. } = head {
                for pattern in patterns {
                    pattern_vars(pattern, &mut args);
                }
            }
            for body in bodies {
                let mut bound = args.clone();
                bound.extend(declared_anywhere(body, context.text));
                let within = if uses::iterates(context, &body.query, &bound) {
                    Within::Iteration
                } else {
                    Within::Plain
                };
                let mut check = Check { context, problems };
                let known = check.query(&body.query, Known::default(), within);
                let key = match head {
                    Head::Set { key, .. } => key.as_ref(),
                    Head::Compr { .. } | Head::Func { .. } => None,
                };
                let values = body
                    .assign
                    .iter()
                    .chain(head.assign())
                    .map(|assign| &assign.value);
                for value in key.into_iter().chain(values) {
                    check.expr(value, &known, within);
                }
            }
        }
    }
}

struct Check<'a, 'b> {
    context: &'b Context<'a>,
    problems: &'b mut Vec<Problem>,
}

impl Check<'_, '_> {
    /// Checks a query and returns what is known after it.
    fn query<'q>(&mut self, query: &'q Query, mut known: Known<'q>, within: Within) -> Known<'q> {
        for stmt in &query.stmts {
            for expr in stmt.expressions() {
                self.expr(expr, &known, within);
            }
            match &stmt.literal {
                Literal::Expr { expr } => self.learn(expr, &mut known),
                Literal::Every { query, .. } => {
                    self.query(query, known.clone(), Within::Iteration);
                }
                Literal::SomeVars { .. } | Literal::SomeIn { .. } | Literal::NotExpr { .. } => {}
            }
        }
        known
    }

    /// `is_number(x)` says so; `x := …` is what it is bound to.
    fn learn<'q>(&self, expr: &'q Expr, known: &mut Known<'q>) {
        match expr {
            Expr::Call { fcn, params, .. } => {
                if let (Function::Builtin(name), [Expr::Var { value, .. }]) =
                    (self.function(fcn), params.as_slice())
                {
                    match name.as_str() {
                        "is_number" => known.numbers.insert(value),
                        "is_set" => known.sets.insert(value),
                        _ => false,
                    };
                }
            }
            Expr::AssignExpr { lhs, rhs, .. } => {
                if let Expr::Var { value, .. } = &**lhs {
                    if self.is_number(rhs, known) {
                        known.numbers.insert(value);
                    } else if self.is_set(rhs, known) {
                        known.sets.insert(value);
                    }
                }
            }
            _ => {}
        }
    }

    fn expr<'q>(&mut self, expr: &'q Expr, known: &Known<'q>, within: Within) {
        if within == Within::Iteration && !self.is_sound(expr, known) {
            let message = "this must surely be a number inside an iteration: write `is_number(x)` on a line before";
            self.problems
                .push(self.context.problem(expr.span(), message));
        }
        if let Some(query) = expr.query() {
            let known = self.query(query, known.clone(), Within::Iteration);
            for child in expr.children() {
                self.expr(child, &known, Within::Iteration);
            }
            return;
        }
        for child in expr.children() {
            self.expr(child, known, within);
        }
    }

    fn is_sound<'q>(&self, expr: &'q Expr, known: &Known<'q>) -> bool {
        match expr {
            Expr::ArithExpr { op, lhs, rhs, .. } => {
                let both = |kind: &dyn Fn(&'q Expr) -> bool| kind(lhs) && kind(rhs);
                match op {
                    ArithOp::Add | ArithOp::Mul | ArithOp::Div => {
                        both(&|side| self.is_number(side, known))
                    }
                    ArithOp::Sub => {
                        both(&|side| self.is_number(side, known))
                            || both(&|side| self.is_set(side, known))
                    }
                    ArithOp::Mod => both(&|side| self.is_integer(side)),
                }
            }
            Expr::UnaryExpr { expr, .. } => self.is_number(expr, known),
            _ => true,
        }
    }

    fn function(&self, name: &Expr) -> Function {
        self.context.names.function(name)
    }

    fn is_number<'q>(&self, expr: &'q Expr, known: &Known<'q>) -> bool {
        match expr {
            Expr::Number { .. } => true,
            Expr::Var { value, .. } if known.numbers.contains(value.as_str()) => true,
            Expr::Call { fcn, .. } => match self.function(fcn) {
                Function::Builtin(name) => {
                    builtins::find(&name).is_some_and(|builtin| builtin.numeric)
                }
                Function::Rule(_) | Function::Unknown => false,
            },
            Expr::ArithExpr { lhs, rhs, .. } => {
                self.is_number(lhs, known) && self.is_number(rhs, known)
            }
            Expr::UnaryExpr { expr, .. } => self.is_number(expr, known),
            _ => matches!(self.field(expr), Some(Kind::Integer | Kind::Number)),
        }
    }

    fn is_integer(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Number { value, .. } => value.is_i64() || value.is_u64(),
            Expr::Call { fcn, .. } => {
                matches!(self.function(fcn), Function::Builtin(name) if name == "count")
            }
            _ => self.field(expr) == Some(Kind::Integer),
        }
    }

    fn is_set<'q>(&self, expr: &'q Expr, known: &Known<'q>) -> bool {
        match expr {
            Expr::Set { .. } | Expr::SetCompr { .. } => true,
            Expr::Var { value, .. } if known.sets.contains(value.as_str()) => true,
            Expr::BinExpr { lhs, rhs, .. }
            | Expr::ArithExpr {
                op: ArithOp::Sub,
                lhs,
                rhs,
            } => self.is_set(lhs, known) && self.is_set(rhs, known),
            _ => match self.context.names.meaning(expr) {
                Meaning::Rule(path, super::scope::Below::Nothing) => self
                    .context
                    .names
                    .rules
                    .get(&path)
                    .is_some_and(|rule| rule.kind == RuleKind::Set),
                _ => false,
            },
        }
    }

    fn field(&self, expr: &Expr) -> Option<Kind> {
        match self.context.names.meaning(expr) {
            Meaning::Input(path) => input::kind_of(&path),
            _ => None,
        }
    }
}
