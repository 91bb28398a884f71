//! Writing rows, always in a transaction of the caller.

use std::collections::BTreeMap;

use hetuflow_core::{protocol::FileEvent, trigger::FileSource};
use sqlx::{Row, Sqlite, Transaction, sqlite::SqliteRow};

use super::{Definition, RootRecord, read::decode, text};
use crate::{
    live::counts_alike,
    snapshot::split,
    turn::{Closed, Member, Remember},
};

pub(super) async fn put_definition(
    tx: &mut Transaction<'_, Sqlite>,
    definition: &Definition,
) -> sqlx::Result<()> {
    let sql = "insert into watch (slot, key, revision, source, prior) values (?, ?, ?, ?, ?)
        on conflict (slot) do update set key = excluded.key, revision = excluded.revision,
            source = excluded.source, prior = excluded.prior";
    sqlx::query(sql)
        .bind(&definition.slot)
        .bind(&definition.watch.key)
        .bind(definition.watch.revision)
        .bind(encode(&definition.watch.source)?)
        .bind(definition.prior.as_ref().map(encode).transpose()?)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) async fn put_root(
    tx: &mut Transaction<'_, Sqlite>,
    slot: &str,
    record: &RootRecord,
) -> sqlx::Result<()> {
    let sql = "insert into root (slot, dir, since, done, ino, btime, absent_device) values (?, ?, ?, ?, ?, ?, ?)
        on conflict (slot, dir) do update set since = excluded.since, done = excluded.done, ino = excluded.ino,
            btime = excluded.btime, absent_device = excluded.absent_device";
    sqlx::query(sql)
        .bind(slot)
        .bind(text(&record.dir))
        .bind(record.since)
        .bind(record.done)
        .bind(record.identity.map(|identity| identity.ino.cast_signed()))
        .bind(record.identity.and_then(|identity| identity.btime))
        .bind(record.absent_device.map(u64::cast_signed))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Rows in one statement. It has them as JSON, because a round trip per row is what costs, and SQLite as what it makes of
/// that.
const ROWS: usize = 1024;

/// A path that is forgotten and remembered is remembered.
pub(super) async fn put_files(
    tx: &mut Transaction<'_, Sqlite>,
    slot: &str,
    changes: &[Remember],
) -> sqlx::Result<()> {
    let (put, removed): (Vec<_>, Vec<_>) = changes.iter().partition(|change| change.version.is_some());
    for some in removed.chunks(ROWS).chain(put.chunks(ROWS)) {
        put_rows(tx, slot, some).await?;
    }
    Ok(())
}

/// One statement per kind of change.
async fn put_rows(tx: &mut Transaction<'_, Sqlite>, slot: &str, changes: &[&Remember]) -> sqlx::Result<()> {
    let (mut put, mut removed) = (Vec::new(), Vec::new());
    for change in changes {
        let Some((dir, name)) = split(&change.path) else { continue };
        let (dir, name) = (text(dir), text(name));
        match change.version {
            Some(v) => put.push((dir, name, v.ino.cast_signed(), v.btime, v.size.cast_signed(), v.mtime)),
            None => removed.push((dir, name)),
        }
    }
    if !removed.is_empty() {
        let sql = "delete from file where slot = ?1 and (dir, name) in
            (select value ->> 0, value ->> 1 from json_each(?2))";
        sqlx::query(sql).bind(slot).bind(encode(&removed)?).execute(&mut **tx).await?;
    }
    if !put.is_empty() {
        // `where true` tells the parser that `on` does not belong to a join.
        let sql = "insert into file (slot, dir, name, ino, btime, size, mtime)
            select ?1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5
            from json_each(?2) where true
            on conflict (slot, dir, name) do update set ino = excluded.ino, btime = excluded.btime,
                size = excluded.size, mtime = excluded.mtime";
        sqlx::query(sql).bind(slot).bind(encode(&put)?).execute(&mut **tx).await?;
    }
    Ok(())
}

/// An event that is in the outbox already is not added again.
pub(super) async fn put_events(tx: &mut Transaction<'_, Sqlite>, events: &[FileEvent]) -> sqlx::Result<u64> {
    if events.is_empty() {
        return Ok(0);
    }
    let rows: Vec<_> = events
        .iter()
        .map(|event| Ok((&event.dedupe, &event.key, encode(event)?)))
        .collect::<sqlx::Result<_>>()?;
    let sql = "insert into outbox (dedupe, key, body) select value ->> 0, value ->> 1, value ->> 2 from json_each(?) where true
        on conflict (dedupe) do nothing";
    Ok(sqlx::query(sql).bind(encode(&rows)?).execute(&mut **tx).await?.rows_affected())
}

pub(super) async fn put_members(
    tx: &mut Transaction<'_, Sqlite>,
    slot: &str,
    members: &[Member],
) -> sqlx::Result<()> {
    if members.is_empty() {
        return Ok(());
    }
    let row =
        |member: &Member| Ok((member.group.clone(), member.event.dedupe.clone(), encode(&member.event)?));
    let rows: Vec<_> = members.iter().map(row).collect::<sqlx::Result<_>>()?;
    let sql = "insert into member (slot, grp, dedupe, body)
        select ?1, value ->> 0, value ->> 1, value ->> 2 from json_each(?2) where true
        on conflict (slot, dedupe) do nothing";
    sqlx::query(sql).bind(slot).bind(encode(&rows)?).execute(&mut **tx).await?;
    Ok(())
}

pub(super) async fn put_sequences(
    tx: &mut Transaction<'_, Sqlite>,
    slot: &str,
    sequences: &BTreeMap<String, u64>,
) -> sqlx::Result<()> {
    for (group, next) in sequences {
        let sql = "insert into sequence (slot, grp, next) values (?, ?, ?)
            on conflict (slot, grp) do update set next = excluded.next";
        sqlx::query(sql).bind(slot).bind(group).bind(next.to_string()).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Which numbers were told is known no more where the watch that is stored counts otherwise than this one.
pub(super) async fn keep_sequences(
    tx: &mut Transaction<'_, Sqlite>,
    definition: &Definition,
) -> sqlx::Result<()> {
    let stored = sqlx::query("select source from watch where slot = ?").bind(&definition.slot);
    let stored = stored.try_map(|row: SqliteRow| decode::<FileSource>(row.try_get("source")?));
    let stored = stored.fetch_optional(&mut **tx).await?;
    if stored.is_none_or(|stored| !counts_alike(&stored, &definition.watch.source)) {
        let sql = "delete from sequence where slot = ?";
        sqlx::query(sql).bind(&definition.slot).execute(&mut **tx).await?;
    }
    Ok(())
}

pub(super) async fn remove_members(
    tx: &mut Transaction<'_, Sqlite>,
    slot: &str,
    closed: &Closed,
) -> sqlx::Result<()> {
    let sql = "delete from member where slot = ?1 and dedupe in (select value from json_each(?2))";
    sqlx::query(sql).bind(slot).bind(encode(&closed.members)?).execute(&mut **tx).await?;
    Ok(())
}

pub(super) fn encode<T: serde::Serialize>(value: &T) -> sqlx::Result<String> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}
