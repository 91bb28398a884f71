//! Each case is a file of `tests/cases/rule/`: a new case needs no Rust.

use std::{collections::BTreeMap, fs};

use hetuflow_core::trigger::FileSource;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    source: FileSource,
    roots: Vec<PathBuf>,
    #[serde(default)]
    files: BTreeMap<PathBuf, bool>,
    #[serde(default)]
    directories: BTreeMap<PathBuf, bool>,
}

fn rule(source: &FileSource) -> Result<Rule, RuleError> {
    let noise = Noise::new().expect("the built-in globs");
    Rule::compile(source, Path::new("/base"), Path::new("/base"), &noise)
}

#[test]
fn cases() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/rule");
    let mut count = 0;
    for entry in fs::read_dir(folder).expect("the folder of cases") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("readable");
        let case: Case = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        check(&case, &path);
        count += 1;
    }
    assert!(count > 0, "no cases in {folder}");
}

fn check(case: &Case, origin: &Path) {
    let rule = rule(&case.source).unwrap_or_else(|error| panic!("{}: {error}", origin.display()));
    assert_eq!(rule.roots().into_iter().collect::<Vec<_>>(), case.roots, "{}: roots", origin.display());
    for (path, expected) in &case.files {
        assert_eq!(rule.covers(path), *expected, "{}: file {}", origin.display(), path.display());
    }
    for (path, expected) in &case.directories {
        assert_eq!(rule.enters(path), *expected, "{}: directory {}", origin.display(), path.display());
    }
}

#[test]
fn what_is_refused_and_why() {
    let check = |glob: &str, part: &str| {
        let source = toml::from_str(&format!("paths = [{glob:?}]")).expect("a source");
        let error = rule(&source).map(|_| ()).expect_err(glob).to_string();
        assert!(error.contains(part) && error.contains(glob), "{glob}: {error}");
    };
    check("/data/in/", "names a directory");
    check("/data/../etc/*", "`..`");
    check("/**", "begin with a folder");
    check("/proc/*", "begin with a folder");
    check("/dev/*", "begin with a folder");
    check("/data/{a", "not a glob");
    check("/data/[z-a]", "not a glob");
    check("/data/*.tmp", "unfinished");
    check("*.csv", "state file");
}
