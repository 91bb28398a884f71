//! What the link promises: one start per assignment, results until they are acknowledged, output from
//! where the server has it, and a journal that shows when it is another one.

use std::{fs, time::Duration};

use crate::world::{Said, World, again, is_alive, lines, script};
use hetuflow_agent::AgentError;
use hetuflow_core::{
    protocol::{FromAgent, HeldPhase, Kept, ResultVerdict, ToAgent},
    task::EndReason,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_assignment_starts_nothing() {
    let world = World::new().await;
    let agent = world.agent();
    let mut server = world.session().await;
    let (starts, go) = (world.path("starts"), world.path("go"));
    let run = script(&format!(
        "echo $$ >> {}; while [ ! -e {} ]; do sleep 0.01; done",
        starts.display(),
        go.display()
    ));
    server.run(&run).await;
    server.started(run.lease).await;
    server.run(&run).await;
    server.accepted(run.lease).await;
    server.started(run.lease).await;
    fs::write(&go, "").expect("written");
    server.result(run.lease).await;
    // Ended, and still held: the result again, which is the whole answer.
    server.run(&run).await;
    server.result(run.lease).await;
    server.acknowledge(run.lease).await;
    // Over and forgotten: never again, nor an older attempt of the task.
    server.run(&run).await;
    assert_eq!(server.refused(run.lease).await, "stale");
    let newer = again(&run, 5);
    server.run(&newer).await;
    server.result(newer.lease).await;
    let older = again(&run, 4);
    server.run(&older).await;
    assert_eq!(server.refused(older.lease).await, "stale");
    assert_eq!(lines(&starts, 2).await.len(), 2, "two attempts were accepted, each started once");
    server.acknowledge(newer.lease).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_stays_refused() {
    let world = World::new().await;
    let mut config = world.config();
    config.agent.max_concurrent_tasks = 1;
    let agent = world.agent_with(config);
    let mut server = world.session().await;
    server.credit(1).await;
    let first = script("while :; do sleep 0.01; done");
    let second = script("true");
    server.run(&first).await;
    server.credit(0).await;
    server.run(&second).await;
    assert_eq!(server.refused(second.lease).await, "busy");
    server.say(ToAgent::Cancel { lease: first.lease }).await;
    server.result(first.lease).await;
    server.acknowledge(first.lease).await;
    // The server has given this attempt away; a late copy of it must not start.
    server.run(&second).await;
    assert_eq!(server.refused(second.lease).await, "stale");
    let other = again(&second, 2);
    server.run(&other).await;
    server.result(other.lease).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_did_not_come_whole_is_refused() {
    let world = World::new().await;
    let agent = world.agent();
    let mut server = world.session().await;
    let mut run = script("true");
    run.event.body_size = 10;
    server.say(ToAgent::Assign(Box::new(run.clone()))).await;
    assert_eq!(server.refused(run.lease).await, "the event's body did not come whole");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_sent_until_it_is_acknowledged() {
    let world = World::new().await;
    let agent = world.agent();
    let mut server = world.session().await;
    let run = script("echo out; exit 4");
    server.run(&run).await;
    let (first, _) = server.result(run.lease).await;
    drop(server);
    let mut server = world.connection().await;
    assert_eq!(server.hello.held.iter().map(|held| held.phase).collect::<Vec<_>>(), [HeldPhase::Ended]);
    server.welcome(vec![Kept { lease: run.lease, next_seq: 1 }], Vec::new()).await;
    let (second, output) = server.result(run.lease).await;
    assert_eq!((second, output.as_str()), (first.clone(), ""), "its output is stored already");
    drop(server);
    agent.stop().await;

    let agent = world.agent();
    let mut server = world.session().await;
    let (third, output) = server.result(run.lease).await;
    assert_eq!((third, output.as_str()), (first, "out\n"), "also by the next life of the agent");
    server.acknowledge(run.lease).await;
    agent.stop().await;

    let agent = world.agent();
    let server = world.connection().await;
    assert_eq!(server.hello.held, []);
    drop(server);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_link_loses_no_output() {
    let world = World::new().await;
    let agent = world.agent();
    let mut server = world.session().await;
    let go = world.path("go");
    let run = script(&format!(
        "echo one; while [ ! -e {} ]; do sleep 0.01; done; echo two; sleep 0.05; echo three >&2",
        go.display()
    ));
    server.run(&run).await;
    let seq = server.until(|said| if let Said::Output { seq, .. } = said { Some(seq) } else { None }).await;
    assert_eq!(seq, 0);
    drop(server);
    // Nobody listens while it goes on.
    fs::write(&go, "").expect("written");
    let mut server = world.connection().await;
    server.welcome(vec![Kept { lease: run.lease, next_seq: 1 }], Vec::new()).await;
    let (result, output) = server.result(run.lease).await;
    assert_eq!((result.outcome.exit_code, output.as_str()), (Some(0), "two\nthree\n"));
    server.acknowledge(run.lease).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_not_its_any_more_ends_in_silence() {
    let world = World::new().await;
    let agent = world.agent();
    let mut server = world.session().await;
    let pids = world.path("pids");
    let run = script(&format!("echo $$ >> {}; while :; do sleep 0.01; done", pids.display()));
    server.run(&run).await;
    server.started(run.lease).await;
    let pid = lines(&pids, 1).await.remove(0);
    drop(server);
    let mut server = world.connection().await;
    server.welcome(Vec::new(), vec![run.lease]).await;
    // The slot is free again when its process has ended.
    server.credit(world.config().agent.max_concurrent_tasks).await;
    assert!(!is_alive(&pid));
    agent.stop().await;
    let agent = world.agent();
    assert_eq!(world.connection().await.hello.held, []);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_result_is_forgotten() {
    let world = World::new().await;
    let agent = world.agent();
    let mut server = world.session().await;
    let run = script("true");
    server.run(&run).await;
    server.result(run.lease).await;
    server.say(ToAgent::ResultAck { lease: run.lease, verdict: ResultVerdict::Fenced }).await;
    agent.stop().await;
    let agent = world.agent();
    assert_eq!(world.connection().await.hello.held, []);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_was_rolled_back_shows() {
    let world = World::new().await;
    let journal = world.data_dir().join("journal.db");
    let copy = world.path("copy.db");
    let hello = async || {
        let agent = world.agent();
        let hello = world.connection().await.hello;
        agent.stop().await;
        hello
    };
    let first = hello().await;
    fs::copy(&journal, &copy).expect("copied");
    let second = hello().await;
    assert_eq!(second.journal_id, first.journal_id);
    assert!(second.journal_epoch > first.journal_epoch);
    fs::copy(&copy, &journal).expect("rolled back");
    let third = hello().await;
    assert_eq!(third.journal_id, first.journal_id);
    assert!(third.journal_epoch <= second.journal_epoch, "the server has seen this epoch");
    fs::remove_file(&journal).expect("wiped");
    assert_ne!(hello().await.journal_id, first.journal_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_waits_for_what_runs() {
    let world = World::new().await;
    let agent = world.agent();
    let mut server = world.session().await;
    let go = world.path("go");
    let run = script(&format!("while [ ! -e {} ]; do sleep 0.01; done", go.display()));
    server.run(&run).await;
    server.started(run.lease).await;
    agent.ask_to_stop();
    server.until(|said| matches!(said, Said::Message(FromAgent::Bye)).then_some(())).await;
    let late = script("true");
    server.run(&late).await;
    assert_eq!(server.refused(late.lease).await, "the agent stops");
    fs::write(&go, "").expect("written");
    let (result, _) = server.result(run.lease).await;
    assert_eq!(result.outcome.exit_code, Some(0));
    server.acknowledge(run.lease).await;
    agent.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_does_not_wait_for_ever() {
    let world = World::new().await;
    let mut config = world.config();
    config.executor.drain_timeout = Duration::from_millis(50);
    let agent = world.agent_with(config);
    let mut server = world.session().await;
    let run = script("while :; do sleep 0.01; done");
    server.run(&run).await;
    server.started(run.lease).await;
    agent.ask_to_stop();
    let (result, _) = server.result(run.lease).await;
    assert_eq!(result.outcome.reason, EndReason::Lost);
    server.acknowledge(run.lease).await;
    agent.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_is_looked_for_again() {
    let world = World::new().await;
    let agent = world.agent();
    let mut server = world.session().await;
    server.say(ToAgent::Drain).await;
    world.session().await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_cannot_share_a_data_directory() {
    let world = World::new().await;
    let agent = world.agent();
    let _server = world.session().await;
    let error = world.agent().failed().await;
    assert!(matches!(error, AgentError::Identity(_)), "{error}");
    assert!(error.to_string().contains("another agent runs with the data directory"), "{error}");
    agent.stop().await;
}
