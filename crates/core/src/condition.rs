//! `when`: a condition in CEL over `body`, `headers`, `query`, `event` and `file`.
//!
//! A condition is compiled once, with its names checked, and judged often. CEL's types stay inside this
//! module. It never runs away: the source is short, loops nest little, and what they would walk is
//! measured ([`cost`]) before they do.

mod cost;
mod names;
mod pattern;
mod prune;
mod source;

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock},
};

use cel::{Context, Env, ExecutionError, Program, Value};
use regex::Regex;

use crate::matching::{Facts, Path, Wanted, describe};

/// Bytes of source, at most.
const MAX_SOURCE: usize = 4096;

/// Brackets inside each other, at most.
const MAX_BRACKETS: usize = 32;

/// Bytes of stack for the parser, of which the system provides only those that are touched.
const PARSER_STACK: usize = 64 * 1024 * 1024;

/// Values that a reason quotes.
const MAX_QUOTED: usize = 3;

/// Characters of an error message that CEL makes out of values.
const MAX_MESSAGE: usize = 300;

/// CEL's own functions: a constant that is slow to build.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    // Fails only for a name that is taken, and a test would see it.
    let declared = pattern::declare(&mut env);
    debug_assert_eq!(declared, Ok(()));
    Arc::new(env)
});

/// A compiled condition.
#[derive(Clone)]
pub struct Condition(Arc<Compiled>);

struct Compiled {
    source: String,
    clauses: Vec<Clause>,
    /// What all clauses together look at, by root.
    wanted: BTreeMap<String, Wanted>,
    patterns: pattern::Patterns,
}

/// One of the parts that `&&` joins.
struct Clause {
    source: String,
    program: Program,
    paths: Vec<Path>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    Yes,
    /// With the reason: a clause that was false, or a field that was missing.
    No(String),
    TooCostly(String),
    Error(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConditionError {
    pub message: String,
    /// Byte offset in the source.
    pub offset: Option<usize>,
}

impl Condition {
    /// Compiles; the error says what is wrong and, if known, at which byte of `source`.
    pub fn compile(source: &str) -> Result<Self, ConditionError> {
        if source.len() > MAX_SOURCE {
            let message =
                format!("a condition has at most {MAX_SOURCE} bytes, this one has {}", source.len());
            return Err(ConditionError { message, offset: None });
        }
        if let Some(offset) = source::too_deep(source, MAX_BRACKETS) {
            let message = format!("brackets may be nested {MAX_BRACKETS} deep, not more");
            return Err(ConditionError { message, offset: Some(offset) });
        }
        on_deep_stack(|| Compiled::of(source))
            .unwrap_or_else(|| Err(ConditionError { message: "this is no CEL".to_owned(), offset: None }))
            .map(|compiled| Self(Arc::new(compiled)))
    }

    #[must_use]
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Whether judging it may walk over lists: then it can take a while. Told by its text, so that a name within
    /// quotes counts too.
    #[must_use]
    pub fn may_loop(&self) -> bool {
        ["all", "exists", "exists_one", "filter", "map"].iter().any(|name| self.0.source.contains(name))
    }

    /// What it looks at below one of [`crate::matching::ROOTS`].
    #[must_use]
    pub fn wants(&self, root: &str) -> Option<&Wanted> {
        self.0.wanted.get(root)
    }

    pub fn judge(&self, facts: &Facts<'_>) -> Judgement {
        // The evaluator is a third party's; a panic in it must not take the ingress down.
        catch_unwind(AssertUnwindSafe(|| self.judge_bounded(facts))).unwrap_or_else(|_| {
            Judgement::Error("the condition could not be judged: CEL panicked".to_owned())
        })
    }

    fn judge_bounded(&self, facts: &Facts<'_>) -> Judgement {
        let roots: Vec<cost::Root<'_>> = self
            .0
            .wanted
            .iter()
            .map(|(name, wanted)| cost::Root { name, value: facts.root(name), wanted })
            .collect();
        let mut meter = cost::Meter::new(&roots);
        if self.0.clauses.iter().any(|clause| meter.add(clause.program.expression()).is_err()) {
            return Judgement::TooCostly(format!(
                "the condition would walk more than {} rounds",
                cost::MAX_ROUNDS
            ));
        }
        let mut context = Context::with_env(Arc::clone(&ENV));
        for cost::Root { name, value, wanted } in &roots {
            let Ok(value) = prune::converted(wanted, value) else {
                return Judgement::TooCostly(format!("the condition looks at too many values of {name}"));
            };
            context.add_variable_from_value(*name, value);
        }
        if let Err(error) = self.0.patterns.provide(&mut context) {
            return Judgement::Error(error.to_string());
        }
        self.judge_clauses(&context, facts)
    }

    /// As CEL's `&&` does: one clause that is false decides, whatever is wrong with another.
    fn judge_clauses(&self, context: &Context<'_, '_>, facts: &Facts<'_>) -> Judgement {
        let mut trouble = None;
        for clause in &self.0.clauses {
            match clause.program.execute(context) {
                Ok(Value::Bool(true)) => {}
                Ok(Value::Bool(false)) => return Judgement::No(clause.is_false(facts)),
                Ok(other) => {
                    let message =
                        format!("{} is neither true nor false but {}", clause.source, other.type_of());
                    trouble.get_or_insert(Judgement::Error(message));
                }
                Err(error) => {
                    trouble.get_or_insert_with(|| clause.trouble(&error, facts));
                }
            }
        }
        trouble.unwrap_or(Judgement::Yes)
    }
}

impl Compiled {
    fn of(source: &str) -> Result<Self, ConditionError> {
        let (whole, patterns) = Clause::compile(source)?;
        let mut wanted: BTreeMap<String, Wanted> = BTreeMap::new();
        for path in &whole.paths {
            wanted.entry(path.root.clone()).or_default().add(path);
        }
        let parts: Result<Vec<Clause>, _> = source::clauses(source)
            .into_iter()
            .map(|part| Clause::compile(part).map(|(clause, _)| clause))
            .collect();
        let clauses = parts.unwrap_or_else(|_| vec![whole]);
        Ok(Self { source: source.to_owned(), clauses, wanted, patterns: pattern::Patterns::new(patterns) })
    }
}

/// CEL's parser needs much stack (16 nested brackets overflow the usual 2 MiB in a debug build), and an
/// overflow cannot be caught. `None` after a panic in it.
fn on_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(PARSER_STACK).spawn_scoped(scope, work);
        thread.ok().and_then(|thread| thread.join().ok())
    })
}

