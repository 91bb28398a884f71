//! Where PostgreSQL's binaries are: on `PATH`, or where Debian keeps them apart.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use super::{command, install};

/// hetuflow's own floor.
const OLDEST: u32 = 15;

/// A folder with `postgres`, `initdb` and `pg_ctl` of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    pub(super) folder: PathBuf,
    pub(super) version: u32,
}

/// Finds a PostgreSQL that is new enough, installing it where that is allowed.
pub(super) fn find() -> anyhow::Result<Binaries> {
    if let Some(found) = search() {
        return Ok(found);
    }
    if !install::allowed() {
        bail!("{}", advice("none was found"));
    }
    install::install().with_context(|| advice("none was found, and installing it failed"))?;
    search().with_context(|| advice("apt-get installed another version"))
}

fn advice(why: &str) -> String {
    format!(
        "the tests need the server programs of PostgreSQL {OLDEST} or newer, and {why} on PATH or in \
         /usr/lib/postgresql/*/bin. Install them (Debian, Ubuntu: `apt-get install postgresql`; Fedora: `dnf install \
         postgresql-server`; macOS: `brew install postgresql`) and run this again; no cluster needs to be set up"
    )
}

/// What `PATH` names wins, because a person chose it; otherwise the newest.
fn search() -> Option<Binaries> {
    on_path().or_else(|| packaged().into_iter().max_by_key(|binaries| binaries.version))
}

fn on_path() -> Option<Binaries> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find_map(|folder| {
        // Resolved, because `postgres` finds its own files relative to where it really is.
        let real = fs::canonicalize(folder.join("postgres")).ok()?;
        look(real.parent()?)
    })
}

fn packaged() -> Vec<Binaries> {
    let Ok(versions) = fs::read_dir("/usr/lib/postgresql") else { return Vec::new() };
    versions.flatten().filter_map(|entry| look(&entry.path().join("bin"))).collect()
}

fn look(folder: &Path) -> Option<Binaries> {
    if !["initdb", "pg_ctl"].iter().all(|name| folder.join(name).is_file()) {
        return None;
    }
    let output = command(folder.join("postgres")).arg("--version").output().ok()?;
    let version = version(&String::from_utf8_lossy(&output.stdout))?;
    (version >= OLDEST).then(|| Binaries { folder: folder.to_owned(), version })
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` is 15, `19beta1` is 19.
fn version(line: &str) -> Option<u32> {
    let number = line.split_whitespace().nth(2)?;
    number[..number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_are_read_from_the_programs_own_words() {
        let check = |line: &str, expected| assert_eq!(super::version(line), expected, "{line}");
        check("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some(15));
        check("postgres (PostgreSQL) 19beta1", Some(19));
        check("postgres (PostgreSQL) 17", Some(17));
        check("postgres (PostgreSQL) devel", None);
        check("", None);
    }
}
