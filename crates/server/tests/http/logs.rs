//! The output of an attempt: whole, and while it grows.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use hetuflow_core::{
    id::{AgentId, InstanceId, JournalId},
    labels::Labels,
    protocol::{self, Hello},
    task::{Lease, Outcome, OutputChunk, Stream},
};
use hetuflow_store::{Finish, LowWater, Progress, Slot};

use crate::world::{MAIN, World};

/// An attempt that an agent has begun; the agent is this test.
async fn attempt(world: &World) -> Lease {
    world.push("d-1", MAIN).send().await.expect("an answer");
    let (store, clock) = (&world.server.state.store, &world.server.state.clock);
    let now = clock.now();
    let agent_id = AgentId::new("here").expect("a name");
    let hello = Hello {
        protocol: protocol::VERSION,
        agent_id: agent_id.clone(),
        journal_id: JournalId::at(now),
        journal_epoch: 1,
        hostname: "here".to_owned(),
        version: "0".to_owned(),
        labels: Labels::new(),
        slots: 1,
        held: Vec::new(),
    };
    let lease = Duration::from_mins(1);
    let session = store
        .open_session((&hello).into(), world.server.state.server_id, lease, now, 0.0)
        .await
        .expect("a session");
    let lane = store.waiting_lanes(&[]).await.expect("lanes").pop().expect("a lane");
    let slot = Slot { agent_id, session_epoch: session.epoch };
    let claimed =
        store.claim(lane.id, LowWater::START, &[slot], now).await.expect("claimed").pop().expect("a task");
    let started = Progress { lease: claimed.lease, started_at: Some(now) };
    store.progress(&[started]).await.expect("started");
    claimed.lease
}

async fn append(world: &World, instance_id: InstanceId, seq: u64, stream: Stream, data: &'static [u8]) {
    let chunk = OutputChunk { instance_id, seq, stream, data: Bytes::from_static(data) };
    world.server.state.store.append_output(&[chunk]).await.expect("stored");
}

async fn finish(world: &World, lease: Lease) {
    let now = world.server.state.clock.now();
    let outcome = Outcome::exit(0);
    let finish = Finish { lease, outcome, started_at: Some(now), finished_at: now, output_dropped: 0 };
    world.server.state.store.finish(&[finish], now, 0.0).await.expect("finished");
}

#[tokio::test]
async fn what_is_there_in_two_forms() {
    let world = World::new().await;
    let lease = attempt(&world).await;
    append(&world, lease.instance_id, 0, Stream::Stdout, b"one\n").await;
    append(&world, lease.instance_id, 1, Stream::Stderr, b"\xff\n").await;
    let get = async |accept: &str| {
        let url = world.api(&format!("task-instances/{}/logs", lease.instance_id));
        let response = world.client.get(url).header("accept", accept).send().await.expect("an answer");
        response.bytes().await.expect("a body")
    };
    assert_eq!(get("*/*").await, &b"one\n\xff\n"[..]);
    let lines = get("application/x-ndjson").await;
    assert_eq!(
        String::from_utf8_lossy(&lines),
        "{\"seq\":0,\"stream\":\"stdout\",\"text\":\"one\\n\"}\n{\"seq\":1,\"stream\":\"stderr\",\"base64\":\"/wo=\"}\n"
    );
}

#[tokio::test]
async fn events_go_on_until_the_attempt_has_ended() {
    let world = World::new().await;
    let lease = attempt(&world).await;
    append(&world, lease.instance_id, 0, Stream::Stdout, b"one\n").await;
    append(&world, lease.instance_id, 1, Stream::Stdout, b"two\n").await;
    let url = world.api(&format!("task-instances/{}/logs", lease.instance_id));
    let request = world.client.get(url).header("accept", "text/event-stream").header("last-event-id", "0");
    let mut stream = request.send().await.expect("an answer").bytes_stream();
    let first = stream.next().await.expect("an event").expect("bytes");
    assert_eq!(
        String::from_utf8_lossy(&first),
        "event: output\nid: 1\ndata: {\"seq\":1,\"stream\":\"stdout\",\"text\":\"two\\n\"}\n\n"
    );
    append(&world, lease.instance_id, 2, Stream::Stdout, b"three\n").await;
    finish(&world, lease).await;
    let mut rest = String::new();
    while let Some(bytes) = stream.next().await {
        rest += &String::from_utf8_lossy(&bytes.expect("bytes"));
    }
    assert_eq!(
        rest,
        "event: output\nid: 2\ndata: {\"seq\":2,\"stream\":\"stdout\",\"text\":\"three\\n\"}\n\n\
         event: end\ndata: {\"status\":\"succeeded\"}\n\n"
    );
}

#[tokio::test]
async fn the_stop_ends_a_reader() {
    let world = World::new().await;
    let lease = attempt(&world).await;
    let url = world.api(&format!("task-instances/{}/logs?follow=true", lease.instance_id));
    let response = world.client.get(url).send().await.expect("an answer");
    world.shutdown.cancel();
    assert_eq!(response.bytes().await.expect("a body"), "");
}
