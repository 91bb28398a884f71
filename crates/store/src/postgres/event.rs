//! Events on PostgreSQL. How a batch is stored is in `event/insert.rs`.

pub(super) mod insert;
mod more_keys;
mod walk;

use async_trait::async_trait;
use hetuflow_core::{
    event::Event,
    id::{EventId, StatusToken},
};
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{
    Postgres,
    columns::{at, time},
    leader::guard,
    retrying,
};
use crate::{
    Committed, EventFilter, EventStore, Ingest, Leadership, Offer, Order, Page, StoreError, Walk, Walked, row,
};

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

    async fn event_of(&self, token: StatusToken) -> Result<Event, StoreError> {
        // Of one millisecond there are few: no index is needed for the token itself.
        let [first, end] = row::ids_beside(token)?;
        let select =
            [walk::WITHOUT_BODY, " where id >= $1 and id < $2 and created_at = $3 and status_token = $4"]
                .concat();
        let found = sqlx::query(AssertSqlSafe(select))
            .bind(first)
            .bind(end)
            .bind(at(token.uuid()))
            .bind(token.uuid())
            .fetch_optional(&self.pool)
            .await?;
        row::event(&found.ok_or(StoreError::NotFound)?)
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
        let limit = row::page_limit(page);
        let stretch = walk::Stretch { order: Order::NewestFirst, from: page.before, end: None, limit };
        walk::select(filter, stretch).build().fetch_all(&self.pool).await?.iter().map(row::event).collect()
    }

    async fn walk_events(&self, filter: &EventFilter, walk: Walk) -> Result<Walked, StoreError> {
        walk::walk(&self.pool, filter, walk).await
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
    if batch.iter().any(Ingest::has_more_keys) {
        return more_keys::commit(db, batch, offers).await;
    }
    let mut hot = db.hot().await?;
    failpoint!("ingest.before_insert");
    let committed = insert::insert(&mut hot, &db.lanes, batch, offers).await;
    let committed = hot.done(committed)?;
    failpoint!("ingest.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
    Ok(committed)
}
