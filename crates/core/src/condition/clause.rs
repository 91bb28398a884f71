//! One of the parts that `&&` joins: judged alone, so that somebody can be told which one was false, what was there
//! and what was wanted.

use cel::{
    Context, ExecutionError, IdedExpr, Program, Value,
    common::ast::{CallExpr, Expr, LiteralValue, operators},
};
use serde_json::Value as Json;

use super::{Judgement, cost::Root, names, shorten};
use crate::{
    event,
    matching::{Missing, Path, describe, walk},
};

/// Values that a reason quotes, and that are kept of a clause.
const MAX_QUOTED: usize = 3;

/// Characters of a clause that are kept with each event.
const MAX_TEXT: usize = 200;

pub(super) struct Clause {
    pub(super) source: String,
    pub(super) program: Program,
    /// Those that start from one of the roots, not from what a loop binds.
    pub(super) paths: Vec<Path>,
}

/// What a clause says when it is asked.
pub(super) enum Answer {
    Holds,
    IsFalse,
    /// A field that is missing, or an error.
    Trouble(Judgement),
}

impl Clause {
    pub(super) fn judge(&self, context: &Context<'_, '_>, roots: &[Root<'_>]) -> Answer {
        match self.program.execute(context) {
            Ok(Value::Bool(true)) => Answer::Holds,
            Ok(Value::Bool(false)) => Answer::IsFalse,
            Ok(other) => Answer::Trouble(Judgement::Error(format!(
                "{} is neither true nor false but {}",
                self.source,
                other.type_of()
            ))),
            Err(error) => Answer::Trouble(self.trouble(&error, roots)),
        }
    }

    /// What is kept of it with the event.
    pub(super) fn told(&self, answer: &Answer, roots: &[Root<'_>]) -> event::Clause {
        let held = matches!(answer, Answer::Holds);
        let problem = match answer {
            Answer::Holds | Answer::IsFalse => None,
            Answer::Trouble(judgement) => judgement.reason().map(|reason| {
                // The clause itself is told anyway.
                let why = reason.strip_prefix(&self.source).unwrap_or(reason);
                why.trim_start_matches(" does not hold").trim_start_matches(": ").trim_start().to_owned()
            }),
        };
        let text = match self.source.char_indices().nth(MAX_TEXT) {
            Some((end, _)) => format!("{}..", &self.source[..end]),
            None => self.source.clone(),
        };
        let found = self.quoted(roots).into_iter().map(|(path, value)| (path.to_string(), value)).collect();
        let wanted = if held { None } else { wanted(self.program.expression(), roots) };
        event::Clause { text, held, found, wanted, problem }
    }

    /// The first values that it looks at, as messages quote them; those that are there.
    fn quoted(&self, roots: &[Root<'_>]) -> Vec<(&Path, String)> {
        let mut values: Vec<(&Path, String)> = Vec::new();
        for path in &self.paths {
            let Ok(value) = find(path, roots) else { continue };
            if values.len() < MAX_QUOTED && !values.iter().any(|(known, _)| *known == path) {
                values.push((path, describe(value)));
            }
        }
        values
    }

    pub(super) fn is_false(&self, roots: &[Root<'_>]) -> String {
        let values: Vec<String> =
            self.quoted(roots).into_iter().map(|(path, value)| format!("{path} is {value}")).collect();
        let colon = if values.is_empty() { "" } else { ": " };
        format!("{} is false{colon}{}", self.source, values.join(", "))
    }

    fn missing(&self, roots: &[Root<'_>]) -> Option<String> {
        self.paths.iter().find_map(|path| find(path, roots).err().map(|missing| missing.to_string()))
    }

    /// A field that is not there is an answer; anything else is an error.
    fn trouble(&self, error: &ExecutionError, roots: &[Root<'_>]) -> Judgement {
        let missing = self.missing(roots).or_else(|| {
            if let ExecutionError::NoSuchKey(name) = error {
                Some(format!("there is no field {name:?}"))
            } else if let ExecutionError::IndexOutOfBounds(_) = error {
                Some("the list is shorter".to_owned())
            } else {
                None
            }
        });
        match missing {
            Some(missing) => Judgement::No(format!("{} does not hold: {missing}", self.source)),
            None => Judgement::Error(format!("{}: {}", self.source, shorten(&plainly(&error.to_string())))),
        }
    }
}

/// What CEL says of an operator that has no use for what it is given, in other words.
fn plainly(error: &str) -> String {
    let said = || {
        let rest = error.strip_prefix("found no matching overload for '")?;
        let (function, types) = rest.split_once("' applied to '(")?;
        let types: Vec<&str> = types.strip_suffix(")'")?.split(", ").map(kind).collect();
        let operator = function.trim_matches('_');
        let is_operator = operator.chars().all(|c| c.is_ascii_punctuation());
        let name = if is_operator { operator.to_owned() } else { format!("{operator}()") };
        Some(format!(
            "{name} cannot be used on {}; int(), double() and string() convert",
            types.join(" and ")
        ))
    };
    said().unwrap_or_else(|| error.to_owned())
}

fn kind(cel: &str) -> &str {
    match cel {
        "string" => "a text",
        "int" | "uint" => "an integer",
        "double" => "a number",
        "bool" => "a truth value",
        "list" => "a list",
        "map" => "an object",
        "null_type" | "null" => "null",
        "timestamp" => "a time",
        "duration" => "a duration",
        other => other,
    }
}

fn find<'v>(path: &Path, roots: &'v [Root<'_>]) -> Result<&'v Json, Missing> {
    let root = roots.iter().find(|root| root.name == path.root).map_or(&Json::Null, |root| &root.value);
    walk(root, path)
}

/// What a plain comparison asks for: `== "main"`, `true`, `in ["a", "b"]`.
fn wanted(expr: &IdedExpr, roots: &[Root<'_>]) -> Option<String> {
    let Expr::Call(CallExpr { func_name, target: None, args }) = &expr.expr else {
        return names::path(expr).map(|_| "true".to_owned());
    };
    match (func_name.as_str(), args.as_slice()) {
        (operators::LOGICAL_NOT, [operand]) => names::path(operand).map(|_| "false".to_owned()),
        (operators::IN, [_, list]) => Some(format!("in {}", said(list, roots)?)),
        (operator, [left, right]) => {
            let (sign, mirrored) = signs(operator)?;
            match (names::path(left), said(right, roots), said(left, roots)) {
                (Some(_), Some(right), _) => Some(format!("{sign} {right}")),
                (None, _, Some(left)) => names::path(right).map(|_| format!("{mirrored} {left}")),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The sign of a comparison, and the one that says the same from the other side.
fn signs(operator: &str) -> Option<(&'static str, &'static str)> {
    Some(match operator {
        operators::EQUALS => ("==", "=="),
        operators::NOT_EQUALS => ("!=", "!="),
        operators::GREATER => (">", "<"),
        operators::GREATER_EQUALS => (">=", "<="),
        operators::LESS => ("<", ">"),
        operators::LESS_EQUALS => ("<=", ">="),
        _ => return None,
    })
}

/// A literal as it is written, a list of them, or a path with what is there.
fn said(expr: &IdedExpr, roots: &[Root<'_>]) -> Option<String> {
    if let Some(path) = names::path(expr) {
        return find(&path, roots).ok().map(|value| format!("{} ({path})", describe(value)));
    }
    match &expr.expr {
        Expr::Literal(literal) => Some(literal_text(literal)),
        Expr::List(list) => {
            let parts: Option<Vec<String>> = list.elements.iter().map(|part| said(part, roots)).collect();
            Some(shorten(&format!("[{}]", parts?.join(", "))))
        }
        Expr::Unspecified
        | Expr::Call(_)
        | Expr::Comprehension(_)
        | Expr::Ident(_)
        | Expr::Map(_)
        | Expr::Select(_)
        | Expr::Struct(_) => None,
    }
}

fn literal_text(literal: &LiteralValue) -> String {
    match literal {
        LiteralValue::Boolean(value) => value.inner().to_string(),
        LiteralValue::Bytes(_) => "bytes".to_owned(),
        LiteralValue::Double(value) => value.inner().to_string(),
        LiteralValue::Int(value) => value.inner().to_string(),
        LiteralValue::Null => "null".to_owned(),
        LiteralValue::String(value) => describe(&Json::from(value.inner())),
        LiteralValue::UInt(value) => value.inner().to_string(),
    }
}
