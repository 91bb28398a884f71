//! `{{ path }}`: looks a value up, with a few filters and nothing more.
//!
//! A value reaches a process as one argv element, one environment value or standard input, never
//! as part of a shell string: [`crate::trigger`] refuses templates where that could happen. What
//! is not a text is rendered as JSON; no value at all is an error, unless `default` is the first filter.

mod syntax;

use std::{ops::Range, sync::LazyLock};

use minijinja::{Environment, Expression, Value, context, value::Serde};
use syntax::Head;

use crate::matching::{Facts, Path};

/// What a rendered text may hold, in bytes: Linux takes no longer argument.
pub const MAX_RENDERED: usize = 128 * 1024 - 1;

const FILTERS: [&str; 10] =
    ["default", "upper", "lower", "trim", "replace", "join", "length", "basename", "tojson", "json"];

const UNCLOSED: &str = "`{{` has no closing `}}`; write {{ '{{' }} for two braces that are meant literally";

/// Steps of the filters of one template.
const FUEL: u64 = 10_000;

static FILTER_ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(filter_environment);

/// A compiled text with templates.
#[derive(Debug)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Look { path: Path, filters: Option<Filters> },
}

#[derive(Debug)]
struct Filters {
    chain: Expression<'static, 'static>,
    /// What the first one does with a value that is missing or null.
    first: First,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    TakesNothing,
    TakesNull,
    NeedsValue,
}

/// The text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    pub message: String,
    /// Bytes of the source that it points at.
    pub span: Range<usize>,
}

/// A template could not be filled: a sentence that names the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RenderError(String);

impl Template {
    /// Compiles; the errors are all that are wrong with it.
    pub fn compile(source: &str) -> Result<Self, Vec<TemplateError>> {
        let mut errors: Vec<TemplateError> = refuse_blocks(source).err().into_iter().collect();
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(found) = source[at..].find("{{") {
            let open = at + found;
            push_text(&mut parts, &source[at..open]);
            let Some(close) = hole_end(source, open + 2) else {
                errors.push(TemplateError { message: UNCLOSED.to_owned(), span: open..source.len() });
                return Err(errors);
            };
            match Part::of_hole(&source[open + 2..close], open + 2) {
                Ok(Part::Text(text)) => push_text(&mut parts, &text),
                Ok(part) => parts.push(part),
                Err(error) => errors.push(error),
            }
            at = close + 2;
        }
        push_text(&mut parts, &source[at..]);
        if errors.is_empty() { Ok(Self { parts }) } else { Err(errors) }
    }

    /// It looks nothing up: what it renders is always the same.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// What it renders begins with something from outside.
    pub(crate) fn begins_with_a_value(&self) -> bool {
        matches!(self.parts.first(), Some(Part::Look { .. }))
    }

    /// The names of [`crate::matching::ROOTS`] that it looks below.
    pub fn roots(&self) -> impl Iterator<Item = &str> {
        self.paths().map(|path| path.root.as_str())
    }

    /// What it looks up.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Look { path, .. } => Some(path),
        })
    }

    /// Whether a text stands for itself, without compiling it.
    pub(crate) fn is_plain(text: &str) -> bool {
        !text.contains(['{', '\0']) && text.len() <= MAX_RENDERED
    }

    pub fn render(&self, facts: &Facts<'_>) -> Result<String, RenderError> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Look { path, filters } => text.push_str(&look(path, filters.as_ref(), facts)?),
            }
            if text.len() > MAX_RENDERED {
                return Err(RenderError(format!(
                    "the text is longer than {MAX_RENDERED} bytes; large data is in the file \
                     that HETUFLOW_EVENT_FILE names"
                )));
            }
        }
        if text.contains('\0') {
            return Err(RenderError("the text holds a NUL byte, which no process can be given".to_owned()));
        }
        Ok(text)
    }
}

impl Part {
    /// What stands between two pairs of braces, from byte `offset` of the template on.
    fn of_hole(inner: &str, offset: usize) -> Result<Self, TemplateError> {
        let hole = syntax::hole(inner, offset)?;
        let span = offset..offset + inner.len();
        match hole.head {
            Head::Literal(text) if hole.filters.is_empty() => Ok(Self::Text(text)),
            Head::Literal(_) => {
                Err(TemplateError { message: "a quoted text takes no filter".to_owned(), span })
            }
            Head::Path(path) => {
                let filters = Filters::compile(&hole.filters, hole.chain, span)?;
                Ok(Self::Look { path, filters })
            }
        }
    }
}

