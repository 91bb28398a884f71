//! Where a request holds a value: in a header, in its query, in a form or in JSON, or in a token's claims.

use std::{borrow::Cow, fmt};

use crate::{Rejection, Request, form, json::Pointer};

/// A longer id or event type is nobody's.
pub(crate) const MAX_VALUE: usize = 255;

/// Whether a value may go on as an id or event type: these end up in keys, columns and terminals.
pub(crate) fn is_plain(value: &str) -> bool {
    value.len() <= MAX_VALUE && !value.chars().any(char::is_control)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) at: At,
    /// Takes one item out of what is there: `t=` out of `t=17,v1=ab`.
    pub(crate) cut: Option<Cut>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum At {
    /// The header's name in lower case.
    Header(String),
    Query(String),
    Form(String),
    Body(Pointer),
    /// In the claims of the token that is the signature.
    Claim(Pointer),
    /// Several values, joined by spaces; there only where all of them are.
    All(Vec<Place>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) separator: Option<String>,
    pub(crate) prefix: String,
}

/// What places are read from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) request: Request<'a>,
    /// One item of the body, where the scheme judges each by itself; otherwise all of it.
    pub(crate) body: &'a [u8],
    /// JSON; empty where there is no token.
    pub(crate) claims: &'a [u8],
}

impl<'a> Source<'a> {
    pub(crate) const fn of(request: Request<'a>) -> Self {
        Self { request, body: request.body, claims: b"" }
    }
}

impl Place {
    pub(crate) const fn header(name: String) -> Self {
        Self { at: At::Header(name), cut: None }
    }

    pub(crate) fn header_name(&self) -> Option<&str> {
        match &self.at {
            At::Header(name) => Some(name),
            At::Query(_) | At::Form(_) | At::Body(_) | At::Claim(_) | At::All(_) => None,
        }
    }

    pub(crate) fn parameter_name(&self) -> Option<&str> {
        match &self.at {
            At::Query(name) => Some(name),
            At::Header(_) | At::Form(_) | At::Body(_) | At::Claim(_) | At::All(_) => None,
        }
    }

    /// The value; `None` where it is not there or empty. A header or field that comes twice is refused, since
    /// two readers could pick different ones.
    pub(crate) fn find<'a>(&self, source: &Source<'a>) -> Result<Option<Cow<'a, [u8]>>, Rejection> {
        let whole = self.whole(source)?;
        let Some(cut) = &self.cut else { return Ok(whole.filter(|value| !value.is_empty())) };
        let Some(whole) = whole else { return Ok(None) };
        let mut found = cut.items(&whole).into_iter();
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => Err(Rejection::Repeated(self.to_string())),
            (found, None) => {
                Ok(found.filter(|value| !value.is_empty()).map(|value| Cow::Owned(value.to_vec())))
            }
            (None, Some(_)) => Ok(None),
        }
    }

    fn whole<'a>(&self, source: &Source<'a>) -> Result<Option<Cow<'a, [u8]>>, Rejection> {
        let text = |value: Cow<'a, str>| match value {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        match &self.at {
            At::Header(name) => {
                let named = |(found, _): &&(String, Vec<u8>)| found.eq_ignore_ascii_case(name);
                let mut found = source.request.headers.iter().filter(named);
                let first = found.next().map(|(_, value)| Cow::Borrowed(value.as_slice()));
                self.once(first, found.next().is_some())
            }
            At::Query(name) => self.field(form::query(source.request.url).as_bytes(), name),
            At::Form(name) => self.field(source.body, name),
            At::Body(pointer) => Ok(pointer.text(source.body).map(text)),
            At::Claim(pointer) => Ok(pointer.text(source.claims).map(text)),
            At::All(places) => join(places, source),
        }
    }

    fn field<'a>(&self, pairs: &[u8], name: &str) -> Result<Option<Cow<'a, [u8]>>, Rejection> {
        let mut found = form::pairs(pairs).into_iter().filter(|(found, _)| found == name.as_bytes());
        let first = found.next().map(|(_, value)| Cow::Owned(value));
        self.once(first, found.next().is_some())
    }

    fn once<T>(&self, value: Option<T>, again: bool) -> Result<Option<T>, Rejection> {
        if again { Err(Rejection::Repeated(self.to_string())) } else { Ok(value) }
    }

    /// As text that may go on as an id, a type or a time.
    pub(crate) fn plain<'a>(&self, source: &Source<'a>) -> Result<Option<Cow<'a, str>>, Rejection> {
        let Some(value) = self.find(source)? else { return Ok(None) };
        let text = match value {
            Cow::Borrowed(bytes) => str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
        };
        text.filter(|text| is_plain(text)).map(Some).ok_or_else(|| {
            let why = format!("it is not plain text of at most {MAX_VALUE} bytes");
            Rejection::Malformed(self.to_string(), why)
        })
    }
}

fn join<'a>(places: &[Place], source: &Source<'a>) -> Result<Option<Cow<'a, [u8]>>, Rejection> {
    let mut joined = Vec::new();
    for place in places {
        let Some(value) = place.find(source)? else { return Ok(None) };
        if !joined.is_empty() {
            joined.push(b' ');
        }
        joined.extend_from_slice(&value);
    }
    Ok(Some(Cow::Owned(joined)))
}

/// The first of several places at which a value is.
pub(crate) fn first<'a>(places: &[Place], source: &Source<'a>) -> Result<Option<Cow<'a, str>>, Rejection> {
    for place in places {
        if let Some(value) = place.plain(source)? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

impl Cut {
    /// The items that start with the prefix, without it.
    pub(crate) fn items<'v>(&self, value: &'v [u8]) -> Vec<&'v [u8]> {
        let items = match &self.separator {
            Some(separator) => split(value, separator.as_bytes()),
            None => vec![value],
        };
        items.into_iter().filter_map(|item| item.strip_prefix(self.prefix.as_bytes())).collect()
    }
}

fn split<'v>(value: &'v [u8], separator: &[u8]) -> Vec<&'v [u8]> {
    let mut items = Vec::new();
    let mut rest = value;
    while let Some(at) = rest.windows(separator.len()).position(|window| window == separator) {
        items.push(&rest[..at]);
        rest = &rest[at + separator.len()..];
    }
    items.push(rest);
    items
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            At::Header(name) => write!(f, "header {name}"),
            At::Query(name) => write!(f, "query parameter {name}"),
            At::Form(name) => write!(f, "form field {name}"),
            At::Body(pointer) => write!(f, "body field {}", pointer.as_str()),
            At::Claim(pointer) => write!(f, "claim {}", pointer.as_str().trim_start_matches('/')),
            At::All(places) => {
                let each: Vec<String> = places.iter().map(ToString::to_string).collect();
                write!(f, "{}", each.join(" and "))
            }
        }
    }
}
