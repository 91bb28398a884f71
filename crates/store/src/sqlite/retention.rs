//! Retention on SQLite: rows in chunks, each chunk one short transaction between others' commits, and free pages
//! given back to the file system.

mod share;

use async_trait::async_trait;
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;

use super::{Sqlite, leader::guard};
use crate::{
    Dropped, Leadership, Piece, RetentionStore, Size, Stock, StoreError, Trimmed, Weighed, Whose,
    row::{self, Columns},
};

#[async_trait]
impl RetentionStore for Sqlite {
    async fn prepare_partitions(&self, _leadership: Leadership) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn drop_before(
        &self,
        leadership: Leadership,
        stock: Stock,
        before: Timestamp,
        limit: u32,
    ) -> Result<Dropped, StoreError> {
        let mut tx = self.begin().await?;
        guard(&mut tx, leadership).await?;
        let mut rows = 0;
        for &statement in statements(stock) {
            let query = sqlx::query(statement);
            let query = match stock {
                Stock::Fires => query.bind(before.as_microsecond()),
                Stock::Events | Stock::Tasks | Stock::Output => query.bind(row::first_id(before)),
            };
            rows += query.bind(i64::from(limit)).execute(&mut *tx).await?.rows_affected();
        }
        failpoint!("drop.before_commit");
        tx.commit().await?;
        failpoint!("drop.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
        Ok(Dropped { rows, more: rows >= u64::from(limit), ..Dropped::default() })
    }

    async fn trim(
        &self,
        leadership: Leadership,
        stock: Stock,
        whose: &Whose,
        piece: Piece,
    ) -> Result<Trimmed, StoreError> {
        share::trim(self, leadership, stock, whose, piece).await
    }

    async fn weigh(&self, stock: Stock, piece: Piece) -> Result<Weighed, StoreError> {
        share::weigh(self, stock, piece).await
    }

    async fn size(&self) -> Result<Size, StoreError> {
        let row = sqlx::query(
            "select (page_count - freelist_count) * page_size as bytes, \
             (select min(created_at) from ( \
             select * from (select created_at from sched_event order by id limit 1) union all \
             select * from (select created_at from sched_task order by id limit 1) union all \
             select * from (select created_at from sched_task_output order by instance_id limit 1))) as oldest \
             from pragma_page_count, pragma_freelist_count, pragma_page_size",
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(Size { bytes: row::number(&row, "bytes")?, oldest: row.time_or_null("oldest")? })
    }

    /// A tenth of the file stays free for what comes: growing and shrinking it again would cost more.
    async fn shrink(&self, leadership: Leadership, pages: u32) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        guard(&mut tx, leadership).await?;
        let row = sqlx::query(
            "select max(0, freelist_count - page_count / 10) as spare \
             from pragma_page_count, pragma_freelist_count",
        )
        .fetch_one(&mut *tx)
        .await?;
        let spare = row.int("spare")?.min(i64::from(pages));
        if spare > 0 {
            let statement = format!("pragma incremental_vacuum({spare})");
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(spare == i64::from(pages))
    }
}

fn statements(stock: Stock) -> &'static [&'static str] {
    match stock {
        Stock::Events => &["delete from sched_event where id in ( \
             select e.id from sched_event e where e.id < ?1 and not exists ( \
             select 1 from sched_task t where t.event_id = e.id and t.status in (1, 2, 5, 8, 10)) \
             order by e.id limit ?2)"],
        Stock::Tasks => &[
            "delete from sched_task where id in ( \
             select id from sched_task where id < ?1 and status not in (1, 2, 5, 8, 10) \
             order by id limit ?2)",
            "delete from sched_attempt where id in ( \
             select a.id from sched_attempt a where a.id < ?1 and not exists ( \
             select 1 from sched_task t where t.id = a.task_id and t.status in (1, 2, 5, 8, 10)) \
             order by a.id limit ?2)",
        ],
        Stock::Output => &["delete from sched_task_output where (instance_id, seq) in ( \
             select o.instance_id, o.seq from sched_task_output o \
             where o.instance_id < ?1 and not exists ( \
             select 1 from sched_attempt a join sched_task t on t.id = a.task_id \
             where a.id = o.instance_id and t.status in (1, 2, 5, 8, 10)) \
             and o.instance_id not in (select instance_id from sched_task where status in (5, 8, 10)) \
             order by o.instance_id, o.seq limit ?2)"],
        Stock::Fires => &["delete from sched_fire where (schedule_id, run_at) in ( \
             select f.schedule_id, f.run_at from sched_fire f where f.run_at < ?1 and not exists ( \
             select 1 from sched_schedule s where s.id = f.schedule_id and s.next_run_at <= f.run_at) \
             order by f.run_at limit ?2)"],
    }
}
