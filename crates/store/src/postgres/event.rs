//! Events on PostgreSQL. How a batch is stored is in `event/insert.rs`.

pub(super) mod insert;

use async_trait::async_trait;
use hetuflow_core::{event::Event, id::EventId};
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::{
    Postgres,
    columns::{at, time},
    leader::guard,
    retrying,
};
use crate::{Committed, EventFilter, EventStore, Ingest, Leadership, Offer, Page, StoreError, row};

pub(in crate::postgres) const BY_ID: &str = "
select * from (
    select *, body_size as size, sum(body_size) over (order by id) as bytes
    from sched_event where id = any($1) and created_at = any($2)
) e where bytes <= $3 or bytes = size order by id";

#[async_trait]
impl EventStore for Postgres {
    async fn ingest(&self, batch: &[Ingest], offers: &[Offer]) -> Result<Committed, StoreError> {
        let committed = retrying!(ingest(self, batch, offers))?;
        if batch.iter().map(|ingest| ingest.tasks.len()).sum::<usize>() > committed.leased.len() {
            self.tasks_changed();
        }
        Ok(committed)
    }

    async fn event(&self, id: EventId) -> Result<Event, StoreError> {
        let row = sqlx::query("select * from sched_event where id = $1 and created_at = $2")
            .bind(id.uuid())
            .bind(at(id.uuid()))
            .fetch_optional(&self.pool)
            .await?
            .ok_or(StoreError::NotFound)?;
        row::event(&row)
    }

    async fn events_by_id(&self, ids: &[EventId], bytes: usize) -> Result<Vec<Event>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
        let mut hot = self.hot().await?;
        let rows = sqlx::query(BY_ID)
            .bind(&ids)
            .bind(ids.iter().map(|id| at(*id)).collect::<Vec<_>>())
            .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
            .fetch_all(&mut *hot)
            .await;
        hot.done(rows)?.iter().map(row::event).collect()
    }

    async fn events(&self, filter: &EventFilter, page: Page) -> Result<Vec<Event>, StoreError> {
        let mut query = select_events(filter, page);
        query.build().fetch_all(&self.pool).await?.iter().map(row::event).collect()
    }

    async fn forget_expired_keys(
        &self,
        leadership: Leadership,
        now: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        retrying!(forget(self, leadership, now, limit))
    }
}

async fn forget(
    db: &Postgres,
    leadership: Leadership,
    now: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    let mut tx = db.begin().await?;
    guard(&mut tx, leadership).await?;
    // What an ingest is at is left to it.
    let gone = sqlx::query(
        "delete from sched_dedupe d using (
            select namespace, scope, key from sched_dedupe where expires_at <= $1
            order by expires_at limit $2 for update skip locked
        ) old
        where d.namespace = old.namespace and d.scope = old.scope and d.key = old.key",
    )
    .bind(time(now))
    .bind(i64::from(limit))
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(gone.rows_affected())
}

/// The statement that stores is atomic by itself: no transaction, one round trip.
async fn ingest(db: &Postgres, batch: &[Ingest], offers: &[Offer]) -> Result<Committed, StoreError> {
    let mut hot = db.hot().await?;
    failpoint!("ingest.before_insert");
    let committed = insert::insert(&mut hot, &db.lanes, batch, offers).await;
    let committed = hot.done(committed)?;
    failpoint!("ingest.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
    Ok(committed)
}

fn select_events(filter: &EventFilter, page: Page) -> QueryBuilder<sqlx::Postgres> {
    let mut query = QueryBuilder::new(
        "select id, namespace, kind, source, type, subject, time, received_at, content_type, headers, query, verdict, \
         verdict_reason, secret, replay_of, decisions, 0 as body_size, ''::bytea as body from sched_event where true",
    );
    if let Some(namespace) = &filter.namespace {
        query.push(" and namespace = ").push_bind(namespace.as_str().to_owned());
    }
    if let Some(kind) = filter.kind {
        query.push(" and kind = ").push_bind(kind.name());
    }
    if let Some(source) = &filter.source {
        query.push(" and (source = ").push_bind(source.clone());
        query.push(" or right(source, length(").push_bind(format!("/{source}"));
        query.push(")) = ").push_bind(format!("/{source}")).push(")");
    }
    if let Some(event_type) = &filter.event_type {
        query.push(" and type = ").push_bind(event_type.clone());
    }
    if let Some(verdict) = &filter.verdict {
        query.push(" and verdict = ").push_bind(verdict.clone());
    }
    if let Some(before) = page.before {
        query.push(" and id < ").push_bind(before).push(" and created_at <= ").push_bind(at(before));
    }
    query.push(" order by id desc limit ").push_bind(row::page_limit(page));
    query
}
