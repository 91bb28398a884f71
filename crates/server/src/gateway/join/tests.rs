use std::net::SocketAddr;

use hetuflow_core::{fingerprint::TokenSecret, id::AgentId, protocol};

use super::*;
use crate::world::{World, hello};

/// Over TLS with the `n`th key, from another machine.
fn visitor(n: u8) -> Visitor {
    let peer = Peer(SocketAddr::from(([192, 0, 2, 7], 4711)));
    Visitor::new(Some(Caller::Key(Fingerprint([n; 32]))), Some(peer))
}

fn join(secret: u8) -> Join {
    let agent_id = AgentId::new("web-1").expect("an id");
    Join { protocol: protocol::VERSION, agent_id, token: TokenSecret([secret; 32]) }
}

#[tokio::test]
async fn whoever_tries_tokens_has_few_tries() {
    let (world, tries) = (World::start().await, Tries::default());
    for n in 0..20 {
        let refused = visitor(n).join(&join(n), &world.state, &tries).await;
        assert!(matches!(refused, Err(Refused::NotJoined(NotJoined::Unknown))), "{n}: {refused:?}");
    }
    let refused = visitor(20).join(&join(20), &world.state, &tries).await;
    assert!(matches!(refused, Err(Refused::TooMany(_))), "with whatever key: {refused:?}");
    let refused = visitor(1).known(hello("web-1", &[]), &world.state, &tries).await;
    assert!(matches!(refused, Err(Refused::TooMany(_))), "{refused:?}");
    let elsewhere = Peer(SocketAddr::from(([192, 0, 2, 8], 4711)));
    let other = Visitor::new(Some(Caller::Key(Fingerprint([1; 32]))), Some(elsewhere));
    let refused = other.known(hello("web-1", &[]), &world.state, &tries).await;
    assert!(matches!(refused, Err(Refused::Unknown(_))), "{refused:?}");
}

#[tokio::test]
async fn without_tls_nobody_joins() {
    let (world, tries) = (World::start().await, Tries::default());
    let local = Visitor::new(Some(Caller::Plain), Some(Peer(SocketAddr::from(([127, 0, 0, 1], 1)))));
    let refused = local.join(&join(1), &world.state, &tries).await;
    assert!(matches!(refused, Err(Refused::Plain)), "{refused:?}");
}

#[test]
fn a_tokens_labels_are_all_that_the_agent_has() {
    let check = |bound: Option<&[(&str, &str)]>, says: &[(&str, &str)], expected: Option<&str>| {
        let hello = hello("web-1", says);
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let joined = Joined {
            agent_id: hello.agent_id.clone(),
            labels: bound.map(labels),
            joined_at: jiff::Timestamp::UNIX_EPOCH,
        };
        let refused = super::check(&hello, &joined).err().map(|refused| refused.to_string());
        match expected {
            Some(part) => assert!(refused.as_ref().is_some_and(|text| text.contains(part)), "{refused:?}"),
            None => assert_eq!(refused, None),
        }
    };
    let web: Option<&[_]> = Some(&[("role", "web"), ("site", "fra")]);
    check(web, &[], None);
    check(web, &[("role", "web")], None);
    check(web, &[("role", "db")], Some("role=web,site=fra"));
    check(web, &[("gpu", "a100")], Some("gpu=a100"));
    check(Some(&[]), &[("gpu", "a100")], Some("gpu=a100"));
    check(None, &[("gpu", "a100")], None);
}
