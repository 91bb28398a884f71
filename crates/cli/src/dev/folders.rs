//! The folders that file triggers watch, as far as they lie below the data directory.

use std::path::{Path, PathBuf};

use hetuflow_core::trigger::Trigger;

/// Makes them. A folder elsewhere is the user's own and stays as it is.
pub(crate) fn make(data_dir: &Path, trigger: &Trigger) -> std::io::Result<()> {
    trigger
        .files
        .iter()
        .flat_map(|source| &source.paths)
        .map(|glob| data_dir.join(fixed_part(glob)))
        .filter(|folder| folder.starts_with(data_dir))
        .try_for_each(std::fs::create_dir_all)
}

/// A path that the glob matches, to try it with; `None` when that takes more than filling in a star.
pub(crate) fn example(data_dir: &Path, glob: &str) -> Option<PathBuf> {
    let path = glob.replace("**/", "").replace('*', "try");
    (!path.contains(['?', '[', '{', '\\'])).then(|| data_dir.join(path))
}

/// The folder in which matching begins: everything before the first component with a pattern.
fn fixed_part(glob: &str) -> PathBuf {
    let path = Path::new(glob);
    let fixed: PathBuf = path
        .components()
        .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']))
        .collect();
    if fixed == path { fixed.parent().map(Path::to_path_buf).unwrap_or_default() } else { fixed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        let check = |glob: &str, folder: &str, file: Option<&str>| {
            assert_eq!(fixed_part(glob), Path::new(folder), "{glob}");
            assert_eq!(example(Path::new("/data"), glob), file.map(PathBuf::from), "{glob}");
        };
        check("inbox/*.csv", "inbox", Some("/data/inbox/try.csv"));
        check("in/**/*.xml", "in", Some("/data/in/try.xml"));
        check("/srv/in/orders.csv", "/srv/in", Some("/srv/in/orders.csv"));
        check("in/{a,b}/*.csv", "in", None);
        check("*.csv", "", Some("/data/try.csv"));
    }
}
