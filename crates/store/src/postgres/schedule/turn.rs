//! Runs of schedules that do not overlap: their places, and who is let go next.

use hetuflow_core::id::TaskId;
use jiff::Timestamp;

use crate::{
    Ahead, Fire, Fired, Ingest, Passed, Queue, StoreError, Turns,
    lanes::Lanes,
    postgres::{
        Postgres, Tx,
        columns::{at, time},
        event::insert::insert as insert_events,
        task,
    },
    row::Columns,
    turn::{self, Entry, Place, Turn},
};

/// Keys that are looked at together.
const AT_ONCE: i64 = 100;

pub(super) async fn fire(
    tx: &mut Tx,
    lanes: &Lanes,
    fire: &Fire,
    ingest: &Ingest,
    turns: &Turns,
) -> Result<Fired, StoreError> {
    let ahead = unfinished(tx, &turns.key).await?;
    let place = turn::place(turns.overlap, &ahead);
    if let Place::Skip { reason } = &place {
        insert_events(tx, lanes, &[turn::skipped(ingest, reason)], &[]).await?;
        return Ok(Fired::Overlaps);
    }
    let mut entry = if place == Place::Queue { Entry::Queued } else { Entry::Free };
    for turn in ahead.iter().filter(|_| place == Place::Replace) {
        if task::end(tx, turn.task_id, ingest.event.received_at).await? {
            entry = Entry::Queued;
        }
    }
    sqlx::query("update sched_schedule set last_run_at = $1 where id = $2")
        .bind(time(fire.run_at))
        .bind(fire.id.uuid())
        .execute(&mut **tx)
        .await?;
    insert_events(tx, lanes, std::slice::from_ref(ingest), &[]).await?;
    for task in &ingest.tasks {
        insert(tx, &turns.key, fire.run_at, task.id, entry).await?;
    }
    Ok(Fired::Stored)
}

/// The runs that have not ended, the earliest first; the others lose their place.
async fn unfinished(tx: &mut Tx, key: &str) -> Result<Vec<Turn>, StoreError> {
    let rows = sqlx::query(
        "select u.task_id, u.run_at, u.queued, coalesce(t.status, 0) as status from sched_turn u
         left join sched_task t on t.id = u.task_id and t.created_at = u.created_at where u.key = $1 order by u.run_at, u.task_id",
    )
    .bind(key)
    .fetch_all(&mut **tx)
    .await?;
    let turns = rows.iter().map(Turn::from_row).collect::<Result<Vec<_>, _>>()?;
    let (ended, unfinished): (Vec<Turn>, Vec<Turn>) = turns.into_iter().partition(Turn::has_ended);
    for turn in ended {
        sqlx::query("delete from sched_turn where key = $1 and task_id = $2")
            .bind(key)
            .bind(turn.task_id.uuid())
            .execute(&mut **tx)
            .await?;
    }
    Ok(unfinished)
}

/// A queued task is later than any claim; its own time waits beside it.
async fn insert(
    tx: &mut Tx,
    key: &str,
    run_at: Timestamp,
    task_id: TaskId,
    entry: Entry,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into sched_turn (key, run_at, task_id, created_at, queued) values ($1, $2, $3, $4, $5)",
    )
    .bind(key)
    .bind(time(run_at))
    .bind(task_id.uuid())
    .bind(at(task_id.uuid()))
    .bind(entry == Entry::Queued)
    .execute(&mut **tx)
    .await?;
    if entry == Entry::Queued {
        sqlx::query(
            "update sched_task set queued_for = scheduled_at, scheduled_at = $1
             where id = $2 and created_at = $3 and status in (1, 2)",
        )
        .bind(time(turn::beyond()))
        .bind(task_id.uuid())
        .bind(at(task_id.uuid()))
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

pub(super) async fn pass(db: &Postgres, now: Timestamp) -> Result<Passed, StoreError> {
    let keys: Vec<String> = sqlx::query_scalar(
        "select distinct u.key from sched_turn u where u.queued and not exists
         (select 1 from sched_turn a join sched_task t on t.id = a.task_id and t.created_at = a.created_at
          where a.key = u.key and not a.queued and t.status in (1, 2, 5, 8, 10)) limit $1",
    )
    .bind(AT_ONCE)
    .fetch_all(&db.pool)
    .await?;
    let mut released = 0;
    if !keys.is_empty() {
        let mut tx = db.begin().await?;
        for key in &keys {
            released += usize::from(pass_one(&mut tx, key, now).await?);
        }
        tx.commit().await?;
        db.tasks_changed();
    }
    let waiting: bool = sqlx::query_scalar("select exists (select 1 from sched_turn where queued)")
        .fetch_one(&db.pool)
        .await?;
    Ok(Passed { released, queue: if waiting { Queue::Waiting } else { Queue::Empty } })
}

async fn pass_one(tx: &mut Tx, key: &str, now: Timestamp) -> Result<bool, StoreError> {
    let turns = unfinished(tx, key).await?;
    let Some(first) = turns.first().filter(|_| turns.iter().all(|turn| turn.queued)) else {
        return Ok(false);
    };
    sqlx::query("update sched_turn set queued = false where key = $1 and task_id = $2")
        .bind(key)
        .bind(first.task_id.uuid())
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        "update sched_task set scheduled_at = greatest(queued_for, $1), queued_for = null
         where id = $2 and created_at = $3 and status in (1, 2) and queued_for is not null",
    )
    .bind(time(now))
    .bind(first.task_id.uuid())
    .bind(at(first.task_id.uuid()))
    .execute(&mut **tx)
    .await?;
    Ok(true)
}

pub(super) async fn ahead(db: &Postgres, task_id: TaskId) -> Result<Option<Ahead>, StoreError> {
    let row = sqlx::query(
        "select a.task_id, a.run_at from sched_turn u join sched_turn a on a.key = u.key
         join sched_task t on t.id = a.task_id and t.created_at = a.created_at
         where u.task_id = $1 and a.task_id <> u.task_id and a.run_at <= u.run_at and t.status in (1, 2, 5, 8, 10)
         order by a.run_at, a.task_id limit 1",
    )
    .bind(task_id.uuid())
    .fetch_optional(&db.pool)
    .await?;
    row.map(|row| Ok(Ahead { task_id: TaskId::from_uuid(row.uuid("task_id")?), run_at: row.time("run_at")? }))
        .transpose()
}

pub(super) async fn forget(db: &Postgres, limit: u32) -> Result<u64, StoreError> {
    let mut tx = db.begin().await?;
    let gone = sqlx::query(
        "delete from sched_turn where (key, task_id) in (select u.key, u.task_id from sched_turn u
         where not u.queued and not exists
         (select 1 from sched_task t where t.id = u.task_id and t.created_at = u.created_at and t.status in (1, 2, 5, 8, 10)) limit $1)",
    )
    .bind(i64::from(limit))
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(gone.rows_affected())
}
