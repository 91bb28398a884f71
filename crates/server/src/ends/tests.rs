use hetuflow_core::{
    event::SourceKind,
    protocol::{FromAgent, ToAgent},
    status::Status,
    task::Outcome,
};
use hetuflow_store::{EventFilter, Page, TaskFilter};
use serde_json::Value;

use super::*;
use crate::replay::{Definition, replay};
use crate::world::{TestAgent, World};

const ON_API: &str = "[on.api]\n\n[job]\ncmd = \"true\"\n";

fn on_end(kind: &str, more: &str) -> String {
    format!("[on.event]\ntype = \"{kind}\"\n{more}\n\n[job]\ncmd = \"true\"\n")
}

/// An event of the type, as one from the API is.
async fn happens(world: &World, event_type: &str) {
    let state = &world.state;
    let mut event = crate::world::event(world.now(), b"{}");
    event.content_type = Some("application/json".to_owned());
    event_type.clone_into(&mut event.event_type);
    let judged = state.judge.judge(event, state.triggers.current(), Candidates::Events).await;
    assert_eq!(judged.tasks.len(), 1, "{:?}", judged.event.decisions);
    let ingest = Ingest { event: judged.event, dedupe: None, tasks: judged.tasks };
    state.ingester.submit(ingest).await.expect("stored");
}

/// The next assignment runs and ends like this.
async fn run(world: &World, agent: &mut TestAgent, outcome: Outcome) -> TaskId {
    agent.say(FromAgent::Credit { free: 1 }).await;
    agent.sync().await;
    world.dispatch().await;
    let lease = agent.take().await;
    agent.result(lease, outcome).await;
    let ToAgent::ResultAck { .. } = agent.hear().await else { panic!("no answer") };
    lease.task_id
}

async fn ends(world: &World) -> Vec<Event> {
    let filter = EventFilter { kind: Some(SourceKind::Internal), ..EventFilter::default() };
    let listed = world.state.store.events(&filter, Page::default()).await.expect("events");
    let mut events = Vec::new();
    for event in listed.into_iter().rev() {
        events.push(world.state.store.event(event.id).await.expect("the event"));
    }
    events
}

fn body(event: &Event) -> Value {
    serde_json::from_slice(&event.body).expect("JSON")
}

/// Its end is asked for, and nobody has been told.
async fn first_has_ended() -> (World, TestAgent) {
    let mut world = World::start().await;
    world.trigger("first", ON_API).await;
    world.trigger("then", &on_end("job.succeeded", "")).await;
    let mut agent = world.ready("web-1", &[], 8).await;
    happens(&world, "api.first").await;
    run(&world, &mut agent, Outcome::exit(0)).await;
    (world, agent)
}

async fn tasks(world: &World, trigger: &str) -> usize {
    let filter = TaskFilter { trigger: Some(trigger.to_owned()), ..TaskFilter::default() };
    world.state.store.tasks(&filter, Page::default()).await.expect("tasks").len()
}

#[tokio::test]
async fn the_end_of_a_job_starts_who_asks_for_it() {
    let mut world = World::start().await;
    world.trigger("first", ON_API).await;
    world.trigger("then", &on_end("job.succeeded", "when = 'event.subject == \"first\"'")).await;
    world.trigger("alarm", &on_end("job.failed", "")).await;
    let mut agent = world.ready("web-1", &[], 8).await;
    happens(&world, "api.first").await;
    let outputs = [("rows".to_owned(), Value::from(12))].into();
    let first = run(&world, &mut agent, Outcome { outputs, ..Outcome::exit(0) }).await;
    assert_eq!(look(&world.state).await.expect("told"), 1);
    let events = ends(&world).await;
    let [event] = &events[..] else { panic!("{events:?}") };
    let subject = event.subject.as_deref();
    assert_eq!((event.event_type.as_str(), subject), ("job.succeeded", Some("first")));
    let body = body(event);
    assert_eq!((&body["task_id"], &body["status"]), (&first.to_string().into(), &"succeeded".into()));
    assert_eq!((&body["exit_code"], &body["outputs"]["rows"]), (&0.into(), &12.into()));
    assert_eq!((tasks(&world, "then").await, tasks(&world, "alarm").await), (1, 0));

    run(&world, &mut agent, Outcome::exit(3)).await;
    look(&world.state).await.expect("told");
    assert_eq!((tasks(&world, "then").await, tasks(&world, "alarm").await), (1, 1));
    // The end of the alarm is not for the alarm.
    run(&world, &mut agent, Outcome::exit(3)).await;
    look(&world.state).await.expect("told");
    assert_eq!(tasks(&world, "alarm").await, 1);
    let events = ends(&world).await;
    let last = events.iter().find(|event| event.subject.as_deref() == Some("alarm")).expect("an event");
    let reasons: Vec<_> = last.decisions.iter().filter_map(|decision| decision.reason.as_deref()).collect();
    assert_eq!(reasons, ["the end of its own run does not start it"]);
}

