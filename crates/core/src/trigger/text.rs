//! A text of the file that still knows where it was written, down to its single characters where
//! the literal shows them as they are.

use std::ops::Range;

use toml::{Spanned, de::DeString};

use super::problem::Span;

#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) value: String,
    /// With the quotes.
    pub(super) span: Span,
    /// Where the first character of `value` is, if every character is written as itself.
    start: Option<usize>,
}

impl Text {
    pub(super) fn of_key(key: &Spanned<DeString<'_>>) -> Self {
        Self { value: key.get_ref().to_string(), span: key.span(), start: None }
    }

    pub(super) fn of_value(file: &str, value: &str, span: Span) -> Self {
        let literal = file.get(span.clone()).unwrap_or_default();
        let quotes = if literal.starts_with("'''") || literal.starts_with("\"\"\"") { 3 } else { 1 };
        // A newline right after three quotes is not part of the text.
        let skipped = literal.get(quotes..).map_or(0, |rest| {
            let newline = if rest.starts_with("\r\n") { 2 } else { usize::from(rest.starts_with('\n')) };
            if quotes == 3 { newline } else { 0 }
        });
        let start = quotes + skipped;
        let as_written = literal.get(start..).is_some_and(|rest| rest.starts_with(value));
        Self { value: value.to_owned(), start: as_written.then_some(span.start + start), span }
    }

    /// A text that stands nowhere in the file.
    pub(super) fn unplaced(value: &str) -> Self {
        Self { value: value.to_owned(), span: 0..0, start: None }
    }

    /// The place in the file of a part of the value; the whole text where that is not known.
    pub(super) fn place(&self, part: Range<usize>) -> Span {
        match self.start {
            Some(start) => start + part.start..start + part.end,
            None => self.span.clone(),
        }
    }
}
