//! Promises about the leader: one at a time, and one that was superseded changes nothing.

use std::time::Duration;

use hetuflow_core::{id::ServerId, status::Status};
use hetuflow_store::{Leadership, Store, StoreError};
use uuid::Uuid;

use crate::{
    database::Db,
    world::{MINUTE, at, claimed, keyed, task},
};

fn server(n: u128) -> ServerId {
    ServerId::from_uuid(Uuid::from_u128(n))
}

/// This server takes the lead, which nobody else has.
pub(crate) async fn lead(store: &dyn Store) -> Leadership {
    let holder = server(0);
    let epoch = store.lead(holder, MINUTE).await.expect("an answer").expect("the lead is free");
    Leadership { holder, epoch }
}

/// Takes the lead for no time at all, so that it is free again at once.
async fn lead_for_an_instant(store: &dyn Store, holder: ServerId) -> Leadership {
    let taking = async {
        loop {
            if let Some(epoch) = store.lead(holder, Duration::ZERO).await.expect("an answer") {
                return Leadership { holder, epoch };
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(MINUTE, taking).await.expect("the lead ran out")
}

pub(crate) async fn one_server_leads(db: &Db) {
    let (store, other) = (&*db.store, db.another().await);
    assert_eq!(store.leader().await.expect("an answer"), None);
    let (one, two) = (server(1), server(2));
    assert_eq!(store.lead(one, MINUTE).await.expect("an answer"), Some(1));
    assert_eq!(other.lead(two, MINUTE).await.expect("an answer"), None);
    assert_eq!(store.lead(one, MINUTE).await.expect("an answer"), Some(1), "an unbroken term");
    let leads = Some(Leadership { holder: one, epoch: 1 });
    assert_eq!(other.leader().await.expect("an answer"), leads);
    other.close().await;
}

pub(crate) async fn the_epoch_grows_with_every_term(db: &Db) {
    let store = &*db.store;
    let first = lead_for_an_instant(store, server(1)).await;
    let other = lead_for_an_instant(store, server(2)).await;
    let back = lead_for_an_instant(store, server(1)).await;
    let broken = lead_for_an_instant(store, server(1)).await;
    let epochs = [first, other, back, broken].map(|leadership| leadership.epoch);
    assert!(epochs.is_sorted_by(|a, b| a < b), "{epochs:?}");
    assert_eq!(store.leader().await.expect("an answer"), None, "it ran out");
}

pub(crate) async fn a_leader_that_resigns_is_followed_at_once(db: &Db) {
    let (store, other) = (&*db.store, db.another().await);
    let leadership = lead(store).await;
    let mut resignations = other.resignations();
    let older = Leadership { epoch: leadership.epoch - 1, ..leadership };
    let foreign = Leadership { holder: server(7), ..leadership };
    for stale in [older, foreign] {
        store.resign(stale).await.expect("ignored");
        assert_eq!(store.leader().await.expect("an answer"), Some(leadership));
    }
    store.resign(leadership).await.expect("resigned");
    assert_eq!(store.leader().await.expect("an answer"), None);
    assert_eq!(other.lead(server(2), MINUTE).await.expect("an answer"), Some(leadership.epoch + 1));
    store.resign(leadership).await.expect("ignored");
    assert!(other.leader().await.expect("an answer").is_some(), "a late resignation takes nobody's lead");
    // On SQLite there is one server as a rule, and nobody to tell.
    if store.describe().starts_with("postgres") {
        let told = tokio::time::timeout(MINUTE, resignations.changed()).await.expect("it is told");
        told.expect("the store is open");
    }
    other.close().await;
}

/// As a server does that was frozen while another took over.
pub(crate) async fn a_stale_leader_changes_nothing(db: &Db) {
    let store = &*db.store;
    let held = claimed(store, |_| ()).await;
    store.close_session(&held.agent_id, held.session_epoch).await.expect("closed");
    store.ingest(&[keyed("1", at(0))], &[]).await.expect("stored");
    let expired = lead_for_an_instant(store, server(1)).await;
    let check = async |stale: Leadership, who: &str| {
        let refused = |error: StoreError| assert!(matches!(error, StoreError::NotLeader), "{who}: {error:?}");
        refused(store.reap(stale, Duration::ZERO, at(200), 0.0, 10).await.expect_err(who));
        refused(store.forget_expired_keys(stale, at(99_999), 10).await.expect_err(who));
    };
    check(expired, "one whose lead ran out").await;
    let epoch = store.lead(server(2), MINUTE).await.expect("an answer").expect("free");
    let leader = Leadership { holder: server(2), epoch };
    check(expired, "one that was followed").await;
    check(Leadership { epoch: epoch - 1, ..leader }, "the same server in an earlier term").await;
    check(Leadership { holder: server(1), ..leader }, "another server with this term").await;
    assert_eq!(task(store, held.task.id).await.status, Status::Locked);
    assert_eq!(store.forget_expired_keys(leader, at(99_999), 10).await.expect("the leader's"), 1);
}
