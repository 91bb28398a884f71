//! What must hold for every scheme, whatever its file says: a new file needs no new test.

mod flips;
mod head;
mod noise;
mod timing;
mod told;

use std::{collections::BTreeSet, fs, path::Path};

use crate::{Scheme, scheme::BUILTIN, vector};

#[test]
fn every_vector_of_every_scheme_passes() {
    for (name, text) in BUILTIN {
        let results = vector::run_scheme(name, text).expect("a scheme file");
        let accepted = |row: &&vector::RowResult| row.detail.starts_with("accept");
        assert!(results.iter().any(|row| accepted(&row)), "{name} accepts nothing");
        assert!(results.iter().any(|row| row.detail.starts_with("reject")), "{name} rejects nothing");
        for result in results {
            assert!(result.ok, "{}: {}", result.id, result.detail);
            assert!(result.id.starts_with(&format!("{name}/")), "{} is in the file of {name}", result.id);
        }
    }
}

#[test]
fn every_file_is_built_in() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemes");
    let files = fs::read_dir(folder).expect("the folder of schemes");
    let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let files: BTreeSet<String> = files.filter_map(|entry| stem(&entry.ok()?.path())).collect();
    assert_eq!(files, Scheme::names().into_iter().map(str::to_owned).collect());
    assert!(Scheme::names().is_sorted());
}

/// With `UPDATE_DOCS=1` the page is written instead.
#[test]
fn the_page_of_schemes_is_up_to_date() {
    const START: &str =
        "<!-- The table is written by a test: UPDATE_DOCS=1 cargo test -p hetuflow-signature page -->\n";
    const END: &str = "<!-- end of the table -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/signatures.md");
    let page = fs::read_to_string(&path).expect("the page");
    let (before, rest) = page.split_once(START).expect("the start of the table");
    let (_, after) = rest.split_once(END).expect("the end of the table");
    let mut table =
        "| scheme | for | signs | a duplicate is recognised by | answers |\n|---|---|---|---|---|\n"
            .to_owned();
    for (name, text) in BUILTIN {
        let row = vector::plain(name, text).expect("a scheme file").row();
        let [name, about, signs, dedupe, answers] = row;
        table.extend(["| `", &name, "` | ", &about, " | ", &signs, " | ", &dedupe, " | ", &answers, " |\n"]);
    }
    let current = format!("{before}{START}{table}{END}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, current).expect("the page can be written");
    } else {
        assert!(page == current, "docs/signatures.md is not up to date: run the test with UPDATE_DOCS=1");
    }
}
