//! Retention on PostgreSQL: whole partitions where everything in them has ended, rows of the default partition
//! in chunks. A partition is judged once without any lock, and once more under the locks that keep its tasks from
//! being run again; whoever is in the way for half a second is left alone until the next turn.

mod share;

use async_trait::async_trait;
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use super::{
    Postgres,
    columns::{Time, time},
    leader::guard,
    partition, retrying,
};
use crate::{
    Dropped, Leadership, Piece, RetentionStore, Size, Stock, StoreError, Trimmed, Weighed, Whose,
    row::{self, Columns},
};

#[async_trait]
impl RetentionStore for Postgres {
    async fn prepare_partitions(&self, leadership: Leadership) -> Result<u64, StoreError> {
        partition::prepare(self, leadership).await
    }

    async fn drop_before(
        &self,
        leadership: Leadership,
        stock: Stock,
        before: Timestamp,
        limit: u32,
    ) -> Result<Dropped, StoreError> {
        let mut held = 0;
        for old in partitions_before(self, stock, before).await? {
            if holds_live(&mut *self.pool.acquire().await?, stock, &old).await? {
                held += 1;
            } else if drop_partition(self, leadership, stock, &old).await? {
                tracing::info!(partitions = old.tables.join(", "), "dropped what is older than it is kept");
                return Ok(Dropped {
                    partitions: old.tables.len() as u64,
                    held,
                    more: true,
                    ..Dropped::default()
                });
            }
        }
        let rows = retrying!(drop_rows(self, leadership, stock, before, limit))?;
        Ok(Dropped { rows, held, more: rows >= u64::from(limit), ..Dropped::default() })
    }

    async fn trim(
        &self,
        leadership: Leadership,
        stock: Stock,
        whose: &Whose,
        piece: Piece,
    ) -> Result<Trimmed, StoreError> {
        retrying!(share::trim(self, leadership, stock, whose, piece))
    }

    async fn weigh(&self, stock: Stock, piece: Piece) -> Result<Weighed, StoreError> {
        share::weigh(self, stock, piece).await
    }

    async fn size(&self) -> Result<Size, StoreError> {
        let row = sqlx::query(
            "select (select coalesce(sum(pg_total_relation_size(oid)), 0)::bigint from pg_class
                where relkind = 'r' and relnamespace = current_schema()::regnamespace
                and starts_with(relname, 'sched_')) as bytes,
             least((select created_at from sched_event order by id limit 1),
                (select created_at from sched_task order by id limit 1),
                (select created_at from sched_task_output order by instance_id limit 1)) as oldest",
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(Size { bytes: row::number(&row, "bytes")?, oldest: row.time_or_null("oldest")? })
    }

    /// A dropped partition is gone from the disk at once; what is free inside a table stays its own.
    async fn shrink(&self, _leadership: Leadership, _pages: u32) -> Result<bool, StoreError> {
        Ok(false)
    }
}

/// The partitions of one day or week.
struct Old {
    tables: Vec<String>,
    first: Timestamp,
    last: Timestamp,
}

