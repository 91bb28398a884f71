//! A typed reader over parsed TOML that collects problems instead of stopping at the first: every
//! getter answers `None` after it has noted what is wrong, and [`Table::finish`] notes the keys that nobody asked for.

mod values;

use std::cell::{OnceCell, RefCell};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    problem::{Problem, Span},
    text::Text,
};
use crate::{schedule::Calendar, suggest};

/// The text being read, the calendars that it brings along, and what was found wrong with it.
pub(super) struct Sheet<'t> {
    pub(super) text: &'t str,
    pub(super) calendars: OnceCell<Vec<Calendar>>,
    problems: RefCell<Vec<Problem>>,
}

impl<'t> Sheet<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, calendars: OnceCell::new(), problems: RefCell::default() }
    }

    pub(super) fn problem(&self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        let help = Some(help.into()).filter(|help| !help.is_empty());
        self.problems.borrow_mut().push(Problem::at(self.text, span, message, help));
    }

    pub(super) fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    /// In the order of their places.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.span.start);
        problems.dedup();
        problems
    }
}

/// One table of the file, and which of its keys somebody knows.
pub(super) struct Table<'d> {
    pub(super) sheet: &'d Sheet<'d>,
    pub(super) span: Span,
    /// As the file writes it: `[on.webhook]`.
    pub(super) name: String,
    entries: &'d DeTable<'d>,
    known: Vec<&'static str>,
}

impl<'d> Table<'d> {
    pub(super) fn new(
        sheet: &'d Sheet<'d>,
        name: impl Into<String>,
        span: Span,
        entries: &'d DeTable<'d>,
    ) -> Self {
        Self { sheet, span, name: name.into(), entries, known: Vec::new() }
    }

    /// The value of a key, which counts as known from here on.
    pub(super) fn take(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.entries.get(key)
    }

    /// Notes that a key which must be there is not.
    pub(super) fn demand(&mut self, key: &'static str, help: &str) {
        if self.take(key).is_none() {
            self.problem(self.span.clone(), format!("{} lacks {key:?}", self.name), help);
        }
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (Text, &'d Spanned<DeValue<'d>>)> + use<'d> {
        self.entries.iter().map(|(key, value)| (Text::of_key(key), value))
    }

    pub(super) fn table(&mut self, key: &'static str) -> Option<Table<'d>> {
        let value = self.take(key)?;
        self.as_table(value, key)
    }

    pub(super) fn as_table(&self, value: &'d Spanned<DeValue<'d>>, key: &str) -> Option<Table<'d>> {
        let entries = value.get_ref().as_table();
        if entries.is_none() {
            self.wrong_type(value, key, "a table", "");
        }
        entries.map(|entries| Table::new(self.sheet, key, value.span(), entries))
    }

    /// Templates work in few places; anywhere else two braces would be passed on silently.
    pub(super) fn no_template(&self, text: &Text, key: &str) {
        if let Some(at) = text.value.find("{{") {
            let help = "templates work in args, environment values, working_dir and stdin of a job";
            self.problem(text.place(at..at + 2), format!("a template does not work in {key}"), help);
        }
    }

    pub(super) fn problem(&self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.sheet.problem(span, message, help);
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.get(key).is_some()
    }

    pub(super) fn has_table(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|value| value.get_ref().is_table())
    }

    pub(super) fn is_empty_list(&self, key: &str) -> bool {
        self.entries.get(key).and_then(|value| value.get_ref().as_array()).is_some_and(|list| list.is_empty())
    }

    /// A problem with the value of a key.
    pub(super) fn problem_at(&self, key: &str, message: impl Into<String>, help: impl Into<String>) {
        let span = self.entries.get(key).map_or_else(|| self.span.clone(), Spanned::span);
        self.problem(span, message, help);
    }

    pub(super) fn wrong_type(
        &self,
        value: &Spanned<DeValue<'_>>,
        key: &str,
        wanted: &str,
        help: impl Into<String>,
    ) {
        let found = match value.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) | DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let what = if found == wanted { "that" } else { found };
        let message = match value.get_ref().as_str() {
            Some(text) => format!("{key} must be {wanted}, not {text:?}"),
            None => format!("{key} must be {wanted}, not {what}"),
        };
        self.problem(value.span(), message, help);
    }

    /// A last look at the table, then [`Table::finish`].
    pub(super) fn finish_with<T>(self, look: impl FnOnce(&Self) -> T) -> T {
        let result = look(&self);
        self.finish();
        result
    }

    /// Notes every key that nobody asked for.
    pub(super) fn finish(self) {
        for (key, _) in self.entries() {
            if !self.known.contains(&key.value.as_str()) {
                let message = format!("unknown key {:?} in {}", key.value, self.name);
                self.sheet.problem(key.span, message, suggest::among(&key.value, &self.known));
            }
        }
    }
}

/// The elements of a list; what is no list stands for itself.
pub(super) fn one_or_many<'d>(value: &'d Spanned<DeValue<'d>>) -> Vec<&'d Spanned<DeValue<'d>>> {
    value.get_ref().as_array().map_or_else(|| vec![value], |list| list.iter().collect())
}
