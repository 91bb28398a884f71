//! Promises about lists.

use hetuflow_core::{
    event::{DecisionOutcome, Event, SourceKind, Verdict},
    id::{InstanceId, JobId, Namespace},
    labels::Lane,
    retry::OnLost,
    status::Status,
    task::{EndReason, NewTask, Outcome},
};
use hetuflow_store::{
    Backlog, ByTrigger, EventFilter, Ingest, InstanceFilter, Order, Page, Store, TaskFilter, Walk,
};

use crate::{
    database::Db,
    world::{agent_id, at, claim, claimed_by, event, finish, policy, slot, stored, take_in, task_of},
};

fn team_b() -> Namespace {
    Namespace::new("team-b").expect("a name")
}

pub(crate) async fn events_are_newest_first_without_bodies(db: &Db) {
    let events: Vec<_> = (0..5).map(|n| event(at(n))).collect();
    let batch =
        events.iter().map(|event| Ingest { event: event.clone(), dedupe: None, tasks: vec![] }).collect();
    take_in(&*db.store, batch).await.expect("stored");
    let page = Page { before: Some(events[4].id.uuid()), limit: 2 };
    let listed = db.store.events(&EventFilter::default(), page).await.expect("a page");
    assert_eq!(listed.iter().map(|event| event.id).collect::<Vec<_>>(), [events[3].id, events[2].id]);
    assert!(listed.iter().all(|event| event.body.is_empty()));
    assert_eq!((&listed[0].headers, &listed[0].decisions), (&events[3].headers, &events[3].decisions));
}

pub(crate) async fn events_are_filtered(db: &Db) {
    let mut events: Vec<_> = (0..5).map(|n| event(at(n))).collect();
    events[0].namespace = team_b();
    events[1].kind = SourceKind::File;
    "/hooks/100%_other".clone_into(&mut events[2].source);
    "ping".clone_into(&mut events[3].event_type);
    events[4].verdict = Verdict::Rejected { reason: "the signature differs".to_owned() };
    let batch =
        events.iter().map(|event| Ingest { event: event.clone(), dedupe: None, tasks: vec![] }).collect();
    take_in(&*db.store, batch).await.expect("stored");
    let check = async |filter: EventFilter, expected: &[usize]| {
        let listed = db.store.events(&filter, Page::default()).await.expect("a list");
        let expected: Vec<_> = expected.iter().rev().map(|n| events[*n].id).collect();
        assert_eq!(listed.iter().map(|event| event.id).collect::<Vec<_>>(), expected, "{filter:?}");
    };
    let source = |source: &str| EventFilter { source: Some(source.to_owned()), ..EventFilter::default() };
    check(EventFilter::default(), &[0, 1, 2, 3, 4]).await;
    check(EventFilter { namespace: Some(team_b()), ..EventFilter::default() }, &[0]).await;
    check(EventFilter { kind: Some(SourceKind::File), ..EventFilter::default() }, &[1]).await;
    check(source("/hooks/100%_other"), &[2]).await;
    check(source("100%_other"), &[2]).await;
    check(source("other"), &[]).await;
    check(source("hooks/deploy-site"), &[0, 1, 3, 4]).await;
    check(EventFilter { event_type: Some("ping".to_owned()), ..EventFilter::default() }, &[3]).await;
    check(EventFilter { verdict: Some("rejected".to_owned()), ..EventFilter::default() }, &[4]).await;
}

