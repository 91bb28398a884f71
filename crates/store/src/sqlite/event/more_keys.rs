//! Events that are recognised by either of two keys, or put together from parts that have keys: one after the other, in one
//! transaction. Few triggers want it, so the usual batch has nothing of it.

use hetuflow_core::{event::DedupeKey, id::EventId};
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;

use super::insert;
use crate::{
    Committed, Ingest, Ingested, Offer, StoreError,
    row::{Columns, json},
    sqlite::{Sqlite, Tx},
};

pub(super) async fn commit(db: &Sqlite, batch: &[Ingest], offers: &[Offer]) -> Result<Committed, StoreError> {
    let mut tx = db.begin().await?;
    let mut committed = Committed::default();
    for ingest in batch {
        let mut one = match &ingest.dedupe {
            Some(dedupe) => insert_one(&mut tx, ingest, dedupe, offers).await?,
            None => insert::insert(&mut tx, std::slice::from_ref(ingest), offers).await?,
        };
        committed.answers.append(&mut one.answers);
        committed.leased.append(&mut one.leased);
    }
    tx.commit().await?;
    Ok(committed)
}

/// Whoever has the first key gets the second: what was recognised by one is recognised by the other next time. Not the other
/// way round: the first may be an id that nobody has signed, and a copy could claim ids of deliveries to come.
async fn insert_one(
    tx: &mut Tx,
    ingest: &Ingest,
    dedupe: &DedupeKey,
    offers: &[Offer],
) -> Result<Committed, StoreError> {
    let namespace = ingest.event.namespace.as_str();
    let keys: Vec<(String, &str)> = dedupe.keys().collect();
    let mut owners = Vec::with_capacity(keys.len());
    for (scope, key) in &keys {
        owners.push(owner_of(tx, namespace, (scope, key), ingest.event.received_at).await?);
    }
    let owner = owners.iter().copied().flatten().next();
    if owner.is_none() {
        let parts = take_parts(tx, ingest, dedupe).await?;
        if let Some((_, event_id)) = parts.first() {
            let answer = Ingested::Duplicate { event_id: *event_id, task_ids: Vec::new(), parts };
            return Ok(Committed { answers: vec![answer], leased: Vec::new() });
        }
    }
    let event_id = owner.unwrap_or(ingest.event.id);
    let by_second_alone = owner.is_some() && owners.first() == Some(&None);
    for (scope, key) in keys.iter().skip(usize::from(by_second_alone)) {
        sqlx::query(
            "insert into sched_dedupe (namespace, scope, key, event_id, expires_at) values (?1, ?2, ?3, ?4, ?5) \
             on conflict (namespace, scope, key) do update set event_id = excluded.event_id, \
             expires_at = excluded.expires_at where expires_at <= ?6",
        )
        .bind(namespace)
        .bind(scope.as_str())
        .bind(*key)
        .bind(event_id.uuid())
        .bind(dedupe.expires_at.as_microsecond())
        .bind(ingest.event.received_at.as_microsecond())
        .execute(&mut **tx)
        .await?;
    }
    if let Some(event_id) = owner {
        let mut answers = vec![Ingested::duplicate_of(event_id)];
        insert::add_tasks(tx, &mut answers).await?;
        return Ok(Committed { answers, leased: Vec::new() });
    }
    let unkeyed = Ingest { dedupe: None, ..ingest.clone() };
    insert::insert(tx, std::slice::from_ref(&unkeyed), offers).await
}

async fn owner_of(
    tx: &mut Tx,
    namespace: &str,
    (scope, key): (&str, &str),
    at: Timestamp,
) -> Result<Option<EventId>, StoreError> {
    let row = sqlx::query(
        "select event_id from sched_dedupe where namespace = ?1 and scope = ?2 and key = ?3 and expires_at > ?4",
    )
    .bind(namespace)
    .bind(scope)
    .bind(key)
    .bind(at.as_microsecond())
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| row.uuid("event_id").map(EventId::from_uuid)).transpose()
}

/// Makes the keys of its parts the event's, unless some belong to other events: yields those.
async fn take_parts(
    tx: &mut Tx,
    ingest: &Ingest,
    dedupe: &DedupeKey,
) -> Result<Vec<(String, EventId)>, StoreError> {
    if dedupe.parts.is_empty() {
        return Ok(Vec::new());
    }
    let (namespace, parts) = (ingest.event.namespace.as_str(), json(&dedupe.parts)?);
    let (id, now) = (ingest.event.id.uuid(), ingest.event.received_at.as_microsecond());
    let others = sqlx::query(
        "select d.key, d.event_id from json_each(?1) u cross join sched_dedupe d \
         where d.namespace = ?2 and d.scope = ?3 and d.key = u.value and d.expires_at > ?4 and d.event_id <> ?5 \
         order by d.key",
    )
    .bind(&parts)
    .bind(namespace)
    .bind(&dedupe.scope)
    .bind(now)
    .bind(id)
    .fetch_all(&mut **tx)
    .await?;
    if others.is_empty() {
        // `where true` tells the parser that `on` does not belong to a join.
        sqlx::query(
            "insert into sched_dedupe (namespace, scope, key, event_id, expires_at) \
             select ?2, ?3, value, ?4, ?5 from json_each(?1) where true \
             on conflict (namespace, scope, key) do update set event_id = excluded.event_id, \
             expires_at = excluded.expires_at",
        )
        .bind(&parts)
        .bind(namespace)
        .bind(&dedupe.scope)
        .bind(id)
        .bind(dedupe.expires_at.as_microsecond())
        .execute(&mut **tx)
        .await?;
    }
    let owned = |row: SqliteRow| Ok((row.text("key")?, EventId::from_uuid(row.uuid("event_id")?)));
    others.into_iter().map(owned).collect()
}
