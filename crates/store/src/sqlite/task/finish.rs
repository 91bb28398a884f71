//! Results. Successes, which are most, end their attempts and tasks in two statements; whatever may lead to a retry, and
//! whatever they do not find as it should be, is settled by `attempt.rs`, in a transaction of its own: an end that is
//! reported again changes nothing.

use std::collections::HashSet;

use hetuflow_core::status::Status;
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;

use super::attempt::end_attempts;
use crate::{
    Finish, Report, StoreError,
    row::{self, Columns},
    sqlite::{
        Sqlite,
        batch::{Bound, MOST, Over, Script},
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

/// Whether a run of a schedule waits for an end, an end is to become an event, or one of these is the last run of a daemon,
/// which may start again.
pub(in crate::sqlite) const AWAITED: Over = Over {
    text: "select exists (select 1 from sched_turn where queued = 1) or exists (select 1 from sched_task \
           where telling > 0 and (status in (90, 91, 92, 99) or status = 100 and telling = 1)) or exists \
           (select 1 from {rows} u cross join sched_daemon d where d.task_id = +u.column1 and d.phase <> 'armed') as awaited",
    columns: 1,
};

pub(super) async fn finish(
    db: &Sqlite,
    batch: &[Finish],
    now: Timestamp,
    random: f64,
) -> Result<Vec<Report>, StoreError> {
    failpoint!("finish.before");
    let mut ended = vec![false; batch.len()];
    let mut awaited = false;
    for places in successes(batch).chunks(MOST) {
        let turn = db.writer.turn().await?;
        failpoint!("finish.before_commit");
        let done = turn.run_whole(succeeded(batch, places)).await.map_err(|(_, error)| error)?;
        let [_, tasks, answer] = &*done else { continue };
        // Otherwise nobody knows here which did not: `end_attempts` has an answer for each, also for those that did.
        if tasks.changed == places.len() as u64 {
            for n in places {
                ended[*n] = true;
            }
        }
        awaited |= answer.rows.first().is_none_or(|row| row.flag("awaited").unwrap_or(true));
    }
    let rest: Vec<Finish> =
        batch.iter().zip(&ended).filter(|(_, ended)| !**ended).map(|(finish, _)| finish.clone()).collect();
    let mut settled = Vec::new().into_iter();
    if !rest.is_empty() {
        let mut tx = db.writer.begin().await?;
        settled = end_attempts(&mut tx, &rest, now, random).await?.into_iter();
        tx.commit().await?;
    }
    failpoint!("finish.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
    if awaited || !rest.is_empty() {
        // A retry may follow, or a run of a schedule that waited for one of these ends, or the next run of a daemon.
        db.tasks_changed();
    }
    let mut report = |ended| if ended { Some(Report::Recorded) } else { settled.next() };
    Ok(ended.into_iter().map(|ended| report(ended).unwrap_or(Report::Fenced)).collect())
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
    Script::default()
        .over(ATTEMPTS, places, attempt)
        .over(TASKS, places, |bound, n| task(bound, &batch[*n]))
        .over(AWAITED, places, |bound, n| {
            bound.bind(batch[*n].lease.task_id.uuid());
        })
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
