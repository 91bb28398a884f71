//! The walk over a compiled condition that finds what it refers to and what is not allowed.

use std::collections::BTreeMap;

use cel::{
    IdedExpr,
    common::ast::{EntryExpr, Expr, LiteralValue, operators},
};
use regex::Regex;

use super::{network, pattern};
use crate::{
    matching::{Path, ROOTS, Step},
    suggest,
};

/// Loops inside each other, at most: more of them over one body could run for minutes.
const MAX_LOOPS: usize = 2;

/// Expressions inside each other, at most: they are judged on the stack of whoever asks.
const MAX_NESTING: usize = 64;

const TYPES: [&str; 10] =
    ["bool", "bytes", "double", "dyn", "int", "list", "map", "null_type", "string", "uint"];

const FUNCTIONS: [&str; 41] = [
    "all",
    "bool",
    "bytes",
    "contains",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "exists",
    "exists_one",
    "filter",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "has",
    "hasValue",
    "inCidr",
    "int",
    "map",
    "matches",
    "none",
    "of",
    "ofNonZeroValue",
    "optFlatMap",
    "optMap",
    "or",
    "orValue",
    "size",
    "startsWith",
    "string",
    "timestamp",
    "type",
    "uint",
    "value",
];

/// What other languages call them.
const ELSEWHERE: [(&str, &str); 8] = [
    ("any", "exists"),
    ("some", "exists"),
    ("every", "all"),
    ("includes", "contains"),
    ("length", "size"),
    ("len", "size"),
    ("cidr", "inCidr"),
    ("regex", "matches"),
];

/// What is wrong with one place of the expression.
pub(super) struct Complaint {
    pub(super) message: String,
    pub(super) expr_id: u64,
}

/// What an expression refers to.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) paths: Vec<Path>,
    /// By their source.
    pub(super) patterns: BTreeMap<String, Regex>,
    /// Likewise.
    pub(super) networks: BTreeMap<String, crate::network::Network>,
}

pub(super) fn read(expr: &IdedExpr) -> Result<Names, Complaint> {
    let mut walk = Walk { names: Names::default(), scope: Vec::new(), loops: 0, nesting: 0 };
    walk.expr(expr)?;
    Ok(walk.names)
}

/// The path that `expr` spells, with the name that it starts from.
pub(super) fn path(expr: &IdedExpr) -> Option<Path> {
    match &expr.expr {
        Expr::Ident(name) => Some(Path { root: name.clone(), steps: Vec::new() }),
        Expr::Select(select) => Some(longer(path(&select.operand)?, Step::Field(select.field.clone()))),
        Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT, [operand, key]) => {
                Some(longer(path(operand)?, literal_step(key)?))
            }
            _ => None,
        },
        Expr::Unspecified
        | Expr::Comprehension(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Struct(_) => None,
    }
}

fn longer(mut path: Path, step: Step) -> Path {
    path.steps.push(step);
    path
}

fn literal_step(key: &IdedExpr) -> Option<Step> {
    let Expr::Literal(literal) = &key.expr else { return None };
    match literal {
        LiteralValue::String(name) => Some(Step::Field(name.inner().to_owned())),
        LiteralValue::Int(index) => usize::try_from(*index.inner()).ok().map(Step::Index),
        LiteralValue::Boolean(_)
        | LiteralValue::Bytes(_)
        | LiteralValue::Double(_)
        | LiteralValue::Null
        | LiteralValue::UInt(_) => None,
    }
}

struct Walk<'e> {
    names: Names,
    /// Names that loops bind.
    scope: Vec<&'e str>,
    loops: usize,
    nesting: usize,
}

impl<'e> Walk<'e> {
    fn expr(&mut self, expr: &'e IdedExpr) -> Result<(), Complaint> {
        let path = path(expr);
        let nesting = self.nesting + path.as_ref().map_or(1, |path| path.steps.len());
        if nesting > MAX_NESTING {
            let message = format!("expressions may be nested {MAX_NESTING} deep, not more");
            return Err(Complaint { message, expr_id: expr.id });
        }
        if let Some(path) = path {
            return self.path(expr, path);
        }
        self.nesting += 1;
        let result = self.parts(expr);
        self.nesting -= 1;
        result
    }