#[tokio::test]
async fn an_end_that_is_told_again_is_stored_once() {
    let (world, _agent) = first_has_ended().await;
    let end = world.state.store.untold_ends(1).await.expect("ends").remove(0);
    let set = world.state.triggers.current();
    for _ in 0..2 {
        tell(&world.state, &set, &end).await.expect("told");
    }
    look(&world.state).await.expect("told");
    assert_eq!((ends(&world).await.len(), tasks(&world, "then").await), (1, 1));
    assert_eq!(look(&world.state).await.expect("nothing"), 0);
}

#[tokio::test]
async fn what_nobody_asks_for_any_more_is_not_told() {
    let mut world = World::start().await;
    world.trigger("first", ON_API).await;
    happens(&world, "api.first").await;
    world.trigger("then", &on_end("job.succeeded", "")).await;
    let mut agent = world.ready("web-1", &[], 8).await;
    run(&world, &mut agent, Outcome::exit(0)).await;
    assert_eq!(look(&world.state).await.expect("nothing"), 0, "it was planned before somebody asked");

    happens(&world, "api.first").await;
    run(&world, &mut agent, Outcome::exit(0)).await;
    world.remove_trigger("then").await;
    assert_eq!(look(&world.state).await.expect("noted"), 1);
    assert_eq!(ends(&world).await.len(), 0);
    assert_eq!(look(&world.state).await.expect("nothing"), 0);
}

#[tokio::test]
async fn an_alarm_alone_hears_of_failures_only() {
    let mut world = World::start().await;
    world.trigger("first", ON_API).await;
    world.trigger("alarm", &on_end("job.failed", "")).await;
    let mut agent = world.ready("web-1", &[], 8).await;
    for code in [0, 1] {
        happens(&world, "api.first").await;
        run(&world, &mut agent, Outcome::exit(code)).await;
        look(&world.state).await.expect("told");
    }
    let types: Vec<String> = ends(&world).await.into_iter().map(|event| event.event_type).collect();
    assert_eq!((types.as_slice(), tasks(&world, "alarm").await), (&["job.failed".to_owned()][..], 1));
}

#[tokio::test]
async fn a_circle_of_ends_stops() {
    let mut world = World::start().await;
    world.trigger("first", ON_API).await;
    world.trigger("ping", &on_end("job.succeeded", "when = 'event.subject != \"pong\"'")).await;
    world.trigger("pong", &on_end("job.succeeded", "when = 'event.subject == \"ping\"'")).await;
    world.trigger("back", &on_end("job.succeeded", "when = 'event.subject == \"pong\"'")).await;
    let mut agent = world.ready("web-1", &[], 8).await;
    happens(&world, "api.first").await;
    let mut runs = 0;
    loop {
        run(&world, &mut agent, Outcome::exit(0)).await;
        runs += 1;
        look(&world.state).await.expect("told");
        let filter = TaskFilter { status: vec![Status::Pending, Status::Locked], ..TaskFilter::default() };
        if world.state.store.count_tasks(&filter, 1).await.expect("a number") == 0 {
            break;
        }
        assert!(runs < 100, "it goes on for ever");
    }
    assert_eq!(runs, MOST_IN_A_ROW + 1);
    let skipped =
        |event: &Event| event.decisions.iter().any(|decision| decision.outcome == DecisionOutcome::Skipped);
    assert_eq!(ends(&world).await.iter().filter(|event| skipped(event)).count(), 1);
}

#[tokio::test]
async fn what_the_leader_has_left_is_told_by_another_server() {
    let (world, _agent) = first_has_ended().await;
    let mut left = HashSet::new();
    assert_eq!(look_after(&world.state, &mut left).await.expect("left"), 0);
    assert_eq!(look_after(&world.state, &mut left).await.expect("told"), 1);
    assert_eq!(tasks(&world, "then").await, 1);
}

#[tokio::test]
async fn a_replay_by_the_definition_of_then_is_told_to_who_asks_now() {
    let mut world = World::start().await;
    world.trigger("first", ON_API).await;
    happens(&world, "api.first").await;
    world.trigger("then", &on_end("job.succeeded", "")).await;
    let event =
        world.state.store.events(&EventFilter::default(), Page::default()).await.expect("events").remove(0);
    let original = world.state.store.event(event.id).await.expect("the event");
    let replayed = replay(&world.state, original, Definition::Original, None).await.expect("replayed");
    let mut agent = world.agent("web-1", &[]).await;
    let ran =
        [run(&world, &mut agent, Outcome::exit(0)).await, run(&world, &mut agent, Outcome::exit(0)).await];
    assert!(ran.contains(&replayed.task_ids[0]));
    assert_eq!(look(&world.state).await.expect("told"), 1);
    assert_eq!(tasks(&world, "then").await, 1);
}
