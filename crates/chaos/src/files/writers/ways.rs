//! The ways themselves. Each returns the files that it left, with their bytes.

#![expect(unsafe_code, reason = "a shared mapping is one of the ways, and has no safe form")]

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Context;
use rustix::{
    fs::{AtFlags, CWD, FallocateFlags, OFlags, fallocate, linkat},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};

use super::{Pattern, rest};
use crate::random::Random;

/// Pieces of a file, with a pause after each.
const PIECES: usize = 3;

type Left = Vec<(PathBuf, Vec<u8>)>;

pub(super) fn write(
    folder: &Path,
    pattern: Pattern,
    name: &str,
    random: &mut Random,
) -> anyhow::Result<Left> {
    let path = folder.join("inbox").join(format!("{name}.dat"));
    if pattern == Pattern::Tree {
        return tree(folder, name, random);
    }
    let text = text(random);
    match pattern {
        Pattern::Rename => rename(&path, &text, random)?,
        Pattern::Link => link(&path, &text, random)?,
        Pattern::Map => map(&path, &text, random)?,
        Pattern::Allocate => allocate(&path, &text, random)?,
        Pattern::Append | Pattern::Tree => append(&path, &text, random)?,
    }
    Ok(vec![(path, text)])
}

/// Never empty, never twice the same, and long enough to be met half-way.
fn text(random: &mut Random) -> Vec<u8> {
    let words = 64 + random.below(4_000);
    (0..words).flat_map(|_| random.next().to_le_bytes()).collect()
}

fn pieces(text: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let size = text.len().div_ceil(PIECES);
    text.chunks(size).enumerate().map(move |(n, piece)| ((n * size) as u64, piece))
}

fn dawdle(random: &mut Random) {
    rest(random.millis(0..60));
}

fn rename(path: &Path, text: &[u8], random: &mut Random) -> anyhow::Result<()> {
    let before = path.with_extension("dat.tmp");
    append(&before, text, random)?;
    Ok(fs::rename(before, path)?)
}

fn link(path: &Path, text: &[u8], random: &mut Random) -> anyhow::Result<()> {
    let folder = path.parent().context("a folder")?;
    let flags = i32::try_from(OFlags::TMPFILE.bits())?;
    let mut file = OpenOptions::new().write(true).custom_flags(flags).open(folder)?;
    for (_, piece) in pieces(text) {
        file.write_all(piece)?;
        dawdle(random);
    }
    let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    Ok(linkat(CWD, own, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

fn map(path: &Path, text: &[u8], random: &mut Random) -> anyhow::Result<()> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    file.set_len(text.len() as u64)?;
    // SAFETY: a new mapping at a place of the kernel's choice, as long as the file, which nobody shortens.
    let place = unsafe {
        mmap(
            std::ptr::null_mut(),
            text.len(),
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            &file,
            0,
        )?
    };
    // From here on only the mapping holds the file.
    drop(file);
    for (at, piece) in pieces(text) {
        // SAFETY: within the mapping, which nobody else uses; a piece of the text does not overlap it.
        unsafe {
            let to = place.cast::<u8>().add(usize::try_from(at)?);
            std::ptr::copy_nonoverlapping(piece.as_ptr(), to, piece.len());
        }
        dawdle(random);
    }
    // SAFETY: the mapping from above, which is not used any more.
    unsafe { munmap(place, text.len())? };
    Ok(())
}

fn allocate(path: &Path, text: &[u8], random: &mut Random) -> anyhow::Result<()> {
    let file = File::create_new(path)?;
    fallocate(&file, FallocateFlags::empty(), 0, text.len() as u64)?;
    for (at, piece) in pieces(text) {
        dawdle(random);
        file.write_all_at(piece, at)?;
    }
    Ok(())
}

fn append(path: &Path, text: &[u8], random: &mut Random) -> anyhow::Result<()> {
    let mut file = File::create_new(path)?;
    for (_, piece) in pieces(text) {
        file.write_all(piece)?;
        dawdle(random);
    }
    if random.one_in(2) {
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + random.below(1_000_000));
        file.set_modified(old)?;
    }
    Ok(())
}

fn tree(folder: &Path, name: &str, random: &mut Random) -> anyhow::Result<Left> {
    let (outside, inside) = (folder.join("outside").join(name), folder.join("inbox").join(name));
    let mut left = Vec::new();
    for part in ["a", "b/c", "b/d"] {
        let (path, text) = (outside.join(part).with_extension("dat"), text(random));
        fs::create_dir_all(path.parent().context("a folder")?)?;
        fs::write(path, &text)?;
        left.push((inside.join(part).with_extension("dat"), text));
    }
    dawdle(random);
    fs::rename(outside, inside)?;
    Ok(left)
}
