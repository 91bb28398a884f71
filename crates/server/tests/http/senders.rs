//! Who sends: where from, signed with which secret, and what hooks that only observe make of those that are not
//! authentic.

use hetuflow_core::network::Network;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::world::{DEPLOY, MAIN, SECRET, World, json};

fn with(lines: &str) -> String {
    DEPLOY.replace("events = [\"push\"]\n", &format!("events = [\"push\"]\n{lines}\n"))
}

/// Puts the trigger with more lines in force.
async fn change(world: &World, lines: &str) {
    let revision = world.trigger_until("deploy-site", |_| true).await["revision"].as_i64();
    world.write_trigger("deploy-site", &with(lines));
    world.trigger_until("deploy-site", |one| one["revision"].as_i64() > revision).await;
}

async fn send(world: &World, delivery: &str, lines: &[(&str, &str)]) -> (StatusCode, Value) {
    let request =
        lines.iter().fold(world.push(delivery, MAIN), |request, line| request.header(line.0, line.1));
    let response = request.send().await.expect("an answer");
    (response.status(), json(response).await)
}

/// A delivery that nobody signed.
async fn forge(world: &World) -> (StatusCode, Value) {
    let response = world.client.post(world.hook("deploy-site")).body(MAIN).send().await.expect("an answer");
    (response.status(), json(response).await)
}

async fn event(world: &World, receipt: &Value) -> Value {
    world.get(&format!("events/{}", receipt["event_id"].as_str().expect("an id"))).await
}

#[tokio::test]
async fn the_address_of_a_sender_is_kept_and_found() {
    let world = World::with(|config| {
        config.hooks.trusted_proxies = vec![Network::parse("127.0.0.1/32").expect("a network")];
    })
    .await;
    let (_, behind) = send(&world, "d-1", &[("x-forwarded-for", "198.51.100.1, 192.0.2.7")]).await;
    let (_, direct) = send(&world, "d-2", &[]).await;
    assert_eq!(event(&world, &behind).await["sender"], "192.0.2.7");
    assert_eq!(event(&world, &direct).await["sender"], "127.0.0.1");
    let found = async |query: &str| -> Vec<Value> {
        let list = world.get(&format!("events?{query}")).await;
        list["items"].as_array().expect("items").iter().map(|one| one["id"].clone()).collect()
    };
    assert_eq!(found("sender=192.0.2.7").await, [behind["event_id"].clone()]);
    assert_eq!(found("sender=198.51.100.1").await, [Value::Null; 0]);
    assert_eq!(found("when=event.sender.inCidr(%22192.0.2.0/24%22)").await, [behind["event_id"].clone()]);
}

#[tokio::test]
async fn a_stranger_does_not_say_where_it_is() {
    let world = World::new().await;
    let (_, receipt) =
        send(&world, "d-1", &[("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=192.0.2.7")]).await;
    assert_eq!(event(&world, &receipt).await["sender"], "127.0.0.1");
}

