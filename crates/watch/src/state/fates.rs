//! Files that wait for the end of their tasks, and those whose fate is known and not fulfilled.

use hetuflow_core::{
    id::EventId,
    protocol::{FileBatchAck, FileOutcome},
};
use sqlx::{Row, Sqlite, SqliteConnection, SqlitePool, Transaction, sqlite::SqliteRow};

use super::{
    read::{path, version},
    text,
    write::encode,
};
use crate::{
    fate::{Fate, Verdict},
    snapshot::split,
    turn::Closed,
};

/// A fate as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredFate {
    pub(crate) seq: i64,
    pub(crate) slot: String,
    pub(crate) fate: Fate,
}

pub(super) async fn put(tx: &mut Transaction<'_, Sqlite>, slot: &str, fates: &[Fate]) -> sqlx::Result<()> {
    for fate in fates {
        let Some((dir, name)) = split(&fate.path) else { continue };
        let sql = "insert into fate (slot, event, dir, name, ino, btime, size, mtime, verdict)
            values (?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let version = fate.version;
        sqlx::query(sql)
            .bind(slot)
            .bind(&fate.event)
            .bind(text(dir))
            .bind(text(name))
            .bind(version.ino.cast_signed())
            .bind(version.btime)
            .bind(version.size.cast_signed())
            .bind(version.mtime)
            .bind(fate.verdict.name())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// The files of a batch share the fate of its event.
pub(super) async fn join(tx: &mut Transaction<'_, Sqlite>, event: &str, closed: &Closed) -> sqlx::Result<()> {
    let sql = "update fate set event = ?1, member = event where event in (select value from json_each(?2))";
    sqlx::query(sql).bind(event).bind(encode(&closed.members)?).execute(&mut **tx).await?;
    Ok(())
}

/// The server has these events, each with the id that it gave; files of events without one stay as they are. Yields how
/// many are concerned.
pub(super) async fn acknowledge(
    connection: &mut SqliteConnection,
    acks: &[&FileBatchAck],
) -> sqlx::Result<u64> {
    let mut concerned = 0;
    let known: Vec<_> =
        acks.iter().filter_map(|ack| Some((&ack.dedupe, ack.event_id?.to_string()))).collect();
    if !known.is_empty() {
        let sql =
            "update fate set event_id = j.value ->> 1 from json_each(?) j where fate.event = j.value ->> 0";
        concerned = sqlx::query(sql).bind(encode(&known)?).execute(&mut *connection).await?.rows_affected();
    }
    let unknown: Vec<_> = acks.iter().filter(|ack| ack.event_id.is_none()).map(|ack| &ack.dedupe).collect();
    if !unknown.is_empty() {
        let sql = "delete from fate where event in (select value from json_each(?))";
        sqlx::query(sql).bind(encode(&unknown)?).execute(connection).await?;
    }
    Ok(concerned)
}

/// Events whose end is waited for, from the one after `last` on, in the order in which they were told.
pub(super) async fn open(pool: &SqlitePool, last: i64, limit: u32) -> sqlx::Result<Vec<(i64, EventId)>> {
    let sql = "select min(seq) as seq, event_id from fate
        where verdict = 'open' and event_id is not null and seq > ? group by event_id order by 1 limit ?";
    let row = |row: SqliteRow| {
        let id: &str = row.try_get("event_id")?;
        let id = id.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok((row.try_get("seq")?, id))
    };
    sqlx::query(sql).bind(last).bind(limit).try_map(row).fetch_all(pool).await
}

pub(super) async fn decide(pool: &SqlitePool, event_id: EventId, outcome: FileOutcome) -> sqlx::Result<u64> {
    let id = event_id.to_string();
    let done = match Verdict::of(outcome) {
        Some(Verdict::Open) => return Ok(0),
        Some(verdict) => {
            let sql = "update fate set verdict = ? where event_id = ? and verdict = 'open'";
            sqlx::query(sql).bind(verdict.name()).bind(id).execute(pool).await?
        }
        None => {
            let sql = "delete from fate where event_id = ? and verdict = 'open'";
            sqlx::query(sql).bind(id).execute(pool).await?;
            return Ok(0);
        }
    };
    Ok(done.rows_affected())
}

/// Nothing is done before the server has the event: a power cut that made us forget it would find the file changed.
pub(super) async fn decided(
    pool: &SqlitePool,
    slots: &[String],
    limit: u32,
) -> sqlx::Result<Vec<StoredFate>> {
    let sql = "select seq, slot, event, dir, name, ino, btime, size, mtime, verdict from fate
        where verdict != 'open' and event_id is not null and slot in (select value from json_each(?))
        order by seq limit ?";
    let row = |row: SqliteRow| {
        let verdict = Verdict::from_name(row.try_get("verdict")?);
        let fate = Fate { event: row.try_get("event")?, path: path(&row)?, version: version(&row)?, verdict };
        Ok(StoredFate { seq: row.try_get("seq")?, slot: row.try_get("slot")?, fate })
    };
    sqlx::query(sql).bind(encode(&slots)?).bind(limit).try_map(row).fetch_all(pool).await
}

/// They are fulfilled. Files that are gone by it are forgotten: nobody deleted them.
pub(super) async fn finish(pool: &SqlitePool, done: &[i64], gone: &[StoredFate]) -> sqlx::Result<()> {
    let mut tx = pool.begin().await?;
    let sql = "delete from fate where seq in (select value from json_each(?))";
    sqlx::query(sql).bind(encode(&done)?).execute(&mut *tx).await?;
    for one in gone {
        let Some((dir, name)) = split(&one.fate.path) else { continue };
        sqlx::query("delete from file where slot = ? and dir = ? and name = ?")
            .bind(&one.slot)
            .bind(text(dir))
            .bind(text(name))
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await
}
