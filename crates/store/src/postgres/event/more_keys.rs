//! Events that are recognised by either of two keys, or put together from parts that have keys: one after the other, in one
//! transaction. Few triggers want it, so the usual batch has nothing of it. Writing a key locks it, so that of two servers with the same one the second waits; what
//! deadlocks is rolled back and tried again.

use hetuflow_core::{event::DedupeKey, id::EventId};
use hetuflow_failpoint::failpoint;
use sqlx::{PgConnection, postgres::PgRow};

use super::insert;
use crate::{
    Committed, Ingest, Ingested, Offer, StoreError,
    postgres::{
        Postgres,
        columns::{text, time},
        lanes,
    },
    row::Columns,
};

pub(super) async fn commit(
    db: &Postgres,
    batch: &[Ingest],
    offers: &[Offer],
) -> Result<Committed, StoreError> {
    // Before the transaction: a lane that it made, and that went away with it, would be remembered all the same.
    let tasks = batch.iter().flat_map(|ingest| &ingest.tasks);
    lanes::ids(&db.lanes, &mut *db.pool.acquire().await?, tasks).await?;
    let mut tx = db.begin().await?;
    let mut committed = Committed::default();
    for ingest in batch {
        let mut one = match &ingest.dedupe {
            Some(dedupe) => insert_one(&mut tx, db, ingest, dedupe, offers).await?,
            None => insert::insert(&mut tx, &db.lanes, std::slice::from_ref(ingest), offers).await?,
        };
        committed.answers.append(&mut one.answers);
        committed.leased.append(&mut one.leased);
    }
    tx.commit().await?;
    failpoint!("keys.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
    Ok(committed)
}

/// Whoever has the first key gets the second: what was recognised by one is recognised by the other next time. Not the other
/// way round: the first may be an id that nobody has signed, and a copy could claim ids of deliveries to come.
async fn insert_one(
    connection: &mut PgConnection,
    db: &Postgres,
    ingest: &Ingest,
    dedupe: &DedupeKey,
    offers: &[Offer],
) -> Result<Committed, StoreError> {
    let (id, namespace) = (ingest.event.id, ingest.event.namespace.as_str());
    let (mut owner, mut mine) = (None, Vec::new());
    for (n, (scope, key)) in dedupe.keys().enumerate() {
        let (scope, key) = (text(&scope).into_owned(), text(key).into_owned());
        let row = sqlx::query(
            "insert into sched_dedupe as d (namespace, scope, key, event_id, expires_at) values ($1, $2, $3, $4, $5)
             on conflict (namespace, scope, key) do update set
                event_id = case when d.expires_at <= $6 then excluded.event_id else d.event_id end,
                expires_at = case when d.expires_at <= $6 then excluded.expires_at else d.expires_at end
             returning event_id",
        )
        .bind(namespace)
        .bind(&scope)
        .bind(&key)
        .bind(id.uuid())
        .bind(time(dedupe.expires_at))
        .bind(time(ingest.event.received_at))
        .fetch_one(&mut *connection)
        .await?;
        match EventId::from_uuid(row.uuid("event_id")?) {
            own if own == id => mine.push((n, (scope, key))),
            other => owner = owner.or(Some(other)),
        }
    }
    let Some(event_id) = owner else {
        let parts = take_parts(connection, ingest, dedupe).await?;
        if let Some((_, event_id)) = parts.first() {
            let answer = Ingested::Duplicate { event_id: *event_id, task_ids: Vec::new(), parts };
            return Ok(Committed { answers: vec![answer], leased: Vec::new() });
        }
        // It has its keys: the first is only written once more.
        return insert::insert(connection, &db.lanes, std::slice::from_ref(ingest), offers).await;
    };
    for (n, (scope, key)) in mine {
        let statement = match n {
            0 => {
                "delete from sched_dedupe where namespace = $1 and scope = $2 and key = $3 and event_id <> $4"
            }
            _ => "update sched_dedupe set event_id = $4 where namespace = $1 and scope = $2 and key = $3",
        };
        sqlx::query(statement)
            .bind(namespace)
            .bind(scope)
            .bind(key)
            .bind(event_id.uuid())
            .execute(&mut *connection)
            .await?;
    }
    let mut answers = vec![Ingested::duplicate_of(event_id)];
    insert::add_tasks(connection, &[event_id.uuid()], &mut answers).await?;
    Ok(Committed { answers, leased: Vec::new() })
}

/// Makes the keys of its parts the event's. Yields those that belong to other events; then it has none, its own included.
async fn take_parts(
    connection: &mut PgConnection,
    ingest: &Ingest,
    dedupe: &DedupeKey,
) -> Result<Vec<(String, EventId)>, StoreError> {
    if dedupe.parts.is_empty() {
        return Ok(Vec::new());
    }
    let (id, namespace, scope) = (ingest.event.id, ingest.event.namespace.as_str(), text(&dedupe.scope));
    let parts: Vec<String> = dedupe.parts.iter().map(|part| text(part).into_owned()).collect();
    // In one order, so that two who want the same wait for each other and do not lock each other out.
    sqlx::query(
        "insert into sched_dedupe as d (namespace, scope, key, event_id, expires_at)
         select $1, $2, key, $4, $5 from (select distinct key from unnest($3::text[]) key order by key) parts
         on conflict (namespace, scope, key) do update set
            event_id = excluded.event_id, expires_at = excluded.expires_at where d.expires_at <= $6",
    )
    .bind(namespace)
    .bind(&*scope)
    .bind(&parts)
    .bind(id.uuid())
    .bind(time(dedupe.expires_at))
    .bind(time(ingest.event.received_at))
    .execute(&mut *connection)
    .await?;
    let others = sqlx::query(
        "select key, event_id from sched_dedupe
         where namespace = $1 and scope = $2 and key = any($3) and event_id <> $4 order by key",
    )
    .bind(namespace)
    .bind(&*scope)
    .bind(&parts)
    .bind(id.uuid())
    .fetch_all(&mut *connection)
    .await?;
    let owned = |row: PgRow| Ok((row.text("key")?, EventId::from_uuid(row.uuid("event_id")?)));
    let others = others.into_iter().map(owned).collect::<Result<Vec<_>, StoreError>>()?;
    if !others.is_empty() {
        let (scopes, mut keys): (Vec<String>, Vec<String>) =
            dedupe.keys().map(|(scope, key)| (text(&scope).into_owned(), text(key).into_owned())).unzip();
        keys.extend(parts);
        sqlx::query(
            "delete from sched_dedupe
             where namespace = $1 and scope = any($2) and key = any($3) and event_id = $4",
        )
        .bind(namespace)
        .bind(scopes)
        .bind(keys)
        .bind(id.uuid())
        .execute(&mut *connection)
        .await?;
    }
    Ok(others)
}
