//! The numbers of lanes, remembered. A lane is given its number when it is seen first, for ever, so what was once
//! committed is asked for no more.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

/// Lanes that are remembered. A server that meets more forgets them all and asks again.
const MAX_KNOWN: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Lanes {
    known: RwLock<HashMap<String, i64>>,
}

impl Lanes {
    /// By the key of the lane; those that are not known are left out.
    pub(crate) fn remembered<'a>(&self, keys: impl Iterator<Item = &'a String>) -> HashMap<String, i64> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        keys.filter_map(|key| Some((key.clone(), *known.get(key)?))).collect()
    }

    /// Only what has been committed.
    pub(crate) fn remember(&self, found: &HashMap<String, i64>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if found.keys().all(|key| known.contains_key(key)) {
            return;
        }
        if known.len() + found.len() > MAX_KNOWN {
            known.clear();
        }
        known.extend(found.iter().map(|(key, id)| (key.clone(), *id)));
    }
}
