//! From a waiting task to an agent over real sockets.

use hetuflow_core::{
    protocol::{FromAgent, Held, HeldPhase, MAX_CHUNK, ToAgent},
    status::Status,
    task::{EndReason, Outcome},
};
use hetuflow_store::Cancelled;

use crate::{
    dispatch,
    world::{World, impatient},
};

#[tokio::test]
async fn a_task_goes_to_an_agent_with_its_labels() {
    let world = World::start().await;
    let mut web = world.ready("a-web", &[("role", "web")], 4).await;
    let mut db = world.ready("b-db", &[("role", "db")], 1).await;
    let id = world.task(&[("role", "db")], b"").await;
    let nobody = world.task(&[("role", "gpu")], b"").await;
    world.dispatch().await;
    let assigned = db.assigned().await.assignment;
    assert_eq!(assigned.lease.task_id, id);
    assert_eq!(assigned.attempt, 1);
    web.sync().await;
    assert_eq!(world.stored(id).await.status, Status::Locked);
    assert_eq!(world.stored(nobody).await.status, Status::Pending);
}

#[tokio::test]
async fn credit_is_respected() {
    let world = World::start().await;
    let mut agent = world.ready("a", &[], 2).await;
    for _ in 0..3 {
        world.task(&[], b"").await;
    }
    world.dispatch().await;
    world.dispatch().await;
    let (first, second) = (agent.assigned().await, agent.assigned().await);
    agent.sync().await;
    assert_eq!(world.free("a"), 0);

    // A credit message that crossed the assignments: they are still taken off.
    agent.say(FromAgent::Credit { free: 2 }).await;
    agent.sync().await;
    assert_eq!(world.free("a"), 0);

    for lease in [first.assignment.lease, second.assignment.lease] {
        agent.say(FromAgent::Accepted { lease }).await;
    }
    agent.sync().await;
    assert_eq!(world.free("a"), 0);
    agent.say(FromAgent::Credit { free: 1 }).await;
    world.until("a", |online| online.free == 1).await;
    world.dispatch().await;
    agent.take().await;
    agent.sync().await;
    assert_eq!(world.free("a"), 0);
}

#[tokio::test]
async fn the_body_comes_before_its_assignment() {
    let world = World::start().await;
    let mut agent = world.ready("a", &[], 1).await;
    let body = vec![7; 2 * MAX_CHUNK + 1];
    world.task(&[], &body).await;
    world.dispatch().await;
    let assigned = agent.assigned().await;
    assert_eq!(assigned.frames, 3);
    assert_eq!(assigned.body, body);
    assert_eq!(assigned.assignment.event.body_size, body.len() as u64);
}

#[tokio::test]
async fn an_assignment_without_an_answer_is_sent_again_and_then_given_up() {
    let world = World::with(impatient(), |_| {}).await;
    let mut agent = world.ready("a", &[], 1).await;
    let id = world.task(&[], b"body").await;
    world.dispatch().await;
    let first = agent.assigned().await;
    let second = agent.assigned().await;
    assert_eq!(second.assignment.lease, first.assignment.lease);
    assert_eq!(second.body, b"body");
    agent.closed().await;
    // It comes back without the attempt: that never began.
    let _again = agent.again(&world.url, Vec::new()).await;
    let task = world.stored(id).await;
    assert_eq!((task.status, task.attempt), (Status::Pending, 0));
}

#[tokio::test]
async fn a_second_answer_to_a_repeated_assignment_changes_nothing() {
    let world = World::with(impatient(), |_| {}).await;
    let mut agent = world.ready("a", &[], 1).await;
    let id = world.task(&[], b"").await;
    world.dispatch().await;
    agent.assigned().await;
    let lease = agent.take().await;
    agent.say(FromAgent::Accepted { lease }).await;
    agent.say(FromAgent::Refused { lease, reason: "have it".to_owned() }).await;
    agent.say(FromAgent::Started { lease, at: world.now() }).await;
    agent.say(FromAgent::Accepted { lease }).await;
    agent.say(FromAgent::Bye).await;
    world.until("a", |online| online.free == 0).await;
    agent.result(lease, Outcome::exit(0)).await;
    // Copies of the assignment may still be on their way.
    while !matches!(agent.hear().await, ToAgent::ResultAck { .. }) {}
    assert_eq!(world.stored(id).await.status, Status::Succeeded);
}

