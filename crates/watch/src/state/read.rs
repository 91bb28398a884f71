//! Reading rows.

use std::path::PathBuf;

use hetuflow_core::protocol::Watch;
use sqlx::{Row, sqlite::SqliteRow};

use super::{Definition, RootRecord, text};
use crate::{probe::DirIdentity, turn::Member, version::Version};

pub(super) fn definition(row: &SqliteRow) -> sqlx::Result<Definition> {
    let source = decode(row.try_get("source")?)?;
    let watch = Watch { key: row.try_get("key")?, revision: row.try_get("revision")?, source };
    let prior = row.try_get::<Option<&str>, _>("prior")?.map(decode).transpose()?;
    Ok(Definition { slot: row.try_get("slot")?, watch, prior })
}

pub(super) fn root(row: &SqliteRow) -> sqlx::Result<RootRecord> {
    let ino: Option<i64> = row.try_get("ino")?;
    let btime = row.try_get("btime")?;
    Ok(RootRecord {
        dir: text::path(row.try_get("dir")?),
        since: row.try_get("since")?,
        done: row.try_get("done")?,
        identity: ino.map(|ino| DirIdentity { ino: ino.cast_unsigned(), btime }),
        absent_device: row.try_get::<Option<i64>, _>("absent_device")?.map(i64::cast_unsigned),
    })
}

pub(super) fn file(row: &SqliteRow) -> sqlx::Result<(PathBuf, Version)> {
    Ok((path(row)?, version(row)?))
}

/// The path of a file.
pub(super) fn path(row: &SqliteRow) -> sqlx::Result<PathBuf> {
    Ok(text::path(row.try_get("dir")?).join(text::path(row.try_get("name")?)))
}

pub(super) fn version(row: &SqliteRow) -> sqlx::Result<Version> {
    Ok(Version {
        ino: row.try_get::<i64, _>("ino")?.cast_unsigned(),
        btime: row.try_get("btime")?,
        size: row.try_get::<i64, _>("size")?.cast_unsigned(),
        mtime: row.try_get("mtime")?,
    })
}

pub(super) fn member(row: &SqliteRow) -> sqlx::Result<Member> {
    Ok(Member { group: row.try_get("grp")?, event: decode(row.try_get("body")?)? })
}

pub(super) fn decode<T: serde::de::DeserializeOwned>(text: &str) -> sqlx::Result<T> {
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
