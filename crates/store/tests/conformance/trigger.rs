//! Promises of `TriggerStore`.

use std::time::Duration;

use hetuflow_core::{id::Namespace, schedule::ScheduleKind, status::Status};
use hetuflow_store::{NewSchedule, NewTrigger, Store, StoreError, StoredTrigger, TriggerChange};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    database::Db,
    world::{at, job_spec, stored, task},
};

/// A trigger with an interval and a webhook.
pub(crate) fn new_trigger(name: &str, text: &str) -> NewTrigger {
    NewTrigger {
        namespace: Namespace::default(),
        name: name.to_owned(),
        origin: format!("triggers/{name}.toml"),
        text: text.to_owned(),
        description: "Deploy the site".to_owned(),
        job: Some(job_spec("deploy")),
        job_name: name.to_owned(),
        schedules: vec![interval("interval 1", 300, at(300)), webhook()],
    }
}

pub(crate) fn interval(name: &str, every: u64, next_run_at: Timestamp) -> NewSchedule {
    let spec = json!({ "every": every });
    let created_at = next_run_at - Duration::from_secs(every);
    let (name, next_run_at) = (name.to_owned(), Some(next_run_at));
    NewSchedule { kind: ScheduleKind::Interval, name, spec, created_at, next_run_at }
}

fn webhook() -> NewSchedule {
    let spec = json!({ "scheme": "github", "events": ["push"] });
    let name = "webhook 1".to_owned();
    NewSchedule { kind: ScheduleKind::Event, name, spec, created_at: at(0), next_run_at: None }
}

pub(crate) async fn apply(store: &dyn Store, change: TriggerChange, now: Timestamp) -> i64 {
    store.apply_triggers("folder", &[change], now).await.expect("applied")
}

pub(crate) async fn put(store: &dyn Store, trigger: NewTrigger, now: Timestamp) -> StoredTrigger {
    let name = trigger.name.clone();
    apply(store, TriggerChange::Put(trigger), now).await;
    stored_trigger(store, &name).await
}

async fn stored_trigger(store: &dyn Store, name: &str) -> StoredTrigger {
    let triggers = store.triggers().await.expect("triggers");
    triggers.into_iter().find(|trigger| trigger.name == name).expect("the trigger is there")
}

fn broken(name: &str, problem: &str) -> TriggerChange {
    let origin = format!("triggers/{name}.toml");
    TriggerChange::Broken {
        namespace: Namespace::default(),
        name: name.to_owned(),
        origin,
        problem: problem.to_owned(),
    }
}

pub(crate) async fn a_trigger_declares_its_job_and_schedules(db: &Db) {
    let store = &*db.store;
    let trigger = put(store, new_trigger("deploy", "v1"), at(1)).await;
    assert_eq!((trigger.owner.as_str(), trigger.origin.as_str()), ("folder", "triggers/deploy.toml"));
    assert_eq!((trigger.revision, trigger.text.as_str(), &trigger.problem), (1, "v1", &None));
    assert_eq!((trigger.description.as_str(), trigger.updated_at), ("Deploy the site", at(1)));
    let job = store.job(trigger.job_id.expect("a job")).await.expect("the job");
    assert_eq!((job.name.as_str(), job.revision, &job.config), ("deploy", 1, &job_spec("deploy")));
    assert_eq!(store.job_named(&Namespace::default(), "deploy").await.expect("the job"), job);
    let [clock, hook] = &trigger.schedules[..] else { panic!("two schedules, in order: {trigger:?}") };
    assert_eq!((clock.kind, clock.name.as_str()), (ScheduleKind::Interval, "interval 1"));
    assert_eq!((&clock.spec, clock.created_at), (&json!({ "every": 300 }), at(0)));
    assert_eq!((clock.next_run_at, clock.last_run_at), (Some(at(300)), None));
    assert_eq!((hook.kind, hook.next_run_at), (ScheduleKind::Event, None));
}

pub(crate) async fn the_same_text_changes_nothing(db: &Db) {
    let store = &*db.store;
    let before = put(store, new_trigger("deploy", "v1"), at(1)).await;
    let generation = store.trigger_generation().await.expect("a generation");
    let again =
        NewTrigger { schedules: vec![interval("interval 1", 300, at(900))], ..new_trigger("deploy", "v1") };
    assert_eq!(apply(store, TriggerChange::Put(again), at(600)).await, generation);
    assert_eq!(stored_trigger(store, "deploy").await, before);
    assert_eq!(store.apply_triggers("folder", &[], at(600)).await.expect("applied"), generation);
}

