//! One layer of the configuration: what it says, and where it says it.

use toml::{
    Spanned, Table, Value,
    de::{DeTable, DeValue},
};

use super::{Keys, Layer};
use crate::trigger::Problem;

pub(super) struct Source<'a> {
    /// What a message names when the problem is not in the operator's file.
    origin: &'a str,
    content: Content<'a>,
}

enum Content<'a> {
    File { text: &'a str, document: DeTable<'a> },
    Variable { keys: Keys, value: Value, text: &'a str },
}

impl<'a> Source<'a> {
    pub(super) fn of_file(layer: Layer<'a>) -> Result<Self, Vec<Problem>> {
        let (document, errors) = DeTable::parse_recoverable(layer.text);
        if errors.is_empty() {
            let content = Content::File { text: layer.text, document: document.into_inner() };
            return Ok(Self { origin: layer.origin, content });
        }
        let problems = Problem::of_syntax(layer.text, &errors);
        Err(problems.into_iter().map(|problem| problem.from(layer.origin)).collect())
    }

    /// One layer per variable. A name stands for a key in any case; keys that a lower layer has in
    /// another case keep theirs.
    pub(super) fn of_environment(prefix: &str, pairs: &'a [(String, String)], below: &[Self]) -> Vec<Self> {
        let mut sources: Vec<Self> = pairs
            .iter()
            .filter_map(|(name, text)| {
                let names: Vec<&str> = name.strip_prefix(prefix)?.strip_prefix("__")?.split("__").collect();
                let content =
                    Content::Variable { keys: known_keys(&names, below), value: as_toml(text), text };
                Some(Self { origin: name, content })
            })
            .collect();
        sources.sort_by_key(|source| source.origin);
        sources
    }

    pub(super) fn origin(&self) -> &'a str {
        self.origin
    }

    pub(super) fn is_environment(&self) -> bool {
        matches!(self.content, Content::Variable { .. })
    }

    /// Whether the layer says something at `keys`.
    pub(super) fn has(&self, keys: &[String]) -> bool {
        match &self.content {
            Content::File { document, .. } => place(document, keys).is_some(),
            Content::Variable { keys: own, .. } => own.as_slice() == keys,
        }
    }

    pub(super) fn merge_into(
        &self,
        merged: &mut Table,
        refused: impl Fn(&[String]) -> bool,
        as_text: impl Fn(&[String]) -> bool,
    ) {
        match &self.content {
            Content::File { document, .. } => merge(merged, document, &mut Vec::new(), &refused),
            Content::Variable { keys, .. } if refused(keys) => {}
            Content::Variable { keys, value, text } => {
                let value = if as_text(keys) { Value::String((*text).to_owned()) } else { value.clone() };
                put(merged, keys, value);
            }
        }
    }

    pub(super) fn problem(
        &self,
        keys: &[String],
        on_key: bool,
        message: String,
        help: Option<String>,
    ) -> Problem {
        let problem = match &self.content {
            Content::File { text, document } => {
                let span = place(document, keys).map(|(key, value)| if on_key { key } else { value });
                Problem::at(text, span.unwrap_or(0..0), message, help)
            }
            Content::Variable { .. } => Problem::placeless(message, help),
        };
        problem.from(self.origin)
    }
}

type Place = (std::ops::Range<usize>, std::ops::Range<usize>);

/// Where the key and the value at `keys` stand.
fn place(document: &DeTable<'_>, keys: &[String]) -> Option<Place> {
    let (last, parents) = keys.split_last()?;
    let mut table = document;
    for key in parents {
        table = table.get(key.as_str())?.get_ref().as_table()?;
    }
    let (key, value) = table.get_key_value(last.as_str())?;
    Some((key.span(), value.span()))
}

fn merge(merged: &mut Table, from: &DeTable<'_>, keys: &mut Keys, refused: &impl Fn(&[String]) -> bool) {
    for (key, value) in from {
        keys.push(key.get_ref().to_string());
        if !refused(keys) {
            merge_one(merged, value, keys, refused);
        }
        keys.pop();
    }
}

fn merge_one(
    merged: &mut Table,
    value: &Spanned<DeValue<'_>>,
    keys: &mut Keys,
    refused: &impl Fn(&[String]) -> bool,
) {
    let Some(key) = keys.last().cloned() else { return };
    match (value.get_ref(), merged.get_mut(&key)) {
        (DeValue::Table(below), Some(Value::Table(there))) => merge(there, below, keys, refused),
        (DeValue::Table(below), _) => {
            let mut table = Table::new();
            merge(&mut table, below, keys, refused);
            merged.insert(key, Value::Table(table));
        }
        (other, _) => {
            merged.insert(key, to_value(other));
        }
    }
}

fn put(merged: &mut Table, keys: &[String], value: Value) {
    let Some((key, below)) = keys.split_first() else { return };
    if below.is_empty() {
        merged.insert(key.clone(), value);
        return;
    }
    let entry = merged.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()));
    if !entry.is_table() {
        *entry = Value::Table(Table::new());
    }
    if let Value::Table(table) = entry {
        put(table, below, value);
    }
}

fn to_value(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Value::Integer(number),
            // Too large for TOML: the text says so in the message that follows.
            Err(_) => Value::String(integer.as_str().to_owned()),
        },
        DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(boolean) => Value::Boolean(*boolean),
        DeValue::Datetime(datetime) => Value::Datetime(*datetime),
        DeValue::Array(list) => {
            Value::Array(list.iter().map(|element| to_value(element.get_ref())).collect())
        }
        DeValue::Table(table) => Value::Table(
            table.iter().map(|(key, value)| (key.get_ref().to_string(), to_value(value.get_ref()))).collect(),
        ),
    }
}

fn known_keys(names: &[&str], below: &[Source<'_>]) -> Keys {
    let mut keys = Keys::new();
    for name in names {
        let same = below.iter().find_map(|source| match &source.content {
            Content::File { document, .. } => key_like(document, &keys, name),
            Content::Variable { .. } => None,
        });
        keys.push(same.unwrap_or_else(|| name.to_ascii_lowercase()));
    }
    keys
}

fn key_like(document: &DeTable<'_>, parents: &[String], name: &str) -> Option<String> {
    let mut table = document;
    for key in parents {
        table = table.get(key.as_str())?.get_ref().as_table()?;
    }
    table.keys().map(Spanned::get_ref).find(|key| key.eq_ignore_ascii_case(name)).map(ToString::to_string)
}

fn as_toml(text: &str) -> Value {
    DeValue::parse(text).map_or_else(|_| Value::String(text.to_owned()), |value| to_value(value.get_ref()))
}
