//! What conditions and templates can look at, under the names that they use for it.

use std::{borrow::Cow, fmt};

use serde_json::{Map, Value, json};

use super::body::{self, Body};
use crate::event::{Event, FileFacts};

/// The names under which a condition or a template finds something.
pub const ROOTS: [&str; 5] = ["body", "headers", "query", "event", "file"];

/// What conditions and templates look at.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub event: &'a Event,
    pub body: &'a Body,
    pub file: Option<&'a FileFacts>,
}

/// Characters of a text that a message quotes.
const MAX_QUOTED: usize = 60;

/// Where a value is: `body.commits[0].id`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Path {
    pub(crate) root: String,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Field(String),
    Index(usize),
}

/// There is no value at a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Missing(String);

impl<'a> Facts<'a> {
    /// The value under one of [`ROOTS`]; null under any other name.
    pub(crate) fn root(&self, name: &str) -> Cow<'a, Value> {
        match name {
            "body" => match self.body {
                Body::Json(value) | Body::Form(value) => Cow::Borrowed(value),
                Body::Text(text) => Cow::Owned(Value::String(text.clone())),
                Body::Bytes | Body::Empty => Cow::Owned(Value::Null),
            },
            "headers" => Cow::Owned(self.headers()),
            "query" => {
                let query = self.event.query.as_deref().unwrap_or_default();
                Cow::Owned(Value::Object(body::fields(query.as_bytes()).unwrap_or_default()))
            }
            "event" => Cow::Owned(self.attributes()),
            "file" => Cow::Owned(serde_json::to_value(self.file).unwrap_or_default()),
            _ => Cow::Owned(Value::Null),
        }
    }

    /// The value at `path`, or which step of it finds nothing.
    pub(crate) fn find(&self, path: &Path) -> Result<Cow<'a, Value>, Missing> {
        match self.root(&path.root) {
            Cow::Borrowed(value) => walk(value, path).map(Cow::Borrowed),
            Cow::Owned(value) => walk(&value, path).cloned().map(Cow::Owned),
        }
    }

    /// Names are in lower case; repeated ones are joined as HTTP joins them.
    fn headers(&self) -> Value {
        let mut headers = Map::new();
        for (name, value) in &self.event.headers {
            let name = name.to_ascii_lowercase();
            if let Some(Value::String(before)) = headers.get_mut(&name) {
                before.push_str(", ");
                before.push_str(value);
            } else {
                headers.insert(name, Value::String(value.clone()));
            }
        }
        Value::Object(headers)
    }

    fn attributes(&self) -> Value {
        let Event { id, event_type, source, subject, time, received_at, replay_of, sender, .. } = self.event;
        json!({
            "id": id, "type": event_type, "source": source, "subject": subject, "time": time,
            "received_at": received_at, "replay_of": replay_of, "sender": sender,
        })
    }
}

pub(crate) fn walk<'v>(root: &'v Value, path: &Path) -> Result<&'v Value, Missing> {
    let mut value = root;
    for (n, step) in path.steps.iter().enumerate() {
        value = step.of(value).ok_or_else(|| {
            let parent = Prefix { path, steps: n };
            Missing(match (step, value) {
                (Step::Field(field), Value::Object(_)) => format!("{parent} has no field {field:?}"),
                (Step::Index(index), Value::Array(list)) => {
                    format!("{parent} has no element {index}: it has {}", list.len())
                }
                (Step::Field(field), _) => format!("{parent} is {}, it has no field {field:?}", kind(value)),
                (Step::Index(_), _) => format!("{parent} is {}, it has no elements", kind(value)),
            })
        })?;
    }
    Ok(value)
}

impl Step {
    fn of<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        match (self, value) {
            (Self::Field(field), Value::Object(object)) => object.get(field),
            (Self::Index(index), Value::Array(list)) => list.get(*index),
            (Self::Field(_) | Self::Index(_), _) => None,
        }
    }
}

/// A value for a message: quoted when it is simple and short, otherwise only what it is.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) if text.chars().count() <= MAX_QUOTED => format!("{text:?}"),
        Value::String(text) => format!("{:?}..", text.chars().take(MAX_QUOTED).collect::<String>()),
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(_) => kind(value).to_owned(),
    }
}

/// `a text`, `null`: what a value is.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

struct Prefix<'p> {
    path: &'p Path,
    steps: usize,
}

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path.root)?;
        for step in self.path.steps.iter().take(self.steps) {
            match step {
                Step::Field(field) if plain(field) => write!(f, ".{field}")?,
                Step::Field(field) => write!(f, "[{field:?}]")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Prefix { path: self, steps: self.steps.len() }.fmt(f)
    }
}

fn plain(field: &str) -> bool {
    !field.is_empty() && field.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
