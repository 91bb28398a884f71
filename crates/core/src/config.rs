//! Configuration in layers: the commented sample that ships, the operator's file, the environment.
//!
//! The layers are merged key by key and read as one. When a value is refused, the layer that it came
//! from is blamed with its place, the layer below stands in for it, and reading goes on: so one run
//! reports every problem.

mod layer;

use std::collections::BTreeSet;

use layer::Source;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use crate::{
    suggest,
    trigger::{Problem, Problems},
};

/// Problems that are reported at once, at most.
const MAX_PROBLEMS: usize = 100;

/// One file's text under the name that messages use.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    pub origin: &'a str,
    pub text: &'a str,
}

/// The keys from the outermost table to a value.
type Keys = Vec<String>;

/// One value in force, and which layer says it.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// From the outermost table on.
    pub keys: Vec<String>,
    pub value: toml::Value,
    pub origin: String,
}

/// Merges `defaults`, then `file`, then those `environment` pairs that start with `prefix` (`HETUFLOW_SERVER`:
/// `HETUFLOW_SERVER__DATABASE__URL` is `[database] url`; values are TOML where they parse as
/// TOML, otherwise text), and reads the whole as `T`. Every problem is reported at once.
pub fn read<T: DeserializeOwned>(
    defaults: Layer<'_>,
    file: Option<Layer<'_>>,
    prefix: &str,
    environment: &[(String, String)],
) -> Result<T, Problems> {
    read_explained(defaults, file, prefix, environment).map(|(value, _)| value)
}

/// The same, with where each value comes from, in the order of their keys.
pub fn read_explained<T: DeserializeOwned>(
    defaults: Layer<'_>,
    file: Option<Layer<'_>>,
    prefix: &str,
    environment: &[(String, String)],
) -> Result<(T, Vec<Setting>), Problems> {
    let origin = file.unwrap_or(defaults).origin.to_owned();
    let problems = |problems| Problems { origin: origin.clone(), problems };
    let mut sources = Vec::new();
    let mut found = Vec::new();
    for layer in [Some(defaults), file].into_iter().flatten() {
        match Source::of_file(layer) {
            Ok(source) => sources.push(source),
            Err(broken) => found.extend(broken),
        }
    }
    if !found.is_empty() {
        return Err(problems(found));
    }
    sources.extend(Source::of_environment(prefix, environment, &sources));
    let mut reading =
        Reading { sources, refused: BTreeSet::new(), as_text: BTreeSet::new(), problems: Vec::new() };
    let value = reading.read();
    match value {
        Some(value) if reading.problems.is_empty() => Ok((value, reading.settings())),
        Some(_) | None => Err(problems(reading.into_problems())),
    }
}

struct Reading<'a> {
    /// The lowest layer first.
    sources: Vec<Source<'a>>,
    /// Values that were refused, by layer: the layer below stands in.
    refused: BTreeSet<(usize, Keys)>,
    /// Values of the environment that looked like something else and are taken as text.
    as_text: BTreeSet<(usize, Keys)>,
    problems: Vec<Problem>,
}

impl Reading<'_> {
    fn read<T: DeserializeOwned>(&mut self) -> Option<T> {
        while self.problems.len() < MAX_PROBLEMS {
            let merged = toml::Value::Table(self.merged());
            let error = match serde_path_to_error::deserialize(merged) {
                Ok(value) => return Some(value),
                Err(error) => error,
            };
            let keys = keys_of(error.path());
            let message = error.inner().message().trim().to_owned();
            let Some((n, keys)) = self.blamed(&keys) else {
                self.lacks(&keys, &message);
                return None;
            };
            if self.sources[n].is_environment() && self.as_text.insert((n, keys.clone())) {
                continue;
            }
            self.blame(n, &keys, &message);
            self.refused.insert((n, keys));
        }
        None
    }

    /// File by file and variable by variable, in the order of their places.
    fn into_problems(mut self) -> Vec<Problem> {
        let layers: Vec<&str> = self.sources.iter().map(Source::origin).collect();
        self.problems.sort_by_key(|problem| {
            let layer = layers.iter().position(|origin| Some(*origin) == problem.origin.as_deref());
            (layer, problem.span.start)
        });
        self.problems
    }

    fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        let mut tables = vec![(Keys::new(), self.merged())];
        while let Some((above, table)) = tables.pop() {
            for (key, value) in table {
                let keys: Keys = above.iter().cloned().chain([key]).collect();
                if let toml::Value::Table(table) = value {
                    tables.push((keys, table));
                } else if let Some((n, _)) = self.blamed(&keys) {
                    settings.push(Setting { origin: self.sources[n].origin().to_owned(), keys, value });
                }
            }
        }
        settings.sort_by(|one, other| one.keys.cmp(&other.keys));
        settings
    }

    fn merged(&self) -> toml::Table {
        let mut merged = toml::Table::new();
        for (n, source) in self.sources.iter().enumerate() {
            source.merge_into(
                &mut merged,
                |keys| self.refused.contains(&(n, keys.to_vec())),
                |keys| self.as_text.contains(&(n, keys.to_vec())),
            );
        }
        merged
    }

    /// The topmost layer that has a say in what is at `keys`, and the keys as far as they lead there.
    fn blamed(&self, keys: &[String]) -> Option<(usize, Keys)> {
        (1..=keys.len()).rev().map(|length| &keys[..length]).find_map(|keys| {
            let says = |n: &usize| self.sources[*n].has(keys) && !self.refused.contains(&(*n, keys.to_vec()));
            (0..self.sources.len()).rev().find(says).map(|n| (n, keys.to_vec()))
        })
    }

    fn blame(&mut self, n: usize, keys: &[String], message: &str) {
        let unknown = message.strip_prefix("unknown field ").map(allowed_words);
        let key = keys.last().map(String::as_str).unwrap_or_default();
        let (message, help) = match unknown {
            Some(allowed) => {
                let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
                (format!("unknown key {:?}", keys.join(".")), Some(suggest::among(key, &allowed)))
            }
            None => (format!("{}: {message}", keys.join(".")), None),
        };
        let on_key = help.is_some();
        self.problems.push(self.sources[n].problem(keys, on_key, message, help));
    }

    /// Nothing in any layer is to blame: a key is missing.
    fn lacks(&mut self, keys: &[String], message: &str) {
        // What was refused may be all there was; that is reported already.
        if !self.problems.is_empty() {
            return;
        }
        let place = if keys.is_empty() { String::new() } else { format!("[{}]: ", keys.join(".")) };
        self.problems.push(Problem::placeless(format!("{place}{message}"), None));
    }
}

fn keys_of(path: &serde_path_to_error::Path) -> Keys {
    path.iter()
        .map_while(|segment| match segment {
            Segment::Map { key } => Some(key.clone()),
            // Lists are one value, and what is below an enum's variant has no key of its own.
            Segment::Seq { .. } | Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

/// The words in backticks, except the first, which is the unknown one.
fn allowed_words(rest: &str) -> Vec<String> {
    rest.split('`').skip(1).step_by(2).skip(1).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
