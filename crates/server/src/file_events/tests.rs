//! Files over a real socket: one event each, however often they are reported.

use std::path::Path;

use hetuflow_core::{
    event::{FileFacts, SourceKind},
    id::EventId,
    protocol::{FileEvent, FileOutcome, FileVerdict, FromAgent, ToAgent},
    task::{EndReason, Outcome},
};
use hetuflow_store::{EventFilter, Page, TaskFilter};

use crate::{
    replay::{Definition, replay},
    world::{TestAgent, World},
};

const TRIGGER: &str =
    "[on.file]\npaths = [\"/in/*.csv\"]\n[job]\ncmd = \"true\"\nargs = [\"{{ body.path }}\"]\n";

fn file(world: &World, key: &str, dedupe: &str) -> FileEvent {
    let facts =
        FileFacts { path: format!("/in/{dedupe}.csv"), size: 3, mtime: world.now(), ..FileFacts::default() };
    FileEvent {
        key: key.to_owned(),
        dedupe: dedupe.to_owned(),
        facts,
        members: Vec::new(),
        seen_at: world.now(),
    }
}

async fn verdicts(agent: &mut TestAgent, batch: Vec<FileEvent>) -> Vec<(String, FileVerdict)> {
    agent.say(FromAgent::Files { batch }).await;
    let ToAgent::FileAck { batch } = agent.hear().await else { panic!("no acknowledgement") };
    batch.into_iter().map(|ack| (ack.dedupe, ack.verdict)).collect()
}

#[tokio::test]
async fn a_file_is_one_event_however_often_it_is_reported() {
    let mut world = World::start().await;
    world.trigger("import", TRIGGER).await;
    let mut agent = world.agent("a", &[]).await;
    let batch = vec![
        file(&world, "default/import", "x"),
        file(&world, "default/import", "y"),
        file(&world, "default/import", "x"),
        file(&world, "default/gone", "z"),
    ];
    let expected = [
        ("x", FileVerdict::Accepted),
        ("y", FileVerdict::Accepted),
        ("x", FileVerdict::Duplicate),
        ("z", FileVerdict::Unwatched),
    ]
    .map(|(dedupe, verdict)| (dedupe.to_owned(), verdict));
    assert_eq!(verdicts(&mut agent, batch).await, expected);
    let again = vec![file(&world, "default/import", "x")];
    assert_eq!(verdicts(&mut agent, again).await, [("x".to_owned(), FileVerdict::Duplicate)]);

    // The same version of the same path on another host is another file.
    let mut other = world.agent("b", &[]).await;
    let same = vec![file(&world, "default/import", "x")];
    assert_eq!(verdicts(&mut other, same).await, [("x".to_owned(), FileVerdict::Accepted)]);
}

/// An agent forgets what no trigger asks for, so a server that has not heard of the trigger yet must not say so.
#[tokio::test]
async fn a_server_that_is_behind_forgets_no_file() {
    let mut world = World::start().await;
    let mut agent = world.agent("a", &[]).await;
    assert_eq!(agent.watches().await, Vec::<String>::new());
    world.trigger_elsewhere("import", TRIGGER).await;
    agent.say(FromAgent::Files { batch: vec![file(&world, "default/import", "x")] }).await;
    let mut other = world.agent("b", &[]).await;
    world.reload().await;
    assert_eq!(other.watches().await, ["default/import"]);
    let ToAgent::FileAck { batch } = agent.hear().await else { panic!("no acknowledgement") };
    assert_eq!(batch[0].verdict, FileVerdict::Accepted);
}

fn batch(world: &World, dedupe: &str, members: &[&str]) -> FileEvent {
    let files = members.iter().map(|member| file(world, "", member).facts).collect();
    let facts = FileFacts::batch(Path::new("/in"), files);
    let members = members.iter().map(|member| (*member).to_owned()).collect();
    FileEvent { facts, members, ..file(world, "default/import", dedupe) }
}

#[tokio::test]
async fn a_file_is_in_one_event_however_files_are_put_together() {
    let mut world = World::start().await;
    world.trigger("import", TRIGGER).await;
    let mut agent = world.agent("a", &[]).await;
    let mut told = async |batch: Vec<FileEvent>| {
        agent.say(FromAgent::Files { batch }).await;
        let ToAgent::FileAck { batch } = agent.hear().await else { panic!("no acknowledgement") };
        batch.into_iter().map(|ack| (ack.verdict, ack.event_id, ack.known)).collect::<Vec<_>>()
    };
    let first = told(vec![batch(&world, "ab", &["a", "b"]), file(&world, "default/import", "c")]).await;
    let [(FileVerdict::Accepted, Some(ab), _), (FileVerdict::Accepted, Some(c), _)] = first[..] else {
        panic!("{first:?}")
    };
    let again = told(vec![
        batch(&world, "ab", &["a", "b"]),
        batch(&world, "bcd", &["b", "c", "d"]),
        file(&world, "default/import", "a"),
        batch(&world, "d", &["d"]),
    ])
    .await;
    let known = vec![("b".to_owned(), ab), ("c".to_owned(), c)];
    assert_eq!(
        again[..3],
        [
            (FileVerdict::Duplicate, Some(ab), vec![]),
            (FileVerdict::Overlaps, None, known),
            (FileVerdict::Duplicate, Some(ab), vec![]),
        ]
    );
    assert_eq!(again[3].0, FileVerdict::Accepted);
    assert_eq!(
        world.state.store.tasks(&TaskFilter::default(), Page::default()).await.expect("tasks").len(),
        3
    );
}

