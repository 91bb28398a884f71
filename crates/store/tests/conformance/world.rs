//! What promises are told with: events, tasks, agents and times.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use hetuflow_core::{
    event::{Clause, Decision, DecisionOutcome, DedupeKey, Event, SourceKind},
    id::{AgentId, JobId, JournalId, Namespace, ServerId, TaskId},
    job::{Command, JobSpec},
    labels::{Lane, Selector},
    protocol::{Held, HeldPhase, Hello},
    retry::{Backoff, OnLost, Retry, RetryPolicy},
    task::{Lease, NewTask, Outcome, Task, TaskInstance, Telling},
};
use hetuflow_store::{
    Claimed, Finish, Ingest, Ingested, LowWater, Progress, Report, Session, Slot, Store, StoreError,
    WaitingLane,
};
use jiff::{SignedDuration, Timestamp};

pub(crate) const MINUTE: Duration = Duration::from_mins(1);

/// `seconds` after the beginning of the story.
pub(crate) fn at(seconds: i64) -> Timestamp {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    start + SignedDuration::from_secs(seconds)
}

pub(crate) fn event(received_at: Timestamp) -> Event {
    Event {
        subject: Some("main".to_owned()),
        content_type: Some("application/json".to_owned()),
        headers: vec![("x-github-event".to_owned(), "push".to_owned())],
        query: Some("a=b".to_owned()),
        sender: "2001:db8::7".parse().ok(),
        secret: Some("env DEPLOY_SECRET".to_owned()),
        decisions: vec![Decision {
            trigger: "deploy-site".to_owned(),
            outcome: DecisionOutcome::Matched,
            revision: Some(3),
            reason: None,
            clauses: vec![Clause {
                text: "body.ref == \"refs/heads/main\"".to_owned(),
                held: true,
                found: [("body.ref".to_owned(), "\"refs/heads/main\"".to_owned())].into(),
                wanted: None,
                problem: None,
            }],
        }],
        body: Bytes::from_static(b"{\"ref\": \"refs/heads/main\"}\0\xff"),
        ..Event::new(SourceKind::Webhook, Namespace::default(), "/hooks/deploy-site", "push", received_at)
    }
}

pub(crate) fn task_of(event: &Event) -> NewTask {
    NewTask {
        id: TaskId::at(event.received_at),
        namespace: event.namespace.clone(),
        trigger: "deploy-site".to_owned(),
        job_id: JobId::at(event.received_at),
        schedule_id: None,
        event_id: event.id,
        run_at: event.received_at,
        priority: 0,
        lane: Lane::default(),
        policy: policy(0, OnLost::Hold),
        command: Ok(command("true")),
        telling: Telling::Nothing,
    }
}

pub(crate) fn policy(max_retries: u32, on_lost: OnLost) -> RetryPolicy {
    let retry = Retry { backoff: Backoff::Fixed, ..Retry::default() };
    RetryPolicy { max_retries, interval: Duration::from_secs(10), retry, on_lost, daemon: false }
}

pub(crate) fn command(cmd: &str) -> Command {
    Command {
        cmd: cmd.to_owned(),
        args: vec!["-c".to_owned()],
        environment: BTreeMap::from([("REF".to_owned(), "main".to_owned())]),
        working_dir: None,
        stdin: None,
        user: None,
        timeout: Some(MINUTE),
        capture_output: true,
        max_output_size: 1024,
        resource_limits: None,
    }
}

pub(crate) fn job_spec(cmd: &str) -> JobSpec {
    serde_json::from_value(serde_json::json!({ "cmd": cmd })).expect("a job")
}

/// An event with one task, which `change` may alter.
pub(crate) fn ingest(received_at: Timestamp, change: impl FnOnce(&mut NewTask)) -> Ingest {
    let event = event(received_at);
    let mut task = task_of(&event);
    change(&mut task);
    Ingest { event, dedupe: None, tasks: vec![task] }
}

/// The same with a dedupe key that holds for a minute.
pub(crate) fn keyed(key: &str, received_at: Timestamp) -> Ingest {
    let expires_at = received_at + SignedDuration::from_mins(1);
    let dedupe = DedupeKey::new("/hooks/deploy-site".to_owned(), key.to_owned(), expires_at);
    Ingest { dedupe: Some(dedupe), ..ingest(received_at, |_| ()) }
}

/// Stores a batch whose tasks all wait.
pub(crate) async fn take_in(store: &dyn Store, batch: Vec<Ingest>) -> Result<Vec<Ingested>, StoreError> {
    store.ingest(&batch, &[]).await.map(|committed| {
        assert_eq!(committed.leased, []);
        committed.answers
    })
}

/// The lanes in which a task may run now.
pub(crate) async fn lanes(store: &dyn Store, now: Timestamp) -> Vec<WaitingLane> {
    let mut lanes = store.waiting_lanes(&[]).await.expect("lanes");
    lanes.retain(|lane| lane.next_at <= now);
    lanes
}

