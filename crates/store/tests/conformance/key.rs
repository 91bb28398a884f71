//! Promises about keys of agents and servers, and about tokens: each joins one agent.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use hetuflow_core::{
    fingerprint::{Fingerprint, TokenHash},
    id::AgentId,
    labels::Labels,
};
use hetuflow_store::{Arrival, Joined, NewToken, NotJoined, Session, Store, StoreError};

use crate::{
    database::Db,
    world::{MINUTE, Visitor, at, claim, claimed_by, slot, stored},
};

fn id(name: &str) -> AgentId {
    AgentId::new(name).expect("an id")
}

fn key(n: u8) -> Fingerprint {
    Fingerprint([n; 32])
}

fn web() -> Labels {
    [("role".to_owned(), "web".to_owned())].into()
}

/// The `n`th token, good for a minute.
async fn token(store: &dyn Store, n: u8, change: impl FnOnce(&mut NewToken)) -> TokenHash {
    let mut token = NewToken { hash: TokenHash([n; 32]), labels: None, agent_id: None };
    change(&mut token);
    store.make_token(&token, MINUTE).await.expect("kept");
    token.hash
}

async fn join(store: &dyn Store, token: TokenHash, n: u8, agent: &str) -> Result<Joined, NotJoined> {
    store.join(token, key(n), &id(agent)).await.expect("an answer")
}

/// Says hello over a connection that has proved this key.
async fn hello(store: &dyn Store, agent: &str, key: Option<Fingerprint>) -> Result<Session, StoreError> {
    say(store, &Visitor::new(agent), key).await
}

async fn say(store: &dyn Store, visitor: &Visitor, key: Option<Fingerprint>) -> Result<Session, StoreError> {
    store.open_session(Arrival { hello: &visitor.hello, key }, visitor.server_id, MINUTE, at(100), 0.0).await
}

pub(crate) async fn a_key_that_joins_is_known_with_its_labels(db: &Db) {
    let store = &*db.store;
    let bound = token(store, 1, |token| token.labels = Some(web())).await;
    let joined = join(store, bound, 1, "web-1").await.expect("joined");
    assert_eq!((&joined.agent_id, &joined.labels), (&id("web-1"), &Some(web())));
    assert_eq!(store.joined(key(1)).await.expect("an answer"), Some(joined));
    assert_eq!(store.joined(key(2)).await.expect("an answer"), None);
    let free = token(store, 2, |_| ()).await;
    assert_eq!(join(store, free, 2, "web-2").await.expect("joined").labels, None);
    hello(store, "web-2", Some(key(2))).await.expect("a session");
    let shown = store.agent(&id("web-2")).await.expect("known").key.expect("a key");
    assert_eq!(shown.fingerprint, key(2));
    assert_eq!(store.agents().await.expect("agents")[0].key, Some(shown));
}

pub(crate) async fn a_token_serves_once(db: &Db) {
    let store = &*db.store;
    let once = token(store, 1, |_| ()).await;
    let joined = join(store, once, 1, "web-1").await;
    assert!(joined.is_ok());
    assert!(matches!(join(store, once, 2, "web-2").await, Err(NotJoined::Used { .. })));
    assert!(matches!(join(store, once, 2, "web-1").await, Err(NotJoined::Used { .. })));
    assert_eq!(join(store, once, 1, "web-1").await, joined, "an answer that was lost is given again");
    assert_eq!(join(store, TokenHash([9; 32]), 3, "web-3").await, Err(NotJoined::Unknown));
    assert_eq!(store.joined(key(2)).await.expect("an answer"), None);
}

