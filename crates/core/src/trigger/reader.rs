//! A typed reader over parsed TOML that collects problems instead of stopping at the first: every
//! getter answers `None` after it has noted what is wrong, and [`Table::finish`] notes the keys that nobody asked for.

use std::{cell::RefCell, collections::BTreeMap, ops::RangeInclusive, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    problem::{Problem, Span},
    text::Text,
};
use crate::{duration, labels::Selector, size, suggest};

/// The text being read and what was found wrong with it.
pub(super) struct Sheet<'t> {
    pub(super) text: &'t str,
    problems: RefCell<Vec<Problem>>,
}

impl<'t> Sheet<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, problems: RefCell::default() }
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

    pub(super) fn required(&mut self, key: &'static str, help: &str) -> Option<Text> {
        self.demand(key, help);
        self.text(key)
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<Text> {
        let value = self.take(key)?;
        self.as_text(value, key)
    }

    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<Text>> {
        let value = self.take(key)?;
        let Some(list) = value.get_ref().as_array() else {
            let help = match value.get_ref().as_str() {
                Some(text) => format!("write {key} = [{text:?}]"),
                None => format!("write {key} = [\"..\"]"),
            };
            self.wrong_type(value, key, "a list of texts", help);
            return None;
        };
        Some(list.iter().filter_map(|element| self.as_text(element, key)).collect())
    }

    fn as_text(&self, value: &Spanned<DeValue<'d>>, key: &str) -> Option<Text> {
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(value, key, "a text", "texts are in quotes");
            return None;
        };
        if text.contains('\0') {
            self.problem(value.span(), format!("{key} holds a NUL byte"), "no process can be given one");
            return None;
        }
        Some(Text::of_value(self.sheet.text, text, value.span()))
    }

    pub(super) fn integer(&mut self, key: &'static str, allowed: RangeInclusive<i64>) -> Option<i64> {
        let value = self.take(key)?;
        let range = format!("{} to {}", allowed.start(), allowed.end());
        let Some(number) = as_integer(value.get_ref()) else {
            self.wrong_type(value, key, "a whole number", range);
            return None;
        };
        if allowed.contains(&number) {
            return Some(number);
        }
        self.problem(value.span(), format!("{key} is out of range"), format!("allowed: {range}"));
        None
    }

    pub(super) fn decimal(&mut self, key: &'static str) -> Option<f64> {
        let value = self.take(key)?;
        let number = match value.get_ref().as_float() {
            Some(float) => float.as_str().replace('_', "").parse().ok(),
            None => as_integer(value.get_ref()).and_then(|whole| i32::try_from(whole).ok()).map(f64::from),
        };
        let number = number.filter(|number: &f64| number.is_finite() && *number > 0.0);
        if number.is_none() {
            self.problem(value.span(), format!("{key} must be a number above 0"), "such as 0.5");
        }
        number
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let value = self.take(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong_type(value, key, "true or false", "");
        }
        flag
    }

    pub(super) fn duration(&mut self, key: &'static str, least: Duration) -> Option<Duration> {
        let value = self.take(key)?;
        let form = "whole seconds (30) or a text with a unit (\"250ms\", \"5m\", \"1h 30m\")";
        let found = match value.get_ref().as_str() {
            Some(text) => duration::parse(text).ok(),
            None => as_natural(value.get_ref()).map(Duration::from_secs),
        };
        match found {
            Some(found) if found >= least => return Some(found),
            Some(_) => {
                let help = format!("at least {}", duration::format(least));
                self.problem(value.span(), format!("{key} is too short"), help);
            }
            None => self.wrong_type(value, key, "a duration", form),
        }
        None
    }

    /// A number of bytes, plain or with a unit.
    pub(super) fn size(&mut self, key: &'static str, allowed: RangeInclusive<u64>) -> Option<u64> {
        let value = self.take(key)?;
        let found = match value.get_ref().as_str() {
            Some(text) => size::parse(text).ok(),
            None => as_natural(value.get_ref()),
        };
        match found {
            Some(found) if allowed.contains(&found) => return Some(found),
            Some(_) => {
                let help = format!(
                    "allowed: {} to {}",
                    size::format(*allowed.start()),
                    size::format(*allowed.end())
                );
                self.problem(value.span(), format!("{key} is out of range"), help);
            }
            None => self.wrong_type(
                value,
                key,
                "a size",
                "bytes (65536) or a text with a unit (\"64KiB\", \"1MiB\")",
            ),
        }
        None
    }

    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        self.pick(&text, key, choices)
    }

    pub(super) fn choices<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<Vec<T>> {
        let texts = self.texts(key)?;
        Some(texts.iter().filter_map(|text| self.pick(text, key, choices)).collect())
    }

    fn pick<T: Copy>(&self, text: &Text, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let found = choices.iter().find(|(name, _)| *name == text.value).map(|(_, choice)| *choice);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            let message = format!("{key} cannot be {:?}", text.value);
            self.problem(text.span.clone(), message, suggest::among(&text.value, &names));
        }
        found
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

    /// `{ key = "value" }`, where both are texts.
    pub(super) fn pairs(&mut self, key: &'static str) -> Option<Vec<(Text, Text)>> {
        let table = self.table(key)?;
        let pairs = table.entries().filter_map(|(name, value)| Some((name, table.as_text(value, key)?)));
        Some(pairs.collect())
    }

    pub(super) fn selector(&mut self, key: &'static str) -> Selector {
        let mut labels = BTreeMap::new();
        for (name, value) in self.pairs(key).unwrap_or_default() {
            for text in [&name, &value] {
                self.no_template(text, key);
            }
            labels.insert(name.value, value.value);
        }
        Selector(labels)
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

fn as_natural(value: &DeValue<'_>) -> Option<u64> {
    as_integer(value).and_then(|whole| u64::try_from(whole).ok())
}

fn as_integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}
