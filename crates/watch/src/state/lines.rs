//! Lines of a strict order: which event is ahead in each. One that is in the outbox is ahead; once the server has it, it is
//! in `ahead` until its tasks have ended well. What is told comes from here too: of each line one event at a time, also
//! where a server that has forgotten them is told of many once more.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use hetuflow_core::{
    id::EventId,
    protocol::{FileBatchAck, FileEvent, FileOutcome},
};
use sqlx::{Row, Sqlite, SqliteConnection, SqlitePool, Transaction, sqlite::SqliteRow};

use super::{State, read::decode, write::encode};
use crate::{
    WatchError,
    live::{Ahead, Heads, Stands},
};

impl State {
    /// Events whose end lines of a strict order wait for, after `last`.
    pub(crate) async fn followed(&self, last: i64, limit: u32) -> Result<Vec<(i64, EventId)>, WatchError> {
        followed(&self.pool, last, limit).await.map_err(|error| self.error(error))
    }

    pub(crate) fn lined(&self) -> u64 {
        self.lined.load(Ordering::Relaxed)
    }

    /// Who is ahead in the lines of these watches; `None`: as when it was last asked.
    pub(crate) async fn heads(
        &self,
        slots: &[String],
        seen: &mut Option<u64>,
    ) -> Result<Option<BTreeMap<String, Heads>>, WatchError> {
        let lined = self.lined();
        if *seen == Some(lined) {
            return Ok(None);
        }
        let heads = heads(&self.pool, slots).await.map_err(|error| self.error(error))?;
        *seen = Some(lined);
        Ok(Some(heads))
    }
}

/// These events are in lines: their dedupe keys, by group.
pub(super) async fn put(
    tx: &mut Transaction<'_, Sqlite>,
    slot: &str,
    lines: &BTreeMap<String, String>,
) -> sqlx::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let sql = "update outbox set slot = ?1, grp = j.key from json_each(?2) j where outbox.dedupe = j.value";
    sqlx::query(sql).bind(slot).bind(encode(lines)?).execute(&mut **tx).await?;
    Ok(())
}

/// The first events to be told, of all keys but these: all that are in no line, and of each line the first, while nobody
/// is ahead there.
pub(super) async fn pending(
    pool: &SqlitePool,
    except: &[String],
    limit: u32,
) -> sqlx::Result<Vec<FileEvent>> {
    let sql = "select body from outbox o where (grp is null or (
            not exists (select 1 from ahead a where a.slot = o.slot and a.grp = o.grp and a.event != o.dedupe)
            and o.seq = (select min(seq) from outbox f where f.slot = o.slot and f.grp = o.grp)))
            and key not in (select value from json_each(?))
        order by seq limit ?";
    let row = |row: SqliteRow| decode(row.try_get::<&str, _>("body")?);
    sqlx::query(sql).bind(encode(&except)?).bind(limit).try_map(row).fetch_all(pool).await
}

/// The server has these events: those in lines are ahead there. To be called while they are in the outbox.
pub(super) async fn acknowledge(
    connection: &mut SqliteConnection,
    acks: &[&FileBatchAck],
) -> sqlx::Result<u64> {
    let sql = "select exists (select 1 from outbox where grp is not null)";
    if !sqlx::query_scalar(sql).fetch_one(&mut *connection).await? {
        return Ok(0);
    }
    let known: Vec<_> =
        acks.iter().filter_map(|ack| Some((&ack.dedupe, ack.event_id?.to_string()))).collect();
    let sql = "insert into ahead (slot, grp, event, event_id, stands)
        select o.slot, o.grp, o.dedupe, j.value ->> 1, 'open' from json_each(?) j
        join outbox o on o.dedupe = j.value ->> 0 where o.grp is not null order by o.seq
        on conflict (slot, grp) do nothing";
    Ok(sqlx::query(sql).bind(encode(&known)?).execute(connection).await?.rows_affected())
}

