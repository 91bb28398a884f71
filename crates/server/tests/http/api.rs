//! The API as its clients see it.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::world::{MAIN, World, json};

const BACKUP: &str = r#"
[on.event]
type = "disk.full"
when = 'body.percent > 90'

[job]
cmd = "true"
labels = { role = "storage" }
"#;

#[tokio::test]
async fn problems_have_one_form() {
    let world = World::new().await;
    let id = "0193a000-0000-7000-8000-000000000000";
    let response = world.client.get(world.api(&format!("events/{id}"))).send().await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let header = response.headers()["x-request-id"].to_str().expect("text").to_owned();
    let mut problem = json(response).await;
    assert_eq!(problem["request_id"], header);
    problem["request_id"] = json!("[id]");
    insta::assert_json_snapshot!(problem, @r#"
    {
      "detail": "there is no such event (perhaps dropped by retention)",
      "request_id": "[id]",
      "status": 404,
      "title": "Not found",
      "type": "urn:hetuflow:problem:not-found"
    }
    "#);
}

#[tokio::test]
async fn mistakes_are_answered_with_what_is_allowed() {
    let world = World::new().await;
    let get = async |path: &str, expected: u16| {
        let response = world.client.get(world.api(path)).send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), expected, "{path}");
        json(response).await["detail"].as_str().expect("a detail").to_owned()
    };
    assert!(get("tasks?status=nearly", 400).await.contains("pending (1)"));
    assert!(get("events?verdict=maybe", 400).await.contains("malformed"));
    assert!(get("events?colour=red", 400).await.contains("expected one of"));
    assert!(get("events?limit=0", 400).await.contains("1 to 500"));
    assert!(get("events/nonsense", 400).await.contains("not an id"));
    get("no/such/path", 404).await;
    let response = world.client.put(world.api("tasks")).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert!(response.headers().contains_key("allow"));
    assert_eq!(json(response).await["type"], "urn:hetuflow:problem:method-not-allowed");
    let (status, problem) = world.post("tasks/page", json!({ "filter": { "colour": { "eq": 1 } } })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(problem["detail"].as_str().expect("text").contains("expected one of"), "{problem}");
    let (status, problem) = world.post("tasks/page", json!({ "filter": { "status": { "lt": 1 } } })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(problem["detail"].as_str().expect("text").contains("`eq` or `in`"), "{problem}");
}

#[tokio::test]
async fn only_clients_of_this_machine() {
    let world = World::new().await;
    let check = async |name: &str, value: &str, expected: u16| {
        let request = world.client.get(world.api("events")).header(name, value);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), expected, "{name}: {value}");
    };
    check("host", "evil.example", 403).await;
    check("host", "localhost", 200).await;
    check("origin", "https://evil.example", 403).await;
    check("origin", &format!("http://{}", world.server.addresses().http), 200).await;
    let url = format!("http://{}/agent/v1", world.server.addresses().agents);
    let response =
        world.client.get(url).header("origin", "https://evil.example").send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn bodies_are_bounded() {
    let world = World::new().await;
    let response = world.client.post(world.api("events")).body("x".repeat(2 << 20)).send().await;
    // The server may close before the client has sent everything.
    if let Ok(response) = response {
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
    let fits = json!({ "type": "t", "data": "x".repeat(1 << 19) });
    assert_eq!(world.post("events", fits).await.0, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn an_event_from_the_api_starts_what_waits_for_its_type() {
    let world = World::new().await;
    world.write_trigger("backup", BACKUP);
    world.server.state.triggers.subscribe().wait_for(|set| set.live.len() == 2).await.expect("loaded");
    let event = json!({ "type": "disk.full", "subject": "/srv", "data": { "percent": 95 } });
    let (status, receipt) = world.post("events", event).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{receipt}");
    let id = receipt["task_ids"][0].as_str().expect("an id");
    let task = world.get(&format!("tasks/{id}")).await;
    assert_eq!((&task["trigger"], &task["status"]), (&json!("backup"), &json!("pending")));
    let (_, receipt) = world.post("events", json!({ "type": "disk.full", "data": { "percent": 5 } })).await;
    assert_eq!(receipt["task_ids"], json!([]));
    let (_, receipt) = world.post("events", json!({ "type": "other" })).await;
    assert_eq!(receipt["task_ids"], json!([]));
}

#[tokio::test]
async fn an_idempotency_key_makes_a_repetition_safe() {
    let world = World::new().await;
    let send = async || {
        let request = world.client.post(world.api("events")).header("idempotency-key", "k-1");
        let response = request.json(&json!({ "type": "t" })).send().await.expect("an answer");
        (response.status(), json(response).await["event_id"].clone())
    };
    let (first, id) = send().await;
    assert_eq!(first, StatusCode::ACCEPTED);
    assert_eq!(send().await, (StatusCode::OK, id));
}

#[tokio::test]
async fn lists_go_on_at_their_cursor() {
    let world = World::new().await;
    for n in 0..5 {
        assert_eq!(world.post("events", json!({ "type": "t", "data": n })).await.0, StatusCode::ACCEPTED);
    }
    let mut seen = Vec::new();
    let mut path = "events?limit=2&type=t".to_owned();
    loop {
        let page = world.get(&path).await;
        seen.extend(page["items"].as_array().expect("items").iter().map(|one| one["id"].to_string()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("events?limit=2&type=t&cursor={cursor}");
    }
    assert_eq!(seen.len(), 5);
    let mut unique = seen.clone();
    unique.dedup();
    assert_eq!(unique, seen);
}

#[tokio::test]
async fn tasks_are_found_cancelled_and_retried() {
    let world = World::new().await;
    for n in 0..3 {
        world.push(&format!("d-{n}"), MAIN).send().await.expect("an answer");
    }
    let page = json!({ "filter": { "status": { "eq": 1 } }, "page": { "page": 2, "page_size": 2 } });
    let (status, second) = world.post("tasks/page", page).await;
    assert_eq!(status, StatusCode::OK, "{second}");
    assert_eq!(second["items"].as_array().expect("items").len(), 1);
    assert_eq!(
        (&second["page"], &second["has_more"]),
        (&json!({ "page": 2, "page_size": 2 }), &json!(false))
    );
    let id = second["items"][0]["id"].as_str().expect("an id");

    let (status, cancelled) = world.post(&format!("tasks/{id}/cancel"), json!({})).await;
    assert_eq!((status, &cancelled["status"]), (StatusCode::OK, &json!("cancelled")), "{cancelled}");
    let (status, _) = world.post(&format!("tasks/{id}/cancel"), json!({})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let found = |list: &Value| list["items"].as_array().expect("items").len();
    assert_eq!(found(&world.get("tasks?status=cancelled").await), 1);
    assert_eq!(found(&world.get("tasks?status=1,99&trigger=deploy-site").await), 3);
    let (status, retried) = world.post(&format!("tasks/{id}/retry"), json!({})).await;
    assert_eq!((status, &retried["status"]), (StatusCode::OK, &json!("pending")));
    assert_eq!(retried["waiting"]["reason"], "no_agent");
}

#[tokio::test]
async fn the_guides_other_queries() {
    let world = World::new().await;
    let id = "550e8400-e29b-41d4-a716-446655440000";
    let by_job = json!({ "filter": { "job_id": { "eq": id } }, "page": { "page": 1, "page_size": 10 } });
    for path in ["tasks/page", "task-instances/page"] {
        let (status, page) = world.post(path, by_job.clone()).await;
        assert_eq!((status, &page["items"]), (StatusCode::OK, &json!([])), "{path}: {page}");
    }
    let failed = json!({ "filter": { "status": { "eq": 90 } }, "page": { "page": 1, "page_size": 10 } });
    assert_eq!(world.post("task-instances/page", failed).await.0, StatusCode::OK);
    let (status, agents) =
        world.post("agents/query", json!({ "page": { "page": 1, "page_size": 20 } })).await;
    assert_eq!((status, &agents["items"]), (StatusCode::OK, &json!([])));
    for change in [json!({ "labels": { "env": "staging" } }), json!({ "duty": "drained" })] {
        assert_eq!(world.post("agents/agent-01/update", change).await.0, StatusCode::NOT_FOUND);
    }
    assert_eq!(world.post("agents/agent-01/update", json!({})).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn health_and_metrics() {
    let world = World::new().await;
    let health = world.get("system/health").await;
    assert_eq!((&health["status"], &health["reasons"]), (&json!("ok"), &json!([])));
    world.push("d-1", MAIN).send().await.expect("an answer");
    let metrics = world.get("system/metrics").await;
    let metrics = metrics.as_str().expect("text");
    assert!(metrics.contains("\nhetuflow_hooks_accepted_total 1\n"), "{metrics}");
    assert!(metrics.contains("\nhetuflow_triggers_live 1\n"), "{metrics}");
    world.server.state.store.close().await;
    let response = world.client.get(world.api("system/health")).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let health = json(response).await;
    assert_eq!(health["reasons"], json!(["the store does not commit"]));
}

#[tokio::test]
async fn health_waits_for_the_expected_agent() {
    let world = World::with(|config| config.embedded.expect_agent = "here".parse().ok()).await;
    let response = world.client.get(world.api("system/health")).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(json(response).await["reasons"], json!(["agent here is not connected yet"]));
}

#[tokio::test]
async fn raw_bodies_come_back_as_they_were() {
    let world = World::new().await;
    world.push("d-1", MAIN).send().await.expect("an answer");
    let id = world.get("events").await["items"][0]["id"].as_str().expect("an id").to_owned();
    let response = world.client.get(world.api(&format!("events/{id}/body"))).send().await.expect("an answer");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert_eq!(response.text().await.expect("a body"), MAIN);
}
