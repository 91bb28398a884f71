//! The grammar between `{{` and `}}`: a path or a quoted text, then filters with literal
//! arguments. There is nothing to call, to calculate or to repeat.

use std::ops::Range;

use super::{FILTERS, TemplateError};
use crate::matching::{Path, ROOTS, Step};

/// One `{{ .. }}`.
#[derive(Debug, PartialEq)]
pub(super) struct Hole<'s> {
    pub(super) head: Head,
    /// The names of the filters, in order.
    pub(super) filters: Vec<&'s str>,
    /// Their text, from the first `|` on.
    pub(super) chain: &'s str,
}

#[derive(Debug, PartialEq)]
pub(super) enum Head {
    Path(Path),
    Literal(String),
}

/// Reads the text between `{{` and `}}`, which starts at byte `offset` of the template.
pub(super) fn hole(inner: &str, offset: usize) -> Result<Hole<'_>, TemplateError> {
    let mut scanner = Scanner { text: inner, at: 0, offset };
    scanner.skip_spaces();
    let head = match scanner.peek() {
        Some('"' | '\'') => Head::Literal(scanner.quoted()?),
        Some(c) if c.is_ascii_alphabetic() => Head::Path(scanner.path()?),
        Some(_) | None => return Err(scanner.error(0..inner.len(), no_path(inner))),
    };
    scanner.skip_spaces();
    let chain = &inner[scanner.at..];
    let mut filters = Vec::new();
    while scanner.peek().is_some() {
        filters.push(scanner.filter()?);
        scanner.skip_spaces();
    }
    Ok(Hole { head, filters, chain })
}

fn no_path(inner: &str) -> String {
    format!(
        "`{}` is no path: write {{{{ body.field }}}}, and {{{{ '{{{{' }}}} for two braces that are meant literally",
        inner.trim()
    )
}

struct Scanner<'s> {
    text: &'s str,
    at: usize,
    offset: usize,
}

impl<'s> Scanner<'s> {
    fn error(&self, place: Range<usize>, message: impl Into<String>) -> TemplateError {
        TemplateError { message: message.into(), span: self.offset + place.start..self.offset + place.end }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn skip_spaces(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn take(&mut self, belongs: impl Fn(char) -> bool) -> &'s str {
        let rest = &self.text[self.at..];
        let word = rest.split(|c| !belongs(c)).next().unwrap_or_default();
        self.at += word.len();
        word
    }

    fn path(&mut self) -> Result<Path, TemplateError> {
        let start = self.at;
        let root = self.take(in_name);
        if !ROOTS.contains(&root) {
            let message = format!("nothing is called {root:?} here: {}", crate::suggest::among(root, &ROOTS));
            return Err(self.error(start..self.at, message));
        }
        let mut path = Path { root: root.to_owned(), steps: Vec::new() };
        loop {
            if self.eat('.') {
                path.steps.push(self.dotted()?);
            } else if self.eat('[') {
                path.steps.push(self.bracketed()?);
            } else {
                return Ok(path);
            }
        }
    }

    fn dotted(&mut self) -> Result<Step, TemplateError> {
        let start = self.at;
        let name = self.take(in_name);
        if name.is_empty() {
            return Err(self.error(start..self.text.len(), "a field's name is missing after the dot"));
        }
        Ok(name.parse().map_or_else(|_| Step::Field(name.to_owned()), Step::Index))
    }

    fn bracketed(&mut self) -> Result<Step, TemplateError> {
        let start = self.at;
        let step = if matches!(self.peek(), Some('"' | '\'')) {
            Some(Step::Field(self.quoted()?))
        } else {
            self.take(|c| c.is_ascii_digit()).parse().ok().map(Step::Index)
        };
        match step {
            Some(step) if self.eat(']') => Ok(step),
            Some(_) | None => {
                Err(self
                    .error(start..self.text.len(), "in brackets goes a number or a quoted name, then `]`"))
            }
        }
    }

    fn quoted(&mut self) -> Result<String, TemplateError> {
        let start = self.at;
        let quote = self.peek().unwrap_or('"');
        self.at += 1;
        let text = self.take(|c| c != quote && c != '\\');
        if self.eat(quote) {
            return Ok(text.to_owned());
        }
        Err(self
            .error(start..self.text.len(), "a quoted text needs its closing quote and takes no backslash"))
    }

    fn filter(&mut self) -> Result<&'s str, TemplateError> {
        let start = self.at;
        if !self.eat('|') {
            let message = "after the path only filters follow: {{ body.field | default(\"none\") }}";
            return Err(self.error(start..self.text.len(), message));
        }
        self.skip_spaces();
        let start = self.at;
        let name = self.take(in_name);
        if !FILTERS.contains(&name) {
            let message = format!("there is no filter {name:?}: {}", crate::suggest::among(name, &FILTERS));
            return Err(self.error(start..self.at.max(start + 1).min(self.text.len()), message));
        }
        if self.eat('(') {
            self.arguments()?;
        }
        Ok(name)
    }

    /// Literals, separated by commas, up to the closing parenthesis.
    fn arguments(&mut self) -> Result<(), TemplateError> {
        loop {
            self.skip_spaces();
            if self.eat(')') {
                return Ok(());
            }
            let start = self.at;
            if matches!(self.peek(), Some('"' | '\'')) {
                self.quoted()?;
            } else {
                let word = self.take(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
                if !matches!(word, "true" | "false" | "none") && word.parse::<f64>().is_err() {
                    let message = "a filter takes literals only: \"text\", 1, true, false, none";
                    return Err(self.error(start..self.text.len(), message));
                }
            }
            self.skip_spaces();
            if !self.eat(',') && self.peek() != Some(')') {
                return Err(self.error(start..self.text.len(), "a filter's arguments end with `)`"));
            }
        }
    }
}

/// Fields may be written with a dash, because headers are: `headers.x-github-event`.
fn in_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-')
}