#[tokio::test]
async fn a_refused_attempt_waits_again_and_is_not_counted() {
    let world = World::start().await;
    let mut agent = world.ready("a", &[], 1).await;
    let id = world.task(&[], b"").await;
    world.dispatch().await;
    let lease = agent.assigned().await.assignment.lease;
    agent.say(FromAgent::Refused { lease, reason: "disk full".to_owned() }).await;
    agent.sync().await;
    let task = world.stored(id).await;
    assert_eq!((task.status, task.attempt), (Status::Pending, 0));
    // It rests, so that a refusing agent does not spin the queue; another one gets the task.
    assert_eq!(world.free("a"), 0);
    let mut other = world.ready("b", &[], 1).await;
    world.dispatch().await;
    let again = other.assigned().await.assignment.lease;
    assert_eq!(again.task_id, id);
    assert!(again.fence > lease.fence);
}

#[tokio::test]
async fn a_refusal_of_a_repeated_assignment_is_settled_by_a_hello() {
    let world = World::with(impatient(), |_| {}).await;
    let mut agent = world.ready("a", &[], 1).await;
    let id = world.task(&[], b"").await;
    world.dispatch().await;
    let lease = agent.assigned().await.assignment.lease;
    agent.assigned().await;
    agent.say(FromAgent::Refused { lease, reason: "busy".to_owned() }).await;
    agent.closed().await;
    assert_eq!(world.stored(id).await.status, Status::Locked);
    // The other copy was accepted after all.
    let held = vec![Held { lease, phase: HeldPhase::Running }];
    let again = agent.again(&world.url, held).await;
    assert_eq!(again.welcome.keep.len(), 1);
}

#[tokio::test]
async fn a_cancellation_reaches_the_agent() {
    let world = World::start().await;
    let mut agent = world.ready("a", &[], 1).await;
    let id = world.task(&[], b"").await;
    world.dispatch().await;
    let lease = agent.assigned().await.assignment.lease;
    let asked = world.state.store.cancel(id, world.now()).await.expect("asked");
    assert_eq!(asked, Cancelled::Asked { agent_id: agent.hello.agent_id.clone(), lease });
    // Not before the answer: it would overtake the assignment.
    world.dispatch().await;
    agent.sync().await;
    agent.say(FromAgent::Accepted { lease }).await;
    agent.sync().await;
    world.dispatch().await;
    assert_eq!(agent.hear().await, ToAgent::Cancel { lease });
    world.dispatch().await;
    agent.sync().await;
    agent.result(lease, Outcome::because(EndReason::Cancelled, "asked for")).await;
    let ToAgent::ResultAck { .. } = agent.hear().await else { panic!("no acknowledgement") };
    assert_eq!(world.stored(id).await.status, Status::Cancelled);
}

#[tokio::test]
async fn the_loop_wakes_for_new_tasks_and_new_room() {
    let world = World::start().await;
    let running = tokio::spawn(dispatch::run(world.state.clone(), world.stop.clone()));
    let mut agent = world.ready("a", &[], 1).await;
    let first = world.task(&[], b"").await;
    assert_eq!(agent.take().await.task_id, first);
    let second = world.task(&[], b"").await;
    agent.sync().await;
    agent.say(FromAgent::Credit { free: 1 }).await;
    assert_eq!(agent.take().await.task_id, second);
    world.stop.cancel();
    running.await.expect("it ends");
}

