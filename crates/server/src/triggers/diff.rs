//! One log line for each trigger that changed between two sets.

use std::collections::{BTreeMap, BTreeSet};

use hetuflow_store::StoredTrigger;

use super::{TriggerSet, build::key};

pub(super) fn log(before: &TriggerSet, after: &TriggerSet) {
    let old: BTreeMap<String, &StoredTrigger> = before.stored.iter().map(|one| (key(one), one)).collect();
    for one in &after.stored {
        let previous = old.get(&key(one)).copied();
        let warnings = |set: &TriggerSet| set.warnings.get(&key(one)).cloned().unwrap_or_default();
        if let Some(line) = line(previous, one) {
            if one.problem.is_none() {
                tracing::info!("{line}");
            } else {
                tracing::warn!("{line}");
            }
        }
        if previous.is_none() || warnings(before) != warnings(after) {
            for warning in warnings(after) {
                tracing::warn!("trigger {}: {warning}", one.name);
            }
        }
    }
    let new: BTreeSet<String> = after.stored.iter().map(key).collect();
    for (key, one) in old {
        if !new.contains(&key) {
            tracing::info!("trigger {}: removed", one.name);
        }
    }
}

/// `None` when nothing about it changed.
fn line(before: Option<&StoredTrigger>, after: &StoredTrigger) -> Option<String> {
    let same = before.is_some_and(|old| old.revision == after.revision && old.problem == after.problem);
    let StoredTrigger { name, revision, .. } = after;
    match &after.problem {
        _ if same => None,
        None => Some(format!("trigger {name}: revision {revision} live")),
        Some(problem) if *revision == 0 => Some(format!("trigger {name} is broken: {problem}")),
        Some(problem) => {
            Some(format!("trigger {name} is broken, revision {revision} stays in force: {problem}"))
        }
    }
}
