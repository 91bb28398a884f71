//! Processes that outlive their attempts: found by the folder of the run in their environment, which every job and
//! everything that it starts carries.

use std::{fs, path::Path, time::Duration};

use tokio::time::sleep;

use crate::effect::FOLDER;

/// A process that is being killed takes a moment to go.
const LOOKS: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(100);

/// What still lives when nothing should; called when no task is unsettled.
pub(crate) async fn find(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = look(folder)?;
    for _ in 0..LOOKS {
        if found.is_empty() {
            break;
        }
        sleep(BETWEEN).await;
        found = look(folder)?;
    }
    Ok(found)
}

fn look(folder: &Path) -> anyhow::Result<Vec<String>> {
    let marker = format!("{FOLDER}={}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        // Gone meanwhile, or not a process, or not ours to read.
        let Ok(environment) = fs::read(entry.path().join("environ")) else { continue };
        if environment.split(|byte| *byte == 0).any(|variable| variable == marker.as_bytes()) {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let instance = environment.split(|byte| *byte == 0).find_map(|variable| {
                let text = String::from_utf8_lossy(variable);
                text.strip_prefix("HETUFLOW_INSTANCE_ID=").map(str::to_owned)
            });
            let pid = entry.file_name().to_string_lossy().into_owned();
            found.push(format!("process {pid} ({line}) of instance {}", instance.unwrap_or_default()));
        }
    }
    Ok(found)
}
