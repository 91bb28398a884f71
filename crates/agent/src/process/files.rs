//! The files that an attempt is about: still the versions that the event told of, and listed for the process where they
//! are many. Only the agent that saw them can say so; elsewhere the event's word stands.

use std::{fs, os::unix::ffi::OsStrExt, os::unix::fs::MetadataExt};

use hetuflow_core::{
    event::{FileFacts, FileKind},
    id::AgentId,
    protocol::Assignment,
};
use jiff::Timestamp;

/// What the process finds beside its event.
#[derive(Debug, Default)]
pub(crate) struct Manifest {
    /// One JSON object per line.
    pub(crate) lines: Vec<u8>,
    /// The paths, each followed by a NUL.
    pub(crate) names: Vec<u8>,
    pub(crate) count: usize,
}

/// The manifest of a batch; an error says why there is nothing to run for any more.
pub(crate) fn check(
    assignment: &Assignment,
    body: &[u8],
    agent_id: &AgentId,
) -> Result<Option<Manifest>, String> {
    let Some(file) = &assignment.event.file else { return Ok(None) };
    let here = assignment.event.source.starts_with(&format!("/agents/{agent_id}/files/"));
    let same = |file: &FileFacts| !here || is_same(file);
    if file.change != FileFacts::BATCH {
        let is_asked = here && file.recheck && file.change != "deleted" && !file.is_notice();
        return match is_asked.then(|| difference(file)).flatten() {
            Some(difference) => Err(format!("superseded: {} {difference}", file.path)),
            None => Ok(None),
        };
    }
    let batch: FileFacts =
        serde_json::from_slice(body).map_err(|error| format!("the batch cannot be read: {error}"))?;
    let mut manifest = Manifest::default();
    for file in batch.files.iter().filter(|one| !batch.recheck || one.change == "deleted" || same(one)) {
        let line =
            serde_json::to_vec(file).map_err(|error| format!("the manifest cannot be written: {error}"))?;
        manifest.lines.extend(line);
        manifest.lines.push(b'\n');
        manifest.names.extend(file.location().as_os_str().as_bytes());
        manifest.names.push(0);
        manifest.count += 1;
    }
    if manifest.count == 0 {
        return Err("superseded: every file of the batch has changed or is gone".to_owned());
    }
    Ok(Some(manifest))
}

fn is_same(file: &FileFacts) -> bool {
    difference(file).is_none()
}

/// In which way a file is not what it was.
fn difference(file: &FileFacts) -> Option<String> {
    if file.kind == FileKind::Directory {
        return difference_of_directory(file);
    }
    // Of a link the event is about what it leads to.
    let look = match file.kind {
        FileKind::File => fs::symlink_metadata(file.location()),
        FileKind::Link | FileKind::Directory => fs::metadata(file.location()),
    };
    let found = match look {
        Ok(found) if found.is_file() => found,
        Ok(_) => return Some("is not a file any more".to_owned()),
        Err(error) => return Some(format!("cannot be looked at: {error}")),
    };
    let nanos = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
    let mtime = Timestamp::from_nanosecond(nanos).ok();
    if found.len() == file.size && mtime == Some(file.mtime) {
        return None;
    }
    Some("has changed since; its new version is an event of its own".to_owned())
}

/// What is in it may be more by now: it is told once.
fn difference_of_directory(file: &FileFacts) -> Option<String> {
    let found = match fs::symlink_metadata(file.location()) {
        Ok(found) if found.is_dir() => found,
        Ok(_) => return Some("is not a directory any more".to_owned()),
        Err(error) => return Some(format!("cannot be looked at: {error}")),
    };
    let born = found.created().ok().and_then(|born| Timestamp::try_from(born).ok());
    let identity = FileFacts::identity_of(found.ino(), born.map(Timestamp::as_nanosecond));
    let differs = file.identity.as_ref().is_some_and(|known| *known != identity);
    differs.then(|| "is another directory, which is an event of its own".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_the_same_until_it_is_replaced() {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join("a");
        fs::create_dir(&path).expect("made");
        let found = fs::metadata(&path).expect("there");
        let born =
            found.created().ok().map(|born| Timestamp::try_from(born).expect("a time").as_nanosecond());
        let identity = Some(FileFacts::identity_of(found.ino(), born));
        let facts = FileFacts { kind: FileKind::Directory, identity, ..FileFacts::of(&path, None, None) };
        fs::write(path.join("more"), "1").expect("written");
        assert_eq!(difference(&facts), None);
        fs::rename(&path, home.path().join("b")).expect("moved");
        assert!(difference(&facts).is_some_and(|text| text.contains("cannot be looked at")));
        fs::create_dir(&path).expect("made");
        assert!(difference(&facts).is_some_and(|text| text.contains("another directory")));
        fs::remove_dir(&path).expect("removed");
        fs::write(&path, "1").expect("written");
        assert!(difference(&facts).is_some_and(|text| text.contains("not a directory")));
    }

    #[test]
    fn a_file_is_the_same_until_it_changes() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a");
        fs::write(&path, "1").expect("written");
        let found = fs::metadata(&path).expect("there");
        let nanos = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
        let mtime = Timestamp::from_nanosecond(nanos).expect("a time");
        let path_text = path.display().to_string();
        let facts = FileFacts { path: path_text, size: 1, mtime, ..FileFacts::default() };
        assert_eq!(difference(&facts), None);
        assert!(difference(&FileFacts { size: 2, ..facts.clone() }).is_some());
        assert!(difference(&FileFacts { mtime: Timestamp::UNIX_EPOCH, ..facts.clone() }).is_some());
        let link = dir.path().join("l");
        std::os::unix::fs::symlink("a", &link).expect("linked");
        let linked = FileFacts { path: link.display().to_string(), ..facts.clone() };
        assert!(difference(&linked).is_some_and(|text| text.contains("is not a file")));
        let linked = FileFacts { kind: FileKind::Link, ..linked };
        assert_eq!(difference(&linked), None);
        fs::remove_file(&path).expect("removed");
        assert!(difference(&linked).is_some());
        assert!(difference(&facts).is_some_and(|text| text.contains("cannot be looked at")));
    }
}
