//! What the server has acknowledged, kept for a while: a server whose database was restored from a backup has forgotten some
//! of it. It is asked for at every connection, by telling the last event of each trigger once more. Whoever answers that it is
//! new, or does not answer, is told everything again that it may have forgotten; what it knows it drops.

use std::time::Duration;

use hetuflow_core::{
    id::AgentId,
    protocol::{FileBatchAck, FileEvent, FileVerdict},
    trigger::FileSource,
};
use jiff::{SignedDuration, Timestamp};
use sqlx::{Row, Sqlite, SqliteConnection, Transaction, sqlite::SqliteRow};

use super::{read::decode, write::encode};

/// Bytes of events that are kept, at most: some 60,000 files.
const MOST: i64 = 32 << 20;

/// Triggers whose last event is told once more; of the others it shows in what is forgotten of these.
const PROBES: u32 = 100;

const ASKED: &str = "select exists (select 1 from told where asked = 1)";

/// Who is told, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Telling<'a> {
    pub(crate) agent: &'a AgentId,
    pub(crate) now: Timestamp,
}

/// What the server recognises the events of a trigger by, beside their keys, and for how long.
struct Terms {
    teller: String,
    until: i64,
}

/// Moves what is acknowledged from the outbox to here.
pub(super) async fn keep(
    tx: &mut Transaction<'_, Sqlite>,
    acks: &[&FileBatchAck],
    telling: Telling<'_>,
) -> sqlx::Result<u64> {
    let known = acks.iter().filter(|ack| ack.event_id.is_some());
    let mut keys: Vec<&str> = known.map(|ack| ack.key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let Some(terms) = terms(tx, key, telling).await? else { continue };
        let of_key = acks.iter().filter(|ack| ack.key == key && ack.event_id.is_some());
        let sql = "insert or replace into told (dedupe, key, teller, until, body, asked, slot, grp, upto)
            select dedupe, ?1, ?2, ?3, body, 0, slot, grp,
                (select coalesce(max(upto), 0) from told) + sum(length(body)) over (order by seq)
            from outbox where dedupe in (select value from json_each(?4)) order by seq";
        sqlx::query(sql)
            .bind(key)
            .bind(terms.teller)
            .bind(terms.until)
            .bind(encode(&of_key.map(|ack| &ack.dedupe).collect::<Vec<_>>())?)
            .execute(&mut **tx)
            .await?;
    }
    let sql = "delete from outbox where dedupe in (select value from json_each(?))";
    let all = encode(&acks.iter().map(|ack| &ack.dedupe).collect::<Vec<_>>())?;
    let removed = sqlx::query(sql).bind(all).execute(&mut **tx).await?.rows_affected();
    let sql = "delete from told where upto <= (select max(upto) from told) - ?";
    sqlx::query(sql).bind(MOST).execute(&mut **tx).await?;
    Ok(removed)
}

/// What is known of the events that were told once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// None of them waits for an answer.
    Nothing,
    Waits,
    /// Some were forgotten: events wait in the outbox again.
    Again,
}

/// What the answers say about those that were told once more.
pub(super) async fn judge(
    tx: &mut Transaction<'_, Sqlite>,
    acks: &[FileBatchAck],
    telling: Telling<'_>,
) -> sqlx::Result<Answer> {
    let keys = |wanted: fn(FileVerdict) -> bool| {
        encode(&acks.iter().filter(|ack| wanted(ack.verdict)).map(|ack| &ack.dedupe).collect::<Vec<_>>())
    };
    let sql = "select count(*) from told where asked = 1 and dedupe in (select value from json_each(?))";
    let forgotten: i64 = sqlx::query_scalar(sql)
        .bind(keys(|verdict| matches!(verdict, FileVerdict::Accepted | FileVerdict::Overlaps))?)
        .fetch_one(&mut **tx)
        .await?;
    if forgotten > 0 && again(tx, telling).await? {
        return Ok(Answer::Again);
    }
    let sql = "update told set asked = 0 where asked = 1 and dedupe in (select value from json_each(?))";
    sqlx::query(sql).bind(keys(|_| true)?).execute(&mut **tx).await?;
    let waits = sqlx::query_scalar(ASKED).fetch_one(&mut **tx).await?;
    Ok(if waits { Answer::Waits } else { Answer::Nothing })
}

