//! Since when each watch is in force, in a small file beside the state file. Where the state file is lost, damaged or older
//! than the watch, the watch is not new for that: what came since is told again, under the ids that it had, and the server
//! knows it. Kept by the engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hetuflow_core::{protocol::Watch, trigger::FileSource};
use serde::{Deserialize, Serialize};

use crate::{live::Live, patrol::Slotted};

/// All patrols have the same.
#[derive(Debug, Clone)]
pub(crate) struct Since(Arc<Mutex<Known>>);

#[derive(Debug)]
struct Known {
    path: PathBuf,
    /// By slot.
    watches: BTreeMap<String, Began>,
    /// It is not what the file says.
    changed: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Began {
    revision: i64,
    /// By directory, in nanoseconds since 1970.
    roots: BTreeMap<String, i64>,
    /// Which of several sources it is.
    #[serde(default)]
    source: Option<FileSource>,
}

impl Since {
    /// One that cannot be read says nothing, as if there were none.
    pub(crate) fn open(state: &Path) -> Self {
        let path = state.with_extension("since");
        let text = fs::read(&path).unwrap_or_default();
        let watches = serde_json::from_slice(&text).unwrap_or_default();
        Self(Arc::new(Mutex::new(Known { path, watches, changed: false })))
    }

    /// When the watch came into force, but not before the server has forgotten what it was told. In nanoseconds since 1970.
    pub(crate) fn of(&self, slot: &str, watch: &Watch, dir: &Path, now: i64) -> Option<i64> {
        let known = self.lock();
        let began = known.watches.get(slot).filter(|began| began.revision == watch.revision)?;
        let since = *began.roots.get(dir.to_str()?)?;
        // With room for clocks that differ, and for files that were told late.
        let known_for = watch.source.dedupe.ttl / 9 * 8;
        let known_for = i64::try_from(known_for.as_nanos()).unwrap_or(i64::MAX);
        Some(since.max(now.saturating_sub(known_for)))
    }

    /// These are in force now, among others.
    pub(crate) fn keep<'a>(&self, lives: impl Iterator<Item = &'a Live>) -> io::Result<()> {
        let mut known = self.lock();
        for (slot, began) in lives.map(began) {
            if known.watches.get(&slot) != Some(&began) {
                known.watches.insert(slot, began);
                known.changed = true;
            }
        }
        known.write()
    }

    /// Which watch had which slot, as far as that is known.
    pub(crate) fn slots(&self) -> Vec<Slotted> {
        let of = |(slot, began): (&String, &Began)| {
            let key = slot.split_once('#').map_or(&**slot, |(key, _)| key).to_owned();
            let watch = Watch { key, revision: began.revision, source: began.source.clone()? };
            Some(Slotted { slot: slot.clone(), watch })
        };
        self.lock().watches.iter().filter_map(of).collect()
    }

    pub(crate) fn forget(&self, slot: &str) {
        let mut known = self.lock();
        known.changed |= known.watches.remove(slot).is_some();
    }

    /// Only these are watched.
    pub(crate) fn retain(&self, slots: &BTreeSet<String>) {
        let mut known = self.lock();
        let before = known.watches.len();
        known.watches.retain(|slot, _| slots.contains(slot));
        known.changed |= known.watches.len() != before;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn write(&mut self) -> io::Result<()> {
        if !self.changed {
            return Ok(());
        }
        let fresh = self.path.with_extension("since.new");
        let mut file = File::create(&fresh)?;
        file.write_all(&serde_json::to_vec(&self.watches)?)?;
        file.sync_all()?;
        fs::rename(fresh, &self.path)?;
        self.changed = false;
        Ok(())
    }
}

fn began(live: &Live) -> (String, Began) {
    let roots = live.records().filter_map(|root| Some((root.dir.to_str()?.to_owned(), root.since)));
    let watch = &live.definition.watch;
    let began =
        Began { revision: watch.revision, roots: roots.collect(), source: Some(watch.source.clone()) };
    (live.definition.slot.clone(), began)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_known_by_its_revision_and_for_as_long_as_the_server_knows_its_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("watch.db");
        let text = r#"{"a": {"revision": 3, "roots": {"/in": 1000}}}"#;
        fs::write(folder.path().join("watch.since"), text).expect("written");
        let since = Since::open(&state);
        let source: hetuflow_core::trigger::FileSource =
            toml::from_str("paths = [\"/in/*\"]\ndedupe = { ttl = \"90d\" }").expect("a source");
        let watch = |revision| Watch { key: "a".to_owned(), revision, source: source.clone() };
        let of = |slot, revision, dir: &str, now| since.of(slot, &watch(revision), Path::new(dir), now);
        assert_eq!(of("a", 3, "/in", 2000), Some(1000));
        assert_eq!(of("a", 4, "/in", 2000), None);
        assert_eq!(of("a", 3, "/other", 2000), None);
        assert_eq!(of("b", 3, "/in", 2000), None);
        let year = 365 * 86_400 * 1_000_000_000;
        assert_eq!(of("a", 3, "/in", year), Some(year - 80 * 86_400 * 1_000_000_000));
        fs::write(folder.path().join("watch.since"), "{\"a\"").expect("written");
        assert_eq!(Since::open(&state).of("a", &watch(3), Path::new("/in"), 2000), None);
    }
}
