//! Slots: a trigger may have several file sources, and all have its key. Each has a slot of its own, under which everything
//! is remembered of it, and keeps it when others come, go or change places. Used by the patrols, for every new list.

use std::collections::{HashMap, HashSet};

use hetuflow_core::{protocol::Watch, trigger::FileSource};

use crate::patrol::Slotted;

/// What tells an edited source from another one, the surest first.
const LIKENESS: [fn(&FileSource, &FileSource) -> bool; 3] = [
    |one, two| one == two,
    |one, two| one.paths == two.paths,
    |one, two| one.paths.iter().any(|path| two.paths.contains(path)),
];

/// Each watch has the slot that it had, as far as it is `known`. What is like none takes a free one.
pub(crate) fn assign<'a>(watches: Vec<Watch>, known: impl Iterator<Item = &'a Slotted>) -> Vec<Slotted> {
    let mut had = HashMap::<&str, Vec<&Slotted>>::new();
    known.for_each(|one| had.entry(&one.watch.key).or_default().push(one));
    let mut taken = HashSet::new();
    let mut slots = vec![None; watches.len()];
    for is_like in LIKENESS {
        for (watch, slot) in watches.iter().zip(&mut slots).filter(|(_, slot)| slot.is_none()) {
            let mut had = had.get(&*watch.key).into_iter().flatten();
            let kept =
                had.find(|one| !taken.contains(&one.slot) && is_like(&one.watch.source, &watch.source));
            *slot = kept.map(|one| one.slot.clone());
            taken.extend(slot.clone());
        }
    }
    let mut free = |key: &str| {
        let slot = free_slot(key, &taken);
        taken.insert(slot.clone());
        slot
    };
    let all = watches.into_iter().zip(slots);
    all.map(|(watch, slot)| Slotted { slot: slot.unwrap_or_else(|| free(&watch.key)), watch }).collect()
}

fn free_slot(key: &str, taken: &HashSet<String>) -> String {
    // A key has no `#`, so no slot is another's key.
    let mut slot = key.to_owned();
    let mut number = 1_usize;
    while taken.contains(&slot) {
        number += 1;
        slot = format!("{key}#{number}");
    }
    slot
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sources by their paths, with how long each settles: what they had, what is wanted, and what they have.
    #[track_caller]
    fn check(had: &[(&str, &str)], wanted: &[&str], slots: &[&str]) {
        let watch = |text: &str| {
            let (paths, settle) = text.split_once(':').unwrap_or((text, "1"));
            let paths: Vec<_> = paths.split(',').collect();
            let source = format!("paths = {paths:?}\nsettle = \"{settle}s\"");
            let source = toml::from_str(&source).expect("a source");
            Watch { key: "k".to_owned(), revision: 1, source }
        };
        let had: Vec<_> =
            had.iter().map(|(slot, text)| Slotted { slot: (*slot).to_owned(), watch: watch(text) }).collect();
        let found = assign(wanted.iter().map(|text| watch(text)).collect(), had.iter());
        assert_eq!(found.iter().map(|one| &one.slot).collect::<Vec<_>>(), slots);
    }

    #[test]
    fn a_source_keeps_its_slot() {
        let two = [("k", "a"), ("k#2", "b")];
        check(&[], &["a", "b", "a"], &["k", "k#2", "k#3"]);
        check(&two, &["a", "b"], &["k", "k#2"]);
        check(&two, &["b", "a"], &["k#2", "k"]);
        check(&two, &["b"], &["k#2"]);
        check(&two, &["c", "a", "b"], &["k#3", "k", "k#2"]);
        check(&two, &["c", "b"], &["k", "k#2"]);
        // Edited ones too, by what of their paths is the same.
        check(&two, &["b:2"], &["k#2"]);
        check(&two, &["c", "a,d", "b:2"], &["k#3", "k", "k#2"]);
        check(&two, &["a,b", "b"], &["k", "k#2"]);
        // The same twice.
        check(&[("k", "a"), ("k#2", "a")], &["a", "a:2", "a"], &["k", "k#3", "k#2"]);
    }
}
