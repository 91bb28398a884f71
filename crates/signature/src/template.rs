//! Texts with values of a request in them: the message that a signature covers (`{timestamp}.{body}`),
//! what a hash is made of, the answer to a handshake.
//!
//! `{{` and `}}` are braces. What stands between `[?` and `?]` is left out where a value in it is missing.

use std::{borrow::Cow, fmt};

use hetuflow_core::suggest::among;
use sha2::{Digest as _, Sha256};

use crate::{
    Rejection, form,
    json::Pointer,
    place::{At, Place, Source},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
    text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    Value(Value),
    Optional(Vec<Piece>),
}

/// What a request puts into a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Body,
    Method,
    /// Absolute, as the sender knows it.
    Url,
    Path,
    Query,
    Timestamp,
    Id,
    /// The form's names and values, sorted.
    FormSorted,
    /// The form's only field.
    OnlyField(String),
    /// CRC-32 of the body, in decimal.
    Crc32,
    /// SHA-256 of the body, in hex.
    Sha256,
    At(Place),
    /// An HMAC with the secret that verified the request. For answers.
    Mac,
    /// From `[values]` of the scheme file.
    Named(String),
}

const PLAIN: [&str; 12] = [
    "body",
    "method",
    "url",
    "path",
    "query",
    "timestamp",
    "id",
    "form_sorted",
    "crc32",
    "sha256",
    "mac",
    "value:NAME",
];
const WITH_NAME: [&str; 5] = ["header:NAME", "query:NAME", "form:NAME", "only_field:NAME", "json:/POINTER"];

/// What fills a template.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filling<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) url: &'a str,
    pub(crate) timestamp: &'a str,
    pub(crate) id: &'a str,
    pub(crate) mac: &'a str,
}

pub(crate) type Parts<'a> = Vec<Cow<'a, [u8]>>;

impl Value {
    fn parse(name: &str) -> Result<Self, String> {
        let place = |at| Ok(Self::At(Place { at, cut: None }));
        match (name, name.split_once(':')) {
            ("body", _) => Ok(Self::Body),
            ("method", _) => Ok(Self::Method),
            ("url", _) => Ok(Self::Url),
            ("path", _) => Ok(Self::Path),
            ("query", _) => Ok(Self::Query),
            ("timestamp", _) => Ok(Self::Timestamp),
            ("id", _) => Ok(Self::Id),
            ("form_sorted", _) => Ok(Self::FormSorted),
            ("crc32", _) => Ok(Self::Crc32),
            ("sha256", _) => Ok(Self::Sha256),
            ("mac", _) => Ok(Self::Mac),
            (_, Some(("value", name))) => Ok(Self::Named(name.to_owned())),
            (_, Some(("header", name))) => place(At::Header(name.to_ascii_lowercase())),
            (_, Some(("query", name))) => place(At::Query(name.to_owned())),
            (_, Some(("form", name))) => place(At::Form(name.to_owned())),
            (_, Some(("only_field", name))) => Ok(Self::OnlyField(name.to_owned())),
            (_, Some(("json", pointer))) => place(At::Body(Pointer::parse(pointer)?)),
            _ => {
                let known = [&PLAIN[..], &WITH_NAME[..]].concat();
                Err(format!("{{{name}}} is not known ({})", among(name, &known)))
            }
        }
    }
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text;
        let pieces = pieces(&mut rest, text, false)?;
        Ok(Self { pieces, text: text.to_owned() })
    }

    /// `{value:NAME}` becomes the text that `named` gives.
    pub(crate) fn with_values(mut self, named: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        self.pieces.iter_mut().try_for_each(|piece| piece.set_named(&named))?;
        Ok(self)
    }

    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Every value, those in optional parts too.
    pub(crate) fn values(&self) -> Vec<&Value> {
        self.pieces.iter().flat_map(Piece::values).collect()
    }

    pub(crate) fn holds(&self, value: &Value) -> bool {
        self.values().contains(&value)
    }

    /// In parts, so that the body is not copied.
    pub(crate) fn fill<'a>(&'a self, filling: &Filling<'a>) -> Result<Parts<'a>, Rejection> {
        let mut parts = Vec::with_capacity(self.pieces.len());
        fill(&self.pieces, filling, &mut parts)?;
        Ok(parts)
    }

    /// Whether `content` can be told apart from the text that follows `value`. The body may hold anything.
    pub(crate) fn admits(&self, value: &Value, content: &str) -> bool {
        self.pieces.windows(2).all(|pair| match (&pair[0], &pair[1]) {
            (Piece::Value(found), Piece::Text(separator)) if found == value => !content.contains(separator),
            _ => true,
        })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Piece {
    fn set_named(&mut self, named: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
        match self {
            Self::Value(Value::Named(name)) => {
                let text = named(name).ok_or_else(|| format!("[values] holds no {name:?}"))?;
                *self = Self::Text(text);
                Ok(())
            }
            Self::Optional(pieces) => pieces.iter_mut().try_for_each(|piece| piece.set_named(named)),
            Self::Text(_) | Self::Value(_) => Ok(()),
        }
    }

    fn values(&self) -> Vec<&Value> {
        match self {
            Self::Text(_) => Vec::new(),
            Self::Value(value) => vec![value],
            Self::Optional(pieces) => pieces.iter().flat_map(Self::values).collect(),
        }
    }
}

/// Reads up to the end, or to the `?]` that ends an optional part.
fn pieces(rest: &mut &str, whole: &str, optional: bool) -> Result<Vec<Piece>, String> {
    let mut found = Vec::new();
    let mut text = String::new();
    loop {
        let next = rest.find(['{', '}', '[', '?']);
        let at = next.unwrap_or(rest.len());
        text.push_str(&rest[..at]);
        *rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
            text.push_str(&rest[..1]);
            *rest = after;
            continue;
        }
        let opens = rest.starts_with("[?") && !optional;
        let closes = rest.starts_with("?]") && optional;
        if !(rest.is_empty() || opens || closes || rest.starts_with(['{', '}'])) {
            text.push_str(&rest[..1]);
            *rest = &rest[1..];
            continue;
        }
        if !text.is_empty() {
            found.push(Piece::Text(std::mem::take(&mut text)));
        }
        if let Some(after) = rest.strip_prefix('{') {
            let (name, after) =
                after.split_once('}').ok_or_else(|| format!("{whole:?} lacks a closing brace"))?;
            found.push(Piece::Value(Value::parse(name)?));
            *rest = after;
        } else if rest.starts_with('}') {
            return Err(format!("{whole:?} has a closing brace too many; write }}}} for one that is meant"));
        } else if opens {
            *rest = &rest[2..];
            found.push(Piece::Optional(pieces(rest, whole, true)?));
        } else if closes {
            *rest = &rest[2..];
            return Ok(found);
        } else if optional {
            return Err(format!("{whole:?} lacks the ?] that ends its optional part"));
        } else {
            return Ok(found);
        }
    }
}