impl Clause {
    fn compile(source: &str) -> Result<(Self, BTreeMap<String, Regex>), ConditionError> {
        let program = ENV.compile(source).map_err(|errors| syntax_error(source, &errors))?;
        let names = names::read(program.expression()).map_err(|complaint| ConditionError {
            offset: program
                .source_info()
                .offset_for(complaint.expr_id)
                .and_then(|(start, _)| usize::try_from(start).ok()),
            message: complaint.message,
        })?;
        Ok((Self { source: source.to_owned(), program, paths: names.paths }, names.patterns))
    }

    fn is_false(&self, facts: &Facts<'_>) -> String {
        let mut values: Vec<String> = Vec::new();
        for path in &self.paths {
            let Ok(value) = facts.find(path) else { continue };
            let said = format!("{path} is {}", describe(&value));
            if !values.contains(&said) && values.len() < MAX_QUOTED {
                values.push(said);
            }
        }
        let colon = if values.is_empty() { "" } else { ": " };
        format!("{} is false{colon}{}", self.source, values.join(", "))
    }

    /// A field that is not there is an answer; anything else is an error.
    fn trouble(&self, error: &ExecutionError, facts: &Facts<'_>) -> Judgement {
        let missing =
            self.paths.iter().find_map(|path| facts.find(path).err().map(|missing| missing.to_string()));
        let missing = missing.or_else(|| {
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
            None => Judgement::Error(format!("{}: {}", self.source, shorten(&error.to_string()))),
        }
    }
}

/// CEL's message without its picture and its long list of tokens.
fn syntax_error(source: &str, errors: &cel::ParseErrors) -> ConditionError {
    let Some(first) = errors.errors.first() else {
        return ConditionError { message: "this is no CEL".to_owned(), offset: None };
    };
    let message = first.msg.split(" expecting {").next().unwrap_or_default();
    let message = message.trim_start_matches("Syntax error: ").replace("<EOF>", "the end");
    ConditionError { message: shorten(&message), offset: byte_of_position(source, first.pos) }
}

/// Lines and columns count from 1, columns in characters.
fn byte_of_position(source: &str, (line, column): (isize, isize)) -> Option<usize> {
    let line = usize::try_from(line).ok()?.checked_sub(1)?;
    let column = usize::try_from(column).ok()?.saturating_sub(1);
    let start: usize = source.split_inclusive('\n').take(line).map(str::len).sum();
    let within = byte_of_char(source.get(start..)?, column)?;
    Some(start + within)
}

fn byte_of_char(source: &str, index: usize) -> Option<usize> {
    source.char_indices().map(|(at, _)| at).chain([source.len()]).nth(index)
}

fn shorten(message: &str) -> String {
    match message.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}..", &message[..end]),
        None => message.to_owned(),
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.0.source).finish()
    }
}

#[cfg(test)]
mod tests;
