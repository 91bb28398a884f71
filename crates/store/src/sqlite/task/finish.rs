//! Results. Successes, which are most, end their attempts and tasks in two statements; whatever may lead to a retry, and
//! whatever they do not find as it should be, is settled by `attempt.rs`.

use std::collections::HashSet;

use hetuflow_core::status::Status;
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;

use super::attempt::end_attempts;
use crate::{
    Finish, Report, StoreError,
    row::{self, Columns},
    sqlite::{
        Sqlite, Tx,
        batch::{Bound, Done, MOST, Over, Script},
        schedule::daemon,
    },
};

/// 100 is `succeeded`. The plus keeps SQLite from walking the index of everything that is leased.
pub(in crate::sqlite) const ATTEMPTS: Over = Over {
    text: "insert or fail into sched_attempt as a (id, created_at, task_id, job_id, agent_id, attempt, fence, status, \
           outcome, started_at, finished_at, output_dropped) \
           select t.instance_id, t.leased_at, t.id, t.job_id, t.agent_id, t.attempt, t.fence, 100, \
           u.column4, u.column5, u.column6, u.column7 \
           from {rows} u cross join sched_task t where t.id = +u.column1 and t.instance_id = +u.column2 \
           and t.fence = +u.column3 and +t.status in (5, 8, 10) \
           on conflict (id) do update set status = 100, started_at = coalesce(excluded.started_at, a.started_at), \
           finished_at = excluded.finished_at, outcome = excluded.outcome, output_dropped = excluded.output_dropped",
    columns: 7,
};
/// A task whose newest attempt is another, or has ended, is not found.
pub(in crate::sqlite) const TASKS: Over = Over {
    text: "update or fail sched_task as t set status = 100, outcome = u.column4, finished_at = u.column5, instance_id = null, \
           leased_at = null from {rows} u where t.id = +u.column1 and t.instance_id = +u.column2 \
           and t.fence = +u.column3 and +t.status in (5, 8, 10)",
    columns: 5,
};

/// Whether a run of a schedule waits for an end, whether an end is to become an event, and whether there are daemons, of
/// which one may start again.
pub(in crate::sqlite) const AWAITED: &str = "select exists (select 1 from sched_turn where queued = 1) as turns, \
    exists (select 1 from sched_task where telling > 0 and (status in (90, 91, 92, 99) or status = 100 and telling = 1)) as untold, \
    exists (select 1 from sched_daemon) as daemons";

pub(super) async fn finish(
    db: &Sqlite,
    batch: &[Finish],
    now: Timestamp,
    random: f64,
) -> Result<Vec<Report>, StoreError> {
    failpoint!("finish.before");
    let successes = successes(batch);
    let (first, later) = successes.split_at(successes.len().min(MOST));
    let script = succeeded(batch, first).with(AWAITED, Some(()), |_, ()| ());
    let (mut tx, done) = db.writer.turn().await?.begin(script).await?;
    let mut ended = vec![false; batch.len()];
    let mut note = |places: &[usize], done: &[Done]| {
        for n in places {
            // Otherwise nobody knows here which did not: `end_attempts` has an answer for each.
            ended[*n] = done.get(1).is_some_and(|tasks| tasks.changed == places.len() as u64);
        }
    };
    note(first, &done);
    for places in later.chunks(MOST) {
        note(places, &succeeded(batch, places).run(&mut tx).await?);
    }
    let rest: Vec<Finish> =
        batch.iter().zip(&ended).filter(|(_, ended)| !**ended).map(|(finish, _)| finish.clone()).collect();
    let mut settled = end_attempts(&mut tx, &rest, now, random).await?.into_iter();
    let awaited = !rest.is_empty() || is_awaited(&mut tx, batch, done.last()).await?;
    failpoint!("finish.before_commit");
    tx.commit().await?;
    failpoint!("finish.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
    if awaited {
        // A retry may follow, or a run of a schedule that waited for one of these ends, or the next run of a daemon.
        db.tasks_changed();
    }
    let mut report = |ended| if ended { Some(Report::Recorded) } else { settled.next() };
    Ok(ended.into_iter().map(|ended| report(ended).unwrap_or(Report::Fenced)).collect())
}

/// `answer` is that to [`AWAITED`].
async fn is_awaited(tx: &mut Tx, batch: &[Finish], answer: Option<&Done>) -> Result<bool, StoreError> {
    let Some(row) = answer.and_then(|done| done.rows.first()) else { return Ok(true) };
    let awaited = row.flag("turns")? || row.flag("untold")?;
    if awaited || !row.flag("daemons")? {
        return Ok(awaited);
    }
    for finish in batch {
        if daemon::may_rerun(tx, finish.lease.task_id).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Their places in the batch. Of several reports on one lease the first counts.
fn successes(batch: &[Finish]) -> Vec<usize> {
    let mut seen = HashSet::new();
    let mut first = |n: &usize| seen.insert(batch[*n].lease);
    let firsts: Vec<usize> = (0..batch.len()).filter(|n| first(n)).collect();
    firsts.into_iter().filter(|n| batch[*n].outcome.status() == Status::Succeeded).collect()
}

fn succeeded(batch: &[Finish], places: &[usize]) -> Script {
    let attempt = |bound: &mut Bound, n: &usize| attempt(bound, &batch[*n]);
    Script::default().over(ATTEMPTS, places, attempt).over(TASKS, places, |bound, n| task(bound, &batch[*n]))
}

fn lease<'a>(bound: &'a mut Bound, finish: &Finish) -> &'a mut Bound {
    let lease = finish.lease;
    bound.bind(lease.task_id.uuid()).bind(lease.instance_id.uuid()).bind(lease.fence).json(&finish.outcome)
}

fn attempt(bound: &mut Bound, finish: &Finish) {
    lease(bound, finish)
        .bind(finish.started_at.map(Timestamp::as_microsecond))
        .bind(finish.finished_at.as_microsecond())
        .bind(row::signed(finish.output_dropped));
}

fn task(bound: &mut Bound, finish: &Finish) {
    lease(bound, finish).bind(finish.finished_at.as_microsecond());
}
