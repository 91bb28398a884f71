//! Labels say what an agent has, a selector says what a job asks for, a [`Lane`] is the queue of
//! all tasks that ask for the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::AgentId;

/// What an agent has, as `key = "value"`.
pub type Labels = BTreeMap<String, String>;

/// What a job asks for: every pair must be among the agent's labels. Empty asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Selector(pub BTreeMap<String, String>);

impl Selector {
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.missing(labels).next().is_none()
    }

    /// The pairs that `labels` lacks, for "why does it wait".
    pub fn missing<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter(|(key, value)| labels.get(*key) != Some(*value))
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, (key, value)) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

/// All tasks of one lane can run on the same agents: those that match the selector or, when the task
/// belongs to one machine, that agent alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lane {
    pub selector: Selector,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
}

impl Lane {
    #[must_use]
    pub fn admits(&self, agent: &AgentId, labels: &Labels) -> bool {
        self.agent.as_ref().is_none_or(|wanted| wanted == agent) && self.selector.matches(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn every_pair_must_be_there() {
        let check = |selector: &[(&str, &str)], labels: &[(&str, &str)], expected: bool| {
            assert_eq!(Selector(map(selector)).matches(&map(labels)), expected, "{selector:?} on {labels:?}");
        };
        check(&[], &[], true);
        check(&[], &[("role", "web")], true);
        check(&[("role", "web")], &[("role", "web"), ("site", "fra")], true);
        check(&[("role", "web")], &[("role", "db")], false);
        check(&[("role", "web"), ("gpu", "a100")], &[("role", "web")], false);
    }

    #[test]
    fn a_lane_of_one_agent_admits_no_other() {
        let here = AgentId::new("here").expect("a name");
        let lane = Lane { selector: Selector::default(), agent: Some(here.clone()) };
        assert!(lane.admits(&here, &Labels::new()));
        assert!(!lane.admits(&AgentId::new("there").expect("a name"), &Labels::new()));
    }
}
