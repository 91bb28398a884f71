//! `when`: a condition in CEL over `body`, `headers`, `query` and `event`.

use crate::matching::Facts;

/// A compiled condition.
#[derive(Debug, Clone)]
pub struct Condition {
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    Yes,
    /// With the reason: a clause that was false, or a field that was missing.
    No(String),
    TooCostly(String),
    Error(String),
}

impl Condition {
    /// Compiles; the error says what is wrong and, if known, at which byte of `source`.
    pub fn compile(source: &str) -> Result<Self, ConditionError> {
        Ok(Self { source: source.to_owned() })
    }

    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    pub fn judge(&self, _facts: &Facts<'_>) -> Judgement {
        todo!()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConditionError {
    pub message: String,
    /// Byte offset in the source.
    pub offset: Option<usize>,
}
