//! What one namespace keeps shorter than others: looked at piece by piece, in the order of ids, because no index knows
//! namespaces. Each piece is one short transaction between others' commits.

use hetuflow_core::id::Namespace;
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;
use sqlx::{SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use crate::{
    Leadership, Piece, Stock, StoreError, Trimmed, Weighed, Weight, Whose,
    row::{self, Columns},
    sqlite::{Sqlite, leader::guard},
};

pub(super) async fn trim(
    db: &Sqlite,
    leadership: Leadership,
    stock: Stock,
    whose: &Whose,
    piece: Piece,
) -> Result<Trimmed, StoreError> {
    let mut tx = db.begin().await?;
    guard(&mut tx, leadership).await?;
    let end = end_of(&mut tx, stock, piece).await?;
    let (names, goes) = whose.names();
    let names = row::json(&names)?;
    let mut rows = 0;
    for &statement in statements(stock) {
        let query = sqlx::query(statement).bind(piece.from).bind(end.last).bind(&names).bind(goes);
        let query = if stock == Stock::Output { query.bind(piece.limit) } else { query };
        rows += query.execute(&mut *tx).await?.rows_affected();
    }
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

async fn end_of(connection: &mut SqliteConnection, stock: Stock, piece: Piece) -> Result<End, StoreError> {
    let statement = match stock {
        Stock::Events => {
            "select count(*) as looked_at, max(id) as last from ( \
             select id from sched_event where id >= ?1 and id < ?2 order by id limit ?3)"
        }
        Stock::Tasks => {
            "select count(*) as looked_at, max(id) as last from ( \
             select id from sched_task where id >= ?1 and id < ?2 order by id limit ?3)"
        }
        Stock::Output => {
            "select count(*) as looked_at, max(id) as last from ( \
             select id from sched_attempt where id >= ?1 and id < ?2 order by id limit ?3)"
        }
        Stock::Fires => {
            "select 0 as looked_at, null as last where ?1 is not null and ?2 is not null and ?3 > 0"
        }
    };
    let query =
        sqlx::query(statement).bind(piece.from).bind(row::first_id(piece.before)).bind(piece.limit.max(1));
    let row = query.fetch_one(connection).await?;
    let last = row.uuid_or_null("last")?;
    let (next, more) = row::next_place(piece, row.int("looked_at")?, last);
    Ok(End { last, next, more })
}

fn statements(stock: Stock) -> &'static [&'static str] {
    match stock {
        Stock::Events => &["delete from sched_event where id >= ?1 and id <= ?2 \
             and (namespace in (select value from json_each(?3))) = ?4 and not exists ( \
             select 1 from sched_task t where t.event_id = sched_event.id and t.status in (1, 2, 5, 8, 10))"],
        Stock::Tasks => &[
            "delete from sched_task_output where instance_id in ( \
             select a.id from sched_task t join sched_attempt a on a.task_id = t.id \
             where t.id >= ?1 and t.id <= ?2 and t.status not in (1, 2, 5, 8, 10) \
             and (t.namespace in (select value from json_each(?3))) = ?4)",
            "delete from sched_attempt where task_id in ( \
             select id from sched_task where id >= ?1 and id <= ?2 and status not in (1, 2, 5, 8, 10) \
             and (namespace in (select value from json_each(?3))) = ?4)",
            "delete from sched_task where id >= ?1 and id <= ?2 and status not in (1, 2, 5, 8, 10) \
             and (namespace in (select value from json_each(?3))) = ?4",
        ],
        Stock::Output => &["delete from sched_task_output where (instance_id, seq) in ( \
             select o.instance_id, o.seq from sched_attempt a join sched_task t on t.id = a.task_id \
             join sched_task_output o on o.instance_id = a.id \
             where a.id >= ?1 and a.id <= ?2 and t.status not in (1, 2, 5, 8, 10) \
             and (t.namespace in (select value from json_each(?3))) = ?4 limit ?5)"],
        Stock::Fires => &[],
    }
}

pub(super) async fn weigh(db: &Sqlite, stock: Stock, piece: Piece) -> Result<Weighed, StoreError> {
    let statement = match stock {
        Stock::Events => {
            "select namespace, created_at / 3600000000 as hour, sum(length(body) + octet_length(headers) \
             + octet_length(decisions) + coalesce(octet_length(query), 0)) as bytes \
             from sched_event where id >= ?1 and id <= ?2 group by 1, 2"
        }
        Stock::Tasks => {
            "select namespace, created_at / 3600000000 as hour, sum(coalesce(octet_length(command), 0) \
             + octet_length(policy) + coalesce(octet_length(outcome), 0)) as bytes \
             from sched_task where id >= ?1 and id <= ?2 group by 1, 2"
        }
        Stock::Output => {
            "select t.namespace as namespace, a.created_at / 3600000000 as hour, \
             coalesce(sum((select sum(length(data)) from sched_task_output where instance_id = a.id)), 0) as bytes \
             from sched_attempt a join sched_task t on t.id = a.task_id \
             where a.id >= ?1 and a.id <= ?2 group by 1, 2"
        }
        Stock::Fires => return Ok(Weighed { weights: Vec::new(), next: piece.from, more: false }),
    };
    let mut reader = db.readers.acquire().await?;
    let end = end_of(&mut reader, stock, piece).await?;
    let rows = sqlx::query(statement).bind(piece.from).bind(end.last).fetch_all(&mut *reader).await?;
    let weights = rows.iter().map(weight).collect::<Result<_, _>>()?;
    Ok(Weighed { weights, next: end.next, more: end.more })
}

fn weight(row: &SqliteRow) -> Result<Weight, StoreError> {
    let hour =
        Timestamp::from_second(row.int("hour")? * 3600).map_err(|error| row::corrupt("hour", error))?;
    let namespace: Namespace = row::name(row, "namespace")?;
    Ok(Weight { namespace, hour, bytes: row::number(row, "bytes")? })
}
