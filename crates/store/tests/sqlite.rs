//! What holds for SQLite only: which files are refused, and that nothing leaves the writer busy.

use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};

use hetuflow_core::{
    event::{Event, SourceKind},
    id::{Namespace, ServerId},
};
use hetuflow_store::{Ingest, Leadership, Options, Stock, StoreError, open};
use jiff::Timestamp;
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

async fn refusal(url: String) -> String {
    match open(&Options { url, pool_size: 2 }).await {
        Err(StoreError::Unfit(text)) => text,
        Err(other) => panic!("wanted a refusal that says what to do, got {other:?}"),
        Ok(_) => panic!("wanted a refusal"),
    }
}

fn url(file: &Path) -> String {
    format!("sqlite://{}", file.display())
}

#[tokio::test]
async fn what_is_no_file_is_refused() {
    let check = async |url: &str, expected: &str| {
        let text = refusal(url.to_owned()).await;
        assert!(text.contains(expected), "{url}: {text}");
    };
    check("sqlite::memory:", "in memory").await;
    check("sqlite://x.db?mode=memory", "in memory").await;
    check("sqlite://x.db?immutable=1", "no parameters").await;
    check("sqlite://x.db?mode=ro", "no parameters").await;
    check("sqlite://", "names no file").await;
    check("mysql://localhost/x", "postgres://").await;
    check("x.db", "sqlite:///").await;
}

#[tokio::test]
async fn a_new_folder_and_file_are_the_owners_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("new/test.db");
    open(&Options { url: url(&file), pool_size: 1 }).await.expect("a new database").close().await;
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&folder.path().join("new")), mode(&file)), (0o700, 0o600));
}

#[tokio::test]
async fn a_place_that_cannot_hold_a_database_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("file"), "").expect("written");
    let text = refusal(url(&folder.path().join("file/test.db"))).await;
    assert!(text.contains("file/test.db") && text.contains("cannot make"), "{text}");
}

#[tokio::test]
async fn another_kind_of_file_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("notes.txt");
    std::fs::write(&file, "these are notes and no database ".repeat(100)).expect("written");
    let text = refusal(url(&file)).await;
    assert!(text.contains("not an SQLite database"), "{text}");
}

#[tokio::test]
async fn a_newer_database_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("test.db");
    open(&Options { url: url(&file), pool_size: 1 }).await.expect("a new database").close().await;
    let mut connection = connect(&file).await;
    sqlx::query("insert into sched_migration (version, name, applied_at) values (9999, 'later', 0)")
        .execute(&mut connection)
        .await
        .expect("the future");
    connection.close().await.expect("closed");
    let text = refusal(url(&file)).await;
    assert!(text.contains("9999") && text.contains("newer hetuflow"), "{text}");
}

#[tokio::test]
async fn a_url_with_the_usual_mode_is_fine_and_the_file_keeps_a_log() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("test.db");
    let store = open(&Options { url: url(&file) + "?mode=rwc", pool_size: 1 }).await.expect("open");
    let mut connection = connect(&file).await;
    let mode: String =
        sqlx::query_scalar("pragma journal_mode").fetch_one(&mut connection).await.expect("an answer");
    assert_eq!(mode, "wal");
    store.close().await;
}

async fn connect(file: &Path) -> SqliteConnection {
    SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(file)).await.expect("the file opens")
}

#[tokio::test]
async fn what_is_dropped_leaves_the_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("test.db");
    let store = open(&Options { url: url(&file), pool_size: 1 }).await.expect("a new database");
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    let batch = (0..200).map(|_| Ingest { event: large_event(now), dedupe: None, tasks: Vec::new() });
    let batch: Vec<Ingest> = batch.collect();
    store.ingest(&batch, &[]).await.expect("stored");
    let holder = ServerId::at(now);
    let epoch = store.lead(holder, Duration::from_mins(1)).await.expect("an answer").expect("it leads");
    let leadership = Leadership { holder, epoch };
    let full = store.size().await.expect("a size").bytes;
    let later = now + jiff::SignedDuration::from_secs(1);
    store.drop_before(leadership, Stock::Events, later, 500).await.expect("dropped");
    assert!(store.size().await.expect("a size").bytes < full / 10, "free pages do not count");
    let mut steps = 1;
    while store.shrink(leadership, 1000).await.expect("a step") {
        steps += 1;
    }
    assert!((5..8).contains(&steps), "5120 pages of 4 KiB were free, {steps} steps gave them back");
    store.close().await;
    let size = std::fs::metadata(&file).expect("the file").len();
    assert!(size < full / 5, "the file is {size} bytes, was {full}");
}

fn large_event(now: Timestamp) -> Event {
    // What cannot be compressed.
    let body = (0..6250).flat_map(|_| *uuid::Uuid::new_v4().as_bytes()).collect();
    Event { body, ..Event::new(SourceKind::Api, Namespace::default(), "/api", "large", now) }
}
