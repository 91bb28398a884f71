//! Promises about namespaces that keep what is theirs for times of their own.

use bytes::Bytes;
use hetuflow_core::{
    id::{EventId, Namespace},
    task::{Outcome, OutputChunk, Stream},
};
use hetuflow_store::{Claimed, Ingest, Leadership, Piece, Stock, Store, StoreError, Trimmed, Whose};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    database::Db,
    leader::lead,
    world::{at, claim, event, finish, ingest, lane_of, slot},
};

fn namespace(name: &str) -> Namespace {
    Namespace::new(name).expect("a name")
}

fn these(name: &str) -> Whose {
    Whose::These(vec![namespace(name)])
}

/// An event of a namespace with one task that has ended, unless `lives`.
async fn in_namespace(store: &dyn Store, name: &str, second: i64, lives: Lives) -> Ingest {
    let mut ingest = ingest(at(second), |task| {
        task.namespace = namespace(name);
        task.lane = lane_of("nobody");
        if lives == Lives::No {
            task.command = Err("it has ended".to_owned());
        }
    });
    ingest.event.namespace = namespace(name);
    store.ingest(std::slice::from_ref(&ingest), &[]).await.expect("stored");
    ingest
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lives {
    No,
    Yes,
}

/// Goes through a whole stock; yields the rows that went in each piece.
async fn trim_all(
    store: &dyn Store,
    leadership: Leadership,
    (stock, whose): (Stock, &Whose),
    before: Timestamp,
    limit: u32,
) -> Vec<u64> {
    let mut from = Uuid::nil();
    let mut pieces = Vec::new();
    loop {
        let piece = Piece { from, before, limit };
        let Trimmed { rows, next, more } =
            store.trim(leadership, stock, whose, piece).await.expect("a piece");
        assert!(next >= from, "it never goes back");
        pieces.push(rows);
        from = next;
        if !more {
            return pieces;
        }
    }
}

async fn is_there(store: &dyn Store, ingest: &Ingest) -> (bool, bool) {
    let event = store.event(ingest.event.id).await.is_ok();
    (event, store.task(ingest.tasks[0].id).await.is_ok())
}

pub(crate) async fn what_a_namespace_keeps_shorter_is_dropped(db: &Db) {
    let store = &*db.store;
    let old = in_namespace(store, "busy", 0, Lives::No).await;
    let others = in_namespace(store, "default", 1, Lives::No).await;
    let new = in_namespace(store, "busy", 50, Lives::No).await;
    let leadership = lead(store).await;
    assert_eq!(trim_all(store, leadership, (Stock::Tasks, &these("busy")), at(20), 100).await, [1]);
    assert_eq!(is_there(store, &old).await, (true, false));
    assert_eq!(trim_all(store, leadership, (Stock::Events, &these("busy")), at(20), 100).await, [1]);
    assert_eq!(is_there(store, &old).await, (false, false));
    assert_eq!(is_there(store, &others).await, (true, true), "another namespace");
    assert_eq!(is_there(store, &new).await, (true, true), "not old");
    let error = Leadership { epoch: leadership.epoch - 1, ..leadership };
    let piece = Piece { from: Uuid::nil(), before: at(99), limit: 1 };
    let error = store.trim(error, Stock::Events, &these("busy"), piece).await.expect_err("refused");
    assert!(matches!(error, StoreError::NotLeader), "{error:?}");
}

pub(crate) async fn all_but_some_namespaces_are_dropped(db: &Db) {
    let store = &*db.store;
    let audit = in_namespace(store, "audit", 0, Lives::No).await;
    let books = in_namespace(store, "books", 0, Lives::No).await;
    let other = in_namespace(store, "default", 0, Lives::No).await;
    let leadership = lead(store).await;
    let whose = Whose::AllBut(vec![namespace("audit"), namespace("books")]);
    for stock in [Stock::Output, Stock::Tasks, Stock::Events, Stock::Fires] {
        trim_all(store, leadership, (stock, &whose), at(20), 100).await;
    }
    assert_eq!(is_there(store, &audit).await, (true, true));
    assert_eq!(is_there(store, &books).await, (true, true));
    assert_eq!(is_there(store, &other).await, (false, false));
}

/// What is not dropped counts as looked at, and the end is the end of what is old.
pub(crate) async fn a_piece_is_bounded_by_what_it_looks_at(db: &Db) {
    let store = &*db.store;
    for (second, name) in ["a", "b", "b", "a", "b"].into_iter().zip(0..).map(|(name, second)| (second, name))
    {
        in_namespace(store, name, second, Lives::No).await;
    }
    let late = in_namespace(store, "b", 50, Lives::No).await;
    let leadership = lead(store).await;
    assert_eq!(trim_all(store, leadership, (Stock::Events, &these("b")), at(20), 2).await, [1, 1, 1]);
    let piece = Piece { from: Uuid::nil(), before: at(20), limit: 100 };
    let end = store.trim(leadership, Stock::Events, &these("b"), piece).await.expect("a piece");
    assert!(!end.more);
    assert!(end.next <= late.event.id.uuid(), "what comes later is yet to be looked at");
    assert!(end.next > EventId::at(at(4)).uuid(), "what came before is not");
}

pub(crate) async fn what_a_namespace_still_runs_is_not_touched(db: &Db) {
    let store = &*db.store;
    let lives = in_namespace(store, "busy", 0, Lives::Yes).await;
    let leadership = lead(store).await;
    for stock in [Stock::Output, Stock::Tasks, Stock::Events] {
        assert_eq!(trim_all(store, leadership, (stock, &these("busy")), at(20), 100).await, [0]);
    }
    assert_eq!(is_there(store, &lives).await, (true, true));
}

/// An attempt with three pieces of output, two of which go at once.
pub(crate) async fn output_goes_before_its_task(db: &Db) {
    let store = &*db.store;
    let slots = [slot(store, "web-1").await];
    let written = ingest(at(0), |task| task.namespace = namespace("busy"));
    store.ingest(&[written], &[]).await.expect("stored");
    let claimed: Claimed = claim(store, &slots, at(1)).await.remove(0);
    let instance_id = claimed.lease.instance_id;
    for seq in 0..3 {
        let data = Bytes::from_static(b"x");
        let chunk = OutputChunk { instance_id, seq, stream: Stream::Stdout, data };
        store.append_output(&[chunk]).await.expect("stored");
    }
    let leadership = lead(store).await;
    let output = async |name| trim_all(store, leadership, (Stock::Output, &these(name)), at(20), 2).await;
    assert_eq!(output("busy").await, [0], "it still runs");
    store.finish(&[finish(claimed.lease, Outcome::exit(0))], at(3), 0.0).await.expect("ended");
    assert_eq!(output("default").await, [0], "it is another's");
    assert_eq!(output("busy").await, [2, 1]);
    assert_eq!(store.output(instance_id, 0, 10).await.expect("an answer").len(), 0);
    store.task(claimed.task.id).await.expect("its task stays");
    let data = Bytes::from_static(b"late");
    let chunk = OutputChunk { instance_id, seq: 9, stream: Stream::Stdout, data };
    store.append_output(&[chunk]).await.expect("stored");
    let tasks = trim_all(store, leadership, (Stock::Tasks, &these("busy")), at(20), 2).await;
    assert_eq!(tasks, [3], "the task, its attempt, and what is left of its output");
    store.instance(instance_id).await.expect_err("it went with its task");
    assert_eq!(store.output(instance_id, 0, 10).await.expect("an answer").len(), 0);
}

pub(crate) async fn what_rows_weigh_is_told_by_namespace_and_hour(db: &Db) {
    let store = &*db.store;
    let mut large = event(at(0));
    large.namespace = namespace("busy");
    // What repeats itself would be packed.
    let mut state = 1_u64;
    large.body = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    })
    .take(100_000)
    .collect();
    let small = event(at(2 * 3600 + 5));
    for event in [large, small] {
        store.ingest(&[Ingest { event, dedupe: None, tasks: Vec::new() }], &[]).await.expect("stored");
    }
    let piece = Piece { from: Uuid::nil(), before: at(9_999), limit: 1 };
    let first = store.weigh(Stock::Events, piece).await.expect("an answer");
    assert!(first.more);
    assert_eq!(first.weights.len(), 1);
    assert_eq!((first.weights[0].namespace.as_str(), first.weights[0].hour), ("busy", at(0)));
    assert!((90_000..200_000).contains(&first.weights[0].bytes), "{first:?}");
    let piece = Piece { from: first.next, limit: 10, ..piece };
    let second = store.weigh(Stock::Events, piece).await.expect("an answer");
    assert!(!second.more);
    assert_eq!((second.weights[0].namespace.as_str(), second.weights[0].hour), ("default", at(2 * 3600)));
    assert!((100..5_000).contains(&second.weights[0].bytes), "{second:?}");
    let none = store.weigh(Stock::Tasks, Piece { from: Uuid::nil(), ..piece }).await.expect("an answer");
    assert_eq!(none.weights, []);
}
