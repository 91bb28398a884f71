//! The getters of a [`Table`]: one per kind of value.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use toml::{Spanned, de::DeValue};

use super::Table;
use crate::{duration, labels::Selector, size, suggest, trigger::text::Text};

impl<'d> Table<'d> {
    pub(in crate::trigger) fn required(&mut self, key: &'static str, help: &str) -> Option<Text> {
        self.demand(key, help);
        self.text(key)
    }

    pub(in crate::trigger) fn text(&mut self, key: &'static str) -> Option<Text> {
        let value = self.take(key)?;
        self.as_text(value, key)
    }

    /// A date or a time, as a text or as TOML's own.
    pub(in crate::trigger) fn time_text(&mut self, key: &'static str) -> Option<Text> {
        let value = self.take(key)?;
        match value.get_ref().as_datetime() {
            Some(time) => Some(Text::of_value(self.sheet.text, &time.to_string(), value.span())),
            None => self.as_text(value, key),
        }
    }

    pub(in crate::trigger) fn texts(&mut self, key: &'static str) -> Option<Vec<Text>> {
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

    pub(in crate::trigger) fn integer(
        &mut self,
        key: &'static str,
        allowed: RangeInclusive<i64>,
    ) -> Option<i64> {
        let value = self.take(key)?;
        self.in_range(value, key, &allowed)
    }

    /// A list of whole numbers in a small range.
    pub(in crate::trigger) fn integers(
        &mut self,
        key: &'static str,
        allowed: RangeInclusive<i32>,
    ) -> Option<Vec<i32>> {
        let value = self.take(key)?;
        let Some(list) = value.get_ref().as_array() else {
            self.wrong_type(
                value,
                key,
                "a list of whole numbers",
                format!("write {key} = [{}]", allowed.start()),
            );
            return None;
        };
        let allowed = i64::from(*allowed.start())..=i64::from(*allowed.end());
        let number =
            |element| self.in_range(element, key, &allowed).and_then(|number| number.try_into().ok());
        Some(list.iter().filter_map(number).collect())
    }

    fn in_range(
        &self,
        value: &Spanned<DeValue<'d>>,
        key: &str,
        allowed: &RangeInclusive<i64>,
    ) -> Option<i64> {
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

    pub(in crate::trigger) fn decimal(&mut self, key: &'static str) -> Option<f64> {
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

    pub(in crate::trigger) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let value = self.take(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong_type(value, key, "true or false", "");
        }
        flag
    }

    pub(in crate::trigger) fn duration(&mut self, key: &'static str, least: Duration) -> Option<Duration> {
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
    pub(in crate::trigger) fn size(
        &mut self,
        key: &'static str,
        allowed: RangeInclusive<u64>,
    ) -> Option<u64> {
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

    pub(in crate::trigger) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let text = self.text(key)?;
        self.pick(&text, key, choices)
    }

    pub(in crate::trigger) fn choices<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
    ) -> Option<Vec<T>> {
        let texts = self.texts(key)?;
        Some(texts.iter().filter_map(|text| self.pick(text, key, choices)).collect())
    }

    pub(in crate::trigger) fn pick<T: Copy>(
        &self,
        text: &Text,
        key: &str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let found = choices.iter().find(|(name, _)| *name == text.value).map(|(_, choice)| *choice);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            let message = format!("{key} cannot be {:?}", text.value);
            self.problem(text.span.clone(), message, suggest::among(&text.value, &names));
        }
        found
    }

    /// `{ key = "value" }`, where both are texts.
    pub(in crate::trigger) fn pairs(&mut self, key: &'static str) -> Option<Vec<(Text, Text)>> {
        let table = self.table(key)?;
        let pairs = table.entries().filter_map(|(name, value)| Some((name, table.as_text(value, key)?)));
        Some(pairs.collect())
    }

    pub(in crate::trigger) fn selector(&mut self, key: &'static str) -> Selector {
        let mut labels = BTreeMap::new();
        for (name, value) in self.pairs(key).unwrap_or_default() {
            for text in [&name, &value] {
                self.no_template(text, key);
            }
            labels.insert(name.value, value.value);
        }
        Selector(labels)
    }
}

fn as_natural(value: &DeValue<'_>) -> Option<u64> {
    as_integer(value).and_then(|whole| u64::try_from(whole).ok())
}

fn as_integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}
