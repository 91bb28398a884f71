//! Sessions over real sockets: what comes in first, who is who, what survives a cut.

use bytes::Bytes;
use futures_util::SinkExt;
use hetuflow_core::{
    agent::Duty,
    protocol::{self, FromAgent, Held, HeldPhase, Hello, Kept, ResultVerdict, ToAgent, WatchState},
    status::Status,
    task::{EndReason, Outcome, OutputChunk, Stream},
};
use hetuflow_store::{Finish, Leadership};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use super::{keep, keep_sessions};
use crate::leader::Election;
use crate::world::{TestAgent, World, hear, hello, impatient, open};

#[tokio::test]
async fn a_hello_is_welcomed_and_gets_its_watches() {
    let mut world = World::start().await;
    let file = "[on.file]\npaths = [\"/in/*.csv\"]\nagents = { role = \"ingest\" }\n[job]\ncmd = \"true\"\n";
    world.trigger("import", file).await;
    let mut ingest = world.agent("a", &[("role", "ingest")]).await;
    assert_eq!(ingest.welcome.session_epoch, 1);
    assert_eq!(ingest.welcome.server_id, world.state.server_id);
    assert_eq!(ingest.watches().await, ["default/import"]);
    let mut web = world.agent("b", &[("role", "web")]).await;
    assert!(web.watches().await.is_empty());

    let state = |key: &str| WatchState {
        key: key.to_owned(),
        revision: 1,
        baseline_done: true,
        tracked: 2,
        ..WatchState::default()
    };
    ingest.say(FromAgent::Watch(state("default/other"))).await;
    ingest.say(FromAgent::Watch(state("default/import"))).await;
    world.until("a", |online| online.watches.keys().eq(["default/import"])).await;

    world.remove_trigger("import").await;
    assert!(ingest.watches().await.is_empty());
    // What it watches has not changed, so it is not told again.
    web.say(FromAgent::Ping).await;
    assert_eq!(web.hear_any().await, ToAgent::Pong);
}

async fn keep_once(world: &World, leadership: Option<Leadership>) {
    let mut renewed = tokio::time::Instant::now();
    keep::tick(&world.state, leadership, &mut renewed).await.expect("a turn");
}

#[tokio::test]
async fn watches_follow_labels() {
    let mut world = World::start().await;
    let file = "[on.file]\npaths = [\"/in/*.csv\"]\nagents = { role = \"ingest\" }\n[job]\ncmd = \"true\"\n";
    world.trigger("import", file).await;
    let mut agent = world.agent("a", &[]).await;
    assert!(agent.watches().await.is_empty());
    let labels = [("role".to_owned(), "ingest".to_owned())].into();
    // As another server would do it: this one notices at its next turn.
    world.state.store.set_labels(&agent.hello.agent_id, &labels).await.expect("stored");
    keep_once(&world, None).await;
    assert_eq!(agent.watches().await, ["default/import"]);
}

#[tokio::test]
async fn a_drained_agent_is_given_nothing_until_it_is_taken_back() {
    let world = World::start().await;
    let mut agent = world.ready("a", &[], 2).await;
    let set = async |duty| {
        // As another server would do it: this one notices at its next turn.
        world.state.store.set_duty(&agent.hello.agent_id, duty).await.expect("stored");
        keep_once(&world, None).await;
    };
    set(Duty::Drained).await;
    let task = world.task(&[], b"").await;
    world.dispatch().await;
    assert_eq!((world.free("a"), world.stored(task).await.status), (0, Status::Pending));
    set(Duty::Active).await;
    world.dispatch().await;
    let lease = agent.take().await;
    assert_eq!(lease.task_id, task);

    // Over its hellos too.
    world.state.store.set_duty(&agent.hello.agent_id, Duty::Drained).await.expect("stored");
    let held = vec![Held { lease, phase: HeldPhase::Running }];
    let mut again = agent.again(&world.url, held).await;
    assert_eq!(again.welcome.keep.len(), 1, "what it runs goes on");
    again.say(FromAgent::Credit { free: 2 }).await;
    again.sync().await;
    assert_eq!(world.free("a"), 0);
}