fn fill<'a>(pieces: &'a [Piece], filling: &Filling<'a>, parts: &mut Parts<'a>) -> Result<(), Rejection> {
    for piece in pieces {
        match piece {
            Piece::Text(text) => parts.push(Cow::Borrowed(text.as_bytes())),
            Piece::Value(value) => parts.push(filling.value(value)?),
            Piece::Optional(inner) => {
                let mut optional = Vec::new();
                match fill(inner, filling, &mut optional) {
                    Ok(()) => parts.append(&mut optional),
                    Err(Rejection::Missing(_)) => {}
                    Err(other) => return Err(other),
                }
            }
        }
    }
    Ok(())
}

impl<'a> Filling<'a> {
    fn value(&self, value: &'a Value) -> Result<Cow<'a, [u8]>, Rejection> {
        let request = self.source.request;
        Ok(match value {
            Value::Body => Cow::Borrowed(request.body),
            Value::Method => Cow::Borrowed(request.method.as_bytes()),
            Value::Url => Cow::Borrowed(self.url.as_bytes()),
            Value::Path => Cow::Borrowed(form::path(request.url).as_bytes()),
            Value::Query => Cow::Borrowed(form::query(request.url).as_bytes()),
            Value::Timestamp => Cow::Borrowed(self.timestamp.as_bytes()),
            Value::Id => Cow::Borrowed(self.id.as_bytes()),
            Value::FormSorted => Cow::Owned(form::sorted(request.body)),
            Value::OnlyField(name) => form::only(request.body, name).map(Cow::Owned).ok_or_else(|| {
                Rejection::Malformed(
                    "body".to_owned(),
                    format!("it is not a form with the field {name} alone"),
                )
            })?,
            Value::Crc32 => Cow::Owned(crc32fast::hash(request.body).to_string().into_bytes()),
            Value::Sha256 => Cow::Owned(hex::encode(Sha256::digest(request.body)).into_bytes()),
            Value::At(place) => {
                place.find(&self.source)?.ok_or_else(|| Rejection::Missing(place.to_string()))?
            }
            Value::Mac => Cow::Borrowed(self.mac.as_bytes()),
            // Replaced when the scheme was checked.
            Value::Named(name) => return Err(Rejection::Missing(format!("value {name}"))),
        })
    }
}
