//! Events that are recognised by either of two keys: one after the other, in one transaction. Few hooks want it, so the
//! usual batch has nothing of it. Writing a key locks it, so that of two servers with the same one the second waits; what
//! deadlocks is rolled back and tried again.

use hetuflow_core::{event::DedupeKey, id::EventId};
use hetuflow_failpoint::failpoint;
use sqlx::PgConnection;

use super::insert;
use crate::{
    Committed, Ingest, Ingested, Offer, StoreError,
    postgres::{
        Postgres,
        columns::{text, time},
    },
    row::Columns,
};

pub(super) async fn commit(
    db: &Postgres,
    batch: &[Ingest],
    offers: &[Offer],
) -> Result<Committed, StoreError> {
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

/// Whoever has one of the keys gets the other: what was recognised by one is recognised by the other next time.
async fn insert_one(
    connection: &mut PgConnection,
    db: &Postgres,
    ingest: &Ingest,
    dedupe: &DedupeKey,
    offers: &[Offer],
) -> Result<Committed, StoreError> {
    let (id, namespace) = (ingest.event.id, ingest.event.namespace.as_str());
    let (mut owner, mut mine) = (None, Vec::new());
    for (scope, key) in dedupe.keys() {
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
            own if own == id => mine.push((scope, key)),
            other => owner = owner.or(Some(other)),
        }
    }
    let Some(event_id) = owner else {
        // It has its keys: the first is only written once more.
        return insert::insert(connection, &db.lanes, std::slice::from_ref(ingest), offers).await;
    };
    for (scope, key) in mine {
        sqlx::query("update sched_dedupe set event_id = $4 where namespace = $1 and scope = $2 and key = $3")
            .bind(namespace)
            .bind(scope)
            .bind(key)
            .bind(event_id.uuid())
            .execute(&mut *connection)
            .await?;
    }
    let mut answers = vec![Ingested::Duplicate { event_id, task_ids: Vec::new() }];
    insert::add_tasks(connection, &[event_id.uuid()], &mut answers).await?;
    Ok(Committed { answers, leased: Vec::new() })
}
