//! The job: reads the file that it was started for and says what it saw. It knows nothing of hetuflow but its environment.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::history::{self, Log};

pub(crate) const FOLDER: &str = "CHAOS_FOLDER";
const SEEN: &str = "seen.jsonl";

/// What a process saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) task: String,
    pub(crate) size: u64,
    /// Of the bytes; empty when the file could not be read.
    pub(crate) hash: String,
}

pub(crate) fn run() -> ExitCode {
    match play() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play() -> anyhow::Result<()> {
    let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let files = if let Ok(manifest) = variable("HETUFLOW_MANIFEST") {
        let manifest = std::fs::read_to_string(&manifest).with_context(|| format!("`{manifest}`"))?;
        manifest.lines().map(serde_json::from_str).collect::<Result<Vec<File>, _>>()?
    } else {
        let claimed_from = variable("HETUFLOW_FILE_CLAIMED_FROM").ok();
        vec![File { path: variable("HETUFLOW_FILE")?, claimed_from }]
    };
    let mut log = Log::open(&PathBuf::from(variable(FOLDER)?).join(SEEN))?;
    for File { path, claimed_from } in files {
        let bytes = std::fs::read(&path).unwrap_or_default();
        let (hash, size, path) = (hash(&bytes), bytes.len() as u64, claimed_from.unwrap_or(path));
        log.write(&Seen { hash, size, path, task: variable("HETUFLOW_TASK_ID")? })?;
    }
    Ok(())
}

/// A line of a batch's manifest.
#[derive(Debug, Deserialize)]
struct File {
    path: String,
    claimed_from: Option<String>,
}

pub(crate) fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

pub(crate) fn read(folder: &Path) -> anyhow::Result<Vec<Seen>> {
    history::read(&folder.join(SEEN))
}
