//! What one namespace keeps shorter than others: looked at piece by piece, in the order of ids, because no index knows
//! namespaces. Times are given beside ids, so that only the partitions of a piece are looked into.

use hetuflow_core::id::Namespace;
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;
use sqlx::{PgConnection, postgres::PgRow};
use uuid::Uuid;

use crate::{
    Leadership, Piece, Stock, StoreError, Trimmed, Weighed, Weight, Whose,
    postgres::{
        Postgres,
        columns::{Time, time},
        leader::guard,
    },
    row::{self, Columns},
};

pub(super) async fn trim(
    db: &Postgres,
    leadership: Leadership,
    stock: Stock,
    whose: &Whose,
    piece: Piece,
) -> Result<Trimmed, StoreError> {
    let mut tx = db.begin().await?;
    guard(&mut tx, leadership).await?;
    let end = end_of(&mut tx, stock, piece).await?;
    let (names, goes) = whose.names();
    let rows = match stock {
        Stock::Events => {
            within(EVENTS, piece, &end).bind(&names).bind(goes).execute(&mut *tx).await?.rows_affected()
        }
        Stock::Tasks => drop_tasks(&mut tx, piece, &end, &names, goes).await?,
        Stock::Output => {
            let query = within(OUTPUT, piece, &end).bind(&names).bind(goes).bind(i64::from(piece.limit));
            query.execute(&mut *tx).await?.rows_affected()
        }
        Stock::Fires => 0,
    };
    failpoint!("share.before_commit");
    tx.commit().await?;
    // One attempt may have written more than may go at once.
    if stock == Stock::Output && rows >= u64::from(piece.limit) {
        return Ok(Trimmed { rows, next: piece.from, more: true });
    }
    Ok(Trimmed { rows, next: end.next, more: end.more })
}

/// Where a piece ends.
struct End {
    last: Option<Uuid>,
    next: Uuid,
    more: bool,
}

async fn end_of(connection: &mut PgConnection, stock: Stock, piece: Piece) -> Result<End, StoreError> {
    let table = match stock {
        Stock::Events => END_OF_EVENTS,
        Stock::Tasks => END_OF_TASKS,
        Stock::Output => END_OF_ATTEMPTS,
        Stock::Fires => return Ok(End { last: None, next: piece.from, more: false }),
    };
    let row = sqlx::query(table)
        .bind(piece.from)
        .bind(row::first_id(piece.before))
        .bind(since(piece))
        .bind(time(piece.before))
        .bind(i64::from(piece.limit.max(1)))
        .fetch_one(connection)
        .await?;
    let last = row.uuid_or_null("last")?;
    let (next, more) = row::next_place(piece, row.int("looked_at")?, last);
    Ok(End { last, next, more })
}

fn since(piece: Piece) -> Time {
    time(row::made_at(piece.from))
}

const END_OF_EVENTS: &str = "
select count(*) as looked_at, (array_agg(id order by id desc))[1] as last from (
    select id from sched_event where id >= $1 and id < $2 and created_at >= $3 and created_at <= $4
    order by id limit $5) piece";
const END_OF_TASKS: &str = "
select count(*) as looked_at, (array_agg(id order by id desc))[1] as last from (
    select id from sched_task where id >= $1 and id < $2 and created_at >= $3 and created_at <= $4
    order by id limit $5) piece";
const END_OF_ATTEMPTS: &str = "
select count(*) as looked_at, (array_agg(id order by id desc))[1] as last from (
    select id from sched_attempt where id >= $1 and id < $2 and created_at >= $3 and created_at <= $4
    order by id limit $5) piece";

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// `$1` to `$4` are the ids and the times of a piece.
fn within<'q>(statement: &'static str, piece: Piece, end: &End) -> Query<'q> {
    let until = end.last.map(|last| time(row::made_at(last)));
    sqlx::query(statement).bind(piece.from).bind(end.last).bind(since(piece)).bind(until)
}

const EVENTS: &str = "
delete from sched_event e where e.id >= $1 and e.id <= $2 and e.created_at >= $3 and e.created_at <= $4
    and (e.namespace = any($5::text[])) = $6
    and not exists (select from sched_task t where t.event_id = e.id and t.status in (1, 2, 5, 8, 10))";

/// Locked, so that none of them is run again while what belongs to it goes.
const TASKS: &str = "
select id from sched_task where id >= $1 and id <= $2 and created_at >= $3 and created_at <= $4
    and (namespace = any($5::text[])) = $6 and status not in (1, 2, 5, 8, 10)
    order by id for update skip locked";