#[tokio::test]
async fn only_those_who_may_send_are_let_in() {
    let world = World::with(|config| {
        config.hooks.trusted_proxies = vec![Network::parse("127.0.0.1").expect("a network")];
    })
    .await;
    change(&world, "allow_from = [\"192.0.2.0/24\", \"2001:db8::/32\"]").await;
    let from = |address| [("x-forwarded-for", address)];
    assert_eq!(send(&world, "d-1", &from("192.0.2.7")).await.0, StatusCode::ACCEPTED);
    assert_eq!(send(&world, "d-2", &from("2001:db8::9")).await.0, StatusCode::ACCEPTED);
    assert_eq!(send(&world, "d-3", &from("198.51.100.1")).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(send(&world, "d-4", &[]).await.0, StatusCode::UNAUTHORIZED, "the proxy itself");
    let reason = world
        .until("events?verdict=rejected&sender=198.51.100.1", |list| list["items"].get(0).cloned())
        .await["verdict"]["reason"]
        .clone();
    assert_eq!(reason, "198.51.100.1 is not in allow_from");
}

#[tokio::test]
async fn a_hook_that_observes_takes_what_is_not_authentic_and_starts_nothing() {
    let world = World::new().await;
    change(&world, "observe_until = 2999-12-31").await;
    let health = world.get("system/health").await;
    assert_eq!(health["status"], "degraded");
    assert!(
        health["reasons"][0].as_str().expect("a reason").contains("only observes until 3000-01-01T00:00:00Z")
    );

    let (status, receipt) = forge(&world).await;
    assert_eq!((status, &receipt["task_ids"]), (StatusCode::ACCEPTED, &json!([])));
    let stored = event(&world, &receipt).await;
    assert_eq!((&stored["verdict"]["verdict"], &stored["decisions"]), (&json!("unverified"), &json!([])));
    assert!(
        stored["verdict"]["reason"].as_str().expect("a reason").contains("x-hub-signature-256"),
        "{stored}"
    );
    // One that is signed wrongly has the id of one that is authentic, and does not take its place.
    let response = world.push("d-1", MAIN).body("{}").send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let (status, authentic) = send(&world, "d-1", &[]).await;
    assert_eq!((status, &authentic["duplicate"]), (StatusCode::ACCEPTED, &json!(false)));
    assert_eq!(world.get("tasks").await["items"].as_array().expect("items").len(), 1);
    assert_eq!(world.get("events?verdict=unverified").await["items"].as_array().expect("items").len(), 2);

    // What it started nothing by, its owner can have.
    let id = receipt["event_id"].as_str().expect("an id");
    let (status, replayed) = world.post(&format!("events/{id}/replay"), json!({})).await;
    assert!(status.is_success(), "{replayed}");
    assert_eq!(event(&world, &replayed).await["verdict"]["verdict"], "accepted");
    let counted = world.get("events/count?since=2020-01-01T00:00:00Z").await;
    assert_eq!(counted["count"], 1, "only those who ask for them get them: {counted}");
    assert_eq!(world.get("events/count?verdict=unverified").await["count"], 2);

    change(&world, "observe_until = 2020-01-01").await;
    assert_eq!(forge(&world).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(world.get("system/health").await["status"], "ok");
}

#[tokio::test]
async fn a_trigger_says_when_its_secrets_were_of_use() {
    let world = World::with(|config| {
        config.embedded.make_secret = Some(std::sync::Arc::new(|name: &str| match name {
            "NEW_SECRET" => Some("another secret".to_owned()),
            "DEPLOY_SECRET" => Some(SECRET.to_owned()),
            _ => None,
        }));
    })
    .await;
    let both = DEPLOY.replace(
        "{ env = \"DEPLOY_SECRET\" }",
        "[{ env = \"NEW_SECRET\" }, { env = \"DEPLOY_SECRET\" }, { env = \"GONE_SECRET\" }]",
    );
    world.write_trigger("deploy-site", &both);
    world.trigger_until("deploy-site", |one| !one["warnings"].is_null()).await;
    let (_, receipt) = send(&world, "d-1", &[]).await;
    let shown = world.get("triggers/deploy-site").await;
    let [new, old, gone] = shown["secrets"].as_array().expect("secrets").as_slice() else {
        panic!("{shown}")
    };
    let said = |one: &Value| (one["secret"].clone(), one["usable"].clone(), one["last_event_id"].clone());
    assert_eq!(said(new), (json!("env NEW_SECRET"), json!(true), Value::Null));
    assert_eq!(said(old), (json!("env DEPLOY_SECRET"), json!(true), receipt["event_id"].clone()));
    assert_eq!(said(gone), (json!("env GONE_SECRET"), json!(false), Value::Null));
    assert_eq!(new["looked_back_to"], Value::Null, "the whole journal was looked at");
    let found = world.get("events?secret=env%20DEPLOY_SECRET").await;
    assert_eq!(found["items"][0]["id"], receipt["event_id"]);
}
