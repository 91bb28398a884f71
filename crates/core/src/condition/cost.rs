//! How much a condition would walk, before it walks it: CEL has no budget of its own, and a nested
//! `all` over a body of 49 KB took 55 seconds.
//!
//! The unit is one round of a loop. Work that grows with the data without being a loop is counted in
//! rounds, too: a list that `in` searches, a list or an object that is copied, long texts. Where the expression
//! does not say which list it walks, the longest one of the body stands for it.

mod scope;

use std::borrow::Cow;

use cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, operators},
};
use scope::{Bound, Data, Scope, Values};
use serde_json::Value;

use super::{names, network, pattern};
use crate::matching::Wanted;

/// Rounds, at most.
pub(super) const MAX_ROUNDS: usize = 100_000;

/// Bytes of text that are compared or searched in the time of one round.
const BYTES_OF_A_ROUND: usize = 4096;

/// The same for a pattern.
const PATTERN_BYTES_OF_A_ROUND: usize = 256;

/// More than [`MAX_ROUNDS`].
pub(super) struct TooMuch;

/// One of the names that a condition looks at, what is there, and which parts of it are wanted.
pub(super) struct Root<'v> {
    pub(super) name: &'v str,
    pub(super) value: Cow<'v, Value>,
    pub(super) wanted: &'v Wanted,
}

pub(super) struct Meter<'v> {
    data: Data<'v>,
    rounds: usize,
}

/// Whether a value is only looked at, or becomes part of another one.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    Look,
    Copy,
}

impl<'v> Meter<'v> {
    pub(super) fn new(roots: &'v [Root<'v>]) -> Self {
        Self { data: Data::new(roots), rounds: 0 }
    }

    pub(super) fn add(&mut self, expr: &IdedExpr) -> Result<(), TooMuch> {
        self.expr(expr, 1, Use::Look, &mut Vec::new())
    }

    fn spend(&mut self, rounds: usize, times: usize) -> Result<(), TooMuch> {
        self.rounds = self.rounds.saturating_add(rounds.saturating_mul(times));
        if self.rounds > MAX_ROUNDS { Err(TooMuch) } else { Ok(()) }
    }

    /// `times` is how often the expression is judged.
    fn expr<'e>(
        &mut self,
        expr: &'e IdedExpr,
        times: usize,
        use_: Use,
        scope: &mut Scope<'e, 'v>,
    ) -> Result<(), TooMuch> {
        if names::path(expr).is_some() {
            return match use_ {
                Use::Look => Ok(()),
                Use::Copy => self.spend(self.data.copied(expr, times, scope), 1),
            };
        }
        match &expr.expr {
            Expr::Call(call) => self.call(call, times, scope),
            Expr::Comprehension(loops) => self.comprehension(loops, times, scope),
            Expr::Select(select) => self.expr(&select.operand, times, Use::Look, scope),
            Expr::List(list) => {
                list.elements.iter().try_for_each(|part| self.expr(part, times, Use::Copy, scope))
            }
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.expr(&entry.key, times, Use::Copy, scope)?;
                    self.expr(&entry.value, times, Use::Copy, scope)
                }
                EntryExpr::StructField(field) => self.expr(&field.value, times, Use::Copy, scope),
            }),
            Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) | Expr::Struct(_) => Ok(()),
        }
    }

    fn comprehension<'e>(
        &mut self,
        loops: &'e ComprehensionExpr,
        times: usize,
        scope: &mut Scope<'e, 'v>,
    ) -> Result<(), TooMuch> {
        self.expr(&loops.iter_range, times, Use::Look, scope)?;
        self.expr(&loops.accu_init, times, Use::Copy, scope)?;
        let lists = self.data.lists(&loops.iter_range, scope);
        let rounds = match &lists {
            // One list per round of the loop around it, or one list that is walked each time.
            Some(lists) if scope::depends(&loops.iter_range, scope) => scope::total_length(lists),
            Some(lists) => scope::total_length(lists).saturating_mul(times),
            None => self.data.unknown_length(&loops.iter_range).saturating_mul(times),
        };
        self.spend(rounds, 1)?;
        let values: Option<Values<'v>> = lists.and_then(|lists| scope::elements(&lists));
        scope.push(Bound { name: &loops.iter_var, values });
        scope.push(Bound { name: &loops.accu_var, values: None });
        for part in [&loops.loop_cond, &loops.loop_step, &loops.result] {
            self.expr(part, rounds, Use::Look, scope)?;
        }
        scope.truncate(scope.len() - 2);
        Ok(())
    }

    fn call<'e>(
        &mut self,
        call: &'e CallExpr,
        times: usize,
        scope: &mut Scope<'e, 'v>,
    ) -> Result<(), TooMuch> {
        let text = self.data.longest_text;
        let use_ = match call.func_name.as_str() {
            operators::ADD if accumulates(call) => Use::Look,
            operators::ADD | operators::CONDITIONAL => Use::Copy,
            _ if call.target.is_some() && call.func_name.starts_with("of") => Use::Copy,
            _ => Use::Look,
        };
        let rounds = match call.func_name.as_str() {
            network::APPLY => network::count(call.args.last()),
            operators::IN => call.args.last().map_or(0, |list| self.data.searched(list, scope)),
            operators::EQUALS | operators::NOT_EQUALS
                if !call.args.iter().any(|arg| self.data.is_small(arg, scope)) =>
            {
                self.data.values
            }
            _ => 0,
        };
        let reading = match call.func_name.as_str() {
            pattern::APPLY => text / PATTERN_BYTES_OF_A_ROUND,
            operators::EQUALS | operators::NOT_EQUALS if call.args.iter().any(is_literal) => 0,
            operators::EQUALS | operators::NOT_EQUALS | operators::ADD | operators::IN => {
                text / BYTES_OF_A_ROUND
            }
            "contains" | "startsWith" | "endsWith" | "string" | "bytes" | "size" => text / BYTES_OF_A_ROUND,
            _ => 0,
        };
        self.spend(rounds.saturating_add(reading), times)?;
        let mut parts = call.target.iter().map(AsRef::as_ref).chain(&call.args);
        parts.try_for_each(|part| self.expr(part, times, use_, scope))
    }
}

/// `@result + [x]`, as `map` and `filter` do: the list grows in place.
fn accumulates(call: &CallExpr) -> bool {
    matches!(call.args.first().map(|first| &first.expr), Some(Expr::Ident(name)) if name.starts_with('@'))
}

fn is_literal(expr: &IdedExpr) -> bool {
    matches!(expr.expr, Expr::Literal(_))
}
