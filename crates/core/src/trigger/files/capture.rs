//! `capture`: a regular expression over the name of a file, whose named groups become values of the event. It runs in
//! linear time, whatever the name is.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};

/// Values of named groups.
pub type Captures = BTreeMap<String, String>;

/// Bytes of the compiled form, at most.
const MAX_COMPILED: usize = 1 << 20;

#[derive(Debug, Clone)]
pub struct CaptureRule(Regex);

impl CaptureRule {
    /// An error says in a sentence what is wrong.
    pub fn compile(text: &str) -> Result<Self, String> {
        let regex = RegexBuilder::new(text).size_limit(MAX_COMPILED).build();
        // Its other lines draw the place again.
        let reason = |error: regex::Error| error.to_string().lines().last().unwrap_or_default().to_owned();
        regex.map(Self).map_err(reason)
    }

    /// The names of its groups.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.capture_names().flatten()
    }

    /// `None` when the name does not match. A group that took no part is left out.
    #[must_use]
    pub fn captures(&self, name: &str) -> Option<Captures> {
        let found = self.0.captures(name)?;
        let group = |group: &str| Some((group.to_owned(), found.name(group)?.as_str().to_owned()));
        Some(self.names().filter_map(group).collect())
    }

    #[must_use]
    pub fn is_match(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}
