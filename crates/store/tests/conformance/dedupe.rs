//! Events with more than one key: a second one, or those of what they are put together from.

use futures_util::future::join_all;
use hetuflow_store::{EventFilter, Ingest, Ingested, Page};
use jiff::Timestamp;

use crate::{
    database::Db,
    event::{duplicate_of, stored_events},
    world::{at, keyed, lanes, take_in},
};

fn keyed_twice(first: &str, second: &str, received_at: Timestamp) -> Ingest {
    let mut ingest = keyed(first, received_at);
    ingest.dedupe.as_mut().expect("a key").second = Some(second.to_owned());
    ingest
}

/// And whoever has the first has the second from then on; a known second one does not give a first to anybody, because
/// who copies a delivery may write any id.
pub(crate) async fn either_of_two_keys_is_enough(db: &Db) {
    let store = &*db.store;
    let first = keyed_twice("id-1", "bytes-1", at(0));
    let (event_id, task_ids) = (first.event.id, vec![first.tasks[0].id]);
    let same = Ingested::Duplicate { event_id, task_ids, parts: Vec::new() };
    let batch = vec![
        first,
        keyed_twice("id-2", "bytes-1", at(1)),
        keyed_twice("id-1", "bytes-2", at(2)),
        keyed_twice("id-1", "bytes-3", at(3)),
        keyed_twice("id-3", "bytes-2", at(4)),
        keyed_twice("id-3", "bytes-3", at(5)),
        keyed_twice("id-2", "bytes-4", at(5)),
        // Second keys are told apart from first ones.
        keyed_twice("bytes-1", "id-1", at(6)),
        keyed("id-9", at(7)),
    ];
    let expected = [vec![Ingested::Stored], vec![same.clone(); 5], vec![Ingested::Stored; 3]].concat();
    // In one batch, and each by itself.
    assert_eq!(take_in(store, batch.clone()).await.expect("stored"), expected);
    for ingest in batch.into_iter().skip(2).take(4) {
        assert_eq!(take_in(store, vec![ingest]).await.expect("known"), std::slice::from_ref(&same));
    }
    assert_eq!(store.events(&EventFilter::default(), Page::default()).await.expect("a list").len(), 4);
    // A minute later both are free again.
    let later = keyed_twice("id-1", "bytes-1", at(100));
    assert_eq!(take_in(store, vec![later]).await.expect("stored"), [Ingested::Stored]);
}

/// A batch that is taken back leaves nothing that a later one would rely on.
pub(crate) async fn a_lane_of_a_batch_that_failed_is_made_again(db: &Db) {
    let store = &*db.store;
    let mut first = keyed_twice("id-1", "bytes-1", at(0));
    first.tasks[0].priority = 7;
    let mut same_task = keyed("id-2", at(0));
    same_task.tasks[0].id = first.tasks[0].id;
    let refused = take_in(store, vec![first.clone(), same_task]).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(take_in(store, vec![first.clone()]).await.expect("stored"), [Ingested::Stored]);
    assert_eq!(lanes(store, at(0)).await.iter().map(|lane| lane.priority).collect::<Vec<_>>(), [7]);
    assert_eq!(store.task(first.tasks[0].id).await.expect("a task").id, first.tasks[0].id);
}

pub(crate) async fn ten_ingests_with_one_second_key_make_one_event(db: &Db) {
    let ingests: Vec<Ingest> = (0..10).map(|n| keyed_twice(&format!("id-{n}"), "bytes", at(0))).collect();
    let answers = join_all(ingests.into_iter().map(|ingest| take_in(&*db.store, vec![ingest]))).await;
    let answers: Vec<Ingested> =
        answers.into_iter().map(|answer| answer.expect("an answer").remove(0)).collect();
    assert_eq!(answers.iter().filter(|answer| **answer == Ingested::Stored).count(), 1, "{answers:?}");
    let stored = db.store.events(&EventFilter::default(), Page::default()).await.expect("a list");
    let [event] = stored.as_slice() else { panic!("{stored:?}") };
    for answer in &answers {
        assert!(matches!(answer, Ingested::Stored | Ingested::Duplicate { .. }));
        if let Ingested::Duplicate { event_id, .. } = answer {
            assert_eq!(*event_id, event.id);
        }
    }
}

fn put_together(key: &str, parts: &[&str], received_at: Timestamp) -> Ingest {
    let mut ingest = keyed(key, received_at);
    ingest.dedupe.as_mut().expect("a key").parts = parts.iter().map(|part| (*part).to_owned()).collect();
    ingest
}

fn overlapping(parts: &[(&str, &Ingest)]) -> Ingested {
    let parts: Vec<_> = parts.iter().map(|(part, owner)| ((*part).to_owned(), owner.event.id)).collect();
    Ingested::Duplicate { event_id: parts[0].1, task_ids: Vec::new(), parts }
}

pub(crate) async fn a_part_is_of_one_event(db: &Db) {
    let store = &*db.store;
    let (first, alone) = (put_together("1", &["a", "b", "b"], at(0)), keyed("c", at(1)));
    let batch = vec![
        first.clone(),
        alone.clone(),
        put_together("2", &["d", "c", "b", "a"], at(2)),
        // What it did not get has stayed free, its own key too.
        put_together("2", &["d"], at(3)),
        first.clone(),
        keyed("a", at(4)),
    ];
    let expected = [
        Ingested::Stored,
        Ingested::Stored,
        overlapping(&[("a", &first), ("b", &first), ("c", &alone)]),
        Ingested::Stored,
        duplicate_of(&first),
        duplicate_of(&first),
    ];
    assert_eq!(take_in(store, batch).await.expect("an answer"), expected);
    let known = put_together("3", &["e", "b"], at(5));
    assert_eq!(take_in(store, vec![known]).await.expect("known"), [overlapping(&[("b", &first)])]);
    assert_eq!(stored_events(db).await.len(), 3);
    // A minute later all are free again, and belong to the next.
    let second = put_together("4", &["a", "b", "c", "e"], at(100));
    assert_eq!(take_in(store, vec![second.clone()]).await.expect("stored"), [Ingested::Stored]);
    let third = put_together("5", &["c"], at(101));
    assert_eq!(take_in(store, vec![third]).await.expect("known"), [overlapping(&[("c", &second)])]);
}

pub(crate) async fn of_ten_events_with_one_part_one_is_stored(db: &Db) {
    let ingests: Vec<Ingest> =
        (0..10).map(|n| put_together(&format!("{n}"), &[&format!("own-{n}"), "part"], at(0))).collect();
    let answers = join_all(ingests.into_iter().map(|ingest| take_in(&*db.store, vec![ingest]))).await;
    let stored = stored_events(db).await;
    let [event] = stored.as_slice() else { panic!("{stored:?}") };
    let mut overlaps = 0;
    for answer in answers {
        match answer.expect("an answer").remove(0) {
            Ingested::Stored => {}
            Ingested::Duplicate { parts, .. } => {
                assert_eq!(parts, [("part".to_owned(), event.id)]);
                overlaps += 1;
            }
        }
    }
    assert_eq!(overlaps, 9);
}
