//! Group commit on a real database.

use std::sync::Arc;

use futures_util::future::join_all;
use hetuflow_core::{
    Clock,
    event::{DedupeKey, Event, SourceKind},
    id::{EventId, JobId, Namespace, TaskId},
    labels::Lane,
    retry::{OnLost, Retry, RetryPolicy},
    task::{NewTask, Telling},
};
use hetuflow_store::{EventFilter, Options, Page, Store};
use jiff::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::{hub::Hub, metrics::Metrics};

struct World {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    ingester: Ingester,
    _folder: TempDir,
}

async fn world() -> (World, IngestLoop) {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join("hetuflow.db").display());
    let store = hetuflow_store::open(&Options { url, pool_size: 4 }).await.expect("a store");
    let metrics = Arc::new(Metrics::default());
    let (ingester, ingest) = Ingester::new(Dispatcher::new(
        Arc::clone(&store),
        Hub::default(),
        Clock::system(),
        Arc::clone(&metrics),
    ));
    (World { store, metrics, ingester, _folder: folder }, ingest)
}

/// Submits all before the loop first looks, and waits for every answer.
async fn submit_at_once(
    world: &World,
    ingest: IngestLoop,
    events: Vec<Ingest>,
) -> Vec<Result<Ingested, IngestError>> {
    let stop = CancellationToken::new();
    let answers = async {
        let answers = join_all(events.into_iter().map(|event| world.ingester.submit(event))).await;
        stop.cancel();
        answers
    };
    // Polled in this order.
    let (answers, ()) = tokio::join!(answers, ingest.run(stop.clone()));
    answers
}

fn now() -> Timestamp {
    "2026-11-21T10:00:00Z".parse().expect("a timestamp")
}

fn event(key: Option<&str>) -> Ingest {
    let event = Event {
        body: bytes::Bytes::from_static(b"{}"),
        ..Event::new(SourceKind::Api, Namespace::default(), "/api", "test", now())
    };
    let dedupe = key.map(|key| {
        let expires_at = "2036-11-21T10:00:00Z".parse().expect("a timestamp");
        DedupeKey::new("/test".to_owned(), key.to_owned(), expires_at)
    });
    Ingest { event, dedupe, tasks: Vec::new() }
}

fn unrendered(event_id: EventId) -> NewTask {
    NewTask {
        id: TaskId::at(now()),
        namespace: Namespace::default(),
        trigger: "test".to_owned(),
        job_id: JobId::at(now()),
        schedule_id: None,
        event_id,
        run_at: now(),
        priority: 0,
        lane: Lane::default(),
        policy: RetryPolicy {
            max_retries: 0,
            interval: Duration::from_secs(10),
            retry: Retry::default(),
            on_lost: OnLost::Hold,
            daemon: false,
        },
        command: Err("a template found no value".to_owned()),
        telling: Telling::Nothing,
    }
}

async fn stored(world: &World) -> usize {
    let page = Page { before: None, limit: 500 };
    world.store.events(&EventFilter::default(), page).await.expect("events").len()
}

#[tokio::test]
async fn what_waits_together_is_committed_together() {
    let (world, ingest) = world().await;
    let events = (0..100).map(|_| event(None)).collect();
    let answers = submit_at_once(&world, ingest, events).await;
    assert!(answers.into_iter().all(|one| one.is_ok_and(|one| one == Ingested::Stored)));
    assert_eq!(world.metrics.ingest_commits.get(), 1);
    assert_eq!(stored(&world).await, 100);
}

#[tokio::test]
async fn copies_in_one_batch_are_one_event() {
    let (world, ingest) = world().await;
    let first = event(Some("a"));
    let id = first.event.id;
    let answers = submit_at_once(&world, ingest, vec![first, event(Some("a")), event(Some("b"))]).await;
    let answers: Vec<Ingested> = answers.into_iter().collect::<Result<_, _>>().expect("committed");
    let duplicate = Ingested::Duplicate { event_id: id, task_ids: Vec::new(), parts: Vec::new() };
    assert_eq!(answers, [Ingested::Stored, duplicate, Ingested::Stored]);
}

#[tokio::test]
async fn one_bad_row_does_not_block_the_others() {
    let (world, ingest) = world().await;
    let mut events: Vec<Ingest> = (0..20).map(|_| event(None)).collect();
    // The store takes no task's id twice.
    let task = unrendered(events[13].event.id);
    events[13].tasks = vec![task.clone(), task];
    let answers = submit_at_once(&world, ingest, events).await;
    let failed: Vec<usize> =
        answers.iter().enumerate().filter(|(_, answer)| answer.is_err()).map(|(n, _)| n).collect();
    assert_eq!(failed, [13]);
    assert_eq!(stored(&world).await, 19);
}

#[tokio::test]
async fn a_store_that_is_away_is_said_to_all() {
    let (world, ingest) = world().await;
    world.store.close().await;
    let answers = submit_at_once(&world, ingest, (0..5).map(|_| event(None)).collect()).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(IngestError::Store(_)))), "{answers:?}");
    assert_eq!(world.metrics.ingest_commits.get(), 1, "halves are not tried");
}

#[tokio::test]
async fn who_went_away_is_not_committed() {
    let (world, ingest) = world().await;
    {
        let submit = world.ingester.submit(event(None));
        let mut submit = std::pin::pin!(submit);
        assert!(futures_util::poll!(submit.as_mut()).is_pending());
    }
    let answers = submit_at_once(&world, ingest, vec![event(None)]).await;
    assert!(answers[0].is_ok());
    assert_eq!(stored(&world).await, 1);
}

#[tokio::test]
async fn what_waits_is_bounded() {
    let (world, _ingest) = world().await;
    let mut large = event(None);
    large.event.body = vec![0; MAX_WAITING_BYTES + 1].into();
    assert!(matches!(world.ingester.submit(large).await, Err(IngestError::Overloaded)));
    let mut waiting: Vec<_> =
        (0..MAX_WAITING).map(|_| Box::pin(world.ingester.submit(event(None)))).collect();
    for submit in &mut waiting {
        assert!(futures_util::poll!(submit.as_mut()).is_pending());
    }
    assert!(matches!(world.ingester.submit(event(None)).await, Err(IngestError::Overloaded)));
}
