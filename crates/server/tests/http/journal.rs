//! The journal of events: what is found in it, and what is done once more.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::world::{DEPLOY, MAIN, World, json};

const OTHER: &str = r#"{"ref":"refs/heads/other","number":7,"commits":[{"id":"a"}]}"#;

/// Delivers a push and yields its event's id.
async fn push(world: &World, delivery: &str, body: &str) -> String {
    let receipt = json(world.push(delivery, body).send().await.expect("an answer")).await;
    receipt["event_id"].as_str().expect("an id").to_owned()
}

fn ids(list: &Value) -> Vec<&str> {
    list["items"].as_array().expect("items").iter().map(|item| item["id"].as_str().expect("an id")).collect()
}

async fn refused(world: &World, path: &str) -> String {
    let response = world.client.get(world.api(path)).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{path}");
    json(response).await["detail"].as_str().expect("a detail").to_owned()
}

/// With a key, as a client that may ask again.
async fn post(world: &World, path: &str, key: &str, body: Value) -> (StatusCode, Value) {
    let request = world.client.post(world.api(path)).header("idempotency-key", key).json(&body);
    let response = request.send().await.expect("an answer");
    (response.status(), json(response).await)
}

#[tokio::test]
async fn events_are_found_by_what_is_in_them() {
    let world = World::new().await;
    let main = push(&world, "d-1", MAIN).await;
    let other = push(&world, "d-2", OTHER).await;
    let rejected = world.push("d-3", MAIN).body("{}").send().await.expect("an answer");
    assert_eq!(rejected.status(), StatusCode::UNAUTHORIZED);
    let sample = world.until("events?verdict=rejected", |list| list["items"].get(0).cloned()).await;
    let sample = sample["id"].as_str().expect("an id");
    let check = async |query: &str, expected: &[&str]| {
        let list = world.get(&format!("events?{query}")).await;
        assert_eq!(ids(&list), expected, "{query}");
    };
    check("header=X-GitHub-Event=push&json=number=7", &[&other]).await;
    check("header=X-GitHub-Delivery=d-2", &[&other]).await;
    check("header=x-github-delivery&verdict=accepted", &[&other, &main]).await;
    check("header=x-nothing", &[]).await;
    check("json=ref=refs/heads/main", &[&main]).await;
    check("json=body.number=7", &[&other]).await;
    check("json=$.commits[0].id=a", &[&other]).await;
    check("json=deleted", &[&main]).await;
    check("when=body.number%20>%206", &[&other]).await;
    check("trigger=deploy-site", &[sample, &other, &main]).await;
    check("trigger=deploy-site&decision=matched", &[&main]).await;
    check("trigger=deploy-site&decision=no_match", &[&other]).await;
    check("trigger=deploy", &[]).await;
    check("since=2999-01-01T00:00:00Z", &[]).await;
    check("until=2999-01-01T00:00:00Z&limit=1", &[sample]).await;
    let message = refused(&world, "events?when=body.a%20==").await;
    assert_eq!(message, "when: mismatched input 'the end' (at byte 9 of \"body.a ==\")");
    let message = refused(&world, "events?decision=matched").await;
    assert_eq!(message, "decision says what a trigger decided: name the trigger");
    assert!(refused(&world, "events?jsn=a").await.contains("unknown field `jsn`"));
}

#[tokio::test]
async fn an_event_is_repeated_by_the_rules_of_now_or_of_then() {
    let world = World::new().await;
    let original = push(&world, "d-1", MAIN).await;
    world.write_trigger(
        "deploy-site",
        &DEPLOY.replace("heads/main", "heads/dev").replace("body.ref }}", "body.ref }}!"),
    );
    world.trigger_until("deploy-site", |trigger| trigger["revision"] == 2).await;
    let path = format!("events/{original}/replay");

    let (status, now) = world.post(&path, json!({})).await;
    assert_eq!((status, &now["task_ids"]), (StatusCode::OK, &json!([])));
    let (status, then) = world.post(&path, json!({ "definition": "original" })).await;
    assert_eq!(status, StatusCode::OK);
    let task = world.get(&format!("tasks/{}", then["task_ids"][0].as_str().expect("a task"))).await;
    assert_eq!(task["command"]["environment"]["REF"], "refs/heads/main");

    let shown = world.get(&format!("events/{}", now["event_id"].as_str().expect("an id"))).await;
    assert_eq!((&shown["replay_of"], &shown["body"]), (&json!(original), &json!(MAIN)));
    assert_eq!(shown["decisions"][0]["revision"], 2);
    assert_eq!(shown["decisions"][0]["clauses"][0]["wanted"], "== \"refs/heads/dev\"");
    let shown = world.get(&format!("events/{}", then["event_id"].as_str().expect("an id"))).await;
    assert_eq!(
        (&shown["decisions"][0]["revision"], &shown["secret"]),
        (&json!(1), &json!("env DEPLOY_SECRET"))
    );
    let shown = world.get(&format!("events/{original}")).await;
    assert_eq!(shown["replays"], json!([then["event_id"], now["event_id"]]));
    assert_eq!(ids(&world.get(&format!("events?replay_of={original}")).await).len(), 2);
}

