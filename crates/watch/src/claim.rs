//! Claimed files: those that are renamed into a folder of ours, below the start of their glob, before they are told, so that
//! each version that was complete is kept until its task has ended, and one of many who rename gets it. The name says whose it
//! is, which version, and where it was found; nothing else is needed to tell it again. Asked by `rule` about paths; `live`
//! renames.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use hetuflow_core::id::AgentId;

use crate::version::{Version, claim_id};

/// Below the start of a glob.
pub(crate) const FOLDER: &str = ".hetuflow/claimed";

/// The claims of one trigger on one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claims {
    /// With which the names of its folders begin.
    own: String,
}

impl Claims {
    pub(crate) fn new(key: &str, agent: &AgentId) -> Self {
        let mut own = claim_id([key.as_bytes(), agent.as_str().as_bytes()], None);
        own.truncate(12);
        own.push('-');
        Self { own }
    }

    /// Where a version of a file goes. Both paths are below the start of its glob.
    pub(crate) fn place(&self, found: &Path, version: Version) -> PathBuf {
        Path::new(FOLDER).join(self.folder(found, version)).join(found)
    }

    fn folder(&self, found: &Path, version: Version) -> String {
        let id = claim_id([found.as_os_str().as_encoded_bytes()], Some(version));
        format!("{}{id}", self.own)
    }

    /// Where a file was found that is claimed; `None`: it is not, or by somebody else.
    pub(crate) fn found<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        let below = path.strip_prefix(FOLDER).ok()?;
        let folder = below.iter().next().filter(|name| self.owns(name))?;
        below.strip_prefix(folder).ok().filter(|found| !found.as_os_str().is_empty())
    }

    /// It is what was claimed, and nobody has changed it since.
    pub(crate) fn is_as_claimed(&self, path: &Path, version: Version) -> bool {
        self.found(path).is_some_and(|found| self.place(found, version) == path)
    }

    /// A folder in [`FOLDER`].
    pub(crate) fn owns(&self, folder: &OsStr) -> bool {
        folder.as_encoded_bytes().starts_with(self.own.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_says_whose_it_is_and_what() {
        let claims = |key: &str| Claims::new(key, &AgentId::new("a").expect("a name"));
        let (one, other) = (claims("default/one"), claims("default/other"));
        let version = Version { ino: 7, btime: Some(1), size: 3, mtime: 2 };
        let found = Path::new("sub/a.csv");
        let place = one.place(found, version);
        assert!(place.starts_with(FOLDER) && place.ends_with(found), "{}", place.display());
        assert_eq!((one.found(&place), other.found(&place), one.found(found)), (Some(found), None, None));
        assert_eq!(one.found(place.parent().and_then(Path::parent).expect("a folder")), None);
        assert!(one.is_as_claimed(&place, version));
        assert!(!one.is_as_claimed(&place, Version { size: 4, ..version }));
        assert_ne!(place, one.place(found, Version { mtime: 3, ..version }));
        assert_ne!(place, one.place(Path::new("a.csv"), version));
    }
}
