//! How much a condition would walk, before it walks it: CEL has no budget of its own, and a nested
//! `all` over a body of 49 KB took 55 seconds.
//!
//! The unit is one round of a loop. Work that grows with the data without being a loop (a list
//! searched by `in`, long texts, patterns) is counted in rounds, too. Where the expression does not say which
//! list it walks, the longest one of the body stands for it.

use std::borrow::Cow;

use cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, operators},
};
use serde_json::Value;

use super::names;
use crate::matching::{Path, Step};

/// Rounds, at most.
pub(super) const MAX_ROUNDS: usize = 100_000;

/// A pattern is compiled each time it is applied.
const ROUNDS_OF_A_PATTERN: usize = 50;

/// Bytes of text that are compared or searched in the time of one round.
const BYTES_OF_A_ROUND: usize = 4096;

/// More than [`MAX_ROUNDS`].
pub(super) struct TooMuch;

/// The values that an expression stands for in the course of its loop.
type Values<'v> = Vec<&'v Value>;

pub(super) struct Meter<'v> {
    roots: &'v [(String, Cow<'v, Value>)],
    longest: Longest,
    rounds: usize,
}

#[derive(Default)]
struct Longest {
    list: usize,
    text: usize,
    values: usize,
}

/// A name that a loop binds; `None` where its values are not known.
struct Bound<'e, 'v> {
    name: &'e str,
    values: Option<Values<'v>>,
}

