//! One decision for many tasks, as clients make it.

use reqwest::StatusCode;
use serde_json::json;

use crate::world::{MAIN, World};

#[tokio::test]
async fn many_are_counted_cancelled_and_retried_in_stretches() {
    let world = World::new().await;
    for n in 0..5 {
        world.push(&format!("d-{n}"), MAIN).send().await.expect("an answer");
    }
    let count = world.get("tasks/count?status=pending&trigger=deploy-site").await;
    assert_eq!(count["count"], 5, "{count}");
    let pending = json!({ "status": { "eq": "pending" }, "until": count["as_of"] });
    let walk = async |verb: &str, filter: &serde_json::Value| {
        let (mut after, mut answers) = (json!(null), Vec::new());
        loop {
            let body = json!({ "filter": filter, "limit": 2, "after": after });
            let (status, mut answer) = world.post(&format!("tasks/{verb}"), body).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
            after = answer["next"].take();
            answers.push(answer);
            if after.is_null() {
                return answers;
            }
        }
    };
    let stretch = |n| json!({ "cancelled": n, "asked": 0, "next": null });
    assert_eq!(walk("cancel", &pending).await, [stretch(2), stretch(2), stretch(1)]);
    assert_eq!(walk("cancel", &pending).await, [stretch(0)]);
    let stretch = |n| json!({ "retried": n, "skipped": 0, "next": null });
    let cancelled = json!({ "status": { "in": ["cancelled", 90] }, "reason": { "eq": "cancelled" } });
    assert_eq!(walk("retry", &cancelled).await, [stretch(2), stretch(2), stretch(1)]);
    assert_eq!(world.get("tasks/count?status=pending").await["count"], 5);
    assert_eq!(world.get("tasks/count?job=deploy-site&reason=exit,lost").await["count"], 0);
    assert_eq!(world.get("tasks/count?job=deploy-site").await["count"], 5);
}

#[tokio::test]
async fn what_is_left_out_does_not_mean_everything() {
    let world = World::new().await;
    let check = async |path: &str, body: serde_json::Value, expected: &str| {
        let (status, problem) = world.post(path, body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(problem["detail"].as_str().expect("text").contains(expected), "{problem}");
    };
    let of = |status: &str| json!({ "filter": { "status": { "eq": status } } });
    check("tasks/retry", json!({}), "filter.status says which").await;
    check("tasks/cancel", json!({ "filter": { "trigger": { "eq": "x" } } }), "filter.status says").await;
    check("tasks/retry", of("running"), "cannot be running; allowed: \"failed\"").await;
    check("tasks/cancel", of("lost"), "cannot be lost; allowed: \"pending\"").await;
    check("tasks/retry", json!({ "filter": { "status": { "eq": 90 } }, "limit": 501 }), "1 to 500").await;
    check("tasks/retry", json!({ "filter": { "reason": { "eq": "bad" } } }), "not a reason; one of exit")
        .await;
}
