//! Promises about what is dropped, what stays, and what a late duplicate hears.

use bytes::Bytes;
use hetuflow_core::{
    id::{InstanceId, TaskId},
    task::{Outcome, OutputChunk, Stream},
};
use hetuflow_store::{Claimed, Ingested, Leadership, Stock, Store, StoreError};
use jiff::Timestamp;

use crate::{
    database::Db,
    leader::lead,
    world::{at, claimed_by, event, finish, ingest, keyed, slot, stored},
};

/// Drops everything old, in steps of at most `limit`; yields the rows that went in each.
async fn drop_all(
    store: &dyn Store,
    leadership: Leadership,
    stock: Stock,
    before: Timestamp,
    limit: u32,
) -> Vec<u64> {
    let mut steps = Vec::new();
    loop {
        let dropped = store.drop_before(leadership, stock, before, limit).await.expect("a step");
        steps.push(dropped.rows);
        if !dropped.more {
            return steps;
        }
    }
}

async fn drop_everything(store: &dyn Store, before: Timestamp) {
    let leadership = lead(store).await;
    for stock in [Stock::Output, Stock::Tasks, Stock::Events, Stock::Fires] {
        drop_all(store, leadership, stock, before, 100).await;
    }
}

async fn said(store: &dyn Store, claimed: &Claimed) {
    let instance_id = claimed.lease.instance_id;
    let chunk = OutputChunk { instance_id, seq: 0, stream: Stream::Stdout, data: Bytes::from_static(b"x") };
    store.append_output(&[chunk]).await.expect("stored");
}

async fn pieces(store: &dyn Store, claimed: &Claimed) -> usize {
    store.output(claimed.lease.instance_id, 0, 10).await.expect("an answer").len()
}

pub(crate) async fn what_has_ended_is_dropped_when_it_is_old(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    let old = claimed_by(store, &slot, |_| ()).await;
    said(store, &old).await;
    store.finish(&[finish(old.lease, Outcome::exit(0))], at(3), 0.0).await.expect("ended");
    let newer = event(at(50));
    let newer_id = newer.id;
    let unmatched = hetuflow_store::Ingest { event: newer, dedupe: None, tasks: Vec::new() };
    store.ingest(&[unmatched], &[]).await.expect("stored");

    drop_everything(store, at(0)).await;
    assert_eq!(pieces(store, &old).await, 1, "as old as the limit is not older");
    store.task(old.task.id).await.expect("it stays");
    drop_everything(store, at(20)).await;
    let gone = |error: StoreError| assert!(matches!(error, StoreError::NotFound), "{error:?}");
    gone(store.task(old.task.id).await.expect_err("dropped"));
    gone(store.event(old.task.event_id).await.expect_err("dropped"));
    gone(store.instance(old.lease.instance_id).await.expect_err("dropped"));
    assert_eq!(pieces(store, &old).await, 0);
    store.event(newer_id).await.expect("it is not old");
}

pub(crate) async fn output_of_nobody_is_dropped_when_it_is_old(db: &Db) {
    let (store, nobodys) = (&*db.store, InstanceId::at(at(1)));
    let chunk =
        OutputChunk { instance_id: nobodys, seq: 0, stream: Stream::Stdout, data: Bytes::from_static(b"?") };
    store.append_output(&[chunk]).await.expect("nobody asks whose it is");
    drop_everything(store, at(1)).await;
    assert_eq!(store.output(nobodys, 0, 10).await.expect("an answer").len(), 1);
    drop_everything(store, at(2)).await;
    assert_eq!(store.output(nobodys, 0, 10).await.expect("an answer").len(), 0);
}