impl<'v> Meter<'v> {
    /// `roots` are what the condition looks at, by name.
    pub(super) fn new(roots: &'v [(String, Cow<'v, Value>)]) -> Self {
        let mut longest = Longest::default();
        for (_, root) in roots {
            longest.measure(root);
        }
        Self { roots, longest, rounds: 0 }
    }

    pub(super) fn add(&mut self, expr: &IdedExpr) -> Result<(), TooMuch> {
        self.expr(expr, 1, &mut Vec::new())
    }

    fn spend(&mut self, rounds: usize) -> Result<(), TooMuch> {
        self.rounds = self.rounds.saturating_add(rounds);
        if self.rounds > MAX_ROUNDS { Err(TooMuch) } else { Ok(()) }
    }

    fn expr<'e>(
        &mut self,
        expr: &'e IdedExpr,
        times: usize,
        scope: &mut Vec<Bound<'e, 'v>>,
    ) -> Result<(), TooMuch> {
        match &expr.expr {
            Expr::Call(call) => {
                self.call(call, times, scope)?;
                call.target
                    .iter()
                    .map(AsRef::as_ref)
                    .chain(&call.args)
                    .try_for_each(|part| self.expr(part, times, scope))
            }
            Expr::Comprehension(loops) => self.comprehension(loops, times, scope),
            Expr::Select(select) => self.expr(&select.operand, times, scope),
            Expr::List(list) => list.elements.iter().try_for_each(|part| self.expr(part, times, scope)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.expr(&entry.key, times, scope)?;
                    self.expr(&entry.value, times, scope)
                }
                EntryExpr::StructField(field) => self.expr(&field.value, times, scope),
            }),
            Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) | Expr::Struct(_) => Ok(()),
        }
    }

    fn comprehension<'e>(
        &mut self,
        loops: &'e ComprehensionExpr,
        times: usize,
        scope: &mut Vec<Bound<'e, 'v>>,
    ) -> Result<(), TooMuch> {
        self.expr(&loops.iter_range, times, scope)?;
        self.expr(&loops.accu_init, times, scope)?;
        let range = self.values(&loops.iter_range, scope);
        let rounds = match &range {
            // One list, walked each time; or one list per round of the loop around it.
            Some(lists) => {
                let total: usize = lists.iter().map(|list| length(list)).sum();
                if self.depends(&loops.iter_range, scope) { total } else { total.saturating_mul(times) }
            }
            None => self.unknown_length(&loops.iter_range).saturating_mul(times),
        };
        self.spend(rounds)?;
        let elements = range.and_then(|lists| elements(&lists));
        scope.push(Bound { name: &loops.iter_var, values: elements });
        scope.push(Bound { name: &loops.accu_var, values: None });
        for part in [&loops.loop_cond, &loops.loop_step, &loops.result] {
            self.expr(part, rounds, scope)?;
        }
        scope.truncate(scope.len() - 2);
        Ok(())
    }

    /// What a call costs besides being one.
    fn call<'e>(&mut self, call: &CallExpr, times: usize, scope: &[Bound<'e, 'v>]) -> Result<(), TooMuch> {
        let long_text = self.longest.text / BYTES_OF_A_ROUND;
        let rounds = match call.func_name.as_str() {
            "matches" if times > 1 => ROUNDS_OF_A_PATTERN + long_text,
            operators::EQUALS | operators::NOT_EQUALS | operators::IN | operators::ADD => {
                let walks = |arg: &IdedExpr| !self.is_small(arg, scope);
                // The accumulated list of `map` and `filter` grows in place.
                let accumulates = call.args.iter().any(|arg| matches!(&arg.expr, Expr::List(_)));
                if call.args.iter().all(walks) && !accumulates {
                    self.longest.values + long_text
                } else {
                    long_text
                }
            }
            "matches" | "contains" | "startsWith" | "endsWith" | "string" | "bytes" | "size" => long_text,
            _ => 0,
        };
        self.spend(rounds.saturating_mul(times))
    }

    /// A literal, or values that are neither lists nor objects.
    fn is_small(&self, expr: &IdedExpr, scope: &[Bound<'_, 'v>]) -> bool {
        match &expr.expr {
            Expr::Literal(_) => true,
            _ => self.values(expr, scope).is_some_and(|values| {
                !values.iter().any(|value| matches!(value, Value::Array(_) | Value::Object(_)))
            }),
        }
    }

    fn values<'e>(&self, expr: &IdedExpr, scope: &[Bound<'e, 'v>]) -> Option<Values<'v>> {
        let Path { root, steps } = names::path(expr)?;
        let mut values = match scope.iter().rev().find(|bound| bound.name == root) {
            Some(bound) => bound.values.clone()?,
            None => {
                let root = root.trim_start_matches('.');
                vec![self.roots.iter().find(|(name, _)| name == root).map(|(_, value)| value.as_ref())?]
            }
        };
        for step in &steps {
            values = values.into_iter().filter_map(|value| below(value, step)).collect();
        }
        Some(values)
    }

    fn depends(&self, expr: &IdedExpr, scope: &[Bound<'_, 'v>]) -> bool {
        names::path(expr).is_some_and(|path| scope.iter().any(|bound| bound.name == path.root))
    }

    /// A list that is made by the expression: out of the longest one, or written down.
    fn unknown_length(&self, expr: &IdedExpr) -> usize {
        match &expr.expr {
            Expr::List(list) => list.elements.len(),
            Expr::Map(map) => map.entries.len(),
            Expr::Call(call) if call.func_name == operators::ADD => {
                call.args.iter().map(|arg| self.unknown_length(arg)).fold(0, usize::saturating_add)
            }
            Expr::Unspecified
            | Expr::Call(_)
            | Expr::Comprehension(_)
            | Expr::Ident(_)
            | Expr::Literal(_)
            | Expr::Select(_)
            | Expr::Struct(_) => self.longest.list.max(16),
        }
    }
}

impl Longest {
    fn measure(&mut self, value: &Value) {
        self.values += 1;
        match value {
            Value::String(text) => self.text = self.text.max(text.len()),
            Value::Array(list) => {
                self.list = self.list.max(list.len());
                list.iter().for_each(|element| self.measure(element));
            }
            Value::Object(object) => {
                self.list = self.list.max(object.len());
                object.values().for_each(|element| self.measure(element));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

fn length(value: &Value) -> usize {
    match value {
        Value::Array(list) => list.len(),
        Value::Object(object) => object.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// What a loop binds one after the other; `None` for the names of an object's fields.
fn elements<'v>(lists: &[&'v Value]) -> Option<Values<'v>> {
    let mut elements = Vec::new();
    for list in lists {
        match list {
            Value::Array(list) => elements.extend(list),
            Value::Object(_) => return None,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    Some(elements)
}

fn below<'v>(value: &'v Value, step: &Step) -> Option<&'v Value> {
    match step {
        Step::Field(name) => value.get(name),
        Step::Index(index) => value.get(index),
    }
}
