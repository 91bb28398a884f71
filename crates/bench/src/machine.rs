//! What the figures were measured on, in one line.

use std::{fs::OpenOptions, io::Write, path::Path, time::Instant};

use anyhow::Context;
use serde::Serialize;

use crate::spread::Waits;

const SYNCS: u64 = 200;
const BLOCK: [u8; 4096] = [b'h'; 4096];

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) model: String,
    pub(crate) kernel: String,
    pub(crate) load: String,
    /// An append of 4 KiB made durable, in milliseconds.
    pub(crate) fdatasync: Waits,
}

impl Machine {
    /// `folder` is on the disk that the benchmark uses.
    pub(crate) fn look(folder: &Path) -> anyhow::Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            model: model.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg").split_whitespace().next().unwrap_or_default().to_owned(),
            fdatasync: syncs(folder)?,
        })
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "{} cores ({}), Linux {}, load {} before, append of 4 KiB + fdatasync p50 {:.2} ms p99 {:.2} ms",
            self.cores, self.model, self.kernel, self.load, self.fdatasync.p50, self.fdatasync.p99
        )
    }
}

fn syncs(folder: &Path) -> anyhow::Result<Waits> {
    let path = folder.join("fdatasync");
    let mut file =
        OpenOptions::new().create(true).append(true).open(&path).context("cannot probe the disk")?;
    let mut waits = Vec::new();
    for _ in 0..SYNCS {
        let start = Instant::now();
        file.write_all(&BLOCK)?;
        file.sync_data()?;
        waits.push(u64::try_from(start.elapsed().as_nanos())?);
    }

    std::fs::remove_file(&path)?;
    Waits::of(&waits).context("nothing was measured")
}