pub(crate) async fn a_changed_text_keeps_the_job(db: &Db) {
    let store = &*db.store;
    let before = put(store, new_trigger("deploy", "v1"), at(1)).await;
    let generation = store.trigger_generation().await.expect("a generation");
    let changed = NewTrigger { job: Some(job_spec("other")), ..new_trigger("deploy", "v2") };
    let after = put(store, changed, at(2)).await;
    assert!(store.trigger_generation().await.expect("a generation") > generation);
    assert_eq!((after.revision, after.text.as_str(), after.job_id), (2, "v2", before.job_id));
    let job = store.job(before.job_id.expect("a job")).await.expect("the job");
    assert_eq!((job.config.cmd.as_str(), job.revision), ("other", 2));
}

pub(crate) async fn a_job_is_revised_only_when_it_differs(db: &Db) {
    let store = &*db.store;
    put(store, new_trigger("deploy", "v1"), at(1)).await;
    put(store, new_trigger("deploy", "v1 # a comment"), at(2)).await;
    assert_eq!(store.job_named(&Namespace::default(), "deploy").await.expect("the job").revision, 1);
}

pub(crate) async fn a_schedule_keeps_its_times_while_it_says_the_same(db: &Db) {
    let store = &*db.store;
    let before = put(store, new_trigger("deploy", "v1"), at(1)).await;
    let moved = vec![webhook(), interval("interval 1", 300, at(7777))];
    let after = put(store, NewTrigger { schedules: moved, ..new_trigger("deploy", "v2") }, at(500)).await;
    assert_eq!(after.schedules, [before.schedules[1].clone(), before.schedules[0].clone()]);
}

pub(crate) async fn a_changed_schedule_starts_anew(db: &Db) {
    let store = &*db.store;
    let before = put(store, new_trigger("deploy", "v1"), at(1)).await;
    let faster = vec![interval("interval 1", 60, at(560))];
    let after = put(store, NewTrigger { schedules: faster, ..new_trigger("deploy", "v2") }, at(500)).await;
    assert_eq!(after.schedules.len(), 1);
    let schedule = &after.schedules[0];
    assert_ne!(schedule.id, before.schedules[0].id);
    assert_eq!((schedule.created_at, schedule.next_run_at), (at(500), Some(at(560))));
}

pub(crate) async fn a_broken_text_leaves_the_last_good_one(db: &Db) {
    let store = &*db.store;
    let good = put(store, new_trigger("deploy", "v1"), at(1)).await;
    let noted = apply(store, broken("deploy", "line 3: unknown key"), at(2)).await;
    let now = stored_trigger(store, "deploy").await;
    assert_eq!(now.problem.as_deref(), Some("line 3: unknown key"));
    assert_eq!(StoredTrigger { problem: None, ..now }, good);
    assert_eq!(apply(store, broken("deploy", "line 3: unknown key"), at(3)).await, noted, "nothing new");
    let cleared = apply(store, TriggerChange::Put(new_trigger("deploy", "v1")), at(4)).await;
    assert!(cleared > noted);
    assert_eq!(stored_trigger(store, "deploy").await, good);
}

pub(crate) async fn a_trigger_that_never_parsed_is_listed(db: &Db) {
    let store = &*db.store;
    apply(store, broken("deploy", "line 1: no job"), at(1)).await;
    let noted = stored_trigger(store, "deploy").await;
    assert_eq!((noted.revision, noted.text.as_str(), noted.job_id), (0, "", None));
    assert_eq!(noted.problem.as_deref(), Some("line 1: no job"));
    let good = put(store, new_trigger("deploy", "v1"), at(2)).await;
    assert_eq!((good.revision, good.problem, good.schedules.len()), (1, None, 2));
}

