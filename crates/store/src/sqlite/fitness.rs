//! Refuses an SQLite that can lose or corrupt what it has committed. Setting a pragma fails silently, so each one is
//! read back.

use std::path::Path;

use sqlx::SqlitePool;

use crate::StoreError;

/// Older ones can corrupt a database when several connections write and checkpoint (the WAL-reset race).
const OLDEST: [u32; 3] = [3, 51, 3];

/// Yields the version.
pub(super) async fn check(writer: &SqlitePool) -> Result<String, StoreError> {
    let version: String = sqlx::query_scalar("select sqlite_version()").fetch_one(writer).await?;
    check_version(&version)?;
    let journal: String = sqlx::query_scalar("pragma journal_mode").fetch_one(writer).await?;
    if journal != "wal" {
        return Err(StoreError::Unfit(format!(
            "the SQLite database stays in journal mode {journal:?}, wanted \"wal\": put it on a local disk that \
             supports shared memory files"
        )));
    }
    let synchronous: i64 = sqlx::query_scalar("pragma synchronous").fetch_one(writer).await?;
    let foreign_keys: i64 = sqlx::query_scalar("pragma foreign_keys").fetch_one(writer).await?;
    if synchronous != 2 || foreign_keys != 1 {
        return Err(StoreError::Unfit(format!(
            "SQLite ignores its settings (synchronous is {synchronous}, wanted 2; foreign_keys is {foreign_keys}, \
             wanted 1): build hetuflow with its bundled SQLite"
        )));
    }
    Ok(version)
}

fn check_version(version: &str) -> Result<(), StoreError> {
    let parts: Vec<u32> = version.split('.').filter_map(|part| part.parse().ok()).collect();
    if parts.as_slice() >= OLDEST.as_slice() {
        return Ok(());
    }
    Err(StoreError::Unfit(format!(
        "SQLite {version} can corrupt a database in WAL mode, wanted 3.51.3 or later: build hetuflow with its bundled \
         SQLite"
    )))
}

/// WAL needs memory that all its connections share, which no network file system gives.
pub(super) fn refuse_network(file: &Path) -> Result<(), StoreError> {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    // What cannot be asked is found out by opening the file.
    let Ok(found) = rustix::fs::statfs(directory) else { return Ok(()) };
    match network_name(found.f_type.cast_unsigned() & 0xffff_ffff) {
        None => Ok(()),
        Some(name) => Err(StoreError::Unfit(format!(
            "the database {} lies on a network file system ({name}), where SQLite loses data: put it on a local disk, \
             or use PostgreSQL",
            file.display()
        ))),
    }
}

/// The numbers of statfs(2).
const fn network_name(kind: u64) -> Option<&'static str> {
    match kind {
        0x6969 => Some("nfs"),
        0x517b => Some("smb"),
        0xff53_4d42 => Some("cifs"),
        0xfe53_4d42 => Some("smb2"),
        0x0102_1997 => Some("9p"),
        0x00c3_6400 => Some("ceph"),
        0x5346_414f => Some("afs"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let check = |version: &str, fit: bool| assert_eq!(check_version(version).is_ok(), fit, "{version}");
        check("3.51.3", true);
        check("3.52.0", true);
        check("4.0.0", true);
        check("3.51.2", false);
        check("3.46.0", false);
        check("", false);
    }

    #[test]
    fn network_file_systems_are_known() {
        assert_eq!(network_name(0x6969), Some("nfs"));
        assert_eq!(network_name(0xef53), None, "ext4");
        refuse_network(Path::new("here.db")).expect("the build directory is local");
    }
}
