//! `when`: a condition in CEL over `body`, `headers`, `query`, `event` and `file`.
//!
//! A condition is compiled once, with its names checked, and judged often. CEL's types stay inside this
//! module. It never runs away: the source is short, loops nest little, and what they would walk is
//! measured ([`cost`]) before they do.

mod clause;
mod cost;
mod names;
mod network;
mod pattern;
mod prune;
mod source;

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock},
};

use cel::{Context, Env};
use clause::{Answer, Clause};
use names::Names;

use crate::{
    event,
    matching::{Facts, Wanted},
};

/// Bytes of source, at most.
const MAX_SOURCE: usize = 4096;

/// Brackets inside each other, at most.
const MAX_BRACKETS: usize = 32;

/// Bytes of stack for the parser, of which the system provides only those that are touched.
const PARSER_STACK: usize = 64 * 1024 * 1024;

/// Clauses that are kept with each event; those that did not hold come first.
const MAX_CLAUSES: usize = 16;

/// Characters of an error message that CEL makes out of values.
const MAX_MESSAGE: usize = 300;

/// CEL's own functions: a constant that is slow to build.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    // Fails only for a name that is taken, and a test would see it.
    let declared = pattern::declare(&mut env).and_then(|()| network::declare(&mut env));
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
    networks: network::Networks,
}

/// A judgement, and what it was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub judgement: Judgement,
    /// In their order, unless there are too many to be kept; none where it came to no judgement.
    pub clauses: Vec<event::Clause>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    Yes,
    /// With the reason: a clause that was false, or a field that was missing.
    No(String),
    TooCostly(String),
    Error(String),
}

impl Judgement {
    /// Why not, in a sentence.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Yes => None,
            Self::No(reason) | Self::TooCostly(reason) | Self::Error(reason) => Some(reason),
        }
    }
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

    pub fn judge(&self, facts: &Facts<'_>) -> Finding {
        // The evaluator is a third party's; a panic in it must not take the ingress down.
        catch_unwind(AssertUnwindSafe(|| self.judge_bounded(facts))).unwrap_or_else(|_| {
            Judgement::Error("the condition could not be judged: CEL panicked".to_owned()).into()
        })
    }

    fn judge_bounded(&self, facts: &Facts<'_>) -> Finding {
        let roots: Vec<cost::Root<'_>> = self
            .0
            .wanted
            .iter()
            .map(|(name, wanted)| cost::Root { name, value: facts.root(name), wanted })
            .collect();
        let mut meter = cost::Meter::new(&roots);
        if self.0.clauses.iter().any(|clause| meter.add(clause.program.expression()).is_err()) {
            let reason = format!("the condition would walk more than {} rounds", cost::MAX_ROUNDS);
            return Judgement::TooCostly(reason).into();
        }
        let mut context = Context::with_env(Arc::clone(&ENV));
        for cost::Root { name, value, wanted } in &roots {
            let Ok(value) = prune::converted(wanted, value) else {
                let reason = format!("the condition looks at too many values of {name}");
                return Judgement::TooCostly(reason).into();
            };
            context.add_variable_from_value(*name, value);
        }
        let provided = self.0.patterns.provide(&mut context);
        if let Err(error) = provided.and_then(|()| self.0.networks.provide(&mut context)) {
            return Judgement::Error(error.to_string()).into();
        }
        self.judge_clauses(&context, &roots)
    }

    /// As CEL's `&&` does: one clause that is false decides, whatever is wrong with another. The others are judged all
    /// the same: who asks why is told of each.
    fn judge_clauses(&self, context: &Context<'_, '_>, roots: &[cost::Root<'_>]) -> Finding {
        let (mut no, mut trouble) = (None, None);
        let mut clauses = Vec::with_capacity(self.0.clauses.len());
        for clause in &self.0.clauses {
            let answer = clause.judge(context, roots);
            clauses.push(clause.told(&answer, roots));
            match answer {
                Answer::Holds => {}
                Answer::IsFalse => no = no.or_else(|| Some(Judgement::No(clause.is_false(roots)))),
                Answer::Trouble(judgement) => trouble = trouble.or(Some(judgement)),
            }
        }
        let judgement = no.or(trouble).unwrap_or(Judgement::Yes);
        Finding { judgement, clauses: kept(clauses) }
    }
}

impl Compiled {
    fn of(source: &str) -> Result<Self, ConditionError> {
        let (whole, names) = compile_clause(source)?;
        let mut wanted: BTreeMap<String, Wanted> = BTreeMap::new();
        for path in &whole.paths {
            wanted.entry(path.root.clone()).or_default().add(path);
        }
        let parts: Result<Vec<Clause>, _> = source::clauses(source)
            .into_iter()
            .map(|part| compile_clause(part).map(|(clause, _)| clause))
            .collect();
        Ok(Self {
            source: source.to_owned(),
            clauses: parts.unwrap_or_else(|_| vec![whole]),
            wanted,
            patterns: pattern::Patterns::new(names.patterns),
            networks: network::Networks::new(names.networks),
        })
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

/// Without the names' paths, which go with the clause.
fn compile_clause(source: &str) -> Result<(Clause, Names), ConditionError> {
    let program = ENV.compile(source).map_err(|errors| syntax_error(source, &errors))?;
    let mut names = names::read(program.expression()).map_err(|complaint| ConditionError {
        offset: program
            .source_info()
            .offset_for(complaint.expr_id)
            .and_then(|(start, _)| usize::try_from(start).ok()),
        message: complaint.message,
    })?;
    let paths = std::mem::take(&mut names.paths);
    Ok((Clause { source: source.to_owned(), program, paths }, names))
}

/// As many as an event keeps; of too many those that say most.
fn kept(mut clauses: Vec<event::Clause>) -> Vec<event::Clause> {
    if clauses.len() > MAX_CLAUSES {
        clauses.sort_by_key(|clause| clause.held);
        clauses.truncate(MAX_CLAUSES);
    }
    clauses
}

impl From<Judgement> for Finding {
    fn from(judgement: Judgement) -> Self {
        Self { judgement, clauses: Vec::new() }
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