pub(crate) async fn every_text_that_was_in_force_is_kept(db: &Db) {
    let store = &*db.store;
    put(store, new_trigger("deploy", "v1"), at(1)).await;
    put(store, new_trigger("deploy", "v1"), at(2)).await;
    put(store, new_trigger("deploy", "v2"), at(3)).await;
    let text = async |revision: i64| {
        let found = store.trigger_revision(&Namespace::default(), "deploy", revision).await;
        found.map(|found| (found.text, found.created_at))
    };
    assert_eq!(text(1).await.expect("kept"), ("v1".to_owned(), at(1)));
    assert_eq!(text(2).await.expect("kept"), ("v2".to_owned(), at(3)));
    let remove = TriggerChange::Remove { namespace: Namespace::default(), name: "deploy".to_owned() };
    apply(store, remove, at(4)).await;
    assert_eq!(text(2).await.expect("still kept").0, "v2");
    apply(store, broken("deploy", "line 1: no job"), at(5)).await;
    let back = put(store, new_trigger("deploy", "v1"), at(6)).await;
    assert_eq!((back.revision, text(3).await.expect("kept").1), (3, at(6)), "no number has two meanings");
    assert!(matches!(text(4).await, Err(StoreError::NotFound)));
}

pub(crate) async fn the_oldest_of_many_texts_go(db: &Db) {
    let store = &*db.store;
    for n in 1..=103 {
        put(store, new_trigger("deploy", &format!("v{n}")), at(n)).await;
    }
    let there =
        async |revision: i64| store.trigger_revision(&Namespace::default(), "deploy", revision).await.is_ok();
    assert_eq!([there(3).await, there(4).await, there(103).await], [false, true, true]);
}

pub(crate) async fn a_removed_trigger_leaves_its_job_and_tasks(db: &Db) {
    let store = &*db.store;
    let trigger = put(store, new_trigger("deploy", "v1"), at(1)).await;
    let job_id = trigger.job_id.expect("a job");
    let waiting = stored(store, at(2), |task| task.job_id = job_id).await;
    let remove = || TriggerChange::Remove { namespace: Namespace::default(), name: "deploy".to_owned() };
    let removed = apply(store, remove(), at(3)).await;
    assert_eq!(store.triggers().await.expect("triggers"), []);
    assert_eq!(store.next_fire().await.expect("a time"), None);
    assert_eq!(task(store, waiting).await.status, Status::Pending);
    assert_eq!(store.job(job_id).await.expect("the job").name, "deploy");
    assert_eq!(apply(store, remove(), at(4)).await, removed, "nothing new");
    assert_eq!(put(store, new_trigger("deploy", "v1"), at(5)).await.job_id, Some(job_id));
}

pub(crate) async fn another_owner_is_refused_and_nothing_is_applied(db: &Db) {
    let store = &*db.store;
    let before = put(store, new_trigger("deploy", "v1"), at(1)).await;
    let theirs = [
        TriggerChange::Put(new_trigger("theirs", "v1")),
        TriggerChange::Remove { namespace: Namespace::default(), name: "deploy".to_owned() },
    ];
    let error = store.apply_triggers("api", &theirs, at(2)).await.expect_err("not theirs");
    assert!(matches!(&error, StoreError::Conflict(text) if text.contains("belongs to folder")), "{error:?}");
    assert_eq!(store.triggers().await.expect("triggers"), [before]);
}

pub(crate) async fn a_job_by_name_may_come_later(db: &Db) {
    let store = &*db.store;
    let named = NewTrigger { job: None, job_name: "deploy".to_owned(), ..new_trigger("nightly", "v1") };
    let alone = put(store, named, at(1)).await;
    assert_eq!(alone.job_id, None);
    assert!(alone.problem.expect("a problem").contains("\"deploy\" does not exist"));
    let job_id = put(store, new_trigger("deploy", "v1"), at(2)).await.job_id;
    let together = stored_trigger(store, "nightly").await;
    assert_eq!((together.job_id, together.problem), (job_id, None));
}

pub(crate) async fn triggers_and_jobs_are_in_order(db: &Db) {
    let store = &*db.store;
    let mut elsewhere = new_trigger("a", "v1");
    elsewhere.namespace = Namespace::new("team-b").expect("a name");
    let changes = [elsewhere, new_trigger("c", "v1"), new_trigger("b", "v1")].map(TriggerChange::Put);
    store.apply_triggers("folder", &changes, at(1)).await.expect("applied");
    let triggers = store.triggers().await.expect("triggers");
    assert_eq!(triggers.iter().map(|trigger| trigger.name.as_str()).collect::<Vec<_>>(), ["b", "c", "a"]);
    let jobs = store.jobs().await.expect("jobs");
    assert_eq!(jobs.iter().map(|job| job.name.as_str()).collect::<Vec<_>>(), ["b", "c", "a"]);
}
