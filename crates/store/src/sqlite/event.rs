//! Events on SQLite. How a batch is stored is in `event/insert.rs`.

mod at_once;
pub(super) mod insert;
pub(super) mod known;
mod more_keys;
pub(super) mod rows;
mod walk;

use std::collections::BTreeSet;

use async_trait::async_trait;
use hetuflow_core::{
    event::Event,
    id::{EventId, StatusToken},
};
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use super::{Sqlite, leader::guard};
use crate::{
    Committed, EventFilter, EventStore, Ingest, Leadership, Offer, Order, Page, StoreError, Walk, Walked, row,
};

/// The ids come as JSON. The size of a body stands before it.
pub(super) const BY_ID: &str = "select e.* from ( \
     select e.id, e.body_size as size, sum(e.body_size) over (order by e.id) as bytes \
     from json_each(?) u cross join sched_event e where e.id = unhex(u.value) \
     ) u cross join sched_event e where (u.bytes <= ? or u.bytes = u.size) and e.id = u.id order by u.id";

#[async_trait]
impl EventStore for Sqlite {
    async fn ingest(&self, batch: &[Ingest], offers: &[Offer]) -> Result<Committed, StoreError> {
        let committed = insert::commit(self, batch, offers).await?;
        failpoint!("ingest.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
        if batch.iter().map(|ingest| ingest.tasks.len()).sum::<usize>() > committed.leased.len() {
            self.tasks_changed();
        }
        Ok(committed)
    }

    async fn event(&self, id: EventId) -> Result<Event, StoreError> {
        let row = sqlx::query("select * from sched_event where id = ?")
            .bind(id.uuid())
            .fetch_optional(&self.readers)
            .await?
            .ok_or(StoreError::NotFound)?;
        row::event(&row)
    }

    async fn event_of(&self, token: StatusToken) -> Result<Event, StoreError> {
        // Of one millisecond there are few: no index is needed for the token itself.
        let [first, end] = row::ids_beside(token)?;
        let select = [walk::WITHOUT_BODY, " where id >= ? and id < ? and status_token = ?"].concat();
        let found = sqlx::query(AssertSqlSafe(select))
            .bind(first)
            .bind(end)
            .bind(token.uuid())
            .fetch_optional(&self.readers)
            .await?;
        row::event(&found.ok_or(StoreError::NotFound)?)
    }

    async fn events_by_id(&self, ids: &[EventId], bytes: usize) -> Result<Vec<Event>, StoreError> {
        // Each once: what a body adds to the bytes would count for each mention.
        let ids: BTreeSet<String> = ids.iter().map(|id| id.uuid().simple().to_string()).collect();
        let rows = sqlx::query(BY_ID)
            .bind(row::json(&ids)?)
            .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(row::event).collect()
    }

    async fn events(&self, filter: &EventFilter, page: Page) -> Result<Vec<Event>, StoreError> {
        let limit = row::page_limit(page);
        let stretch = walk::Stretch { order: Order::NewestFirst, from: page.before, end: None, limit };
        walk::select(filter, stretch).build().fetch_all(&self.readers).await?.iter().map(row::event).collect()
    }

    async fn walk_events(&self, filter: &EventFilter, walk: Walk) -> Result<Walked, StoreError> {
        walk::walk(&self.readers, filter, walk).await
    }

    async fn forget_expired_keys(
        &self,
        leadership: Leadership,
        now: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        guard(&mut tx, leadership).await?;
        let gone = sqlx::query(
            "delete from sched_dedupe where (namespace, scope, key) in \
             (select namespace, scope, key from sched_dedupe where expires_at <= ? order by expires_at limit ?)",
        )
        .bind(now.as_microsecond())
        .bind(i64::from(limit))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(gone.rows_affected())
    }
}
