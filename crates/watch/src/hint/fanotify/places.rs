//! Which directories were added, by the handles that events name them by. A path may be out of date: then the look that follows
//! finds nothing there, and the walk adds the directory again where it is now.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use super::system::Handle;

#[derive(Debug, Default)]
pub(super) struct Places(HashMap<Handle, Vec<Box<Path>>>);

impl Places {
    /// Several only where a mount shows a directory twice.
    pub(super) fn at(&self, handle: &[u8]) -> &[Box<Path>] {
        self.0.get(handle).map_or(&[], Vec::as_slice)
    }

    /// Where else that directory was.
    pub(super) fn others(&self, handle: &Handle, dir: &Path) -> Vec<Box<Path>> {
        self.at(handle).iter().filter(|known| ***known != *dir).cloned().collect()
    }

    /// It is at `dir`, and still at these others.
    pub(super) fn put(&mut self, handle: Handle, dir: &Path, still: Vec<Box<Path>>) {
        let mut all = Vec::with_capacity(1 + still.len());
        all.push(dir.into());
        all.extend(still);
        self.0.insert(handle, all);
    }

    pub(super) fn set(&mut self, handle: Handle, dirs: Vec<Box<Path>>) {
        if dirs.is_empty() {
            self.0.remove(&handle);
        } else {
            self.0.insert(handle, dirs);
        }
    }

    /// Yields one of them for each file system of which none is left.
    pub(super) fn remove(&mut self, gone: &HashSet<&Path>) -> Vec<PathBuf> {
        let (mut left, mut lost) = (HashSet::new(), HashMap::new());
        self.0.retain(|handle, dirs| {
            let system = system(handle);
            if dirs.iter().all(|dir| gone.contains(&**dir)) {
                lost.extend(dirs.pop().map(|dir| (system, dir.into_path_buf())));
                return false;
            }
            left.insert(system);
            dirs.retain(|dir| !gone.contains(&**dir));
            true
        });
        lost.into_iter().filter(|(system, _)| !left.contains(system)).map(|(_, dir)| dir).collect()
    }

    /// Whether any directory is on the same file system.
    pub(super) fn needs(&self, handle: &Handle) -> bool {
        self.0.keys().any(|known| system(known) == system(handle))
    }

    pub(super) fn handles(&self) -> Vec<Handle> {
        self.0.keys().cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The id of the file system comes first.
fn system(handle: &Handle) -> [u8; 8] {
    handle.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(system: u8, directory: u8) -> Handle {
        [[system; 8].as_slice(), &[directory]].concat().into()
    }

    #[test]
    fn directories_come_move_and_go() {
        let mut places = Places::default();
        let paths = |places: &Places, handle: &Handle| -> Vec<String> {
            places.at(handle).iter().map(|dir| dir.display().to_string()).collect()
        };
        let (one, two, far) = (handle(1, 1), handle(1, 2), handle(2, 1));
        for (handle, dir) in [(&one, "/in"), (&two, "/in/a"), (&far, "/in/far")] {
            places.put(handle.clone(), Path::new(dir), Vec::new());
        }
        assert_eq!(places.others(&two, Path::new("/in/b")), [Path::new("/in/a").into()]);
        places.put(two.clone(), Path::new("/in/b"), Vec::new());
        assert_eq!(paths(&places, &two), ["/in/b"]);
        places.put(two.clone(), Path::new("/in/c"), vec![Path::new("/in/b").into()]);
        assert_eq!(paths(&places, &two), ["/in/c", "/in/b"]);

        assert_eq!(places.remove(&HashSet::from([Path::new("/in/b")])), Vec::<PathBuf>::new());
        assert_eq!(paths(&places, &two), ["/in/c"]);
        assert_eq!(places.remove(&HashSet::from([Path::new("/in/far")])), [PathBuf::from("/in/far")]);
        assert!(!places.needs(&far) && places.needs(&one));
        places.set(two.clone(), Vec::new());
        assert_eq!(places.len(), 1);
        assert_eq!(places.remove(&HashSet::from([Path::new("/in")])), [PathBuf::from("/in")]);
        assert!(places.is_empty());
    }
}
