//! What lies beside trigger files, in folders of its own, and is taken into the text of a trigger that names it. The text
//! then stands for itself, wherever it goes.

use std::{fs, io::ErrorKind, path::Path};

use super::{calendar, scheme};

/// Below the folder of trigger files.
pub(super) const FOLDERS: [&str; 2] = [scheme::FOLDER, calendar::FOLDER];

/// A file without its vectors is a page; with many it is this at most.
const MAX_FILE: u64 = 128 * 1024;

/// The text of a trigger file with the schemes and calendars that it names and that lie beside it. Blocking.
pub fn complete(text: &str, folder: &Path) -> Result<String, String> {
    calendar::with_calendars(&scheme::with_schemes(text, folder)?, folder)
}

/// The text of `NAME.toml` in a folder; `None` where there is none, or the name is no file's.
pub(super) fn read(folder: &Path, name: &str) -> Result<Option<String>, String> {
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
        return Ok(None);
    }
    let path = folder.join(format!("{name}.toml"));
    let located = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let size = match fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(located(&error)),
    };
    if size > MAX_FILE {
        return Err(located(&format!("it is larger than {MAX_FILE} bytes")));
    }
    fs::read_to_string(&path).map(Some).map_err(|error| located(&error))
}
