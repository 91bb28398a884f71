//! What each agent shall watch: the `[on.file]` entries of all live triggers whose selector fits it.

use hetuflow_core::{labels::Labels, protocol::Watch, trigger::FileSource};
use sha2::{Digest, Sha256};

use crate::triggers::{Live, TriggerSet};

/// The watches of an agent with these labels, by key.
pub fn wanted(set: &TriggerSet, labels: &Labels) -> Vec<Watch> {
    let sources = set.live.values().flat_map(|live| {
        live.trigger.files.iter().enumerate().map(|(index, source)| (key(live, index), source))
    });
    sources
        .filter(|(_, source)| source.agents.matches(labels))
        .map(|(key, source)| Watch { key, revision: revision(source), source: source.clone() })
        .collect()
}

/// The live trigger, and the entry (with its place) that a watch key names.
pub(crate) fn find<'a>(set: &'a TriggerSet, watch_key: &str) -> Option<(&'a Live, usize, &'a FileSource)> {
    let (trigger, index) = match watch_key.split_once('#') {
        None => (watch_key, 0),
        Some((trigger, number)) => (trigger, number.parse::<usize>().ok()?.checked_sub(1)?),
    };
    let live = set.live.get(trigger)?;
    Some((live, index, live.trigger.files.get(index)?))
}

/// The trigger's key; further `[[on.file]]` entries of it are numbered from 2.
fn key(live: &Live, index: usize) -> String {
    let trigger = live.trigger.key();
    if index == 0 { trigger } else { format!("{trigger}#{}", index + 1) }
}

/// A number that stays while the entry stays: other edits of the trigger must not disturb its watch.
fn revision(source: &FileSource) -> i64 {
    let text = serde_json::to_vec(source).unwrap_or_default();
    let digest = Sha256::digest(&text);
    let first = digest.first_chunk::<8>().copied().unwrap_or_default();
    // The sign bit is cleared: some readers of JSON know no negative revisions.
    i64::from_be_bytes(first) & i64::MAX
}
