//! Promises of `Store` itself.

use hetuflow_store::Ingested;

use crate::{
    database::Db,
    world::{at, claim, keyed, slot, take_in},
};

pub(crate) async fn a_probe_commits(db: &Db) {
    db.store.probe().await.expect("it keeps its word");
    db.store.probe().await.expect("every time");
}

pub(crate) async fn the_database_is_described(db: &Db) {
    let text = db.store.describe();
    assert!(text.starts_with("sqlite 3.") || text.starts_with("postgres "), "{text}");
}

/// Opening applies nothing twice; two servers work on one database.
pub(crate) async fn a_second_server_sees_the_same(db: &Db) {
    let second = db.another().await;
    let slots = [slot(&*db.store, "web-1").await];
    assert_eq!(take_in(&*db.store, vec![keyed("1", at(0))]).await.expect("stored"), [Ingested::Stored]);
    let answers = take_in(&*second, vec![keyed("1", at(0))]).await.expect("known");
    assert!(matches!(answers[..], [Ingested::Duplicate { .. }]), "{answers:?}");
    assert_eq!(claim(&*second, &slots, at(1)).await.len(), 1);
    assert_eq!(claim(&*db.store, &slots, at(1)).await, []);
    second.close().await;
}