/// Those that end before `before`, the oldest first. The name says nothing: the bounds do.
async fn partitions_before(db: &Postgres, stock: Stock, before: Timestamp) -> Result<Vec<Old>, StoreError> {
    let parents: &[&str] = match stock {
        Stock::Events => &["sched_event"],
        Stock::Tasks => &["sched_task", "sched_attempt"],
        Stock::Output => &["sched_task_output"],
        Stock::Fires => return Ok(Vec::new()),
    };
    let rows = sqlx::query(
        "select array_agg(part order by part) as tables, first, last from (
            select c.oid::regclass::text as part,
                substring(pg_get_expr(c.relpartbound, c.oid) from 'FROM \\(''([^'']+)''')::timestamptz as first,
                substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \\(''([^'']+)''')::timestamptz as last
            from pg_inherits i join pg_class c on c.oid = i.inhrelid
            where i.inhparent = any($1::text[]::regclass[])
         ) p
         where last <= $2 group by first, last order by first",
    )
    .bind(parents)
    .bind(time(before))
    .fetch_all(&db.pool)
    .await?;
    rows.iter()
        .map(|row| {
            let tables = sqlx::Row::try_get(row, "tables")?;
            Ok(Old { tables, first: row.time("first")?, last: row.time("last")? })
        })
        .collect()
}

/// Whether something in there belongs to a task that has not ended. The tasks that have not are few, and partial
/// indexes name them.
async fn holds_live(
    connection: &mut sqlx::PgConnection,
    stock: Stock,
    old: &Old,
) -> Result<bool, StoreError> {
    let (first, last): (Time, Time) = (time(old.first), time(old.last));
    // Of an attempt that has just begun there may be output, and no row of its own yet.
    let of_attempts = "select exists (
            select from sched_task t join sched_attempt a on a.task_id = t.id
            where t.status in (1, 2, 5, 8, 10) and t.attempt > 0 and a.created_at >= $1 and a.created_at < $2)
         or exists (select from sched_task where status in (5, 8, 10) and leased_at >= $1 and leased_at < $2)";
    let held = match stock {
        Stock::Events => {
            sqlx::query_scalar(
                "select exists (select from sched_task
                    where status in (1, 2, 5, 8, 10) and event_id >= $1 and event_id < $2)",
            )
            .bind(row::first_id(old.first))
            .bind(row::first_id(old.last))
            .fetch_one(connection)
            .await?
        }
        Stock::Tasks => {
            let live: bool = sqlx::query_scalar(
                "select exists (select from sched_task
                    where status in (1, 2, 5, 8, 10) and created_at >= $1 and created_at < $2)",
            )
            .bind(first)
            .bind(last)
            .fetch_one(&mut *connection)
            .await?;
            live || sqlx::query_scalar(of_attempts).bind(first).bind(last).fetch_one(connection).await?
        }
        Stock::Output => sqlx::query_scalar(of_attempts).bind(first).bind(last).fetch_one(connection).await?,
        Stock::Fires => false,
    };
    Ok(held)
}

/// False: somebody is in the way, or something in there has come to life.
async fn drop_partition(
    db: &Postgres,
    leadership: Leadership,
    stock: Stock,
    old: &Old,
) -> Result<bool, StoreError> {
    let mut tx = db.begin().await?;
    guard(&mut tx, leadership).await?;
    sqlx::query("set local lock_timeout = '500ms'").execute(&mut *tx).await?;
    // In the order in which everybody locks these tables. A task cannot be run again while its table is shared.
    let lock = match stock {
        Stock::Events => {
            "lock table sched_event in access exclusive mode; lock table sched_task in share mode"
        }
        Stock::Tasks => "lock table sched_task, sched_attempt in access exclusive mode",
        Stock::Output | Stock::Fires => {
            "lock table sched_task in share mode; lock table sched_task_output in access exclusive mode"
        }
    };
    match sqlx::raw_sql(lock).execute(&mut *tx).await {
        Err(error) if is_busy(&error) => return Ok(false),
        done => done?,
    };
    if holds_live(&mut tx, stock, old).await? {
        return Ok(false);
    }
    let statement = format!("drop table {}", old.tables.join(", "));
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(true)
}

fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}

/// Rows that no partition was there for, and fires.
async fn drop_rows(
    db: &Postgres,
    leadership: Leadership,
    stock: Stock,
    before: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    let mut tx = db.begin().await?;
    guard(&mut tx, leadership).await?;
    let mut rows = 0;
    for &statement in statements(stock) {
        let query = sqlx::query(statement);
        let query = match stock {
            Stock::Fires => query.bind(time(before)),
            Stock::Events | Stock::Tasks | Stock::Output => query.bind(row::first_id(before)),
        };
        rows += query.bind(i64::from(limit)).execute(&mut *tx).await?.rows_affected();
    }
    failpoint!("drop.before_commit");
    tx.commit().await?;
    failpoint!("drop.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
    Ok(rows)
}

fn statements(stock: Stock) -> &'static [&'static str] {
    match stock {
        Stock::Events => &["
            delete from sched_event_default where id = any(array(
                select e.id from sched_event_default e where e.id < $1 and not exists (
                    select from sched_task t where t.event_id = e.id and t.status in (1, 2, 5, 8, 10))
                order by e.id limit $2))"],
        Stock::Tasks => &[
            "
            delete from sched_task_default where id = any(array(
                select id from sched_task_default
                where id < $1 and status not in (1, 2, 5, 8, 10)
                order by id limit $2 for update skip locked))",
            "
            delete from sched_attempt_default where id = any(array(
                select a.id from sched_attempt_default a where a.id < $1 and not exists (
                    select from sched_task t where t.id = a.task_id and t.status in (1, 2, 5, 8, 10))
                order by a.id limit $2))",
        ],
        Stock::Output => &["
            delete from sched_task_output_default d using (
                select o.instance_id, o.seq from sched_task_output_default o
                where o.instance_id < $1 and not exists (
                    select from sched_attempt a join sched_task t on t.id = a.task_id
                    where a.id = o.instance_id and t.status in (1, 2, 5, 8, 10))
                and o.instance_id <> all(array(select instance_id from sched_task where status in (5, 8, 10)))
                order by o.instance_id, o.seq limit $2) old
            where d.instance_id = old.instance_id and d.seq = old.seq"],
        Stock::Fires => &["
            delete from sched_fire d using (
                select f.schedule_id, f.run_at from sched_fire f where f.run_at < $1 and not exists (
                    select from sched_schedule s where s.id = f.schedule_id and s.next_run_at <= f.run_at)
                order by f.run_at limit $2) old
            where d.schedule_id = old.schedule_id and d.run_at = old.run_at"],
    }
}