pub(crate) async fn of_twenty_with_one_token_one_joins(db: &Db) {
    let single = token(&*db.store, 1, |_| ()).await;
    let all = (0..20).map(|n| {
        let store = Arc::clone(&db.store);
        tokio::spawn(async move { join(&*store, single, n, &format!("web-{n}")).await })
    });
    let (mut joined, mut used) = (Vec::new(), 0);
    for one in all.collect::<Vec<_>>() {
        match one.await.expect("no panic") {
            Ok(one) => joined.push(one.agent_id),
            Err(NotJoined::Used { .. }) => used += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((joined.len(), used), (1, 19));
}

pub(crate) async fn of_twenty_that_want_one_name_one_joins(db: &Db) {
    let all = (0..20).map(|n| {
        let store = Arc::clone(&db.store);
        tokio::spawn(async move {
            let own = token(&*store, n, |_| ()).await;
            join(&*store, own, n, "web-1").await
        })
    });
    let mut answers = Vec::new();
    for one in all.collect::<Vec<_>>() {
        answers.push(one.await.expect("no panic").map(|joined| joined.agent_id));
    }
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    let refused: BTreeSet<String> =
        answers.iter().filter_map(|answer| answer.as_ref().err()).map(ToString::to_string).collect();
    assert_eq!(refused, [NotJoined::Taken(id("web-1")).to_string()].into());
}

pub(crate) async fn a_token_expires_by_the_databases_clock(db: &Db) {
    let store = &*db.store;
    for n in 0..=u8::MAX {
        let new = NewToken { hash: TokenHash([n; 32]), labels: None, agent_id: None };
        let until = store.make_token(&new, Duration::from_micros(1)).await.expect("kept");
        match join(store, new.hash, n, &format!("web-{n}")).await {
            Err(NotJoined::Expired { at }) => return assert_eq!(at, until),
            // The database's clock has not moved on in between.
            joined => assert!(joined.is_ok(), "{joined:?}"),
        }
    }
    panic!("none of them expired");
}

pub(crate) async fn a_token_may_be_for_one_agent_alone(db: &Db) {
    let store = &*db.store;
    let named = token(store, 1, |token| token.agent_id = Some(id("web-1"))).await;
    assert_eq!(join(store, named, 2, "web-2").await, Err(NotJoined::ForAnother(id("web-1"))));
    assert!(join(store, named, 1, "web-1").await.is_ok(), "the wrong agent has not used it up");
}

pub(crate) async fn an_id_that_was_here_is_only_given_by_name(db: &Db) {
    let store = &*db.store;
    hello(store, "web-1", None).await.expect("a session");
    let free = token(store, 1, |_| ()).await;
    assert_eq!(join(store, free, 1, "web-1").await, Err(NotJoined::Taken(id("web-1"))));
    assert!(join(store, free, 1, "web-2").await.is_ok(), "what was refused has not used it up");
    let other = token(store, 2, |_| ()).await;
    assert_eq!(join(store, other, 2, "web-2").await, Err(NotJoined::Taken(id("web-2"))));
    let named = token(store, 3, |token| token.agent_id = Some(id("web-1"))).await;
    assert!(join(store, named, 3, "web-1").await.is_ok());
}

pub(crate) async fn nobody_else_says_hello_for_a_key(db: &Db) {
    let store = &*db.store;
    let one = token(store, 1, |_| ()).await;
    let two = token(store, 2, |_| ()).await;
    join(store, one, 1, "web-1").await.expect("joined");
    join(store, two, 2, "web-2").await.expect("joined");
    let refused = async |agent: &str, shown| {
        let opened = hello(store, agent, shown).await;
        assert!(matches!(opened, Err(StoreError::NotAdmitted)), "{agent} {shown:?}: {opened:?}");
    };
    refused("web-1", None).await;
    refused("web-1", Some(key(2))).await;
    refused("web-1", Some(key(9))).await;
    refused("local", Some(key(1))).await;
    assert_eq!(store.agents().await.expect("agents"), [], "nothing was changed");
    hello(store, "web-1", Some(key(1))).await.expect("a session");
    hello(store, "local", None).await.expect("a session");
}

pub(crate) async fn a_key_taken_back_never_counts_again(db: &Db) {
    let store = &*db.store;
    let first = token(store, 1, |_| ()).await;
    join(store, first, 1, "web-1").await.expect("joined");
    let visitor = Visitor::new("web-1");
    let session = say(store, &visitor, Some(key(1))).await.expect("a session");
    let sessions = [(id("web-1"), session.epoch)];
    let renewed =
        async || store.renew_sessions(visitor.server_id, &sessions, MINUTE).await.expect("an answer");
    assert_eq!(renewed().await, []);
    assert_eq!(store.revoke(&id("web-1")).await.expect("taken back"), key(1));
    assert!(matches!(store.revoke(&id("web-1")).await, Err(StoreError::NotFound)));
    assert_eq!(store.joined(key(1)).await.expect("an answer"), None);
    let agent = store.agent(&id("web-1")).await.expect("known");
    assert_eq!(agent.key, None);
    assert!(agent.key_revoked_at.is_some(), "it did not come without a key");
    assert_eq!(store.agents().await.expect("agents"), [agent]);
    let opened = hello(store, "web-1", Some(key(1))).await;
    assert!(matches!(opened, Err(StoreError::NotAdmitted)), "{opened:?}");
    assert_eq!(renewed().await, [id("web-1")], "its session has ended");

    assert_eq!(join(store, first, 1, "web-1").await, Err(NotJoined::Revoked));
    let named = token(store, 2, |token| token.agent_id = Some(id("web-1"))).await;
    assert_eq!(
        join(store, named, 1, "web-1").await,
        Err(NotJoined::Revoked),
        "not under another token either"
    );
    assert!(join(store, named, 2, "web-1").await.is_ok());
}

pub(crate) async fn a_new_key_takes_the_place_of_the_old(db: &Db) {
    let store = &*db.store;
    let first = token(store, 1, |_| ()).await;
    join(store, first, 1, "web-1").await.expect("joined");
    hello(store, "web-1", Some(key(1))).await.expect("a session");
    let named = token(store, 2, |token| token.agent_id = Some(id("web-1"))).await;
    join(store, named, 2, "web-1").await.expect("joined");
    assert_eq!(store.joined(key(1)).await.expect("an answer"), None);
    let agent = store.agent(&id("web-1")).await.expect("known");
    assert_eq!(agent.connection, hetuflow_core::agent::Connection::Offline);
    assert_eq!(agent.key.map(|key| key.fingerprint), Some(key(2)));
    assert_eq!(agent.key_revoked_at, None, "the one that it has is in force");
}

pub(crate) async fn nothing_is_leased_to_a_session_whose_key_was_taken_back(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    let named = token(store, 1, |token| token.agent_id = Some(id("web-1"))).await;
    claimed_by(store, &slot, |_| ()).await;
    join(store, named, 1, "web-1").await.expect("joined");
    stored(store, at(0), |_| ()).await;
    assert_eq!(claim(store, &[slot], at(1)).await, []);
}

pub(crate) async fn servers_are_known_by_their_keys(db: &Db) {
    let store = &*db.store;
    assert_eq!(store.server_keys().await.expect("an answer"), []);
    for n in [2, 1, 2] {
        store.know_server(key(n)).await.expect("kept");
    }
    assert_eq!(store.server_keys().await.expect("an answer"), [key(1), key(2)]);
    let mut servers = store.servers().await.expect("an answer");
    assert!(servers.iter().all(|server| server.first_seen_at <= server.last_seen_at), "{servers:?}");
    servers.sort_by_key(|server| server.fingerprint);
    assert_eq!(servers.iter().map(|server| server.fingerprint).collect::<Vec<_>>(), [key(1), key(2)]);
    store.forget_server(key(1)).await.expect("forgotten");
    assert!(matches!(store.forget_server(key(1)).await, Err(StoreError::NotFound)));
    assert_eq!(store.server_keys().await.expect("an answer"), [key(2)]);
    store.know_server(key(1)).await.expect("kept");
    assert_eq!(store.server_keys().await.expect("an answer"), [key(1), key(2)]);
}
