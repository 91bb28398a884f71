//! What a reviewer would otherwise have to count: migrations are twins, modules say what they are,
//! files stay readable in one sitting.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Lines without the tests at the end. STYLE: look for a split at 300.
const LONG: usize = 400;
const TOO_LONG: usize = 450;

#[test]
fn every_migration_has_a_twin() {
    let names = |dialect: &str| -> BTreeSet<String> {
        let folder = root().join("migrations").join(dialect);
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    };
    assert_eq!(names("postgres"), names("sqlite"), "same number and name in both folders");
}

/// A module's `tests.rs` says it by its name.
#[test]
fn every_module_says_what_it_is() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|path| !path.ends_with("tests.rs") && !read(path).trim_start().starts_with("//!"))
        .map(|path| path.display().to_string())
        .collect();
    assert!(
        silent.is_empty(),
        "open with 2-6 lines of `//!`: what it owns, what not, who calls it:\n{silent:#?}"
    );
}

#[test]
fn files_are_short() {
    let mut long: Vec<(usize, PathBuf)> =
        sources().into_iter().map(|path| (lines(&read(&path)), path)).filter(|(n, _)| *n > LONG).collect();
    long.sort();
    let list: Vec<String> = long.iter().map(|(n, path)| format!("{n} {}", path.display())).collect();
    if !list.is_empty() {
        eprintln!("files over {LONG} lines, without their tests:\n{}", list.join("\n"));
    }
    assert!(
        long.iter().all(|(n, _)| *n <= TOO_LONG),
        "split what is over {TOO_LONG} lines:\n{}",
        list.join("\n")
    );
}

fn lines(text: &str) -> usize {
    text.lines().take_while(|line| *line != "#[cfg(test)]").count()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Rust file of the repository.
fn sources() -> Vec<PathBuf> {
    let mut folders = vec![root().join("crates"), root().join("xtask")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
