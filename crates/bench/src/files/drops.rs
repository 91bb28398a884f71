//! The writer: drops files, and says when it closed each.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use tokio::{task::spawn_blocking, time::interval};

use crate::monotonic;

const TEXT: &[u8; 64] = &[b'h'; 64];
const FILES_IN_A_FOLDER: u32 = 10;

/// What was dropped: each file's path and when it was about to be closed.
pub(super) struct Dropped(Vec<(String, u64)>);

/// A lot of files that are dropped as fast as can be.
pub(super) enum Drop {
    /// So many files in one folder.
    Flat(PathBuf, u32),
    /// So many new folders with ten files each.
    Tree(PathBuf, u32),
}

impl Drop {
    pub(super) const fn is_empty(&self) -> bool {
        let (Self::Flat(_, count) | Self::Tree(_, count)) = self;
        *count == 0
    }

    pub(super) async fn all(self) -> anyhow::Result<Dropped> {
        let run = move || match self {
            Self::Flat(folder, count) => flat(&folder, "many", count),
            Self::Tree(folder, count) => tree(&folder, count),
        };
        spawn_blocking(run).await.context("the writer failed")?.map(Dropped)
    }
}

/// So many files at so many a second.
pub(super) async fn paced(folder: PathBuf, count: u32, rate: u32) -> anyhow::Result<Dropped> {
    let mut ticks = interval(Duration::from_secs(1) / rate);
    let mut dropped = Vec::new();
    for number in 0..count {
        ticks.tick().await;
        dropped.push(write(&folder.join(format!("paced-{number}.csv")))?);
    }
    Ok(Dropped(dropped))
}

/// As careful writers do it: each is written elsewhere and then moved to where it is watched for.
pub(super) async fn moved(staging: &Path, folder: PathBuf, count: u32, rate: u32) -> anyhow::Result<Dropped> {
    fs::create_dir(staging)?;
    let mut ticks = interval(Duration::from_secs(1) / rate);
    let mut dropped = Vec::new();
    for number in 0..count {
        ticks.tick().await;
        let name = format!("moved-{number}.csv");
        let (staged, place) = (staging.join(&name), folder.join(&name));
        write(&staged)?;
        let moved = monotonic::now();
        fs::rename(staged, &place)?;
        dropped.push((place.display().to_string(), moved));
    }
    Ok(Dropped(dropped))
}

pub(super) fn flat(folder: &Path, name: &str, count: u32) -> anyhow::Result<Vec<(String, u64)>> {
    (0..count).map(|number| write(&folder.join(format!("{name}-{number:06}.csv")))).collect()
}

pub(super) fn tree(folder: &Path, count: u32) -> anyhow::Result<Vec<(String, u64)>> {
    let mut dropped = Vec::new();
    for number in 0..count {
        let folder = folder.join(format!("folder-{number:06}"));
        fs::create_dir(&folder)?;
        dropped.extend(flat(&folder, "one-of-several", FILES_IN_A_FOLDER)?);
    }
    Ok(dropped)
}

fn write(path: &Path) -> anyhow::Result<(String, u64)> {
    let mut file = File::create(path)?;
    file.write_all(TEXT)?;
    let closed = monotonic::now();
    drop(file);
    Ok((path.display().to_string(), closed))
}

impl Dropped {
    pub(super) fn one(path: &Path) -> anyhow::Result<Self> {
        Ok(Self(vec![write(path)?]))
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(String, u64)> {
        self.0.iter()
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(path, _)| path.as_str())
    }

    pub(super) fn first(&self) -> u64 {
        self.0.first().map_or(0, |(_, closed)| *closed)
    }
}
