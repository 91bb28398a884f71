//! What only PostgreSQL has: two servers that change one task in the same moment. A connection of the test's own ends the
//! attempt, and commits when the store waits for it.

use hetuflow_core::{id::TaskId, schedule::Overlap, status::Status};
use hetuflow_store::{CancelledAll, Fired, Stretch, TaskFilter};
use sqlx::{Connection, PgConnection};

use crate::{
    database::{Db, on_postgres},
    turn::{claimed, fired, scheduled},
    world::{at, claimed_by, slot, task},
};

/// What `act` yields when the task's attempt ends after it has looked and before it changes anything.
async fn as_it_ends<T>(db: &Db, id: TaskId, becomes: Status, act: impl Future<Output = T>) -> T {
    let mut ends = db.connect().await;
    let mut ending = ends.begin().await.expect("a transaction");
    sqlx::query(
        "update sched_task set status = $1, agent_id = null, instance_id = null, leased_at = null where id = $2",
    )
    .bind(becomes.number())
    .bind(id.uuid())
    .execute(&mut *ending)
    .await
    .expect("it ends");
    let commit = async {
        somebody_waits(&mut db.connect().await).await;
        ending.commit().await.expect("it has ended");
    };
    tokio::join!(act, commit).0
}

async fn somebody_waits(connection: &mut PgConnection) {
    let waits = "select exists (select 1 from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock')";
    while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut *connection).await.expect("an answer") {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_fails_while_all_are_cancelled_is_not_retried() {
    on_postgres(async |db: &Db| {
        let store = &*db.store;
        let held = claimed_by(store, &slot(store, "web-1").await, |_| ()).await.task.id;
        let whole = Stretch { after: None, limit: 100 };
        let every = TaskFilter::default();
        let cancel = store.cancel_all(&every, whole, at(9));
        let cancelled = as_it_ends(db, held, Status::WaitingRetry, cancel).await;
        assert_eq!(cancelled.expect("cancelled"), CancelledAll { cancelled: 1, asked: 0, next: None });
        assert_eq!(task(store, held).await.status, Status::Cancelled);
    })
    .await;
}

#[tokio::test]
async fn a_run_that_fails_as_the_next_takes_its_place_has_failed() {
    on_postgres(async |db: &Db| {
        let store = &*db.store;
        let id = scheduled(store).await;
        let (_, first) = fired(store, id, Overlap::CancelOld, 300).await;
        assert_eq!(claimed(store, at(400)).await[0].task.id, first);
        let fire = fired(store, id, Overlap::CancelOld, 600);
        let (stored, second) = as_it_ends(db, first, Status::Failed, fire).await;
        assert_eq!(stored, Fired::Stored);
        assert_eq!(task(store, first).await.status, Status::Failed);
        assert!(!task(store, second).await.queued);
    })
    .await;
}