/// Events whose end lines wait for, after the place `last`, each with its place.
pub(super) async fn followed(pool: &SqlitePool, last: i64, limit: u32) -> sqlx::Result<Vec<(i64, EventId)>> {
    let sql = "select seq, event_id from ahead where seq > ? order by seq limit ?";
    let row = |row: SqliteRow| Ok((row.try_get("seq")?, event_id(&row)?));
    sqlx::query(sql).bind(last).bind(limit).try_map(row).fetch_all(pool).await
}

/// How the tasks of an event stand. Yields how many lines are concerned. One whose trigger goes on after a failure goes
/// on; one of which nothing is known has nothing to wait for.
pub(super) async fn decide(pool: &SqlitePool, event: EventId, outcome: FileOutcome) -> sqlx::Result<u64> {
    let id = event.to_string();
    let sql = "select exists (select 1 from ahead where event_id = ?)";
    if !sqlx::query_scalar(sql).bind(&id).fetch_one(pool).await? {
        return Ok(0);
    }
    let stands = match outcome {
        FileOutcome::Succeeded | FileOutcome::Cancelled | FileOutcome::Unknown => None,
        FileOutcome::Open => Some(Stands::Open),
        FileOutcome::Failed => Some(Stands::Failed),
        FileOutcome::Lost => Some(Stands::Lost),
    };
    let Some(stands) = stands else {
        let sql = "delete from ahead where event_id = ?";
        return Ok(sqlx::query(sql).bind(id).execute(pool).await?.rows_affected());
    };
    let mut concerned = 0;
    if stands == Stands::Failed {
        let sql = "delete from ahead where event_id = ? and exists (select 1 from watch w
            where w.slot = ahead.slot and w.source ->> '$.strict.on_failure' = 'continue')";
        concerned = sqlx::query(sql).bind(&id).execute(pool).await?.rows_affected();
    }
    let sql = "update ahead set stands = ?1 where event_id = ?2 and stands != ?1";
    let done = sqlx::query(sql).bind(stands.name()).bind(id).execute(pool).await?;
    Ok(concerned + done.rows_affected())
}

/// Who is ahead in the lines of these watches.
pub(super) async fn heads(pool: &SqlitePool, slots: &[String]) -> sqlx::Result<BTreeMap<String, Heads>> {
    // Whoever is ahead at the server comes last, and is the one that others wait for.
    let sql = "with wanted as (select value as slot from json_each(?))
        select slot, grp, null as event_id, 'open' as stands, 0 as place from outbox
        where grp is not null and slot in (select slot from wanted)
        union all select slot, grp, event_id, stands, 1 from ahead where slot in (select slot from wanted)
        order by place";
    let row = |row: SqliteRow| {
        let known = row.try_get::<Option<&str>, _>("event_id")?.is_some();
        let event_id = known.then(|| event_id(&row)).transpose()?;
        let stands = Stands::from_name(row.try_get("stands")?);
        Ok((row.try_get("slot")?, row.try_get("grp")?, Ahead { event_id, stands }))
    };
    let rows: Vec<(String, String, Ahead)> =
        sqlx::query(sql).bind(encode(&slots)?).try_map(row).fetch_all(pool).await?;
    let mut heads = BTreeMap::<String, Heads>::new();
    for (slot, group, ahead) in rows {
        heads.entry(slot).or_default().insert(group, ahead);
    }
    Ok(heads)
}

/// The trigger has no strict order any more: nobody waits for anybody.
pub(super) async fn dissolve(tx: &mut Transaction<'_, Sqlite>, slot: &str) -> sqlx::Result<()> {
    for sql in ["delete from ahead where slot = ?", "update outbox set grp = null where slot = ?"] {
        sqlx::query(sql).bind(slot).execute(&mut **tx).await?;
    }
    Ok(())
}

fn event_id(row: &SqliteRow) -> sqlx::Result<EventId> {
    let id: &str = row.try_get("event_id")?;
    id.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
