//! Promises about lost sessions and about agents as people see them.

use std::{collections::BTreeMap, time::Duration};

use hetuflow_core::{
    agent::{Connection, Duty},
    id::TaskId,
    retry::OnLost,
    status::Status,
    task::{EndReason, NewTask, Outcome},
};
use hetuflow_store::{Claimed, Report, Store};

use crate::{
    database::Db,
    leader::lead,
    world::{MINUTE, Visitor, at, claim, claimed_by, finish, instance, policy, slot, stored, task},
};

/// A task held by an agent whose connection has ended.
async fn abandoned(store: &dyn Store, change: impl FnOnce(&mut NewTask)) -> Claimed {
    let claimed = claimed_by(store, &slot(store, "web-1").await, change).await;
    store.close_session(&claimed.agent_id, claimed.session_epoch).await.expect("closed");
    claimed
}

/// Reaps without any patience; the database's clock needs an instant to move on.
async fn reap(store: &dyn Store, limit: u32) -> Vec<TaskId> {
    let leadership = lead(store).await;
    let reaping = async {
        loop {
            let lost = store.reap(leadership, Duration::ZERO, at(200), 0.0, limit).await.expect("a pass");
            if !lost.is_empty() {
                return lost;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(MINUTE, reaping).await.expect("something is reaped")
}

pub(crate) async fn a_session_that_ran_out_is_reaped_after_the_resume_time(db: &Db) {
    let store = &*db.store;
    let claimed = abandoned(store, |_| ()).await;
    let running = claimed_by(store, &slot(store, "web-2").await, |_| ()).await;
    assert_eq!(store.reap(lead(store).await, MINUTE, at(200), 0.0, 10).await.expect("too early"), []);
    assert_eq!(reap(store, 10).await, [claimed.task.id]);
    assert_eq!(task(store, running.task.id).await.status, Status::Locked);
    let instance = instance(store, claimed.lease).await;
    assert_eq!((instance.status, instance.finished_at), (Status::Lost, Some(at(200))));
    assert_eq!(instance.outcome.map(|outcome| outcome.reason), Some(EndReason::Lost));
}

pub(crate) async fn a_lost_attempt_is_settled_by_its_policy(db: &Db) {
    let store = &*db.store;
    let check = async |max_retries, on_lost, expected: Status| {
        let claimed = abandoned(store, |task| task.policy = policy(max_retries, on_lost)).await;
        let mut changes = store.task_changes();
        changes.mark_unchanged();
        assert_eq!(reap(store, 10).await, [claimed.task.id]);
        changes.changed().await.expect("listeners are told");
        let task = task(store, claimed.task.id).await;
        assert_eq!(task.status, expected, "{max_retries} {on_lost:?}");
        if expected == Status::WaitingRetry {
            assert_eq!((task.run_at, task.finished_at), (at(200), None));
            store.cancel(task.id, at(201)).await.expect("out of the way");
        }
    };
    check(0, OnLost::Hold, Status::Lost).await;
    check(3, OnLost::Fail, Status::Lost).await;
    check(0, OnLost::Retry, Status::Lost).await;
    check(1, OnLost::Retry, Status::WaitingRetry).await;
}

pub(crate) async fn reaping_is_bounded(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(claimed_by(store, &slot, |_| ()).await.task.id);
    }
    store.close_session(&slot.agent_id, slot.session_epoch).await.expect("closed");
    let (first, second) = (reap(store, 2).await, reap(store, 2).await);
    assert_eq!((first.len(), second.len()), (2, 1));
    held.sort_unstable();
    let mut lost = [first, second].concat();
    lost.sort_unstable();
    assert_eq!(lost, held);
}

/// Its server may have been without the database for so long, and the agent connected to it all the time.
pub(crate) async fn an_agent_whose_attempts_were_lost_says_hello_again(db: &Db) {
    let store = &*db.store;
    let mut visitor = Visitor::new("web-1");
    let session = visitor.hello(store, &[]).await;
    let slot = visitor.slot(&session);
    let held = claimed_by(store, &slot, |_| ()).await;
    let renew = async |lease| {
        store.renew_sessions(visitor.server_id, &[(slot.agent_id.clone(), slot.session_epoch)], lease).await
    };
    assert!(renew(Duration::ZERO).await.expect("renewed").is_empty());
    assert_eq!(reap(store, 10).await, [held.task.id]);
    assert_eq!(renew(MINUTE).await.expect("an answer"), std::slice::from_ref(&slot.agent_id));
    stored(store, at(1), |_| ()).await;
    assert!(claim(store, std::slice::from_ref(&slot), at(9)).await.is_empty(), "the session is over");
    assert_eq!(task(store, held.task.id).await.status, Status::Lost);
}

pub(crate) async fn a_result_after_the_loss_is_fenced(db: &Db) {
    let store = &*db.store;
    let claimed = abandoned(store, |_| ()).await;
    reap(store, 10).await;
    let before = task(store, claimed.task.id).await;
    let reports = store.finish(&[finish(claimed.lease, Outcome::exit(0))], at(300), 0.0).await;
    assert_eq!(reports.expect("an answer"), [Report::Fenced]);
    assert_eq!(task(store, claimed.task.id).await, before);
}

pub(crate) async fn a_result_and_the_reaper_never_both_win(db: &Db) {
    let store = &*db.store;
    let leadership = lead(store).await;
    for _ in 0..20 {
        let claimed = abandoned(store, |_| ()).await;
        let end = [finish(claimed.lease, Outcome::exit(0))];
        let (reports, lost) = tokio::join!(
            store.finish(&end, at(3), 0.0),
            store.reap(leadership, Duration::ZERO, at(3), 0.0, 10)
        );
        let (report, lost) = (reports.expect("an answer").remove(0), lost.expect("a pass"));
        let status = task(store, claimed.task.id).await.status;
        let expected = if lost.is_empty() { Status::Succeeded } else { Status::Lost };
        assert_eq!(status, expected);
        assert_eq!(report == Report::Recorded, lost.is_empty());
    }
}

pub(crate) async fn labels_hold_until_the_next_hello(db: &Db) {
    let store = &*db.store;
    let mut visitor = Visitor::new("web-1");
    visitor.hello(store, &[]).await;
    let labels = BTreeMap::from([("site".to_owned(), "fra".to_owned())]);
    let id = visitor.hello.agent_id.clone();
    assert_eq!(store.set_labels(&id, &labels).await.expect("set").labels, labels);
    assert_eq!(store.agent(&id).await.expect("the agent").labels, labels);
    visitor.hello(store, &[]).await;
    assert_eq!(store.agent(&id).await.expect("the agent").labels, visitor.hello.labels);
    store.set_labels(&crate::world::agent_id("nobody"), &labels).await.expect_err("not found");
}

pub(crate) async fn an_agent_stays_drained_over_hellos(db: &Db) {
    let store = &*db.store;
    let mut visitor = Visitor::new("web-1");
    assert_eq!(visitor.hello(store, &[]).await.duty, Duty::Active);
    let id = visitor.hello.agent_id.clone();
    let mut changes = store.task_changes();
    for duty in [Duty::Drained, Duty::Active, Duty::Drained] {
        changes.mark_unchanged();
        assert_eq!(store.set_duty(&id, duty).await.expect("set").duty, duty);
        changes.changed().await.expect("listeners are told");
        assert_eq!(visitor.hello(store, &[]).await.duty, duty);
        assert_eq!(store.agents().await.expect("agents")[0].duty, duty);
    }
    store.set_duty(&crate::world::agent_id("nobody"), Duty::Active).await.expect_err("not found");
}

pub(crate) async fn watermarks_are_kept_until_the_next_session(db: &Db) {
    let store = &*db.store;
    let mut visitor = Visitor::new("web-1");
    let epoch = visitor.hello(store, &[]).await.epoch;
    let id = visitor.hello.agent_id.clone();
    let of = async || store.agent(&id).await.expect("the agent").watermarks;
    assert!(of().await.is_empty());
    for (key, second) in [("default/a.b", 1), ("other/\"c", 2), ("default/a.b", 3)] {
        store.set_watermark(&id, epoch, key, at(second)).await.expect("kept");
    }
    store.set_watermark(&id, epoch + 1, "default/a.b", at(9)).await.expect("nothing to do");
    let expected = [("default/a.b", at(3)), ("other/\"c", at(2))];
    assert_eq!(of().await, expected.map(|(key, at)| (key.to_owned(), at)).into());
    visitor.hello(store, &[]).await;
    assert!(of().await.is_empty());
}

pub(crate) async fn agents_are_listed_with_what_they_run(db: &Db) {
    let store = &*db.store;
    let busy = slot(store, "b").await;
    slot(store, "a").await;
    claimed_by(store, &busy, |_| ()).await;
    let ended = claimed_by(store, &busy, |_| ()).await;
    store.finish(&[finish(ended.lease, Outcome::exit(0))], at(3), 0.0).await.expect("ended");
    let agents = store.agents().await.expect("agents");
    let seen: Vec<_> =
        agents.iter().map(|agent| (agent.id.as_str(), agent.running, agent.connection)).collect();
    assert_eq!(seen, [("a", 0, Connection::Online), ("b", 1, Connection::Online)]);
}
