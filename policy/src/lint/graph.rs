//! Which rule needs which: cycles and long chains take the engine's stack, and what reads the call cannot be listed.

use std::collections::{BTreeMap, BTreeSet};

use super::ast::{Expr, Module, Rule, Span};
use super::scope::{Function, Meaning, every_expression, rule_name};
use super::{Context, PACKAGE, uses};
use crate::problem::Problem;

/// The longest chain of rules that need each other.
const LONGEST: usize = 24;

/// The rules and what they need.
pub(super) struct Graph {
    nodes: BTreeMap<String, Node>,
}

struct Node {
    file: String,
    span: Span,
    needs: BTreeSet<String>,
    reads_call: bool,
}

impl Graph {
    pub(super) fn new(contexts: &[(Context<'_>, &Module)]) -> Self {
        let mut graph = Self {
            nodes: BTreeMap::new(),
        };
        for (context, module) in contexts {
            for rule in &module.rules {
                graph.add(context, rule);
            }
        }
        graph
    }

    fn add(&mut self, context: &Context<'_>, rule: &Rule) {
        let Some(name) = rule_name(rule) else { return };
        let (Rule::Spec { span, .. } | Rule::Default { span, .. }) = rule;
        let node = self
            .nodes
            .entry(format!("{}.{name}", context.names.package))
            .or_insert_with(|| Node {
                file: context.file.to_owned(),
                span: *span,
                needs: BTreeSet::new(),
                reads_call: false,
            });
        uses::top_references(rule, &mut |expr| match context.names.meaning(expr) {
            Meaning::Rule(path, _) => {
                node.needs.insert(path);
            }
            Meaning::Input(path) => node.reads_call |= reads_call(&path),
            Meaning::Data(_) | Meaning::Local(_) | Meaning::Other => {}
        });
        every_expression(rule, &mut |expr| {
            if let Expr::Call { fcn, .. } = expr
                && let Function::Rule(path) = context.names.function(fcn)
            {
                node.needs.insert(path);
            }
        });
    }

    /// Rules that need themselves, and chains that are too long.
    pub(super) fn check(&self, problems: &mut Vec<Problem>) {
        let mut waiting: BTreeMap<&str, usize> = BTreeMap::new();
        let mut needed_by: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (path, node) in &self.nodes {
            let needs = node
                .needs
                .iter()
                .filter(|need| self.nodes.contains_key(*need));
            waiting.insert(path, needs.clone().count());
            needs.for_each(|need| needed_by.entry(need).or_default().push(path));
        }
        let mut ready: Vec<(&str, usize)> = waiting
            .iter()
            .filter(|(_, count)| **count == 0)
            .map(|(path, _)| (*path, 1))
            .collect();
        let mut depths: BTreeMap<&str, usize> = ready.iter().copied().collect();
        while let Some((path, _)) = ready.pop() {
            let depth = depths.get(path).copied().unwrap_or(1);
            waiting.remove(path);
            for dependent in needed_by.get(path).into_iter().flatten() {
                let known = depths.entry(dependent).or_insert(1);
                *known = (*known).max(depth + 1);
                if let Some(count) = waiting.get_mut(dependent) {
                    *count -= 1;
                    if *count == 0 {
                        ready.push((dependent, depth + 1));
                    }
                }
            }
        }
        problems.extend(waiting.keys().map(|path| {
            self.problem(
                path,
                "needs itself, directly or through others: rules may not be recursive",
            )
        }));
        let long = depths.iter().filter(|(_, depth)| **depth == LONGEST + 1);
        problems.extend(long.map(|(path, _)| {
            self.problem(path, "needs a chain of more than 24 rules: shorten it")
        }));
    }

    fn problem(&self, path: &str, message: &str) -> Problem {
        let message = format!("`{path}` {message}");
        match self.nodes.get(path) {
            Some(node) => Problem {
                file: node.file.clone(),
                line: node.span.line,
                column: node.span.col,
                message,
            },
            None => Problem::in_file("policy", message),
        }
    }

    /// Whether one of these rules of the users' package reads, however far away, what only a call has.
    pub(super) fn needs_call(&self, names: &[&str]) -> bool {
        let mut todo: Vec<String> = names
            .iter()
            .map(|name| format!("{PACKAGE}.{name}"))
            .collect();
        let mut seen = BTreeSet::new();
        while let Some(path) = todo.pop() {
            let Some(node) = self.nodes.get(&path) else {
                continue;
            };
            if node.reads_call {
                return true;
            }
            todo.extend(
                node.needs
                    .iter()
                    .filter(|need| !seen.contains(*need))
                    .cloned(),
            );
            seen.insert(path);
        }
        false
    }
}

/// Whether a path below `input` leads to what is not known, or is another, while tools are listed.
fn reads_call(path: &[&str]) -> bool {
    match path {
        ["call", field, ..] => !matches!(*field, "protocol" | "listener" | "phase"),
        [] | ["call" | "content" | "limits", ..] => true,
        _ => false,
    }
}
