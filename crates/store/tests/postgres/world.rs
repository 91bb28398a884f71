//! What the tests are told with: databases of their own, events, tasks and agents, all at one moment.

use std::{sync::Arc, time::Duration};

use hetuflow_core::{
    event::{DedupeKey, Event, SourceKind},
    id::{AgentId, EventId, JobId, JournalId, Namespace, ServerId, TaskId},
    job::Command,
    labels::Lane,
    protocol::Hello,
    retry::{OnLost, Retry, RetryPolicy},
    task::{Lease, NewTask, Outcome, Telling},
};
use hetuflow_store::{Finish, Ingest, Options, Slot, Store, open};
use jiff::Timestamp;
use sqlx::{ConnectOptions, Executor, PgConnection, postgres::PgConnectOptions};
use uuid::Uuid;

/// A database of this test alone.
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) url: String,
}

impl Database {
    pub(crate) async fn create() -> Self {
        let name = format!("store_{}", Uuid::new_v4().simple());
        let mut server = Self::server().await;
        server.execute(sqlx::AssertSqlSafe(format!("create database {name}"))).await.expect("a new database");
        let url = server_url().replacen("/postgres?", &format!("/{name}?"), 1);
        Self { name, url }
    }

    pub(crate) async fn server() -> PgConnection {
        let options: PgConnectOptions = server_url().parse().expect("the URL of a PostgreSQL");
        options.connect().await.expect("PostgreSQL answers")
    }

    pub(crate) async fn connect(&self) -> PgConnection {
        let options: PgConnectOptions = self.url.parse().expect("the URL of a PostgreSQL");
        options.connect().await.expect("PostgreSQL answers")
    }

    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        open(&self.options("")).await.expect("the store opens")
    }

    pub(crate) fn options(&self, more: &str) -> Options {
        Options { url: format!("{}{more}", self.url), pool_size: 8 }
    }

    pub(crate) async fn drop(self) {
        let statement = format!("drop database {} with (force)", self.name);
        Self::server().await.execute(sqlx::AssertSqlSafe(statement)).await.expect("the database goes");
    }
}

pub(crate) fn server_url() -> String {
    std::env::var("HETUFLOW_TEST_POSTGRES")
        .expect("HETUFLOW_TEST_POSTGRES names no PostgreSQL: run `cargo xtask test`, which starts one")
}

pub(crate) fn now() -> Timestamp {
    "2026-11-21T10:00:00Z".parse().expect("a time")
}

pub(crate) fn event(subject: &str) -> Event {
    Event {
        subject: Some(subject.to_owned()),
        body: bytes::Bytes::from_static(b"{}"),
        ..Event::new(SourceKind::Webhook, Namespace::default(), "/hooks/deploy", "push", now())
    }
}

pub(crate) fn task(event_id: EventId) -> NewTask {
    let command = Command {
        cmd: "true".to_owned(),
        args: Vec::new(),
        environment: std::collections::BTreeMap::new(),
        working_dir: None,
        stdin: None,
        user: None,
        timeout: None,
        capture_output: true,
        max_output_size: 1024,
        resource_limits: None,
    };
    let policy = RetryPolicy {
        max_retries: 0,
        interval: Duration::from_secs(1),
        retry: Retry::default(),
        on_lost: OnLost::Hold,
        daemon: false,
    };
    NewTask {
        id: TaskId::at(now()),
        namespace: Namespace::default(),
        trigger: "deploy".to_owned(),
        job_id: JobId::at(now()),
        schedule_id: None,
        event_id,
        run_at: now(),
        priority: 0,
        lane: Lane::default(),
        policy,
        command: Ok(command),
        telling: Telling::Nothing,
    }
}

pub(crate) fn ingest(key: Option<&str>) -> Ingest {
    let event = event("main");
    let dedupe =
        key.map(|key| DedupeKey::new(event.source.clone(), key.to_owned(), now() + Duration::from_hours(1)));
    Ingest { tasks: vec![task(event.id)], event, dedupe }
}

pub(crate) fn hello(name: &str, journal_id: JournalId, journal_epoch: u64) -> Hello {
    Hello {
        protocol: 1,
        agent_id: AgentId::new(name).expect("a name"),
        journal_id,
        journal_epoch,
        hostname: name.to_owned(),
        version: "0".to_owned(),
        labels: std::collections::BTreeMap::new(),
        slots: 100,
        held: Vec::new(),
    }
}

pub(crate) async fn say_hello(store: &Arc<dyn Store>, hello: &Hello) -> Slot {
    let session = store
        .open_session(hello.into(), ServerId::at(now()), Duration::from_secs(30), now(), 0.0)
        .await
        .expect("a session");
    Slot { agent_id: hello.agent_id.clone(), session_epoch: session.epoch }
}

pub(crate) fn finish(lease: Lease, outcome: Outcome) -> Finish {
    Finish { lease, outcome, started_at: Some(now()), finished_at: now(), output_dropped: 0 }
}
