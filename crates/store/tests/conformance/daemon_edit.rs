//! Promises about daemons whose trigger changes, goes or comes back.

use hetuflow_core::{
    id::Namespace,
    schedule::{DaemonRule, Restart},
    status::Status,
    task::Outcome,
};
use hetuflow_store::{Fired, NewTrigger, Store, Tending, TriggerChange};

use crate::{
    daemon::{RULE, end, keeps, kept, lost, now, running, schedule, start, started, tend},
    database::Db,
    trigger::{apply, put},
    world::{at, job_spec, task},
};

async fn remove(store: &dyn Store) {
    let change = TriggerChange::Remove { namespace: Namespace::default(), name: "consumer".to_owned() };
    apply(store, change, at(20)).await;
}

pub(crate) async fn a_run_is_left_alone_by_what_does_not_concern_it(db: &Db) {
    let store = &*db.store;
    kept(store, "consume").await;
    let run = running(store, "consume").await;
    let described = NewTrigger {
        description: "other words".to_owned(),
        text: "described".to_owned(),
        ..keeps("consume", RULE, at(0))
    };
    put(store, described, at(10)).await;
    assert_eq!(tend(store, at(11)).await, []);
    // A rule is for its next end.
    let rule = DaemonRule { restart: Restart::OnFailure, ..RULE };
    let changed = put(store, keeps("consume", rule, at(12)), at(12)).await;
    let (second, _) = start(changed.schedules[0].id, "consume", at(12));
    assert_eq!(store.start_daemon(&second).await.expect("an answer"), Fired::Elsewhere);
    assert_eq!(schedule(store).await.next_run_at, None);
    assert_eq!(tend(store, at(13)).await, []);
    assert!(!task(store, run.task.id).await.cancel_requested);
    end(store, &run, Outcome::exit(0)).await;
    assert_eq!(tend(store, at(14)).await, [Tending::Stopped]);
    // With the next one it starts anew.
    put(store, keeps("consume", RULE, at(15)), at(15)).await;
    started(store, "consume").await;
}

pub(crate) async fn an_edited_job_replaces_its_run(db: &Db) {
    let store = &*db.store;
    kept(store, "consume").await;
    let run = running(store, "consume").await;
    put(store, keeps("devour", RULE, at(0)), at(10)).await;
    assert_eq!(tend(store, at(11)).await, [Tending::Ends]);
    assert_eq!(tend(store, at(12)).await, []);
    assert!(task(store, run.task.id).await.cancel_requested);
    assert_eq!(schedule(store).await.next_run_at, None);
    end(store, &run, Outcome::exit(0)).await;
    assert_eq!(tend(store, at(13)).await, [Tending::Starts { at: at(13), restarts: 0 }]);
    started(store, "devour").await;
}

pub(crate) async fn an_edited_job_does_not_wait_for_the_restart_of_the_old_one(db: &Db) {
    let store = &*db.store;
    kept(store, "consume").await;
    // Its run waits, and never starts.
    let first = started(store, "consume").await;
    put(store, keeps("devour", RULE, at(0)), at(10)).await;
    assert_eq!(tend(store, at(11)).await, [Tending::Ends]);
    assert_eq!(task(store, first).await.status, Status::Cancelled);
    assert_eq!(tend(store, at(12)).await, [Tending::Starts { at: at(12), restarts: 0 }]);
    let run = running(store, "devour").await;
    end(store, &run, Outcome::exit(1)).await;
    assert_eq!(tend(store, at(4)).await, [Tending::Starts { at: at(8), restarts: 1 }]);
    put(store, keeps("consume", RULE, at(0)), at(5)).await;
    assert_eq!(tend(store, at(6)).await, [Tending::Starts { at: at(6), restarts: 0 }]);
}

pub(crate) async fn a_run_ends_with_its_schedule(db: &Db) {
    let store = &*db.store;
    kept(store, "consume").await;
    let run = running(store, "consume").await;
    // The entry goes, the trigger stays.
    let without =
        NewTrigger { schedules: Vec::new(), text: "without".to_owned(), ..keeps("consume", RULE, at(0)) };
    put(store, without, at(10)).await;
    assert_eq!(tend(store, at(11)).await, [Tending::Ends]);
    assert!(task(store, run.task.id).await.cancel_requested);
    end(store, &run, Outcome::exit(0)).await;
    assert_eq!(tend(store, at(12)).await, [Tending::Forgotten]);
    assert!(!store.has_daemons().await.expect("an answer"));
}

pub(crate) async fn a_trigger_that_comes_back_waits_for_the_run_that_is_left(db: &Db) {
    let store = &*db.store;
    kept(store, "consume").await;
    let run = running(store, "consume").await;
    remove(store).await;
    assert_eq!(tend(store, at(21)).await, [Tending::Ends]);
    let back = put(store, keeps("consume", RULE, at(22)), at(22)).await;
    let (second, _) = start(back.schedules[0].id, "consume", at(22));
    assert_eq!(store.start_daemon(&second).await.expect("an answer"), Fired::Elsewhere);
    assert_eq!(tend(store, at(23)).await, []);
    end(store, &run, Outcome::exit(0)).await;
    assert_eq!(tend(store, at(24)).await, [Tending::Starts { at: at(24), restarts: 0 }]);
    started(store, "consume").await;
}

pub(crate) async fn a_run_that_may_be_left_is_remembered_without_its_trigger(db: &Db) {
    let store = &*db.store;
    kept(store, "consume").await;
    let run = running(store, "consume").await;
    remove(store).await;
    assert_eq!(tend(store, at(21)).await, [Tending::Ends]);
    end(store, &run, lost(false)).await;
    assert_eq!(tend(store, at(22)).await, [Tending::Held]);
    let back = put(store, keeps("consume", RULE, at(23)), at(23)).await;
    let (second, _) = start(back.schedules[0].id, "consume", at(23));
    assert_eq!(store.start_daemon(&second).await.expect("an answer"), Fired::Elsewhere);
    assert_eq!(now(store).await.task_id, run.task.id);
    // Settled by hand, and wanted again as it is.
    store.retry(run.task.id, at(24)).await.expect("it runs again");
    assert_eq!(tend(store, at(25)).await, []);
    assert_eq!(task(store, run.task.id).await.status, Status::Pending);
}

pub(crate) async fn a_daemon_whose_job_is_gone_starts_when_it_is_back(db: &Db) {
    let store = &*db.store;
    kept(store, "consume").await;
    let first = started(store, "consume").await;
    let named = |job_name: &str| NewTrigger {
        job: None,
        job_name: job_name.to_owned(),
        text: format!("job {job_name}"),
        ..keeps("consume", RULE, at(0))
    };
    put(store, named("nothing"), at(10)).await;
    assert_eq!(tend(store, at(11)).await, [Tending::Ends]);
    assert_eq!(tend(store, at(12)).await, [Tending::Forgotten]);
    assert_eq!(task(store, first).await.status, Status::Cancelled);
    assert_eq!(store.due_schedules(at(99), 10).await.expect("none"), []);
    // Under another name, with the same words.
    assert_eq!(
        store.job_named(&Namespace::default(), "consumer").await.expect("it stays").config,
        job_spec("consume")
    );
    put(store, named("consumer"), at(13)).await;
    assert_eq!(store.due_schedules(at(99), 10).await.expect("one").len(), 1);
    started(store, "consume").await;
}
