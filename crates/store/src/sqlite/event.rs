//! Events on SQLite. How a batch is stored is in `event/insert.rs`.

mod at_once;
pub(super) mod insert;
pub(super) mod known;
pub(super) mod rows;

use std::collections::BTreeSet;

use async_trait::async_trait;
use hetuflow_core::{event::Event, id::EventId};
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;
use sqlx::QueryBuilder;

use super::{Sqlite, leader::guard};
use crate::{Committed, EventFilter, EventStore, Ingest, Leadership, Offer, Page, StoreError, row};

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
        let mut query = select_events(filter, page);
        query.build().fetch_all(&self.readers).await?.iter().map(row::event).collect()
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

fn select_events(filter: &EventFilter, page: Page) -> QueryBuilder<sqlx::Sqlite> {
    let mut query = QueryBuilder::new(
        "select id, namespace, kind, source, type, subject, time, received_at, content_type, headers, query, verdict, \
         verdict_reason, secret, replay_of, decisions, 0 as body_size, x'' as body from sched_event where true",
    );
    if let Some(namespace) = &filter.namespace {
        query.push(" and namespace = ").push_bind(namespace.as_str().to_owned());
    }
    if let Some(kind) = filter.kind {
        query.push(" and kind = ").push_bind(kind.name());
    }
    if let Some(source) = &filter.source {
        query.push(" and (source = ").push_bind(source.clone());
        query.push(" or substr(source, - length(").push_bind(format!("/{source}"));
        query.push(")) = ").push_bind(format!("/{source}")).push(")");
    }
    if let Some(event_type) = &filter.event_type {
        query.push(" and type = ").push_bind(event_type.clone());
    }
    if let Some(verdict) = &filter.verdict {
        query.push(" and verdict = ").push_bind(verdict.clone());
    }
    if let Some(before) = page.before {
        query.push(" and id < ").push_bind(before);
    }
    query.push(" order by id desc limit ").push_bind(row::page_limit(page));
    query
}