#[tokio::test]
async fn a_new_task_is_leased_as_it_is_stored_where_there_is_room() {
    let world = World::start().await;
    let mut agent = world.ready("a", &[], 1).await;
    // Nobody has looked whether something waits.
    let first = world.task(&[], b"").await;
    assert_eq!(world.stored(first).await.status, Status::Pending);
    world.dispatch().await;
    agent.take().await;
    agent.say(FromAgent::Credit { free: 1 }).await;
    world.until("a", |online| online.free == 1).await;
    world.dispatch().await;

    let second = world.task(&[], b"body").await;
    let assigned = agent.assigned().await;
    assert_eq!((assigned.assignment.lease.task_id, assigned.assignment.attempt), (second, 1));
    assert_eq!(assigned.body, b"body");
    assert_eq!(world.stored(second).await.status, Status::Locked);
    assert_eq!(world.state.metrics.tasks_born_leased.get(), 1);
    // There is no room for another.
    let third = world.task(&[], b"").await;
    assert_eq!(world.stored(third).await.status, Status::Pending);
}

#[tokio::test]
async fn what_was_stored_a_moment_ago_is_not_read_again() {
    let world = World::start().await;
    // With no agent here, it is for others to claim.
    let early = world.task(&[], b"early").await;
    let mut agent = world.ready("a", &[], 1).await;
    world.advance(1);
    let late = world.task(&[], b"late").await;
    for (task, body, read_again) in [(early, b"early".as_slice(), 1), (late, b"late", 1)] {
        world.dispatch().await;
        let assigned = agent.assigned().await;
        assert_eq!((assigned.assignment.lease.task_id, assigned.body.as_slice()), (task, body));
        assert_eq!(world.state.metrics.events_read_again.get(), read_again);
        agent.say(FromAgent::Accepted { lease: assigned.assignment.lease }).await;
        agent.say(FromAgent::Credit { free: 1 }).await;
        world.until("a", |online| online.free == 1).await;
    }
}

#[tokio::test]
async fn a_new_task_takes_no_place_that_a_waiting_one_could_have() {
    let world = World::start().await;
    let mut web = world.ready("a-web", &[("role", "web")], 1).await;
    let waiting = world.task(&[("role", "web")], b"").await;
    world.advance(1);
    let other = world.task(&[("role", "web")], b"").await;
    world.dispatch().await;
    assert_eq!(web.take().await.task_id, waiting);
    // `other` waits for the agent's next place; an agent for which nothing waits takes what is new.
    let mut db = world.ready("b-db", &[("role", "db")], 1).await;
    world.dispatch().await;
    web.say(FromAgent::Credit { free: 1 }).await;
    world.until("a-web", |online| online.free == 1).await;
    world.advance(1);
    let late = world.task(&[("role", "web")], b"").await;
    assert_eq!(world.stored(late).await.status, Status::Pending);
    let elsewhere = world.task(&[("role", "db")], b"").await;
    assert_eq!(db.assigned().await.assignment.lease.task_id, elsewhere);
    world.dispatch().await;
    assert_eq!(web.take().await.task_id, other);
}

#[tokio::test]
async fn an_offer_to_a_session_that_has_moved_on_leaves_the_task_waiting() {
    let world = World::start().await;
    let agent = world.ready("a", &[], 1).await;
    world.dispatch().await;
    // It says hello on another server; this one has not noticed yet.
    let mut hello = agent.hello.clone();
    hello.journal_epoch += 1;
    let lease = std::time::Duration::from_mins(1);
    let elsewhere = hetuflow_core::id::ServerId::at(world.now());
    world
        .state
        .store
        .open_session((&hello).into(), elsewhere, lease, world.now(), 0.0)
        .await
        .expect("a session");
    let id = world.task(&[], b"").await;
    let task = world.stored(id).await;
    assert_eq!((task.status, task.attempt, task.fence), (Status::Pending, 0, 0));
    assert_eq!(world.free("a"), 1, "the place is free again");
}
