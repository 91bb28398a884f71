//! What each agent shall watch: the `[on.file]` entries of all live triggers whose selector fits it.

use hetuflow_core::{labels::Labels, protocol::Watch, trigger::FileSource};
use sha2::{Digest, Sha256};

use crate::triggers::{Live, TriggerSet};

/// The watches of an agent with these labels, by trigger.
pub(crate) fn wanted(set: &TriggerSet, labels: &Labels) -> Vec<Watch> {
    set.live.iter().flat_map(|(key, live)| watches(key, live, labels)).collect()
}

fn watches<'a>(key: &'a str, live: &'a Live, labels: &'a Labels) -> impl Iterator<Item = Watch> + 'a {
    live.trigger.files.iter().filter(|source| source.agents.matches(labels)).map(|source| Watch {
        key: key.to_owned(),
        revision: revision(source),
        source: source.clone(),
    })
}

/// A number that stays while the entry stays: other edits of the trigger must not disturb its watch.
fn revision(source: &FileSource) -> i64 {
    let text = serde_json::to_vec(source).unwrap_or_default();
    let digest = Sha256::digest(&text);
    let first = digest.first_chunk::<8>().copied().unwrap_or_default();
    // The sign bit is cleared: some readers of JSON know no negative revisions.
    i64::from_be_bytes(first) & i64::MAX
}
