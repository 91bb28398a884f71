//! Promises about an agent's sessions and what its hello settles.

use bytes::Bytes;
use hetuflow_core::{
    agent::Connection,
    id::{InstanceId, JournalId, ServerId},
    protocol::Kept,
    retry::OnLost,
    status::Status,
    task::{EndReason, Lease, OutputChunk, Stream},
};
use hetuflow_store::{Claimed, Store, StoreError};

use crate::{
    database::Db,
    leader::lead,
    world::{MINUTE, Visitor, agent_id, at, claimed_by, instance, note, policy, task},
};

/// An agent that has said hello and was given one task.
async fn busy(store: &dyn Store, max_retries: u32) -> (Visitor, Claimed) {
    let mut visitor = Visitor::new("web-1");
    let session = visitor.hello(store, &[]).await;
    let policy = policy(max_retries, OnLost::Retry);
    let claimed = claimed_by(store, &visitor.slot(&session), |task| task.policy = policy).await;
    (visitor, claimed)
}

async fn connection(store: &dyn Store, visitor: &Visitor) -> Connection {
    store.agent(&visitor.hello.agent_id).await.expect("the agent").connection
}

pub(crate) async fn a_hello_makes_an_agent(db: &Db) {
    let unknown = db.store.agent(&agent_id("web-1")).await.expect_err("nobody yet");
    assert!(matches!(unknown, StoreError::NotFound), "{unknown:?}");
    let mut visitor = Visitor::new("web-1");
    let session = visitor.hello(&*db.store, &[]).await;
    assert_eq!((session.keep, session.stop), (vec![], vec![]));
    assert_eq!((session.lost, session.returned), (vec![], vec![]));
    let agent = db.store.agent(&agent_id("web-1")).await.expect("the agent");
    assert_eq!((agent.hostname.as_str(), agent.version.as_str()), ("web-1.example", "0.1.0"));
    assert_eq!((agent.slots, agent.running, agent.connection), (4, 0, Connection::Online));
    assert_eq!((&agent.labels, agent.first_seen_at), (&visitor.hello.labels, at(100)));
}

pub(crate) async fn a_hello_raises_the_epoch(db: &Db) {
    let mut visitor = Visitor::new("web-1");
    let first = visitor.hello(&*db.store, &[]).await.epoch;
    visitor.server_id = ServerId::at(at(1));
    assert!(visitor.hello(&*db.store, &[]).await.epoch > first);
}

pub(crate) async fn what_is_leased_and_held_is_kept(db: &Db) {
    let store = &*db.store;
    let (mut visitor, claimed) = busy(store, 0).await;
    note(store, claimed.lease, None).await;
    let before = task(store, claimed.task.id).await;
    let session = visitor.hello(store, &[claimed.lease]).await;
    assert_eq!(session.keep, [Kept { lease: claimed.lease, next_seq: 0 }]);
    assert_eq!((session.stop, session.lost, session.returned), (vec![], vec![], vec![]));
    assert_eq!(task(store, claimed.task.id).await, before);
}

pub(crate) async fn output_goes_on_at_the_first_gap(db: &Db) {
    let store = &*db.store;
    let (mut visitor, claimed) = busy(store, 0).await;
    let Lease { instance_id, .. } = claimed.lease;
    let mut check = async |seq, next_seq| {
        let data = Bytes::from_static(b"x");
        let chunk = OutputChunk { instance_id, seq, stream: Stream::Stdout, data };
        store.append_output(&[chunk]).await.expect("stored");
        let session = visitor.hello(store, &[claimed.lease]).await;
        assert_eq!(session.keep, [Kept { lease: claimed.lease, next_seq }]);
    };
    check(1, 0).await;
    check(0, 2).await;
    check(3, 2).await;
    check(2, 4).await;
}

pub(crate) async fn what_is_held_but_not_leased_is_stopped(db: &Db) {
    let store = &*db.store;
    let (mut visitor, claimed) = busy(store, 0).await;
    let stale = Lease { fence: 0, ..claimed.lease };
    let foreign = Lease { instance_id: InstanceId::at(at(0)), ..claimed.lease };
    let session = visitor.hello(store, &[stale, claimed.lease, foreign]).await;
    assert_eq!(session.keep, [Kept { lease: claimed.lease, next_seq: 0 }]);
    assert_eq!(session.stop, [stale, foreign]);
    let mut stranger = Visitor::new("web-2");
    assert_eq!(stranger.hello(store, &[claimed.lease]).await.stop, [claimed.lease]);
}

pub(crate) async fn what_never_reached_the_journal_is_given_back(db: &Db) {
    let store = &*db.store;
    let (mut visitor, claimed) = busy(store, 0).await;
    let session = visitor.hello(store, &[]).await;
    assert_eq!((session.returned, session.lost), (vec![claimed.task.id], vec![]));
    let task = task(store, claimed.task.id).await;
    assert_eq!((task.status, task.attempt, task.fence), (Status::Pending, 0, 1));
    store.instance(claimed.lease.instance_id).await.expect_err("the instance is gone");
}

pub(crate) async fn what_was_accepted_and_is_not_held_is_lost(db: &Db) {
    let store = &*db.store;
    let (mut visitor, claimed) = busy(store, 0).await;
    note(store, claimed.lease, None).await;
    let session = visitor.hello(store, &[]).await;
    assert_eq!((session.lost, session.returned), (vec![claimed.task.id], vec![]));
    let task = task(store, claimed.task.id).await;
    assert_eq!((task.status, task.finished_at), (Status::Lost, Some(at(100))));
}

