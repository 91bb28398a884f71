//! `matches("..")`: CEL compiles a pattern each time that it applies it, which takes milliseconds
//! for some. Here each is compiled once, with the condition, and a bad one is refused then.

use std::{collections::BTreeMap, sync::Arc};

use cel::{
    Context, DeclarationError, Env, IdedExpr,
    common::ast::{CallExpr, Expr, LiteralValue},
    parser::Macro,
};
use regex::{Regex, RegexBuilder};

/// What `matches` is compiled to: a name that nobody can write.
pub(super) const APPLY: &str = "@matches";

/// Bytes of a compiled pattern, at most.
const MAX_PATTERN: usize = 1024 * 1024;

/// The patterns of one condition, by their source.
#[derive(Debug, Clone, Default)]
pub(super) struct Patterns(Arc<BTreeMap<String, Regex>>);

/// Rewrites both forms of `matches` in everything that `env` compiles.
pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    let apply =
        |args: Vec<IdedExpr>| Expr::Call(CallExpr { func_name: APPLY.to_owned(), target: None, args });
    env.add_macro(Macro::receiver("matches", 1, move |helper, target, args| {
        let call = apply(target.take().into_iter().chain(args.drain(..)).collect());
        Ok(Some(helper.next_expr(call)))
    }))?;
    env.add_macro(Macro::global("matches", 2, move |helper, _, args| {
        let call = apply(std::mem::take(args));
        Ok(Some(helper.next_expr(call)))
    }))
}

/// A pattern out of the payload would make this server compile what a stranger wrote.
pub(super) fn compile(arg: Option<&IdedExpr>) -> Result<(String, Regex), String> {
    let Some(Expr::Literal(LiteralValue::String(source))) = arg.map(|arg| &arg.expr) else {
        return Err("the pattern of matches() must be a quoted text".to_owned());
    };
    let source = source.inner();
    match RegexBuilder::new(source).size_limit(MAX_PATTERN).build() {
        Ok(pattern) => Ok((source.to_owned(), pattern)),
        Err(regex::Error::CompiledTooBig(_)) => {
            Err(format!("the pattern {source:?} is too large: repeat less, or use [a-z0-9_] instead of \\w"))
        }
        Err(error) => {
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Err(format!("{source:?} is no pattern: {reason}"))
        }
    }
}

impl Patterns {
    pub(super) fn new(patterns: BTreeMap<String, Regex>) -> Self {
        Self(Arc::new(patterns))
    }

    pub(super) fn provide(&self, context: &mut Context<'_, '_>) -> Result<(), DeclarationError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let patterns = Arc::clone(&self.0);
        context.add_function(APPLY, move |text: Arc<String>, source: Arc<String>| {
            patterns.get(source.as_str()).is_some_and(|pattern| pattern.is_match(&text))
        })
    }
}
