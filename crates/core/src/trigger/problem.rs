//! What is wrong with a trigger file, and where.

use std::{fmt, ops::Range};

use serde::{Deserialize, Serialize};

/// Bytes of the file's text.
pub(super) type Span = Range<usize>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Where it is, when that is not the origin of all: another file, or an environment variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// What is wrong: `unknown key "cron-expression"`.
    pub message: String,
    /// What is allowed there, or what to write instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Bytes of the text that it points at.
    pub span: Range<usize>,
    /// Counted from 1; 0 where there is no line: in an environment variable.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
}

/// Every problem of one file, in the order of their places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problems {
    pub origin: String,
    pub problems: Vec<Problem>,
}

impl Problem {
    #[must_use]
    pub fn at(text: &str, span: Range<usize>, message: impl Into<String>, help: Option<String>) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            origin: None,
            message: message.into(),
            help,
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            span,
        }
    }

    /// A file that is not TOML has no other problems yet: what stands in it is a guess.
    #[must_use]
    pub(crate) fn of_syntax(text: &str, errors: &[toml::de::Error]) -> Vec<Self> {
        let mut problems: Vec<Self> = errors
            .iter()
            .map(|error| {
                Self::at(text, error.span().unwrap_or(0..0), error.message().replace('\n', ", "), None)
            })
            .collect();
        problems.sort_by_key(|problem| problem.span.start);
        // What follows on the line of a mistake is mostly its echo.
        problems.dedup_by_key(|problem| problem.line);
        problems
    }

    /// A problem that is in no line of a text.
    #[must_use]
    pub(crate) fn placeless(message: impl Into<String>, help: Option<String>) -> Self {
        Self { line: 0, column: 0, ..Self::at("", 0..0, message, help) }
    }

    #[must_use]
    pub(crate) fn from(self, origin: &str) -> Self {
        Self { origin: Some(origin.to_owned()), ..self }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            let newline = if n == 0 { "" } else { "\n" };
            let origin = problem.origin.as_ref().unwrap_or(&self.origin);
            write!(f, "{newline}{origin}:")?;
            if problem.line > 0 {
                write!(f, "{}:{}:", problem.line, problem.column)?;
            }
            write!(f, " {}", problem.message)?;
            if let Some(help) = &problem.help {
                write!(f, " ({help})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
