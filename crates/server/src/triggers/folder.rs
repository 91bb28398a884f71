//! What lies in the folder of trigger files, and which changes that asks of the store. No I/O but the
//! scan itself, which polls: a look at a few names every half second needs no watches and misses nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use hetuflow_core::id::{Namespace, TriggerName};
use hetuflow_store::{NewTrigger, StoredTrigger, TriggerChange};
use jiff::Timestamp;

use super::{
    beside::{FOLDERS, complete},
    definition::parse_text,
};
use crate::config::Config;

const MAX_FILE: u64 = 256 * 1024;
const MAX_FILES: usize = 4096;

/// A folder of trigger files, and the name under which its triggers are owned.
#[derive(Debug, Clone)]
pub(crate) struct TriggerFolder {
    pub(crate) path: PathBuf,
    pub(crate) owner: String,
}

impl TriggerFolder {
    /// None where the configuration names no folder, or "".
    pub(crate) fn of(config: &Config) -> Option<Self> {
        let path = config.triggers.directory.clone().filter(|path| !path.as_os_str().is_empty())?;
        // Where servers share a database, each folder owns its own triggers: two servers with a folder each
        // must not take the other's files for deleted ones.
        let shared = config.database.url.starts_with("postgres");
        let owner =
            if shared { format!("folder {}:{}", host(), path.display()) } else { "folder".to_owned() };
        Some(Self { path, owner })
    }
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// What shows that a file changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    size: u64,
    mtime: (i64, i64),
    inode: u64,
    /// Of the files in the folders beside it, any of which it may need.
    beside: Arc<BTreeMap<PathBuf, Stamp>>,
}

/// One file as it was last read.
#[derive(Debug, Clone)]
pub(super) struct Read {
    stamp: Stamp,
    /// Its triggers, or why it has none. Shared: every look at the folder takes over what has not changed.
    triggers: Arc<Result<Vec<NewTrigger>, String>>,
}

pub(super) type Files = BTreeMap<PathBuf, Read>;

/// Reads what changed since `before`. Blocking.
pub(super) fn scan(
    directory: &Path,
    namespace: &Namespace,
    before: &Files,
    now: Timestamp,
) -> io::Result<Files> {
    let mut files = Files::new();
    let beside = Arc::new(beside(directory));
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if !is_trigger_file(&path) {
            continue;
        }
        if files.len() == MAX_FILES {
            return Err(io::Error::other(format!("more than {MAX_FILES} trigger files")));
        }
        // A file that went away in between is not there.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        let stamp = Stamp::of(&metadata, &beside);
        let read = match before.get(&path) {
            Some(known) if known.stamp == stamp => known.clone(),
            _ => Read { triggers: Arc::new(read(&path, &metadata, namespace, now)), stamp },
        };
        files.insert(path, read);
    }
    Ok(files)
}

/// What shows that one of these files changed; without those that are not there. Blocking.
pub(super) fn stamps(paths: impl IntoIterator<Item = PathBuf>) -> BTreeMap<PathBuf, Stamp> {
    let stamped =
        |path: PathBuf| Some((path.clone(), Stamp::of(&fs::metadata(&path).ok()?, &Arc::default())));
    paths.into_iter().filter_map(stamped).collect()
}

impl Stamp {
    fn of(metadata: &fs::Metadata, beside: &Arc<BTreeMap<PathBuf, Self>>) -> Self {
        Self {
            size: metadata.len(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            inode: metadata.ino(),
            beside: Arc::clone(beside),
        }
    }
}

/// What lies beside the trigger files. What cannot be looked at is told when a trigger needs it.
fn beside(directory: &Path) -> BTreeMap<PathBuf, Stamp> {
    let folders = FOLDERS.iter().filter_map(|folder| fs::read_dir(directory.join(folder)).ok());
    let paths = folders.flatten().filter_map(|entry| Some(entry.ok()?.path()));
    stamps(paths.filter(|path| is_trigger_file(path)).take(MAX_FILES))
}

/// Whether the files are the same as before, by their stamps.
pub(super) fn same(a: &Files, b: &Files) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((x, a), (y, b))| x == y && a.stamp == b.stamp)
}

fn is_trigger_file(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension().is_some_and(|extension| extension == "toml")
}