    fn parts(&mut self, expr: &'e IdedExpr) -> Result<(), Complaint> {
        match &expr.expr {
            Expr::Call(call) => {
                self.function(expr, &call.func_name, &call.args)?;
                if let Some(target) = &call.target
                    && !matches!(&target.expr, Expr::Ident(name) if name == "optional")
                {
                    self.expr(target)?;
                }
                call.args.iter().try_for_each(|arg| self.expr(arg))
            }
            Expr::Comprehension(loops) => {
                self.expr(&loops.iter_range)?;
                self.expr(&loops.accu_init)?;
                self.loops += 1;
                if self.loops > MAX_LOOPS {
                    let message = format!("loops may be nested {MAX_LOOPS} deep, not more");
                    return Err(Complaint { message, expr_id: expr.id });
                }
                let outer = self.scope.len();
                self.scope.extend([loops.iter_var.as_str(), loops.accu_var.as_str()]);
                self.scope.extend(loops.iter_var2.as_deref());
                for part in [&loops.loop_cond, &loops.loop_step, &loops.result] {
                    self.expr(part)?;
                }
                self.scope.truncate(outer);
                self.loops -= 1;
                Ok(())
            }
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.expr(element)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| self.entry(&entry.expr)),
            Expr::Struct(literal) => Err(Complaint {
                message: format!("there is no type {:?}", literal.type_name),
                expr_id: expr.id,
            }),
            // What `path` did not take: a select on something that is no path.
            Expr::Select(select) => self.expr(&select.operand),
            Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Ok(()),
        }
    }

    fn entry(&mut self, entry: &'e EntryExpr) -> Result<(), Complaint> {
        match entry {
            EntryExpr::StructField(field) => self.expr(&field.value),
            EntryExpr::MapEntry(entry) => {
                self.expr(&entry.key)?;
                self.expr(&entry.value)
            }
        }
    }

    fn path(&mut self, expr: &IdedExpr, path: Path) -> Result<(), Complaint> {
        let name = path.root.trim_start_matches('.');
        if self.scope.contains(&name) {
            return Ok(());
        }
        if ROOTS.contains(&name) {
            self.names.paths.push(Path { root: name.to_owned(), steps: path.steps });
            return Ok(());
        }
        if path.steps.is_empty() && TYPES.contains(&name) {
            return Ok(());
        }
        let message = format!("nothing is called {name:?} here: {}", suggest::among(name, &ROOTS));
        Err(Complaint { message, expr_id: root_of(expr).id })
    }

    fn function(&mut self, expr: &IdedExpr, name: &str, args: &[IdedExpr]) -> Result<(), Complaint> {
        let complain = |message: String| Complaint { message, expr_id: expr.id };
        let is_operator = name.contains(['_', '@', '!', '-']) && !name.starts_with(char::is_alphabetic);
        if !is_operator && !FUNCTIONS.contains(&name) {
            let known_as = ELSEWHERE.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
            let close = known_as.map(|(_, here)| *here).or_else(|| suggest::closest(name, FUNCTIONS));
            return Err(complain(match close {
                Some(close) => format!("there is no function {name:?}; did you mean {close:?}?"),
                None => format!("there is no function {name:?}"),
            }));
        }
        if name == pattern::APPLY {
            let (source, pattern) = pattern::compile(args.last()).map_err(complain)?;
            self.names.patterns.insert(source, pattern);
        }
        if name == network::APPLY {
            self.names.networks.extend(network::compile(args.last()).map_err(complain)?);
        }
        Ok(())
    }
}

fn root_of(expr: &IdedExpr) -> &IdedExpr {
    match &expr.expr {
        Expr::Select(select) => root_of(&select.operand),
        Expr::Call(call) => call.args.first().map_or(expr, root_of),
        Expr::Unspecified
        | Expr::Comprehension(_)
        | Expr::Ident(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Struct(_) => expr,
    }
}