#[tokio::test]
async fn a_replay_that_is_asked_for_again_is_the_same_one() {
    let world = World::new().await;
    let original = push(&world, "d-1", MAIN).await;
    let path = format!("events/{original}/replay");
    let (_, first) = post(&world, &path, "k", json!({})).await;
    let (status, again) = post(&world, &path, "k", json!({})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        again,
        json!({ "event_id": first["event_id"], "task_ids": first["task_ids"], "duplicate": true })
    );
    let (_, other) = post(&world, &path, "l", json!({})).await;
    assert_ne!(other["event_id"], first["event_id"]);
}

#[tokio::test]
async fn what_cannot_be_repeated_says_why() {
    let world = World::new().await;
    let original = push(&world, "d-1", MAIN).await;
    world.push("d-3", MAIN).body("{}").send().await.expect("an answer");
    let sample = world.until("events?verdict=rejected", |list| list["items"].get(0).cloned()).await;
    let check = async |id: &str, expected: &str| {
        let (status, problem) = world.post(&format!("events/{id}/replay"), json!({})).await;
        assert_eq!((status, &problem["detail"]), (StatusCode::CONFLICT, &json!(expected)));
    };
    check(sample["id"].as_str().expect("an id"), "it was not authentic: signature does not match").await;
    std::fs::remove_file(world.triggers.join("deploy-site.toml")).expect("removed");
    world.until("triggers", |list| list["items"].as_array()?.is_empty().then_some(())).await;
    check(&original, "no trigger listens at /hooks/deploy-site any more").await;
    let (status, then) =
        world.post(&format!("events/{original}/replay"), json!({ "definition": "original" })).await;
    assert_eq!((status, then["task_ids"].as_array().map(Vec::len)), (StatusCode::OK, Some(1)), "{then}");
    let (status, problem) = world.post("events/replay", json!({})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(problem["detail"], "filter says which events are meant, at least since when");
}

#[tokio::test]
async fn many_are_counted_and_repeated_once_under_a_key() {
    let world = World::new().await;
    for n in 0..5 {
        push(&world, &format!("d-{n}"), MAIN).await;
    }
    push(&world, "other", OTHER).await;
    let count = world.get("events/count?trigger=deploy-site&decision=matched").await;
    assert_eq!((&count["count"], &count["next_cursor"]), (&json!(5), &Value::Null));
    let walk = async || {
        let (mut after, mut replayed, mut known) = (Value::Null, 0, 0);
        loop {
            let filter = json!({ "trigger": "deploy-site", "decision": "matched", "until": count["as_of"] });
            let body = json!({ "filter": filter, "limit": 2, "after": after });
            let (status, done) = post(&world, "events/replay", "walk-1", body).await;
            assert_eq!((status, &done["refused"]), (StatusCode::OK, &json!([])), "{done}");
            replayed += done["replayed"].as_u64().expect("a count");
            known += done["known"].as_u64().expect("a count");
            after = done["next"].clone();
            if after.is_null() {
                return (replayed, known);
            }
        }
    };
    assert_eq!(walk().await, (5, 0));
    assert_eq!(walk().await, (0, 5));
    // Replays are none to be repeated by the way.
    assert_eq!(world.get("events/count?trigger=deploy-site&decision=matched").await["count"], 5);
    assert_eq!(world.get("tasks/count").await["count"], 10);
}
