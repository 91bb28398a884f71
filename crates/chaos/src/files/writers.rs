//! Six kinds of writers, a thread each: how programs leave files in a folder. Each takes its time in the middle of a file, and
//! says what it left once it has left it. All keep the file open until it is complete, or bring it in whole.

mod ways;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::{history, random::Random};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Pattern {
    /// Written under another name, and renamed.
    Rename,
    /// Without a name (`O_TMPFILE`), and linked.
    Link,
    /// Through a shared mapping.
    Map,
    /// Its whole length first (`fallocate`), then the bytes.
    Allocate,
    /// Three times appended with the file open; every other one gets an old time at the end, as `cp -p` does.
    Append,
    /// A tree of three files, moved in whole.
    Tree,
}

const PATTERNS: [Pattern; 6] =
    [Pattern::Rename, Pattern::Link, Pattern::Map, Pattern::Allocate, Pattern::Append, Pattern::Tree];

/// A complete file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written {
    pub(super) path: String,
    pub(super) pattern: Pattern,
    pub(super) size: u64,
    pub(super) hash: String,
}

pub(super) struct Writers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<anyhow::Result<Vec<Written>>>>,
}

struct Shared {
    stop: AtomicBool,
    /// Until then nothing new is begun.
    not_before: AtomicU64,
}

impl Writers {
    pub(super) fn start(folder: &Path, seed: u64) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), not_before: AtomicU64::new(0) });
        let mut threads = Vec::new();
        for pattern in PATTERNS {
            let (folder, shared) = (folder.to_owned(), Arc::clone(&shared));
            let run = move || write_on(&folder, pattern, seed, &shared);
            threads.push(std::thread::Builder::new().name(format!("{pattern:?}")).spawn(run)?);
        }
        Ok(Self { shared, threads })
    }

    pub(super) fn pause(&self, time: Duration) {
        let until = history::now() + u64::try_from(time.as_nanos()).unwrap_or_default();
        self.shared.not_before.store(until, Ordering::Relaxed);
    }

    /// What is begun is completed.
    pub(super) async fn stop(self) -> anyhow::Result<Vec<Written>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let join = move || {
            let mut all = Vec::new();
            for thread in self.threads {
                all.extend(thread.join().ok().context("a writer failed")??);
            }
            Ok(all)
        };
        tokio::task::spawn_blocking(join).await?
    }
}

fn write_on(folder: &Path, pattern: Pattern, seed: u64, shared: &Shared) -> anyhow::Result<Vec<Written>> {
    let mut random = Random::new(seed, &format!("{pattern:?}"));
    let (mut all, mut number) = (Vec::new(), 0_u64);
    while !shared.stop.load(Ordering::Relaxed) {
        rest(random.millis(20..160));
        if history::now() < shared.not_before.load(Ordering::Relaxed) {
            continue;
        }
        number += 1;
        let name = format!("{pattern:?}-{number:05}").to_lowercase();
        let left = ways::write(folder, pattern, &name, &mut random)?;
        all.extend(left.into_iter().map(|(path, text)| Written {
            path: path.display().to_string(),
            pattern,
            size: text.len() as u64,
            hash: super::witness::hash(&text),
        }));
    }
    Ok(all)
}

fn rest(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "a writer that takes its time, on a thread of its own")]
    std::thread::sleep(time);
}
