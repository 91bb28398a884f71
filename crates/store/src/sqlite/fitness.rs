//! Refuses an SQLite that can lose or corrupt what it has committed.

use std::path::Path;

use sqlx::SqlitePool;

use crate::StoreError;

/// Yields the version.
pub(super) async fn check(pool: &SqlitePool) -> Result<String, StoreError> {
    let mut connection = pool.acquire().await?;
    let fit = hetuflow_sqlite::check(&mut connection).await?;
    let version = fit.map_err(|unfit| StoreError::Unfit(unfit.to_string()))?;
    let foreign_keys: i64 = sqlx::query_scalar("pragma foreign_keys").fetch_one(&mut *connection).await?;
    if foreign_keys != 1 {
        return Err(StoreError::Unfit(format!(
            "SQLite ignores its settings (foreign_keys is {foreign_keys}, wanted 1): build hetuflow with its bundled SQLite"
        )));
    }
    Ok(version)
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
    fn network_file_systems_are_known() {
        assert_eq!(network_name(0x6969), Some("nfs"));
        assert_eq!(network_name(0xef53), None, "ext4");
        refuse_network(Path::new("here.db")).expect("the build directory is local");
    }
}