pub(crate) async fn events_are_found_by_trigger_time_and_original(db: &Db) {
    let mut events: Vec<_> = (0..5).map(|n| event(at(n))).collect();
    "deploy-site-2".clone_into(&mut events[1].decisions[0].trigger);
    events[1].decisions[0].reason = Some("{\"trigger\":\"deploy-site\",\"outcome\":\"matched\"".to_owned());
    events[2].decisions[0].outcome = DecisionOutcome::NoMatch;
    events[3].replay_of = Some(events[0].id);
    events[1].secret = Some("file /run/old".to_owned());
    events[2].sender = "192.0.2.7".parse().ok();
    events[3].decisions = Vec::new();
    events[4].verdict = Verdict::Rejected { reason: "the signature differs".to_owned() };
    events[4].decisions = Vec::new();
    keep(db, &events).await;
    let check = async |filter: EventFilter, expected: &[usize]| {
        let listed = db.store.events(&filter, Page::default()).await.expect("a list");
        let expected: Vec<_> = expected.iter().rev().map(|n| events[*n].id).collect();
        assert_eq!(listed.iter().map(|event| event.id).collect::<Vec<_>>(), expected, "{filter:?}");
    };
    let by = |outcome, sources: &[&str]| {
        let sources = sources.iter().map(|&source| source.to_owned()).collect();
        let trigger = Some(ByTrigger { name: "deploy-site".to_owned(), outcome, sources });
        EventFilter { trigger, ..EventFilter::default() }
    };
    check(by(None, &[]), &[0, 2]).await;
    check(by(Some(DecisionOutcome::Matched), &["/hooks/deploy-site"]), &[0]).await;
    check(by(Some(DecisionOutcome::NoMatch), &[]), &[2]).await;
    // No trigger was asked about the last one.
    check(by(None, &["/hooks/other", "/hooks/deploy-site"]), &[0, 2, 4]).await;
    let secret = Some("file /run/old".to_owned());
    check(EventFilter { secret, ..EventFilter::default() }, &[1]).await;
    check(EventFilter { sender: "192.0.2.7".parse().ok(), ..EventFilter::default() }, &[2]).await;
    check(EventFilter { replay_of: Some(events[0].id), ..EventFilter::default() }, &[3]).await;
    let times = |since, until| EventFilter { since, until, ..EventFilter::default() };
    check(times(Some(at(2)), None), &[2, 3, 4]).await;
    check(times(None, Some(at(2))), &[0, 1]).await;
    check(times(Some(at(1)), Some(at(3))), &[1, 2]).await;
}

async fn keep(db: &Db, events: &[Event]) {
    let ingest = |event: &Event| Ingest { event: event.clone(), dedupe: None, tasks: vec![] };
    take_in(&*db.store, events.iter().map(ingest).collect()).await.expect("stored");
}

pub(crate) async fn a_walk_looks_at_no_more_than_it_may(db: &Db) {
    let mut events: Vec<_> = (0..7).map(|n| event(at(n))).collect();
    "ping".clone_into(&mut events[0].event_type);
    "ping".clone_into(&mut events[5].event_type);
    keep(db, &events).await;
    let filter = EventFilter { event_type: Some("ping".to_owned()), ..EventFilter::default() };
    let mut walk = Walk { order: Order::NewestFirst, from: None, limit: 10, look_at: 3 };
    let mut found = Vec::new();
    for expected in [Some(4), Some(1), None] {
        let walked = db.store.walk_events(&filter, walk).await.expect("a stretch");
        assert_eq!(walked.next, expected.map(|n: usize| events[n].id.uuid()));
        found.push(walked.events.iter().map(|event| event.id).collect::<Vec<_>>());
        walk.from = walked.next;
    }
    assert_eq!(found, [vec![events[5].id], vec![], vec![events[0].id]]);
}

pub(crate) async fn a_walk_goes_either_way_to_the_end(db: &Db) {
    let events: Vec<_> = (0..5).map(|n| event(at(n))).collect();
    keep(db, &events).await;
    let filter = EventFilter { since: Some(at(1)), ..EventFilter::default() };
    for (order, expected) in [
        (Order::OldestFirst, vec![vec![1, 2], vec![3, 4], vec![]]),
        (Order::NewestFirst, vec![vec![4, 3], vec![2, 1], vec![]]),
    ] {
        let (mut from, mut found) = (None, Vec::new());
        loop {
            let walk = Walk { order, from, limit: 2, look_at: 100 };
            let walked = db.store.walk_events(&filter, walk).await.expect("a stretch");
            let place = |event: &Event| events.iter().position(|known| known.id == event.id).expect("known");
            found.push(walked.events.iter().map(place).collect::<Vec<_>>());
            from = walked.next;
            if from.is_none() {
                break;
            }
        }
        assert_eq!(found, expected, "{order:?}");
    }
}

