//! What must be so for a rule to count: a method, a path, or a value somewhere in the request.

use std::fmt;

use crate::{
    Rejection, form,
    place::{At, Place, Source},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) subject: Subject,
    pub(crate) test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    Method,
    Path,
    At(Place),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Test {
    Is(Vec<String>),
    Starts(String),
    Present,
    Absent,
}

impl Condition {
    pub(crate) fn holds(&self, source: &Source<'_>) -> Result<bool, Rejection> {
        let value = match &self.subject {
            Subject::Method => Some(source.request.method.as_bytes().into()),
            Subject::Path => Some(form::path(source.request.url).as_bytes().into()),
            Subject::At(place) => place.find(source)?,
        };
        Ok(match (&self.test, value) {
            (Test::Is(allowed), Some(value)) => allowed.iter().any(|text| text.as_bytes() == &*value),
            (Test::Starts(start), Some(value)) => {
                value.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start.as_bytes()))
            }
            (Test::Is(_) | Test::Starts(_), None) => false,
            (Test::Present, value) => value.is_some(),
            (Test::Absent, value) => value.is_none(),
        })
    }

    /// Claims can be read only when their token is proven.
    pub(crate) fn is_of_claim(&self) -> bool {
        matches!(&self.subject, Subject::At(Place { at: At::Claim(_), .. }))
    }

    /// Whether it can be judged before the body is read.
    pub(crate) fn is_of_head(&self) -> bool {
        match &self.subject {
            Subject::Method | Subject::Path => true,
            Subject::At(place) => matches!(place.at, At::Header(_) | At::Query(_)),
        }
    }
}

pub(crate) fn all_hold(conditions: &[Condition], source: &Source<'_>) -> Result<bool, Rejection> {
    for condition in conditions {
        if !condition.holds(source)? {
            return Ok(false);
        }
    }
    Ok(true)
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Method => write!(f, "the method")?,
            Subject::Path => write!(f, "the path")?,
            Subject::At(place) => write!(f, "{place}")?,
        }
        match &self.test {
            Test::Is(allowed) => write!(f, " is {}", allowed.join(" or ")),
            Test::Starts(start) => write!(f, " starts with {start}"),
            Test::Present => write!(f, " is there"),
            Test::Absent => write!(f, " is not there"),
        }
    }
}