/// Notes one step of an attempt: journalled, or started.
pub(crate) async fn note(store: &dyn Store, lease: Lease, started_at: Option<Timestamp>) -> Report {
    store.progress(&[Progress { lease, started_at }]).await.expect("an answer").remove(0)
}

/// Stores one task and yields its id.
pub(crate) async fn stored(
    store: &dyn Store,
    received_at: Timestamp,
    change: impl FnOnce(&mut NewTask),
) -> TaskId {
    let ingest = ingest(received_at, change);
    let id = ingest.tasks[0].id;
    take_in(store, vec![ingest]).await.expect("stored");
    id
}

pub(crate) fn lane_of(role: &str) -> Lane {
    Lane { selector: Selector(BTreeMap::from([("role".to_owned(), role.to_owned())])), agent: None }
}

pub(crate) fn agent_id(name: &str) -> AgentId {
    AgentId::new(name).expect("a name")
}

/// An agent with its journal, which says hello as often as it is asked to.
#[derive(Clone)]
pub(crate) struct Visitor {
    pub(crate) hello: Hello,
    pub(crate) server_id: ServerId,
    pub(crate) lease: Duration,
}

impl Visitor {
    pub(crate) fn new(name: &str) -> Self {
        let hello = Hello {
            protocol: hetuflow_core::protocol::VERSION,
            agent_id: agent_id(name),
            journal_id: JournalId::at(at(0)),
            journal_epoch: 0,
            hostname: format!("{name}.example"),
            version: "0.1.0".to_owned(),
            labels: BTreeMap::from([("role".to_owned(), "web".to_owned())]),
            slots: 4,
            held: Vec::new(),
        };
        Self { hello, server_id: ServerId::at(at(0)), lease: MINUTE }
    }

    /// Says hello with what it holds.
    pub(crate) async fn hello(&mut self, store: &dyn Store, held: &[Lease]) -> Session {
        self.hello.journal_epoch += 1;
        self.hello.held =
            held.iter().map(|lease| Held { lease: *lease, phase: HeldPhase::Running }).collect();
        match store.open_session((&self.hello).into(), self.server_id, self.lease, at(100), 0.0).await {
            // A visitor is always there.
            Err(StoreError::InDoubt { session_epoch }) => self.replace(store, session_epoch).await,
            opened => opened,
        }
        .expect("a session")
    }

    /// The epoch of the session that is known, because this hello does not continue it.
    pub(crate) async fn doubt(&self, store: &dyn Store) -> i64 {
        let opened = store.open_session((&self.hello).into(), self.server_id, self.lease, at(100), 0.0).await;
        match opened {
            Err(StoreError::InDoubt { session_epoch }) => session_epoch,
            other => panic!("{other:?} instead of a doubt"),
        }
    }

    /// After a doubt, and a proof that the agent is there.
    pub(crate) async fn replace(&self, store: &dyn Store, known: i64) -> Result<Session, StoreError> {
        store.replace_journal((&self.hello).into(), known, self.server_id, self.lease, at(100), 0.0).await
    }

    pub(crate) fn slot(&self, session: &Session) -> Slot {
        Slot { agent_id: self.hello.agent_id.clone(), session_epoch: session.epoch }
    }
}

/// A connected agent with one free slot.
pub(crate) async fn slot(store: &dyn Store, name: &str) -> Slot {
    let mut visitor = Visitor::new(name);
    let session = visitor.hello(store, &[]).await;
    visitor.slot(&session)
}

/// Claims what is due in every lane, one task for each slot.
pub(crate) async fn claim(store: &dyn Store, slots: &[Slot], now: Timestamp) -> Vec<Claimed> {
    let mut claimed = Vec::new();
    for lane in lanes(store, now).await {
        claimed.extend(store.claim(lane.id, LowWater::START, slots, now).await.expect("a claim"));
    }
    claimed
}

/// A task that an agent has claimed at second 1.
pub(crate) async fn claimed(store: &dyn Store, change: impl FnOnce(&mut NewTask)) -> Claimed {
    let slot = slot(store, "web-1").await;
    claimed_by(store, &slot, change).await
}

pub(crate) async fn claimed_by(store: &dyn Store, slot: &Slot, change: impl FnOnce(&mut NewTask)) -> Claimed {
    let id = stored(store, at(0), change).await;
    let claimed = claim(store, std::slice::from_ref(slot), at(1)).await;
    claimed.into_iter().find(|claimed| claimed.task.id == id).expect("the task is claimed")
}

pub(crate) fn finish(lease: Lease, outcome: Outcome) -> Finish {
    Finish { lease, outcome, started_at: Some(at(2)), finished_at: at(3), output_dropped: 0 }
}

pub(crate) async fn task(store: &dyn Store, id: TaskId) -> Task {
    store.task(id).await.expect("the task is there")
}

pub(crate) async fn instance(store: &dyn Store, lease: Lease) -> TaskInstance {
    store.instance(lease.instance_id).await.expect("the instance is there")
}