pub(crate) async fn tasks_are_newest_first_without_commands(db: &Db) {
    let store = &*db.store;
    let mut ids = Vec::new();
    for seconds in 0..4 {
        ids.push(stored(store, at(seconds), |_| ()).await);
    }
    let page = Page { before: Some(ids[3].uuid()), limit: 2 };
    let listed = store.tasks(&TaskFilter::default(), page).await.expect("a page");
    assert_eq!(listed.iter().map(|task| task.id).collect::<Vec<_>>(), [ids[2], ids[1]]);
    assert!(listed.iter().all(|task| task.command.is_none()));
}

pub(crate) async fn tasks_are_filtered(db: &Db) {
    let store = &*db.store;
    let job_id = JobId::at(at(9));
    let ids = [
        stored(store, at(0), |task| task.namespace = team_b()).await,
        stored(store, at(1), |task| "nightly".clone_into(&mut task.trigger)).await,
        stored(store, at(2), |task| task.job_id = job_id).await,
        stored(store, at(3), |task| task.command = Err("no value".to_owned())).await,
    ];
    let event_id = store.task(ids[1]).await.expect("a task").event_id;
    let check = async |filter: TaskFilter, expected: &[usize]| {
        let listed = store.tasks(&filter, Page::default()).await.expect("a list");
        let expected: Vec<_> = expected.iter().rev().map(|n| ids[*n]).collect();
        assert_eq!(listed.iter().map(|task| task.id).collect::<Vec<_>>(), expected, "{filter:?}");
    };
    let status = |status: &[Status]| TaskFilter { status: status.to_vec(), ..TaskFilter::default() };
    check(TaskFilter { namespace: Some(team_b()), ..TaskFilter::default() }, &[0]).await;
    check(TaskFilter { trigger: Some("nightly".to_owned()), ..TaskFilter::default() }, &[1]).await;
    check(TaskFilter { job_id: Some(job_id), ..TaskFilter::default() }, &[2]).await;
    check(TaskFilter { event_id: Some(event_id), ..TaskFilter::default() }, &[1]).await;
    check(status(&[Status::Failed]), &[3]).await;
    check(status(&[Status::Failed, Status::Pending]), &[0, 1, 2, 3]).await;
    check(TaskFilter { job_id: Some(job_id), ..status(&[Status::Failed]) }, &[]).await;
}

pub(crate) async fn instances_are_filtered(db: &Db) {
    let store: &dyn Store = &*db.store;
    let one = claimed_by(store, &slot(store, "one").await, |task| task.job_id = JobId::at(at(9))).await;
    let two = claimed_by(store, &slot(store, "two").await, |_| ()).await;
    store.finish(&[finish(two.lease, Outcome::exit(0))], at(3), 0.0).await.expect("ended");
    let check = async |filter: InstanceFilter, mut expected: Vec<InstanceId>| {
        let listed = store.instances(&filter, Page::default()).await.expect("a list");
        expected.sort_unstable_by(|a, b| b.cmp(a));
        assert_eq!(listed.iter().map(|instance| instance.id).collect::<Vec<_>>(), expected, "{filter:?}");
    };
    let (first, second) = (one.lease.instance_id, two.lease.instance_id);
    check(InstanceFilter::default(), vec![first, second]).await;
    check(InstanceFilter { task_id: Some(one.task.id), ..InstanceFilter::default() }, vec![first]).await;
    check(InstanceFilter { job_id: Some(one.task.job_id), ..InstanceFilter::default() }, vec![first]).await;
    check(InstanceFilter { agent_id: Some(agent_id("two")), ..InstanceFilter::default() }, vec![second])
        .await;
    check(InstanceFilter { status: vec![Status::Succeeded], ..InstanceFilter::default() }, vec![second])
        .await;
}