#[tokio::test]
async fn its_task_runs_where_the_file_is() {
    let mut world = World::start().await;
    world.trigger("import", TRIGGER).await;
    let mut agent = world.ready("a", &[], 1).await;
    let mut other = world.ready("b", &[], 4).await;
    let batch = vec![file(&world, "default/import", "x")];
    verdicts(&mut agent, batch).await;
    let filter = EventFilter { kind: Some(SourceKind::File), ..EventFilter::default() };
    let events = world.state.store.events(&filter, Page::default()).await.expect("events");
    assert_eq!(events[0].source, "/agents/a/files/default/import");
    assert_eq!(events[0].event_type, "file.arrived");
    assert_eq!(events[0].subject.as_deref(), Some("/in/x.csv"));
    let tasks = world.state.store.tasks(&TaskFilter::default(), Page::default()).await.expect("tasks");
    assert_eq!(tasks[0].lane.agent.as_ref(), Some(&agent.hello.agent_id));
    world.dispatch().await;
    let assignment = agent.assigned().await.assignment;
    assert_eq!(assignment.command.args, ["/in/x.csv"]);
    assert_eq!(assignment.event.file.expect("facts").path, "/in/x.csv");
    other.sync().await;
}

#[tokio::test]
async fn a_file_is_replayed_where_it_was_seen_by_the_rules_of_now_or_of_then() {
    let mut world = World::start().await;
    world.trigger("import", TRIGGER).await;
    let mut agent = world.ready("a", &[], 1).await;
    let batch = vec![file(&world, "default/import", "x")];
    verdicts(&mut agent, batch).await;
    let filter = EventFilter { kind: Some(SourceKind::File), ..EventFilter::default() };
    let events = world.state.store.events(&filter, Page::default()).await.expect("events");
    let original = world.state.store.event(events[0].id).await.expect("the event");
    world.trigger("import", &TRIGGER.replace("{{ body.path }}", "{{ body.size }}")).await;
    for (definition, arg) in [(Definition::Current, "3"), (Definition::Original, "/in/x.csv")] {
        let replayed = replay(&world.state, original.clone(), definition, None).await;
        let replayed = replayed.expect("it is replayed");
        let task = world.stored(replayed.task_ids[0]).await;
        assert_eq!(task.command.expect("a command").args, [arg]);
        assert_eq!(task.lane.agent.as_ref(), Some(&agent.hello.agent_id));
        let event = world.state.store.event(replayed.event_id).await.expect("the event");
        assert_eq!((event.replay_of, &event.body), (Some(original.id), &original.body));
    }
}

#[tokio::test]
async fn what_an_agent_notices_is_for_other_triggers_also_when_it_is_replayed() {
    let mut world = World::start().await;
    world.trigger("import", TRIGGER).await;
    let alert =
        "[on.event]\ntype = \"file.rejected\"\n[job]\ncmd = \"echo\"\nargs = [\"{{ file.reason }}\"]\n";
    world.trigger("alert", alert).await;
    let mut agent = world.agent("a", &[]).await;
    let mut noticed = file(&world, "default/import", "x");
    noticed.facts =
        FileFacts { change: "rejected".to_owned(), reason: Some("too big".to_owned()), ..noticed.facts };
    verdicts(&mut agent, vec![noticed]).await;
    let filter = EventFilter { kind: Some(SourceKind::File), ..EventFilter::default() };
    let events = world.state.store.events(&filter, Page::default()).await.expect("events");
    let triggers = |event: &hetuflow_core::event::Event| {
        event.decisions.iter().map(|decision| decision.trigger.clone()).collect::<Vec<_>>()
    };
    assert_eq!((events.len(), triggers(&events[0])), (1, vec!["alert".to_owned()]));
    let original = world.state.store.event(events[0].id).await.expect("the event");
    let replayed = replay(&world.state, original, Definition::Current, None).await;
    let replayed = replayed.expect("it is replayed");
    assert_eq!(replayed.task_ids.len(), 1);
    let task = world.stored(replayed.task_ids[0]).await;
    assert_eq!(task.command.expect("a command").args, ["too big"]);
}