fn look(path: &Path, filters: Option<&Filters>, facts: &Facts<'_>) -> Result<String, RenderError> {
    let found = facts.find(path);
    let Some(filters) = filters else {
        let value = found.map_err(|missing| RenderError(missing.to_string()))?;
        return Ok(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    };
    let value = match (found, filters.first) {
        (Err(_), First::TakesNothing) => Value::UNDEFINED,
        (Err(missing), First::TakesNull | First::NeedsValue) => return Err(RenderError(missing.to_string())),
        (Ok(value), First::NeedsValue) if value.is_null() => {
            return Err(RenderError(format!("{path} is null; put | default(\"..\") before{}", filters.text)));
        }
        (Ok(value), _) => Value::from(Serde(value.as_ref())),
    };
    filters.apply(value).map_err(|error| RenderError(format!("{path}{}: {error}", filters.text)))
}

impl Filters {
    fn compile(names: &[&str], chain: &str, span: Range<usize>) -> Result<Option<Self>, TemplateError> {
        let first = match names.first() {
            None => return Ok(None),
            Some(&"default") => First::TakesNothing,
            Some(&("tojson" | "json")) => First::TakesNull,
            Some(_) => First::NeedsValue,
        };
        let text = format!(" {}", chain.trim());
        let chain = FILTER_ENVIRONMENT
            .compile_expression_owned(format!("value{text}"))
            .map_err(|error| TemplateError { message: error.to_string(), span })?;
        Ok(Some(Self { chain, first, text }))
    }

    fn apply(&self, value: Value) -> Result<String, minijinja::Error> {
        let value = self.chain.eval(context! { value })?;
        match value.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => to_json(&value),
        }
    }
}

fn filter_environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_fuel(Some(FUEL));
    environment.add_filter(
        "default",
        |value: Value, other: Value| {
            if value.is_undefined() || value.is_none() { other } else { value }
        },
    );
    environment.add_filter("upper", |text: String| text.to_uppercase());
    environment.add_filter("lower", |text: String| text.to_lowercase());
    environment.add_filter("trim", |text: String| text.trim().to_owned());
    environment.add_filter("replace", replace);
    environment.add_filter("join", minijinja::filters::join);
    environment.add_filter("length", minijinja::filters::length);
    environment.add_filter("basename", |path: String| {
        path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
    });
    environment.add_filter("tojson", |value: Value| to_json(&value));
    environment.add_filter("json", |value: Value| to_json(&value));
    environment
}

/// Refuses to grow the text beyond what could be rendered: the pattern may be a single letter.
#[expect(clippy::needless_pass_by_value, reason = "the form of argument that a filter is called with")]
fn replace(text: String, from: String, to: String) -> Result<String, minijinja::Error> {
    let grown = text.matches(&from).count().saturating_mul(to.len());
    if grown > MAX_RENDERED {
        let message = format!("the result would be longer than {MAX_RENDERED} bytes");
        return Err(minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, message));
    }
    Ok(text.replace(&from, &to))
}

fn to_json(value: &Value) -> Result<String, minijinja::Error> {
    serde_json::to_string(value)
        .map_err(|error| minijinja::Error::new(minijinja::ErrorKind::BadSerialization, error.to_string()))
}

/// Where the `}}` of a hole is that starts at `start`; one inside quotes does not count.
fn hole_end(source: &str, start: usize) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in source.bytes().enumerate().skip(start) {
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            (None, b'}') if source[at..].starts_with("}}") => return Some(at),
            (None | Some(_), _) => {}
        }
    }
    None
}

fn refuse_blocks(source: &str) -> Result<(), TemplateError> {
    match source.split_once("{%") {
        Some((before, after)) if after.contains("%}") => Err(TemplateError {
            message: "there are no {% blocks %}: a template only looks a value up, {{ body.field }}"
                .to_owned(),
            span: before.len()..before.len() + 2,
        }),
        Some(_) | None => Ok(()),
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
}

#[cfg(test)]
mod tests;