fn read(
    path: &Path,
    metadata: &fs::Metadata,
    namespace: &Namespace,
    now: Timestamp,
) -> Result<Vec<NewTrigger>, String> {
    let origin = path.display().to_string();
    let located = |problem: String| format!("{origin}: {problem}");
    if !metadata.is_file() {
        return Err(located("it is not a regular file".to_owned()));
    }
    if metadata.len() > MAX_FILE {
        return Err(located(format!("it is larger than {MAX_FILE} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| located(error.to_string()))?;
    let text = complete(&text, path.parent().unwrap_or(Path::new("."))).map_err(located)?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    parse_text(&origin, &stem, namespace, &text, now).map_err(|problems| problems.to_string())
}

/// What the store must be told so that it agrees with the folder, file by file, each with its path.
pub(super) fn changes(
    files: &Files,
    owner: &str,
    namespace: &Namespace,
    stored: &[StoredTrigger],
) -> Vec<(PathBuf, Vec<TriggerChange>)> {
    let mine: Vec<&StoredTrigger> =
        stored.iter().filter(|one| one.owner == owner && one.namespace == *namespace).collect();
    let mut claimed: BTreeMap<String, &Path> = BTreeMap::new();
    let mut changes = Vec::new();
    for (path, read) in files {
        let of_file = match &*read.triggers {
            Ok(triggers) => match taken(triggers, &claimed, path) {
                None => triggers.iter().cloned().map(TriggerChange::Put).collect(),
                Some(problem) => broken(path, namespace, &mine, &claimed, &problem),
            },
            Err(problem) => broken(path, namespace, &mine, &claimed, problem),
        };
        claimed.extend(of_file.iter().map(|change| (name(change).to_owned(), path.as_path())));
        changes.push((path.clone(), of_file));
    }
    let removed = remove_others(namespace, &mine, &claimed.keys().cloned().collect());
    if !removed.is_empty() {
        changes.push((PathBuf::new(), removed));
    }
    changes
}

fn name(change: &TriggerChange) -> &str {
    match change {
        TriggerChange::Put(trigger) => &trigger.name,
        TriggerChange::Broken { name, .. } | TriggerChange::Remove { name, .. } => name,
    }
}

/// Why a file cannot have its names: files earlier in the folder have one of them.
fn taken(triggers: &[NewTrigger], claimed: &BTreeMap<String, &Path>, path: &Path) -> Option<String> {
    let (trigger, owner) =
        triggers.iter().find_map(|trigger| Some((trigger, claimed.get(&trigger.name)?)))?;
    Some(format!(
        "{}: the trigger {:?} is declared in {} already; give one of them another name",
        path.display(),
        trigger.name,
        owner.display()
    ))
}

/// The note goes to every trigger that the file's last good version declared; if it never had one, to
/// the name that the file itself has.
fn broken(
    path: &Path,
    namespace: &Namespace,
    mine: &[&StoredTrigger],
    claimed: &BTreeMap<String, &Path>,
    problem: &str,
) -> Vec<TriggerChange> {
    let origin = path.display().to_string();
    let mut names: Vec<String> = mine
        .iter()
        .filter(|one| one.origin == origin && !claimed.contains_key(&one.name))
        .map(|one| one.name.clone())
        .collect();
    if names.is_empty() {
        names.extend(own_name(path).filter(|name| !claimed.contains_key(name)));
    }
    let note = |name| TriggerChange::Broken {
        namespace: namespace.clone(),
        name,
        origin: origin.clone(),
        problem: problem.to_owned(),
    };
    names.into_iter().map(note).collect()
}

/// The file's name without `.toml`, with whatever a name may not hold replaced.
fn own_name(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_string_lossy();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = stem.chars().map(|c| if allowed(c) { c } else { '-' }).take(64).collect();
    TriggerName::new(name.trim_start_matches(['.', '_', '-'])).ok().map(|name| name.to_string())
}

fn remove_others(
    namespace: &Namespace,
    mine: &[&StoredTrigger],
    claimed: &BTreeSet<String>,
) -> Vec<TriggerChange> {
    mine.iter()
        .filter(|one| !claimed.contains(&one.name))
        .map(|one| TriggerChange::Remove { namespace: namespace.clone(), name: one.name.clone() })
        .collect()
}