async fn assert_all_lost(store: &dyn Store, visitor: &Visitor, claimed: &Claimed) {
    let known = visitor.doubt(store).await;
    assert_eq!(task(store, claimed.task.id).await.status, Status::Locked, "a late hello changes nothing");
    let session = visitor.replace(store, known).await.expect("a session");
    assert_eq!((session.keep, session.stop), (vec![], vec![claimed.lease]));
    assert_eq!((session.lost, session.returned), (vec![claimed.task.id], vec![]));
    let instance = instance(store, claimed.lease).await;
    assert_eq!(instance.outcome.map(|outcome| outcome.reason), Some(EndReason::Lost));
    let task = task(store, claimed.task.id).await;
    assert_eq!((task.status, task.run_at, task.attempt), (Status::WaitingRetry, at(100), 1));
}

pub(crate) async fn another_journal_loses_everything(db: &Db) {
    let (mut visitor, claimed) = busy(&*db.store, 1).await;
    visitor.hello(&*db.store, &[claimed.lease]).await;
    visitor.hello.journal_id = JournalId::at(at(1));
    visitor.hello.journal_epoch += 1;
    assert_all_lost(&*db.store, &visitor, &claimed).await;
}

pub(crate) async fn a_rolled_back_journal_loses_everything(db: &Db) {
    let (mut visitor, claimed) = busy(&*db.store, 1).await;
    visitor.hello(&*db.store, &[claimed.lease]).await;
    assert_all_lost(&*db.store, &visitor, &claimed).await;
}

pub(crate) async fn a_hello_that_was_overtaken_replaces_nothing(db: &Db) {
    let store = &*db.store;
    let (mut visitor, claimed) = busy(store, 1).await;
    visitor.hello(store, &[claimed.lease]).await;
    let late = visitor.clone();
    let known = late.doubt(store).await;
    let session = visitor.hello(store, &[claimed.lease]).await;
    assert_eq!(session.epoch, known + 1);
    let replaced = late.replace(store, known).await;
    assert!(matches!(replaced, Err(StoreError::InDoubt { session_epoch }) if session_epoch == session.epoch));
    assert_eq!(task(store, claimed.task.id).await.status, Status::Locked);
    let session = visitor.hello(store, &[claimed.lease]).await;
    assert_eq!((session.keep.len(), session.lost), (1, vec![]), "nor does it take the journal's place");
}

pub(crate) async fn a_session_is_renewed_by_its_server_only(db: &Db) {
    let store = &*db.store;
    let mut visitor = Visitor::new("web-1");
    visitor.lease = std::time::Duration::ZERO;
    let session = visitor.hello(store, &[]).await;
    assert_eq!(connection(store, &visitor).await, Connection::Offline, "its session ran out at once");
    let id = visitor.hello.agent_id.clone();
    let elsewhere = ServerId::at(at(1));
    let gone = std::slice::from_ref(&id);
    let renew = async |server, epoch| store.renew_sessions(server, &[(id.clone(), epoch)], MINUTE).await;
    assert_eq!(renew(elsewhere, session.epoch).await.expect("an answer"), gone);
    assert_eq!(renew(visitor.server_id, session.epoch + 1).await.expect("an answer"), gone);
    assert_eq!(connection(store, &visitor).await, Connection::Offline);
    assert_eq!(renew(visitor.server_id, session.epoch).await.expect("an answer"), []);
    assert_eq!(connection(store, &visitor).await, Connection::Online);
}

pub(crate) async fn a_closed_session_keeps_what_it_holds(db: &Db) {
    let store = &*db.store;
    let (mut visitor, claimed) = busy(store, 0).await;
    store.close_session(&claimed.agent_id, claimed.session_epoch).await.expect("closed");
    assert_eq!(connection(store, &visitor).await, Connection::Offline);
    assert_eq!(store.reap(lead(store).await, MINUTE, at(200), 0.0, 10).await.expect("nothing"), []);
    assert_eq!(task(store, claimed.task.id).await.status, Status::Locked);
    let session = visitor.hello(store, &[claimed.lease]).await;
    assert_eq!(session.keep.len(), 1);
}

pub(crate) async fn closing_an_old_session_does_nothing(db: &Db) {
    let mut visitor = Visitor::new("web-1");
    let old = visitor.hello(&*db.store, &[]).await;
    visitor.hello(&*db.store, &[]).await;
    db.store.close_session(&visitor.hello.agent_id, old.epoch).await.expect("ignored");
    assert_eq!(connection(&*db.store, &visitor).await, Connection::Online);
}

/// A renewal that was under way when the connection ended does not bring the agent back.
pub(crate) async fn a_closed_session_is_not_renewed(db: &Db) {
    let mut visitor = Visitor::new("web-1");
    let session = visitor.hello(&*db.store, &[]).await;
    let sessions = [(visitor.hello.agent_id.clone(), session.epoch)];
    db.store.close_session(&sessions[0].0, session.epoch).await.expect("closed");
    let gone = db.store.renew_sessions(visitor.server_id, &sessions, MINUTE).await.expect("an answer");
    assert_eq!(gone, [sessions[0].0.clone()]);
    assert_eq!(connection(&*db.store, &visitor).await, Connection::Offline);
}
