//! Trigger files as data: everything in `triggers/good` parses; everything in `triggers/bad` is
//! refused with exactly the problems in the `.txt` beside it. Adding a case needs no Rust.

use std::{fs, path::Path};

use hetuflow_core::{
    id::Namespace,
    trigger::{self, Known, Problems, SecretRef, Trigger},
};
use serde_json::{Map, Value};

struct Schemes;

impl Known for Schemes {
    fn check_scheme(
        &self,
        scheme: &str,
        options: &Map<String, Value>,
        secrets: &[SecretRef],
    ) -> Result<(), String> {
        match (scheme, secrets.len()) {
            ("github", 0) => Err("scheme \"github\" needs a secret".to_owned()),
            ("hmac", _) if !options.contains_key("header") => {
                Err("scheme \"hmac\" needs the option \"header\"".to_owned())
            }
            ("github" | "hmac", _) | ("none", 0) => Ok(()),
            ("none", _) => Err("scheme \"none\" takes no secret".to_owned()),
            _ => Err(format!("there is no scheme {scheme:?}: github, hmac, none")),
        }
    }
}

fn parse(file: &Path) -> Result<Vec<Trigger>, Problems> {
    let text = fs::read_to_string(file).expect("a readable file");
    let name = file.file_stem().and_then(|name| name.to_str()).expect("a name in UTF-8");
    trigger::parse("file", name, &Namespace::default(), &text, &Schemes)
}

/// The `.toml` files of a folder, in order.
fn files(folder: &str) -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/triggers").join(folder);
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("a readable folder")
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

#[test]
fn good_files_parse() {
    for file in files("good") {
        let triggers = parse(&file).unwrap_or_else(|problems| panic!("{}:\n{problems}", file.display()));
        assert!(!triggers.is_empty(), "{}", file.display());
    }
}

#[test]
fn bad_files_are_refused_with_every_problem_and_its_place() {
    let mut wrong = Vec::new();
    for file in files("bad") {
        let actual = match parse(&file) {
            Ok(_) => "no problem".to_owned(),
            Err(problems) => problems.to_string(),
        };
        let expected = fs::read_to_string(file.with_extension("txt")).unwrap_or_default();
        if actual.trim() != expected.trim() {
            wrong.push(format!("{}\n{actual}\n", file.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "these files have other problems than their .txt says:\n\n{}",
        wrong.join("\n")
    );
}