/// Whatever belongs to a task that waits or runs stays, also an attempt of it that has ended.
pub(crate) async fn what_still_runs_is_not_touched(db: &Db) {
    let store = &*db.store;
    let waiting = stored(store, at(0), |task| task.lane = crate::world::lane_of("nobody")).await;
    let slot = slot(store, "web-1").await;
    let running = claimed_by(store, &slot, |_| ()).await;
    said(store, &running).await;
    let retrying = claimed_by(store, &slot, |task| {
        task.policy = crate::world::policy(1, hetuflow_core::retry::OnLost::Retry);
    })
    .await;
    said(store, &retrying).await;
    store.finish(&[finish(retrying.lease, Outcome::exit(1))], at(3), 0.0).await.expect("ended");

    drop_everything(store, at(9_999)).await;
    for id in [waiting, running.task.id, retrying.task.id] {
        let task = store.task(id).await.expect("it stays");
        store.event(task.event_id).await.expect("its event stays");
    }
    for claimed in [&running, &retrying] {
        store.instance(claimed.lease.instance_id).await.expect("the attempt stays");
        assert_eq!(pieces(store, claimed).await, 1);
    }
}

pub(crate) async fn dropping_goes_in_bounded_steps_the_oldest_first(db: &Db) {
    let store = &*db.store;
    let mut ids: Vec<TaskId> = Vec::new();
    for second in 0..5 {
        let id = stored(store, at(second), |task| task.command = Err("no".to_owned())).await;
        ids.push(id);
    }
    let leadership = lead(store).await;
    let first = store.drop_before(leadership, Stock::Tasks, at(100), 2).await.expect("a step");
    assert_eq!((first.rows, first.more), (2, true));
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(store.task(*id).await.is_ok(), n >= 2, "task {n}");
    }
    assert_eq!(drop_all(store, leadership, Stock::Tasks, at(100), 2).await, [2, 1]);
    assert_eq!(drop_all(store, leadership, Stock::Events, at(100), 3).await, [3, 2]);
}

pub(crate) async fn a_duplicate_of_a_dropped_event_starts_nothing(db: &Db) {
    let store = &*db.store;
    let mut first = keyed("1", at(0));
    first.tasks[0].command = Err("it has ended".to_owned());
    let event_id = first.event.id;
    store.ingest(&[first], &[]).await.expect("stored");
    drop_everything(store, at(20)).await;
    store.event(event_id).await.expect_err("dropped");
    let again = keyed("1", at(30));
    let again_id = again.tasks[0].id;
    let answers = store.ingest(&[again], &[]).await.expect("an answer").answers;
    assert_eq!(answers, [Ingested::Duplicate { event_id, task_ids: Vec::new(), parts: Vec::new() }]);
    store.task(again_id).await.expect_err("nothing was started");
}

pub(crate) async fn the_size_and_the_oldest_are_told(db: &Db) {
    let store = &*db.store;
    assert_eq!(store.size().await.expect("a size").oldest, None);
    let before = store.size().await.expect("a size").bytes;
    let mut large = ingest(at(7), |task| task.command = Err("no".to_owned()));
    large.event.body = Bytes::from(vec![7; 1 << 20]);
    store.ingest(&[large], &[]).await.expect("stored");
    let full = store.size().await.expect("a size");
    assert_eq!(full.oldest, Some(at(7)));
    // PostgreSQL packs what repeats itself.
    assert!(full.bytes > before, "{full:?}, before {before}");
    drop_everything(store, at(20)).await;
    assert_eq!(store.size().await.expect("a size").oldest, None);
}

pub(crate) async fn a_stale_leader_drops_nothing(db: &Db) {
    let store = &*db.store;
    let id = stored(store, at(0), |task| task.command = Err("no".to_owned())).await;
    let leadership = lead(store).await;
    let stale = Leadership { epoch: leadership.epoch - 1, ..leadership };
    for stock in [Stock::Events, Stock::Tasks, Stock::Output, Stock::Fires] {
        let error = store.drop_before(stale, stock, at(20), 10).await.expect_err("refused");
        assert!(matches!(error, StoreError::NotLeader), "{error:?}");
    }
    store.task(id).await.expect("it stays");
}
