//! The files of one directory, with a version each, in one piece of memory. There may be a million of them, and an allocation
//! for each name beside a map's bucket for each version take twice as much. The map of `snapshot` holds one per directory.

use std::{
    ffi::OsStr,
    hash::{BuildHasher, RandomState},
    os::unix::ffi::OsStrExt,
};

use hashbrown::HashTable;

use crate::version::Version;

#[derive(Debug, Default)]
pub(super) struct Packed {
    /// A record of each file, one after the other, among those of files that were removed.
    records: Vec<u8>,
    /// Where the records begin, by the hashes of the names.
    places: HashTable<usize>,
    hasher: RandomState,
    /// Bytes of records of files that were removed.
    waste: usize,
}

/// What is before the name in a record: its length, whether it is known when the file was born, and the version's numbers.
const HEAD: usize = size_of::<u16>() + 1 + 4 * size_of::<u64>();

/// Room for so large a part of the records more, whenever there is none left.
const SPARE: usize = 8;

impl Packed {
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn get(&self, name: &OsStr) -> Option<Version> {
        let found = self.places.find(self.hasher.hash_one(name), |at| name_at(&self.records, *at) == name);
        found.map(|at| version_at(&self.records, *at))
    }

    /// Whether it is new.
    pub(super) fn insert(&mut self, name: &OsStr, version: Version) -> bool {
        let Self { records, places, hasher, .. } = self;
        let (hash, head) = (hasher.hash_one(name), head(name, version));
        if let Some(at) = places.find(hash, |at| name_at(records, *at) == name) {
            records[*at..][..HEAD].copy_from_slice(&head);
            return false;
        }
        let (at, more) = (records.len(), HEAD + name.len());
        if records.capacity() - at < more {
            records.reserve_exact(more.max(at / SPARE));
        }
        records.extend_from_slice(&head);
        records.extend_from_slice(name.as_bytes());
        places.insert_unique(hash, at, |at| hasher.hash_one(name_at(records, *at)));
        true
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, name: &OsStr) -> bool {
        let Self { records, places, hasher, .. } = self;
        let found = places.find_entry(hasher.hash_one(name), |at| name_at(records, *at) == name);
        let Ok(found) = found else { return false };
        found.remove();
        self.waste += HEAD + name.len();
        // As many bytes were removed as are copied at most: a removal costs the same however many files there are.
        if self.waste > self.records.len() / 2 {
            self.compact();
        }
        true
    }

    fn compact(&mut self) {
        let Self { records, places, hasher, waste } = self;
        let mut kept = Vec::with_capacity(records.len() - *waste);
        for at in places.iter_mut() {
            let record = &records[*at..][..HEAD + name_at(records, *at).len()];
            *at = kept.len();
            kept.extend_from_slice(record);
        }
        places.shrink_to_fit(|at| hasher.hash_one(name_at(&kept, *at)));
        (*records, *waste) = (kept, 0);
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &OsStr> {
        self.places.iter().map(|at| name_at(&self.records, *at))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&OsStr, Version)> {
        self.places.iter().map(|at| (name_at(&self.records, *at), version_at(&self.records, *at)))
    }
}

fn head(name: &OsStr, Version { ino, btime, size, mtime }: Version) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    // No path of the system is longer.
    let len = u16::try_from(name.len()).unwrap_or(u16::MAX);
    head[..2].copy_from_slice(&len.to_le_bytes());
    head[2] = u8::from(btime.is_some());
    let numbers = [ino, btime.unwrap_or_default().cast_unsigned(), size, mtime.cast_unsigned()];
    for (place, number) in head[3..].chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    head
}

fn name_at(records: &[u8], at: usize) -> &OsStr {
    let len = u16::from_le_bytes([records[at], records[at + 1]]);
    OsStr::from_bytes(&records[at + HEAD..][..usize::from(len)])
}

fn version_at(records: &[u8], at: usize) -> Version {
    let number = |index: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&records[at + 3 + index * 8..][..8]);
        u64::from_le_bytes(bytes)
    };
    Version {
        ino: number(0),
        btime: (records[at + 2] == 1).then(|| number(1).cast_signed()),
        size: number(2),
        mtime: number(3).cast_signed(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn version() -> impl Strategy<Value = Version> {
        let numbers = (any::<u64>(), any::<Option<i64>>(), any::<u64>(), any::<i64>());
        numbers.prop_map(|(ino, btime, size, mtime)| Version { ino, btime, size, mtime })
    }

    /// Few names, so that they meet; any bytes that a name may have, and some of the longest.
    fn name() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![b'a'..=b'c', 1..=u8::MAX].prop_filter("no name has it", |byte| *byte != b'/');
        prop_oneof![
            8 => vec(b'a'..=b'c', 1..4),
            1 => vec(byte, 1..8),
            1 => (250..=255_usize).prop_map(|len| vec![b'x'; len]),
        ]
    }

    proptest! {
        /// Whatever is inserted and removed, it holds what a map holds.
        #[test]
        fn it_is_a_map(steps in vec((name(), proptest::option::weighted(0.6, version())), 0..300)) {
            let (mut packed, mut map) = (Packed::default(), HashMap::new());
            for (name, version) in &steps {
                let key = OsStr::from_bytes(name);
                if let Some(version) = version {
                    prop_assert_eq!(packed.insert(key, *version), map.insert(key, *version).is_none());
                } else {
                    prop_assert_eq!(packed.remove(key), map.remove(key).is_some());
                }
                prop_assert_eq!(packed.get(key), map.get(key).copied());
                prop_assert_eq!(packed.is_empty(), map.is_empty());
            }
            prop_assert_eq!(packed.iter().collect::<HashMap<_, _>>(), map.clone());
            prop_assert_eq!(packed.names().count(), map.len());
            for (name, _) in &steps {
                let key = OsStr::from_bytes(name);
                prop_assert_eq!(packed.get(key), map.get(key).copied());
            }
        }
    }

    /// A directory through which files come and go for years.
    #[test]
    fn what_was_removed_takes_no_room() {
        const VERSION: Version = Version { ino: 1, btime: None, size: 0, mtime: 0 };
        let mut packed = Packed::default();
        let name = |number: u32| format!("{number:08}");
        let record = HEAD + name(0).len();
        let allowed = |files: usize| (2 * files + 2) * record * (SPARE + 1) / SPARE;
        for number in 0..100_000 {
            packed.insert(OsStr::new(&name(number)), VERSION);
            if number >= 100 {
                packed.remove(OsStr::new(&name(number - 100)));
            }
            assert!(packed.records.capacity() <= allowed(101), "{number}: {}", packed.records.capacity());
        }
        for number in 0..100_000 {
            packed.remove(OsStr::new(&name(number)));
        }
        assert_eq!((packed.records.capacity(), packed.places.capacity()), (0, 0));
    }
}
