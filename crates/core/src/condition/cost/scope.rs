//! Which values an expression stands for in the course of its loops, found without judging it.

use cel::{
    IdedExpr,
    common::ast::{ComprehensionExpr, Expr, operators},
};
use serde_json::Value;

use super::{super::prune, Root, names};
use crate::matching::{Path, Step};

/// A list that an expression makes itself may be this long even where the body has none.
const SHORT_LIST: usize = 16;

/// What an expression stands for, one value after the other.
pub(super) type Values<'v> = Vec<&'v Value>;

/// The names that the loops around an expression bind, the innermost last.
pub(super) type Scope<'e, 'v> = Vec<Bound<'e, 'v>>;

/// A name that a loop binds; `None` where its values are not known.
pub(super) struct Bound<'e, 'v> {
    pub(super) name: &'e str,
    pub(super) values: Option<Values<'v>>,
}

/// The parts that a condition looks at.
pub(super) struct Data<'v> {
    roots: &'v [Root<'v>],
    /// How many values they are, together.
    pub(super) values: usize,
    longest_list: usize,
    /// In bytes.
    pub(super) longest_text: usize,
}

impl<'v> Data<'v> {
    pub(super) fn new(roots: &'v [Root<'v>]) -> Self {
        let (mut values, mut longest_list, mut longest_text) = (0, 0, 0);
        for root in roots {
            prune::show(root.wanted, &root.value, &mut |value| {
                values += 1;
                longest_list = longest_list.max(length(value));
                longest_text = longest_text.max(value.as_str().map_or(0, str::len));
            });
        }
        Self { roots, values, longest_list, longest_text }
    }

    /// The values of a path; `None` where they are not known.
    fn known(&self, expr: &IdedExpr, scope: &Scope<'_, 'v>) -> Option<Values<'v>> {
        let Path { root, steps } = names::path(expr)?;
        let mut values = if let Some(bound) = scope.iter().rev().find(|bound| bound.name == root) {
            bound.values.clone()?
        } else {
            let name = root.trim_start_matches('.');
            vec![self.roots.iter().find(|root| root.name == name).map(|root| root.value.as_ref())?]
        };
        for step in &steps {
            values = values.into_iter().filter_map(|value| below(value, step)).collect();
        }
        Some(values)
    }

    /// The lists that a loop walks; what `filter` leaves over is at most what it was given.
    pub(super) fn lists(&self, range: &IdedExpr, scope: &Scope<'_, 'v>) -> Option<Values<'v>> {
        match filtered(range) {
            Some(inner) => self.lists(inner, scope),
            None => self.known(range, scope),
        }
    }

    /// A literal, or values that are neither lists nor objects.
    pub(super) fn is_small(&self, expr: &IdedExpr, scope: &Scope<'_, 'v>) -> bool {
        matches!(expr.expr, Expr::Literal(_))
            || self.known(expr, scope).is_some_and(|values| values.iter().all(|value| is_simple(value)))
    }

    /// The elements that a search in `list` may look at.
    pub(super) fn searched(&self, list: &IdedExpr, scope: &Scope<'_, 'v>) -> usize {
        match self.known(list, scope) {
            Some(values) => {
                values.iter().filter_map(|value| value.as_array()).map(Vec::len).max().unwrap_or_default()
            }
            None => self.unknown_length(list),
        }
    }

    /// The values that are copied when a path becomes part of another value `times` times.
    pub(super) fn copied(&self, path: &IdedExpr, times: usize, scope: &Scope<'_, 'v>) -> usize {
        if matches!(&path.expr, Expr::Ident(name) if name.starts_with('@')) {
            return 0;
        }
        let Some(values) = self.known(path, scope) else { return self.values.saturating_mul(times) };
        let copied: usize = values.iter().filter(|value| !is_simple(value)).map(|value| count(value)).sum();
        if depends(path, scope) { copied } else { copied.saturating_mul(times) }
    }

    /// A list that is made by the expression: out of the longest one, or written down.
    pub(super) fn unknown_length(&self, expr: &IdedExpr) -> usize {
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
            | Expr::Struct(_) => self.longest_list.max(SHORT_LIST),
        }
    }
}

/// Whether a path starts at what a loop binds, so that its values are one per round.
pub(super) fn depends(expr: &IdedExpr, scope: &Scope<'_, '_>) -> bool {
    match filtered(expr) {
        Some(inner) => depends(inner, scope),
        None => names::path(expr).is_some_and(|path| scope.iter().any(|bound| bound.name == path.root)),
    }
}

pub(super) fn total_length(lists: &[&Value]) -> usize {
    lists.iter().map(|list| length(list)).sum()
}

/// What a loop binds one after the other; `None` for the names of an object's fields.
pub(super) fn elements<'v>(lists: &[&'v Value]) -> Option<Values<'v>> {
    if lists.iter().any(|list| list.is_object()) {
        return None;
    }
    Some(lists.iter().filter_map(|list| list.as_array()).flatten().collect())
}

/// What `filter` was given, if the expression is one.
fn filtered(expr: &IdedExpr) -> Option<&IdedExpr> {
    let Expr::Comprehension(loops) = &expr.expr else { return None };
    let ComprehensionExpr { iter_range, iter_var, loop_step, .. } = loops.as_ref();
    let Expr::Call(step) = &loop_step.expr else { return None };
    let (operators::CONDITIONAL, [_, kept, _]) = (step.func_name.as_str(), step.args.as_slice()) else {
        return None;
    };
    let Expr::Call(kept) = &kept.expr else { return None };
    let Expr::List(list) = &kept.args.last()?.expr else { return None };
    let is_element = matches!(&list.elements.first()?.expr, Expr::Ident(name) if name == iter_var);
    is_element.then_some(iter_range)
}

fn is_simple(value: &Value) -> bool {
    !value.is_array() && !value.is_object()
}

fn length(value: &Value) -> usize {
    match value {
        Value::Array(list) => list.len(),
        Value::Object(object) => object.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn count(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(count).sum::<usize>(),
        Value::Object(object) => 1 + object.values().map(count).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

fn below<'v>(value: &'v Value, step: &Step) -> Option<&'v Value> {
    match step {
        Step::Field(name) => value.get(name),
        Step::Index(index) => value.get(index),
    }
}