const OUTPUT_OF_TASKS: &str = "
delete from sched_task_output where instance_id = any(array(
    select id from sched_attempt where task_id = any($1::uuid[])))";
const ATTEMPTS_OF_TASKS: &str = "delete from sched_attempt where task_id = any($1::uuid[])";
const THESE_TASKS: &str =
    "delete from sched_task where id = any($1::uuid[]) and created_at >= $2 and created_at <= $3";

async fn drop_tasks(
    connection: &mut PgConnection,
    piece: Piece,
    end: &End,
    names: &[String],
    goes: bool,
) -> Result<u64, StoreError> {
    let locked = within(TASKS, piece, end).bind(names).bind(goes).fetch_all(&mut *connection).await?;
    let ids = locked.iter().map(|row| row.uuid("id")).collect::<Result<Vec<_>, _>>()?;
    let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok(0) };
    let (first, last) = (time(row::made_at(*first)), time(row::made_at(*last)));
    let mut rows = 0;
    for statement in [OUTPUT_OF_TASKS, ATTEMPTS_OF_TASKS] {
        rows += sqlx::query(statement).bind(&ids).execute(&mut *connection).await?.rows_affected();
    }
    let tasks = sqlx::query(THESE_TASKS).bind(&ids).bind(first).bind(last).execute(connection).await?;
    Ok(rows + tasks.rows_affected())
}

/// A piece of output is as old as its attempt.
const OUTPUT: &str = "
delete from sched_task_output d using (
    select o.instance_id, o.created_at, o.seq from sched_attempt a join sched_task t on t.id = a.task_id
    join sched_task_output o on o.instance_id = a.id and o.created_at >= $3 and o.created_at <= $4
    where a.id >= $1 and a.id <= $2 and a.created_at >= $3 and a.created_at <= $4
    and (t.namespace = any($5::text[])) = $6 and t.status not in (1, 2, 5, 8, 10) limit $7) old
where d.instance_id = old.instance_id and d.seq = old.seq and d.created_at = old.created_at
    and d.created_at >= $3 and d.created_at <= $4";

pub(super) async fn weigh(db: &Postgres, stock: Stock, piece: Piece) -> Result<Weighed, StoreError> {
    let statement = match stock {
        Stock::Events => {
            "select namespace, date_trunc('hour', created_at, 'UTC') as hour, sum(pg_column_size(body)::bigint
                + pg_column_size(headers) + pg_column_size(decisions) + coalesce(pg_column_size(query), 0))::bigint as bytes
            from sched_event where id >= $1 and id <= $2 and created_at >= $3 and created_at <= $4 group by 1, 2"
        }
        Stock::Tasks => {
            "select namespace, date_trunc('hour', created_at, 'UTC') as hour,
                sum(coalesce(pg_column_size(command), 0)::bigint + pg_column_size(policy)
                + coalesce(pg_column_size(outcome), 0))::bigint as bytes
            from sched_task where id >= $1 and id <= $2 and created_at >= $3 and created_at <= $4 group by 1, 2"
        }
        Stock::Output => {
            "select t.namespace as namespace, date_trunc('hour', a.created_at, 'UTC') as hour,
                sum(pg_column_size(o.data)::bigint)::bigint as bytes
            from sched_attempt a join sched_task t on t.id = a.task_id
            join sched_task_output o on o.instance_id = a.id and o.created_at >= $3 and o.created_at <= $4
            where a.id >= $1 and a.id <= $2 and a.created_at >= $3 and a.created_at <= $4 group by 1, 2"
        }
        Stock::Fires => return Ok(Weighed { weights: Vec::new(), next: piece.from, more: false }),
    };
    let mut reader = db.pool.acquire().await?;
    let end = end_of(&mut reader, stock, piece).await?;
    let rows = within(statement, piece, &end).fetch_all(&mut *reader).await?;
    let weights = rows.iter().map(weight).collect::<Result<_, _>>()?;
    Ok(Weighed { weights, next: end.next, more: end.more })
}

fn weight(row: &PgRow) -> Result<Weight, StoreError> {
    let namespace: Namespace = row::name(row, "namespace")?;
    let hour: Timestamp = row.time("hour")?;
    Ok(Weight { namespace, hour, bytes: row::number(row, "bytes")? })
}