/// The events to be told once more, of the latest so many as `room` bytes hold, and at least one: an old database lacks what
/// came last. Where an earlier question has no answer, the server may have taken them as new since: then everything is
/// told again, and nothing is asked.
pub(super) async fn ask(
    tx: &mut Transaction<'_, Sqlite>,
    mut room: usize,
    telling: Telling<'_>,
) -> sqlx::Result<Vec<FileEvent>> {
    if sqlx::query_scalar(ASKED).fetch_one(&mut **tx).await? {
        again(tx, telling).await?;
        return Ok(Vec::new());
    }
    // Of each group the columns are those of the row with the highest place.
    let sql = "select max(seq) as seq, key, teller, body from told
        where until > ? and dedupe not in (select dedupe from outbox) group by key, teller order by 1 desc limit ?";
    let row = |row: SqliteRow| {
        Ok((row.try_get("seq")?, row.try_get("key")?, row.try_get("teller")?, row.try_get("body")?))
    };
    let last: Vec<(i64, String, String, String)> =
        sqlx::query(sql).bind(telling.now.as_second()).bind(PROBES).try_map(row).fetch_all(&mut **tx).await?;
    let mut asked = Vec::new();
    for (seq, key, teller, body) in last {
        if terms(tx, &key, telling).await?.is_some_and(|terms| terms.teller == teller) {
            if body.len() > room && !asked.is_empty() {
                break;
            }
            room = room.saturating_sub(body.len());
            sqlx::query("update told set asked = 1 where seq = ?").bind(seq).execute(&mut **tx).await?;
            asked.push(decode(&body)?);
        }
    }
    Ok(asked)
}

/// Puts everything back into the outbox that the server would recognise. Yields whether there is anything.
async fn again(tx: &mut Transaction<'_, Sqlite>, telling: Telling<'_>) -> sqlx::Result<bool> {
    let keys: Vec<String> = sqlx::query_scalar("select distinct key from told").fetch_all(&mut **tx).await?;
    let mut rows = 0;
    for key in keys {
        let Some(terms) = terms(tx, &key, telling).await? else { continue };
        let of_key = "from told where key = ? and teller = ? and until > ?";
        let now = telling.now.as_second();
        for sql in [
            format!(
                "update fate set event_id = null where verdict = 'open' and event in (select dedupe {of_key})"
            ),
            format!("delete from ahead where event in (select dedupe {of_key})"),
            format!(
                "insert into outbox (dedupe, key, body, slot, grp) select dedupe, key, body, slot, grp {of_key} order by seq on conflict (dedupe) do nothing"
            ),
        ] {
            let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&key).bind(&terms.teller).bind(now);
            rows = query.execute(&mut **tx).await?.rows_affected().max(rows);
        }
    }
    sqlx::query("update told set asked = 0 where asked = 1").execute(&mut **tx).await?;
    if rows > 0 {
        tracing::warn!(
            "the server has forgotten files that it was told of: its database was restored, or an answer was lost; they are told again"
        );
    }
    Ok(rows > 0)
}

/// `None`: it is not watched for any more.
async fn terms(
    connection: &mut SqliteConnection,
    key: &str,
    telling: Telling<'_>,
) -> sqlx::Result<Option<Terms>> {
    let sql = "select source from watch where key = ?";
    let row = |row: SqliteRow| decode::<FileSource>(row.try_get("source")?);
    let sources = sqlx::query(sql).bind(key).try_map(row).fetch_all(connection).await?;
    let shared = sources.iter().any(|source| source.share.is_some());
    // With room for clocks that differ.
    let known_for = |source: &FileSource| source.dedupe.ttl / 9 * 8;
    Ok(sources.iter().map(known_for).min().map(|known_for: Duration| Terms {
        teller: format!("{}{}", telling.agent, if shared { " shared" } else { "" }),
        until: telling
            .now
            .saturating_add(SignedDuration::try_from(known_for).unwrap_or(SignedDuration::MAX))
            .unwrap_or(Timestamp::MAX)
            .as_second(),
    }))
}