#[tokio::test]
async fn another_protocol_is_refused_with_advice() {
    let world = World::start().await;
    for (version, advice) in [(0, "upgrade the agent"), (2, "upgrade the server")] {
        let mut socket = open(&world.url).await;
        let text = format!(r#"{{"type":"hello","protocol":{version},"new":true}}"#);
        socket.send(Message::Text(text.into())).await.expect("sent");
        let ToAgent::Refuse { reason } = hear(&mut socket).await else { panic!("not refused") };
        assert!(reason.contains(advice), "{reason}");
    }
    let mut socket = open(&world.url).await;
    socket.send(Message::Text(r#"{"type":"ping"}"#.into())).await.expect("sent");
    let ToAgent::Refuse { reason } = hear(&mut socket).await else { panic!("not refused") };
    assert_eq!(reason, "the first message must be a hello");
}

#[tokio::test]
async fn browsers_and_strangers_are_turned_away() {
    let world = World::start().await;
    let check = async |header: Option<(&'static str, &'static str)>, offer: bool, expected: u16| {
        let mut request = world.url.as_str().into_client_request().expect("a request");
        if offer {
            let offer = protocol::SUBPROTOCOL.parse().expect("a header");
            request.headers_mut().insert("sec-websocket-protocol", offer);
        }
        if let Some((name, value)) = header {
            request.headers_mut().insert(name, value.parse().expect("a header"));
        }
        let Err(Error::Http(response)) = connect_async(request).await else { panic!("not refused") };
        assert_eq!(response.status(), expected);
    };
    check(Some(("origin", "http://localhost")), true, 403).await;
    check(None, false, 400).await;
    world.state.hub.drain();
    check(None, true, 503).await;
}

#[tokio::test]
async fn silence_before_the_hello_is_refused() {
    let timing = super::Timing { hello: std::time::Duration::from_millis(20), ..impatient() };
    let world = World::with(timing, |_| {}).await;
    let mut socket = open(&world.url).await;
    let ToAgent::Refuse { reason } = hear(&mut socket).await else { panic!("not refused") };
    assert!(reason.contains("no hello within"), "{reason}");
}

#[tokio::test]
async fn silence_ends_a_session() {
    let heartbeat = std::time::Duration::from_millis(20);
    let world = World::with(impatient(), |config| config.agents.heartbeat = heartbeat).await;
    let mut agent = world.agent("a", &[]).await;
    agent.closed().await;
    world.until_hub(<[_]>::is_empty).await;
}

#[tokio::test]
async fn a_result_is_acknowledged_as_often_as_it_comes() {
    let world = World::start().await;
    let mut agent = world.ready("a", &[], 1).await;
    let id = world.task(&[], b"").await;
    world.dispatch().await;
    let lease = agent.take().await;
    agent.say(FromAgent::Started { lease, at: world.now() }).await;
    agent.sync().await;
    assert_eq!(world.stored(id).await.status, Status::Running);
    for _ in 0..2 {
        agent.result(lease, Outcome::exit(0)).await;
        let recorded = ToAgent::ResultAck { lease, verdict: ResultVerdict::Recorded };
        assert_eq!(agent.hear().await, recorded);
    }
    assert_eq!(world.stored(id).await.status, Status::Succeeded);
}

#[tokio::test]
async fn a_result_for_a_lease_that_is_not_the_agents_is_fenced() {
    let world = World::start().await;
    let mut agent = world.ready("a", &[], 1).await;
    let mut other = world.ready("b", &[("role", "web")], 1).await;
    let id = world.task(&[("role", "web")], b"").await;
    world.dispatch().await;
    let lease = other.take().await;
    agent.result(lease, Outcome::exit(0)).await;
    assert_eq!(agent.hear().await, ToAgent::ResultAck { lease, verdict: ResultVerdict::Fenced });
    assert_eq!(world.state.metrics.reports_fenced.get(), 1);
    other.sync().await;
    assert_eq!(world.stored(id).await.status, Status::Dispatched);
}

#[tokio::test]
async fn progress_of_an_attempt_that_has_ended_elsewhere_is_refused_and_counted() {
    let world = World::start().await;
    let mut agent = world.ready("a", &[], 1).await;
    let id = world.task(&[], b"").await;
    world.dispatch().await;
    let lease = agent.take().await;
    agent.sync().await;
    assert_eq!(world.stored(id).await.status, Status::Dispatched);
    let end = Finish {
        lease,
        outcome: Outcome::exit(1),
        started_at: None,
        finished_at: world.now(),
        output_dropped: 0,
    };
    world.state.store.finish(&[end], world.now(), 0.0).await.expect("ended");
    agent.say(FromAgent::Started { lease, at: world.now() }).await;
    assert_eq!(agent.hear().await, ToAgent::Cancel { lease });
    assert_eq!(world.stored(id).await.status, Status::Failed);
    assert_eq!(world.state.metrics.reports_fenced.get(), 1);
}

#[tokio::test]
async fn an_attempt_that_the_agent_has_seen_before_is_lost() {
    let world = World::start().await;
    let mut agent = world.ready("a", &[], 1).await;
    let id = world.task(&[], b"").await;
    world.dispatch().await;
    let lease = agent.assigned().await.assignment.lease;
    agent.say(FromAgent::Stale { lease }).await;
    agent.sync().await;
    let task = world.stored(id).await;
    assert_eq!((task.status, task.attempt), (Status::Lost, 1));
    assert!(
        task.outcome.and_then(|outcome| outcome.message).is_some_and(|why| why.contains("does not know"))
    );
}

#[tokio::test]
async fn output_is_stored_and_acknowledged() {
    let world = World::start().await;
    let mut agent = world.ready("a", &[], 1).await;
    world.task(&[], b"").await;
    world.dispatch().await;
    let lease = agent.take().await;
    let chunk = |seq, text: &'static str| OutputChunk {
        instance_id: lease.instance_id,
        seq,
        stream: Stream::Stdout,
        data: Bytes::from_static(text.as_bytes()),
    };
    for (seq, text) in [(0, "one\n"), (1, "two\n")] {
        agent.output(chunk(seq, text)).await;
    }
    // Pieces that arrive together are acknowledged together.
    let mut stored = None;
    while stored != Some(1) {
        let ToAgent::OutputAck { lease: of, seq } = agent.hear().await else { panic!("no acknowledgement") };
        assert_eq!(of, lease);
        stored = Some(seq);
    }
    let output = world.state.store.output(lease.instance_id, 0, 10).await.expect("output");
    assert_eq!(output, [chunk(0, "one\n"), chunk(1, "two\n")]);
}

#[tokio::test]
async fn a_cut_link_keeps_what_runs() {
    let world = World::start().await;
    let mut agent = world.ready("a", &[], 1).await;
    let id = world.task(&[], b"").await;
    world.dispatch().await;
    let lease = agent.take().await;
    agent.sync().await;
    let hello = agent.cut();
    world.until_hub(<[_]>::is_empty).await;
    assert_eq!(world.stored(id).await.status, Status::Dispatched);

    let held = vec![Held { lease, phase: HeldPhase::Ended }];
    let mut agent = TestAgent::connect(&world.url, Hello { journal_epoch: 2, held, ..hello }).await;
    assert_eq!(agent.welcome.keep, [Kept { lease, next_seq: 0 }]);
    agent.result(lease, Outcome::because(EndReason::Timeout, "too long")).await;
    assert_eq!(agent.hear().await, ToAgent::ResultAck { lease, verdict: ResultVerdict::Recorded });
    assert_eq!(world.stored(id).await.status, Status::TimedOut);
}

#[tokio::test]
async fn a_second_connection_takes_the_first_ones_place() {
    let world = World::start().await;
    let mut first = world.ready("a", &[], 1).await;
    world.task(&[], b"").await;
    world.dispatch().await;
    let lease = first.take().await;
    first.sync().await;
    let held = vec![Held { lease, phase: HeldPhase::Running }];
    let mut second = first.again(&world.url, held).await;
    assert_eq!(second.welcome.session_epoch, 2);
    first.closed().await;
    second.sync().await;
    world.until_hub(|online| online.len() == 1 && online[0].session_epoch == 2).await;
    assert_eq!(world.state.store.agent(&second.hello.agent_id).await.expect("known").running, 1);
}

#[tokio::test]
async fn a_session_that_moved_to_another_server_is_dropped() {
    let world = World::start().await;
    let mut agent = world.agent("a", &[]).await;
    keep_once(&world, Some(world.lead().await)).await;
    agent.sync().await;
    let elsewhere = hetuflow_core::id::ServerId::at(world.now());
    let hello = Hello { journal_epoch: 2, ..agent.hello.clone() };
    let lease = world.state.config.agents.lease;
    world
        .state
        .store
        .open_session((&hello).into(), elsewhere, lease, world.now(), 0.5)
        .await
        .expect("a session");
    keep_once(&world, Some(world.lead().await)).await;
    agent.closed().await;
}

/// Another server has the database and gives up what the agents hold: they shall go there before.
#[tokio::test]
async fn agents_leave_a_server_that_has_lost_the_database() {
    let world = World::with(super::Timing::default(), |config| {
        config.agents.lease = std::time::Duration::from_millis(300);
    })
    .await;
    let mut agent = world.agent("a", &[]).await;
    world.state.store.close().await;
    let keeping = keep_sessions(world.state.clone(), Election::new().1, None, world.stop.clone());
    tokio::select! {
        () = keeping => panic!("nobody stopped it"),
        () = agent.closed() => {}
    }
}

#[tokio::test]
async fn a_hello_that_was_overtaken_takes_nothing_away() {
    let timing = super::Timing { hello: std::time::Duration::from_secs(2), ..super::Timing::default() };
    let world = World::with(timing, |_| {}).await;
    let mut first = world.ready("a", &[], 1).await;
    world.task(&[], b"").await;
    world.dispatch().await;
    let lease = first.take().await;
    first.sync().await;
    let held = vec![Held { lease, phase: HeldPhase::Running }];
    let mut second = first.again(&world.url, held).await;
    second.sync().await;
    // The hello of a connection whose agent has gone: nobody there answers.
    let mut late = open(&world.url).await;
    let hello = serde_json::to_string(&FromAgent::Hello(first.hello.clone())).expect("JSON");
    late.send(Message::Text(hello.into())).await.expect("sent");
    tokio::io::copy(late.get_mut(), &mut tokio::io::sink()).await.expect("closed by the server");
    second.sync().await;
    assert_eq!(world.state.store.agent(&first.hello.agent_id).await.expect("known").running, 1);
    // One that is there has another journal.
    let third = TestAgent::connect(&world.url, first.hello.clone()).await;
    assert_eq!((third.welcome.session_epoch, third.welcome.stop), (3, vec![]));
    assert_eq!(world.state.store.agent(&first.hello.agent_id).await.expect("known").running, 0);
}

#[tokio::test]
async fn what_is_not_understood_ends_the_session() {
    let world = World::start().await;
    let mut agent = world.agent("a", &[]).await;
    agent.say(FromAgent::Unknown).await;
    agent.sync().await;
    agent.say(FromAgent::Hello(hello("a", &[]))).await;
    agent.closed().await;
}

#[tokio::test]
async fn a_stop_drains_and_takes_last_results() {
    let world = World::start().await;
    let mut agent = world.ready("a", &[], 2).await;
    let id = world.task(&[], b"").await;
    world.dispatch().await;
    let lease = agent.take().await;
    agent.sync().await;
    let stop = tokio_util::sync::CancellationToken::new();
    let keeper = tokio::spawn(keep_sessions(world.state.clone(), Election::new().1, None, stop.clone()));
    stop.cancel();
    assert_eq!(agent.hear().await, ToAgent::Drain);
    assert_eq!(world.free("a"), 0);
    agent.result(lease, Outcome::exit(0)).await;
    assert_eq!(agent.hear().await, ToAgent::ResultAck { lease, verdict: ResultVerdict::Recorded });
    agent.cut();
    keeper.await.expect("it ends");
    assert!(world.state.hub.is_empty());
    assert_eq!(world.stored(id).await.status, Status::Succeeded);
}
