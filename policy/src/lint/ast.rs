//! The engine's syntax tree, as far as the checks need it.

use regorus::Engine;
use serde::Deserialize;

use crate::problem::{Problem, Source};

/// A place in a file: line and column from 1, and the bytes it spans.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Span {
    pub(super) line: u32,
    pub(super) col: u32,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Span {
    /// The text it spans.
    pub(super) fn text(self, source: &str) -> &str {
        source.get(self.start..self.end).unwrap_or("")
    }
}

#[derive(Debug, Deserialize)]
#[expect(
    clippy::enum_variant_names,
    reason = "the engine's names, which its JSON carries"
)]
pub(super) enum Expr {
    String {
        span: Span,
        value: String,
    },
    RawString {
        span: Span,
        value: String,
    },
    Number {
        span: Span,
        value: serde_json::Number,
    },
    Bool {
        span: Span,
        value: bool,
    },
    Null {
        span: Span,
    },
    Var {
        span: Span,
        value: String,
    },
    Array {
        span: Span,
        items: Vec<Expr>,
    },
    Set {
        span: Span,
        items: Vec<Expr>,
    },
    Object {
        span: Span,
        fields: Vec<(Span, Expr, Expr)>,
    },
    ArrayCompr {
        span: Span,
        term: Box<Expr>,
        query: Query,
    },
    SetCompr {
        span: Span,
        term: Box<Expr>,
        query: Query,
    },
    ObjectCompr {
        span: Span,
        key: Box<Expr>,
        value: Box<Expr>,
        query: Query,
    },
    Call {
        fcn: Box<Expr>,
        params: Vec<Expr>,
    },
    UnaryExpr {
        span: Span,
        expr: Box<Expr>,
    },
    RefDot {
        refr: Box<Expr>,
        field: (Span, String),
    },
    RefBrack {
        refr: Box<Expr>,
        index: Box<Expr>,
    },
    BinExpr {
        lhs: Box<Expr>,
        rhs: Box<Expr>,
    },
    BoolExpr {
        lhs: Box<Expr>,
        rhs: Box<Expr>,
    },
    ArithExpr {
        op: ArithOp,
        lhs: Box<Expr>,
        rhs: Box<Expr>,
    },
    AssignExpr {
        op: AssignOp,
        lhs: Box<Expr>,
        rhs: Box<Expr>,
    },
    Membership {
        key: Option<Box<Expr>>,
        value: Box<Expr>,
        collection: Box<Expr>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum ArithOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum AssignOp {
    Eq,
    ColEq,
}

#[derive(Debug, Deserialize)]
pub(super) struct Query {
    pub(super) span: Span,
    pub(super) stmts: Vec<Stmt>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Stmt {
    pub(super) span: Span,
    pub(super) literal: Literal,
    #[serde(default)]
    pub(super) with_mods: Vec<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
pub(super) enum Literal {
    SomeVars {
        vars: Vec<Span>,
    },
    SomeIn {
        key: Option<Expr>,
        value: Expr,
        collection: Expr,
    },
    Expr {
        expr: Expr,
    },
    NotExpr {
        expr: Expr,
    },
    Every {
        key: Option<Span>,
        value: Span,
        domain: Expr,
        query: Query,
    },
}

#[derive(Debug, Deserialize)]
pub(super) struct Assign {
    pub(super) op: AssignOp,
    pub(super) value: Expr,
}

#[derive(Debug, Deserialize)]
pub(super) struct Body {
    pub(super) span: Span,
    pub(super) assign: Option<Assign>,
    pub(super) is_else: bool,
    pub(super) query: Query,
}

#[derive(Debug, Deserialize)]
pub(super) enum Head {
    Compr {
        refr: Expr,
        assign: Option<Assign>,
    },
    Set {
        refr: Expr,
        key: Option<Expr>,
    },
    Func {
        refr: Expr,
        args: Vec<Expr>,
        assign: Option<Assign>,
    },
}

#[derive(Debug, Deserialize)]
pub(super) enum Rule {
    Spec {
        span: Span,
        head: Head,
        bodies: Vec<Body>,
    },
    Default {
        span: Span,
        refr: Expr,
        args: Vec<Expr>,
        value: Expr,
    },
}

#[derive(Debug, Deserialize)]
pub(super) struct Package {
    pub(super) span: Span,
    pub(super) refr: Expr,
}

#[derive(Debug, Deserialize)]
pub(super) struct Import {
    pub(super) span: Span,
    pub(super) refr: Expr,
    #[serde(rename = "as")]
    pub(super) alias: Option<Span>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Module {
    pub(super) package: Package,
    #[serde(default)]
    pub(super) imports: Vec<Import>,
    pub(super) rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct File {
    ast: Module,
}

/// Parses one file. What is too deep or too large for the engine must have been refused before.
pub(super) fn parse(source: &Source) -> Result<Module, Problem> {
    let mut engine = Engine::new();
    engine
        .add_policy(source.name.clone(), source.text.clone())
        .map_err(|error| super::engine_problem(&source.name, &error.to_string()))?;
    let tree = engine
        .get_ast_as_json()
        .map_err(|_| Problem::in_file(&source.name, "the rules could not be read"))?;
    // The reader refuses more than 128 levels: it cannot run out of stack.
    let files: Vec<File> = serde_json::from_str(&tree).map_err(|_| {
        Problem::in_file(
            &source.name,
            "an expression is nested too deeply: split it into rules of their own",
        )
    })?;
    files
        .into_iter()
        .next()
        .map(|file| file.ast)
        .ok_or_else(|| Problem::in_file(&source.name, "the file is empty"))
}

impl Expr {
    pub(super) fn span(&self) -> Span {
        match self {
            // The span of these starts at their operator; what stands left of it is where a reader looks.
            Self::RefDot { refr: left, .. }
            | Self::RefBrack { refr: left, .. }
            | Self::Call { fcn: left, .. }
            | Self::BinExpr { lhs: left, .. }
            | Self::BoolExpr { lhs: left, .. }
            | Self::ArithExpr { lhs: left, .. }
            | Self::AssignExpr { lhs: left, .. }
            | Self::Membership { value: left, .. } => left.span(),
            Self::String { span, .. }
            | Self::RawString { span, .. }
            | Self::Number { span, .. }
            | Self::Bool { span, .. }
            | Self::Null { span }
            | Self::Var { span, .. }
            | Self::Array { span, .. }
            | Self::Set { span, .. }
            | Self::Object { span, .. }
            | Self::ArrayCompr { span, .. }
            | Self::SetCompr { span, .. }
            | Self::ObjectCompr { span, .. }
            | Self::UnaryExpr { span, .. } => *span,
        }
    }

    /// The expressions directly inside, those of nested queries left out.
    pub(super) fn children(&self) -> Vec<&Self> {
        match self {
            Self::String { .. }
            | Self::RawString { .. }
            | Self::Number { .. }
            | Self::Bool { .. }
            | Self::Null { .. }
            | Self::Var { .. } => Vec::new(),
            Self::Array { items, .. } | Self::Set { items, .. } => items.iter().collect(),
            Self::Object { fields, .. } => fields
                .iter()
                .flat_map(|(_, key, value)| [key, value])
                .collect(),
            Self::ArrayCompr { term, .. } | Self::SetCompr { term, .. } => vec![term],
            Self::ObjectCompr { key, value, .. } => vec![key, value],
            // The name of a function is no expression.
            Self::Call { params, .. } => params.iter().collect(),
            Self::UnaryExpr { expr, .. } => vec![expr],
            Self::RefDot { refr, .. } => vec![refr],
            Self::RefBrack { refr, index, .. } => vec![refr, index],
            Self::BinExpr { lhs, rhs, .. }
            | Self::BoolExpr { lhs, rhs, .. }
            | Self::ArithExpr { lhs, rhs, .. }
            | Self::AssignExpr { lhs, rhs, .. } => vec![lhs, rhs],
            Self::Membership {
                key,
                value,
                collection,
                ..
            } => key
                .as_deref()
                .into_iter()
                .chain([&**value, &**collection])
                .collect(),
        }
    }

    /// The query of a comprehension.
    pub(super) fn query(&self) -> Option<&Query> {
        match self {
            Self::ArrayCompr { query, .. }
            | Self::SetCompr { query, .. }
            | Self::ObjectCompr { query, .. } => Some(query),
            _ => None,
        }
    }

    /// Whether it is a literal through and through.
    pub(super) fn is_literal(&self) -> bool {
        match self {
            Self::String { .. }
            | Self::RawString { .. }
            | Self::Number { .. }
            | Self::Bool { .. }
            | Self::Null { .. } => true,
            Self::Array { .. } | Self::Set { .. } | Self::Object { .. } => {
                self.children().into_iter().all(Self::is_literal)
            }
            Self::UnaryExpr { expr, .. } => expr.is_literal(),
            _ => false,
        }
    }

    /// The text of a string literal.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::String { value, .. } | Self::RawString { value, .. } => Some(value),
            _ => None,
        }
    }
}

impl Stmt {
    /// The expressions directly in the statement, those of nested queries left out.
    pub(super) fn expressions(&self) -> Vec<&Expr> {
        match &self.literal {
            Literal::SomeVars { .. } => Vec::new(),
            Literal::SomeIn {
                key,
                value,
                collection,
            } => key.iter().chain([value, collection]).collect(),
            Literal::Expr { expr } | Literal::NotExpr { expr } => vec![expr],
            Literal::Every { domain, .. } => vec![domain],
        }
    }
}

impl Head {
    pub(super) fn refr(&self) -> &Expr {
        match self {
            Self::Compr { refr, .. } | Self::Set { refr, .. } | Self::Func { refr, .. } => refr,
        }
    }

    pub(super) fn assign(&self) -> Option<&Assign> {
        match self {
            Self::Compr { assign, .. } | Self::Func { assign, .. } => assign.as_ref(),
            Self::Set { .. } => None,
        }
    }
}

/// Visits an expression and everything inside it, nested queries included.
pub(super) fn walk<'a>(expr: &'a Expr, visit: &mut impl FnMut(&'a Expr)) {
    visit(expr);
    for child in expr.children() {
        walk(child, visit);
    }
    if let Some(query) = expr.query() {
        walk_query(query, visit);
    }
}

/// Visits every expression of a query, nested queries included.
pub(super) fn walk_query<'a>(query: &'a Query, visit: &mut impl FnMut(&'a Expr)) {
    for stmt in &query.stmts {
        for expr in stmt.expressions() {
            walk(expr, visit);
        }
        if let Literal::Every { query, .. } = &stmt.literal {
            walk_query(query, visit);
        }
    }
}
