//! The binaries that users get know nothing of failpoints.

use std::path::Path;

/// A failpoint's name is a text in a binary that has it; so is the variable that arms it.
#[test]
fn ordinary_binaries_have_no_failpoints() {
    let own = Path::new(env!("CARGO_BIN_EXE_hetuflow-chaos"));
    for name in ["hetuflow", "hetuflow-server", "hetuflow-agent"] {
        let path = own.with_file_name(name);
        let binary = std::fs::read(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask test`", path.display()));
        for text in ["HETUFLOW_FAILPOINTS", "journal.after_commit"] {
            assert!(!contains(&binary, text), "{name} has {text}");
        }
    }
}

fn contains(binary: &[u8], text: &str) -> bool {
    // By pieces that are text, because the standard library searches those quickly also in a debug build.
    binary.utf8_chunks().any(|chunk| chunk.valid().contains(text))
}
