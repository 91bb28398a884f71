//! The starts that jobs wrote down: a line each, which file it was for and when.

use std::{
    collections::HashMap,
    fs,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use tokio::time::{Instant, interval, sleep};

use super::drops::Dropped;

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Nothing new for so long, and what is missing is lost.
pub(super) const QUIET: Duration = Duration::from_secs(8);
/// To take notice of anything at all.
const WARM_WITHIN: Duration = Duration::from_mins(5);

pub(super) struct Starts {
    pub(super) file: PathBuf,
    /// Bytes of it that were read.
    read: u64,
    /// When each file's process started; those of one stretch.
    at: HashMap<String, u64>,
    doubled: u32,
}

/// What became of one lot of files.
pub(super) struct Stretch {
    at: HashMap<String, u64>,
    pub(super) lost: u32,
    pub(super) doubled: u32,
}

impl Starts {
    pub(super) fn new(file: PathBuf) -> anyhow::Result<Self> {
        fs::write(&file, "").with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self { file, read: 0, at: HashMap::new(), doubled: 0 })
    }

    /// Drops files until one is noticed, and waits until that is over.
    pub(super) async fn warm(&mut self, folder: &Path) -> anyhow::Result<()> {
        let (deadline, mut number) = (Instant::now() + WARM_WITHIN, 0);
        while self.at.is_empty() {
            ensure!(Instant::now() < deadline, "no file in {} is noticed", folder.display());
            fs::write(folder.join(format!("warm-{number}.csv")), "x")?;
            number += 1;
            sleep(Duration::from_millis(500)).await;
            self.look()?;
        }
        self.quiet(usize::MAX, Duration::from_secs(2)).await?;
        self.at.clear();
        Ok(())
    }

    /// Waits for a process for each of the files, or until none has come for `patience`.
    pub(super) async fn of(&mut self, dropped: &Dropped, patience: Duration) -> anyhow::Result<Stretch> {
        self.quiet(dropped.len(), patience).await?;
        // A second process for a file may still come.
        self.quiet(usize::MAX, Duration::from_secs(1)).await?;
        let at = std::mem::take(&mut self.at);
        let lost = dropped.paths().filter(|path| !at.contains_key(*path)).count();
        let doubled = std::mem::take(&mut self.doubled);
        Ok(Stretch { at, lost: u32::try_from(lost)?, doubled })
    }

    async fn quiet(&mut self, count: usize, pause: Duration) -> anyhow::Result<()> {
        let (mut look, mut news_at) = (interval(LOOK_EVERY), Instant::now());
        while self.at.len() < count && news_at.elapsed() < pause {
            look.tick().await;
            if self.look()? {
                news_at = Instant::now();
            }
        }
        Ok(())
    }

    /// Whether there are new lines.
    fn look(&mut self) -> anyhow::Result<bool> {
        let mut file = fs::File::open(&self.file)?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        for line in text[..whole].lines() {
            let (path, at) = line.rsplit_once(' ').context("a job wrote what is not understood")?;
            if self.at.insert(path.to_owned(), at.parse()?).is_some() {
                self.doubled += 1;
            }
        }
        Ok(whole > 0)
    }
}

impl Stretch {
    /// From close to start, in nanoseconds.
    pub(super) fn waits(&self, dropped: &Dropped) -> Vec<u64> {
        dropped.iter().filter_map(|(path, closed)| Some(self.at.get(path)?.saturating_sub(*closed))).collect()
    }

    /// From the first close to the last start.
    pub(super) fn seconds(&self, dropped: &Dropped) -> f64 {
        let last = self.at.values().max().copied().unwrap_or_default();
        last.saturating_sub(dropped.first()) as f64 / 1e9
    }
}
