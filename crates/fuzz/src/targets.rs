//! The targets, and what they are made of: the schemes with their vectors.

mod body;
mod scheme;
mod signature;
mod when;

use std::path::Path;

use anyhow::Context;
use arbitrary::Unstructured;

/// Panics where its oracle does not hold.
pub(crate) type Attempt = Box<dyn Fn(&mut Unstructured<'_>) -> arbitrary::Result<()>>;

pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) attempt: Attempt,
}

pub(crate) fn all() -> anyhow::Result<Vec<Target>> {
    let files = scheme_files()?;
    Ok(vec![
        Target { name: "signature", attempt: signature::target(&files)? },
        Target { name: "scheme", attempt: scheme::target(files) },
        Target { name: "when", attempt: Box::new(when::attempt) },
        Target { name: "form", attempt: Box::new(body::form) },
        Target { name: "json", attempt: Box::new(body::json) },
    ])
}

/// Every scheme file by its name, sorted.
fn scheme_files() -> anyhow::Result<Vec<(String, String)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../signature/schemes");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("no schemes in {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        files.push((name, std::fs::read_to_string(&path)?));
    }
    files.sort();
    Ok(files)
}