async fn ask(agent: &mut TestAgent, event: EventId) -> FileOutcome {
    agent.say(FromAgent::FileOutcomes { events: vec![event], follow: true }).await;
    outcome(agent).await
}

async fn outcome(agent: &mut TestAgent) -> FileOutcome {
    let ToAgent::FileOutcomes { outcomes } = agent.hear().await else { panic!("no outcome") };
    outcomes[0].1
}

#[tokio::test]
async fn the_end_of_an_event_that_is_followed_is_told_by_itself() {
    let mut world = World::start().await;
    world.trigger("import", TRIGGER).await;
    let (mut origin, mut other) = (world.agent("a", &[]).await, world.agent("b", &[]).await);
    let fail = |message| Outcome::because(EndReason::Spawn, message);
    verdicts(&mut origin, vec![file(&world, "default/import", "x")]).await;
    let filter = EventFilter { kind: Some(SourceKind::File), ..EventFilter::default() };
    let id = world.state.store.events(&filter, Page::default()).await.expect("events")[0].id;
    // Both may follow it; what counts is the last who asked.
    assert_eq!(ask(&mut other, id).await, FileOutcome::Open);
    assert_eq!(ask(&mut origin, id).await, FileOutcome::Open);
    assert_eq!(world.state.hub.followed(), 1);
    origin.say(FromAgent::Credit { free: 1 }).await;
    world.until("a", |agent| agent.free == 1).await;
    world.dispatch().await;
    let lease = origin.take().await;
    origin.result(lease, fail("no such program")).await;
    let mut heard = [origin.hear().await, origin.hear().await];
    heard.sort_by_key(|message| matches!(message, ToAgent::FileOutcomes { .. }));
    assert_eq!(heard[1], ToAgent::FileOutcomes { outcomes: vec![(id, FileOutcome::Failed)] });

    // It is followed on: somebody may see to it. A replay that ends well stands for it.
    let original = world.state.store.event(id).await.expect("the event");
    let replayed = replay(&world.state, original, Definition::Current, None).await.expect("it is replayed");
    assert_eq!(ask(&mut origin, id).await, FileOutcome::Open);
    assert_eq!(world.state.hub.followed(), 2);
    world.state.store.cancel(replayed.task_ids[0], world.now()).await.expect("cancelled");
    world.state.hub.tasks_ended(replayed.task_ids.iter().copied());
    assert_eq!(outcome(&mut origin).await, FileOutcome::Failed);
    world.state.store.retry(lease.task_id, world.now()).await.expect("it waits again");
    assert_eq!(ask(&mut origin, id).await, FileOutcome::Open);
    world.state.store.cancel(lease.task_id, world.now()).await.expect("cancelled");
    world.state.hub.tasks_ended(std::iter::once(lease.task_id));
    assert_eq!(outcome(&mut origin).await, FileOutcome::Cancelled);
    assert_eq!(world.state.hub.followed(), 0);
}

#[tokio::test]
async fn no_more_files_are_taken_than_may_wait() {
    let mut world = World::start().await;
    let most = |text: &str| text.replace("[job]", "limits = { max_pending = 2 }\n[job]");
    world.trigger("import", &most(TRIGGER)).await;
    world.trigger("usual", TRIGGER).await;
    let mut agent = world.agent("a", &[]).await;
    let keys = ["default/import", "default/usual", "default/gone"].map(str::to_owned);
    let rooms = async |agent: &mut TestAgent| {
        agent.say(FromAgent::FileRooms { keys: keys.to_vec() }).await;
        let ToAgent::FileRooms { rooms } = agent.hear().await else { panic!("no room") };
        rooms.into_iter().map(|(_, room)| room).collect::<Vec<_>>()
    };
    let endless = u64::from(u32::MAX);
    assert_eq!(rooms(&mut agent).await, [2, 10_000, endless]);
    let batch = ["x", "y", "z"].map(|name| file(&world, "default/import", name)).to_vec();
    verdicts(&mut agent, batch).await;
    assert_eq!(rooms(&mut agent).await, [0, 10_000, endless]);
    assert_eq!(world.state.metrics.files_withheld.get(), 1);
    // On another machine nothing waits.
    let mut other = world.agent("b", &[]).await;
    assert_eq!(rooms(&mut other).await, [2, 10_000, endless]);
    let tasks = world.state.store.tasks(&TaskFilter::default(), Page::default()).await.expect("tasks");
    for task in &tasks[..2] {
        world.state.store.cancel(task.id, world.now()).await.expect("cancelled");
    }
    assert_eq!(rooms(&mut agent).await, [1, 10_000, endless]);
}
