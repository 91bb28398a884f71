//! Batches that are none, because the server knows some of their files from other events: a memory that was lost put them
//! together anew, another agent of a shared directory told them first, or they have a key that was there before. The rest
//! of such a batch takes its place.

use std::collections::HashSet;

use hetuflow_core::{
    event::FileFacts,
    id::EventId,
    protocol::{FileBatchAck, FileEvent},
};
use sqlx::{Row, Sqlite, Transaction, sqlite::SqliteRow};

use super::{read::decode, write::encode};
use crate::version;

/// A batch in the outbox.
struct Waiting {
    seq: i64,
    event: FileEvent,
    slot: Option<String>,
    group: Option<String>,
}

/// What followed from it.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    /// Events fewer that are to be told.
    pub(super) removed: u64,
    /// Files whose event has an id now.
    pub(super) concerned: u64,
}

/// Takes what is known out of this batch.
pub(super) async fn resolve(tx: &mut Transaction<'_, Sqlite>, ack: &FileBatchAck) -> sqlx::Result<Resolved> {
    let Some(Waiting { seq, event, slot, group }) = waiting(tx, &ack.dedupe).await? else {
        return Ok(Resolved::default());
    };
    let rest = without(&event, &ack.known);
    tracing::info!(
        file.batch = event.dedupe,
        files = event.members.len(),
        known = ack.known.len(),
        "files of a batch were told in other events: the rest is told without them"
    );
    let sql = "update fate set event = member, event_id = j.value ->> 1 from json_each(?1) j
        where fate.event = ?2 and fate.member = j.value ->> 0";
    let known: Vec<(&str, String)> =
        ack.known.iter().map(|(member, id)| (member.as_str(), id.to_string())).collect();
    let query = sqlx::query(sql).bind(encode(&known)?).bind(&event.dedupe);
    let concerned = query.execute(&mut **tx).await?.rows_affected();
    if let (Some(slot), Some(group), Some(last)) = (&slot, &group, ack.known.iter().map(|(_, id)| id).max()) {
        // In a line at most one of them can be open: the last.
        let sql = "insert into ahead (slot, grp, event, event_id, stands) values (?, ?, ?, ?, 'open')
            on conflict (slot, grp) do nothing";
        let event_id = last.to_string();
        sqlx::query(sql).bind(slot).bind(group).bind(&ack.dedupe).bind(event_id).execute(&mut **tx).await?;
    }
    sqlx::query("delete from outbox where seq = ?").bind(seq).execute(&mut **tx).await?;
    let Some(rest) = rest else { return Ok(Resolved { removed: 1, concerned }) };
    sqlx::query("update fate set event = ? where event = ?")
        .bind(&rest.dedupe)
        .bind(&event.dedupe)
        .execute(&mut **tx)
        .await?;
    let sql = "insert into outbox (seq, dedupe, key, body, slot, grp) values (?, ?, ?, ?, ?, ?)
        on conflict (dedupe) do nothing";
    let insert = sqlx::query(sql).bind(seq).bind(&rest.dedupe).bind(&rest.key).bind(encode(&rest)?);
    let inserted = insert.bind(slot).bind(group).execute(&mut **tx).await?.rows_affected();
    Ok(Resolved { removed: 1 - inserted, concerned })
}

async fn waiting(tx: &mut Transaction<'_, Sqlite>, dedupe: &str) -> sqlx::Result<Option<Waiting>> {
    let row = |row: SqliteRow| {
        Ok(Waiting {
            seq: row.try_get("seq")?,
            event: decode(row.try_get("body")?)?,
            slot: row.try_get("slot")?,
            group: row.try_get("grp")?,
        })
    };
    let sql = "select seq, body, slot, grp from outbox where dedupe = ?";
    sqlx::query(sql).bind(dedupe).try_map(row).fetch_optional(&mut **tx).await
}

/// A batch of the other files. `None`: there are none.
fn without(event: &FileEvent, known: &[(String, EventId)]) -> Option<FileEvent> {
    let known: HashSet<&str> = known.iter().map(|(member, _)| member.as_str()).collect();
    let files = event.members.iter().zip(&event.facts.files);
    let (members, files): (Vec<String>, Vec<FileFacts>) = files
        .filter(|(member, _)| !known.contains(member.as_str()))
        .map(|(member, file)| (member.clone(), file.clone()))
        .unzip();
    (!members.is_empty()).then(|| FileEvent {
        key: event.key.clone(),
        dedupe: version::batch_id(members.iter().map(String::as_str)),
        facts: FileFacts { recheck: event.facts.recheck, ..FileFacts::batch(&event.facts.location(), files) },
        members,
        seen_at: event.seen_at,
    })
}