pub(crate) async fn tasks_are_filtered_by_how_they_ended(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    let ends = [
        (Outcome::exit(1), OnLost::Hold),
        // A message may hold what a database cannot read as text.
        (Outcome::because(EndReason::Timeout, "\0 killed"), OnLost::Hold),
        (Outcome::because(EndReason::Lost, "gone"), OnLost::Hold),
        (Outcome::because(EndReason::Lost, "gone"), OnLost::Fail),
    ];
    let mut ids = Vec::new();
    for (outcome, on_lost) in ends {
        let claimed = claimed_by(store, &slot, |task| task.policy = policy(0, on_lost)).await;
        store.finish(&[finish(claimed.lease, outcome)], at(3), 0.0).await.expect("ended");
        ids.push(claimed.task.id);
    }
    let check = async |filter: TaskFilter, expected: &[usize]| {
        let listed = store.tasks(&filter, Page::default()).await.expect("a list");
        let mut listed: Vec<_> = listed.iter().map(|task| task.id).collect();
        let mut expected: Vec<_> = expected.iter().map(|n| ids[*n]).collect();
        listed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(listed, expected, "{filter:?}");
    };
    let reason = |reason: &[EndReason]| TaskFilter { reason: reason.to_vec(), ..TaskFilter::default() };
    check(reason(&[EndReason::Exit]), &[0]).await;
    check(reason(&[EndReason::Exit, EndReason::Timeout]), &[0, 1]).await;
    let lost = TaskFilter { status: vec![Status::Lost], ..TaskFilter::default() };
    check(lost.clone(), &[2, 3]).await;
    check(TaskFilter { on_lost: Some(OnLost::Hold), ..lost }, &[2]).await;
    check(TaskFilter { job: Some("no-such-job".to_owned()), ..TaskFilter::default() }, &[]).await;
    check(TaskFilter { since: Some(at(1)), ..TaskFilter::default() }, &[]).await;
    check(TaskFilter { until: Some(at(1)), ..TaskFilter::default() }, &[0, 1, 2, 3]).await;
}

pub(crate) async fn what_waits_of_a_trigger_is_counted_by_machine_up_to_a_bound(db: &Db) {
    let store = &*db.store;
    let on = |name: &str| Lane { agent: Some(agent_id(name)), ..Lane::default() };
    let slot = slot(store, "web-1").await;
    for place in 0..5 {
        stored(store, at(place), |task| {
            task.lane = on("web-1");
            task.run_at = at(place * 100);
            task.priority = i16::try_from(place % 2).expect("small");
        })
        .await;
    }
    let id = stored(store, at(0), |task| task.lane = on("web-2")).await;
    stored(store, at(0), |_| ()).await;
    let mut one = event(at(0));
    one.namespace = team_b();
    let task = NewTask { lane: on("web-1"), namespace: team_b(), ..task_of(&one) };
    take_in(store, vec![Ingest { event: one, dedupe: None, tasks: vec![task] }]).await.expect("stored");
    let trigger = crate::world::task(store, id).await.trigger;
    let count = async |namespace: &Namespace, agent: Option<&str>, most| {
        let agent = agent.map(agent_id);
        let backlog = Backlog { namespace, trigger: &trigger, agent: agent.as_ref(), most };
        store.backlog(backlog).await.expect("a count")
    };
    let ours = Namespace::default();
    assert_eq!(count(&ours, Some("web-1"), 9).await, 5);
    assert_eq!(count(&ours, Some("web-1"), 3).await, 3);
    assert_eq!(count(&ours, Some("web-2"), 9).await, 1);
    assert_eq!(count(&ours, Some("web-3"), 9).await, 0);
    assert_eq!(count(&ours, None, 9).await, 1);
    assert_eq!(count(&team_b(), Some("web-1"), 9).await, 1);
    // What runs waits no more; what waits for its time does.
    assert_eq!(claim(store, &vec![slot; 9], at(1)).await.len(), 4);
    assert_eq!(count(&ours, Some("web-1"), 9).await, 4);
    assert_eq!(count(&ours, None, 9).await + count(&team_b(), Some("web-1"), 9).await, 0);
}
