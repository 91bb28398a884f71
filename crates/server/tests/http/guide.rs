//! Jobs and schedules without a file: the requests that the guide for users shows, as it shows them.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::world::{World, json as body};

fn job() -> Value {
    json!({
        "namespace_id": "default",
        "name": "hello-world-job",
        "description": "Hello World",
        "environment": { "MESSAGE": "Hello from hetuflow!" },
        "config": {
            "timeout": 300,
            "max_retries": 2,
            "retry_interval": 30,
            "cmd": "bash",
            "args": ["-c", "echo $MESSAGE"],
            "capture_output": true,
            "max_output_size": 1_024_000
        }
    })
}

async fn make_job(world: &World) -> String {
    let (status, made) = world.post("jobs/item", job()).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    made["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn a_job_is_declared_and_declared_again() {
    let world = World::new().await;
    let id = make_job(&world).await;
    let shown = world.get(&format!("jobs/{id}")).await;
    assert_eq!(shown["name"], "hello-world-job");
    assert_eq!(shown["config"]["timeout"], 300);
    assert_eq!(shown["config"]["environment"], json!({ "MESSAGE": "Hello from hetuflow!" }));
    assert_eq!(world.get("jobs?name=hello-world-job").await["items"][0]["id"], id.as_str());

    let mut other = job();
    other["config"]["resource_limits"] = json!({ "max_memory_mb": 1024, "max_cpu_percent": 0.8 });
    other["config"]["environment"] = json!({ "MORE": "1", "MESSAGE": "another" });
    let (status, again) = world.post("jobs/item", other).await;
    assert_eq!((status, again["id"].as_str()), (StatusCode::OK, Some(id.as_str())));
    assert_eq!(again["config"]["environment"], json!({ "MESSAGE": "another", "MORE": "1" }));
    assert_eq!(again["config"]["resource_limits"]["max_memory_mb"], 1024);
}

#[tokio::test]
async fn a_job_of_a_file_is_not_replaced() {
    let world = World::new().await;
    let mut taken = job();
    taken["name"] = json!("deploy-site");
    let (status, problem) = world.post("jobs/item", taken).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(problem["detail"].as_str().expect("text").contains("deploy-site.toml"), "{problem}");
}

#[tokio::test]
async fn mistakes_in_a_job_are_told_as_those_of_a_file() {
    let world = World::new().await;
    let mut wrong = job();
    wrong["config"]["cmdd"] = json!("bash");
    let (status, problem) = world.post("jobs/item", wrong).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem["problems"]["origin"], "jobs/item");
    let first = &problem["problems"]["problems"][0];
    assert_eq!(first["message"], "unknown key \"cmdd\" in [job]", "{problem}");
}

#[tokio::test]
async fn every_kind_of_schedule() {
    let world = World::new().await;
    let job_id = make_job(&world).await;
    let make = async |name: &str, more: Value| {
        let mut request = json!({ "job_id": job_id, "name": name });
        let fields = request.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        let (status, made) = world.post("schedules/item", request).await;
        assert_eq!(status, StatusCode::CREATED, "{name}: {made}");
        assert_eq!(made["trigger"], format!("hello-world-job.{name}"));
        made
    };
    let minute = make(
        "every-minute",
        json!({ "kind": "interval", "cron_expression": null, "interval_seconds": 60, "enabled": true,
                "start_time": null, "end_time": null }),
    )
    .await;
    assert_eq!(minute["spec"]["every"], "1m");
    assert!(minute["next_run_at"].is_string(), "{minute}");
    let noon = make(
        "noon",
        json!({ "kind": "cron", "cron_expression": "0 0 12 * * ?", "timezone": "Asia/Shanghai" }),
    )
    .await;
    assert!(noon["next_run_at"].as_str().expect("a time").ends_with("T04:00:00Z"), "{noon}");
    let later = make(
        "from-a-day-on",
        json!({ "kind": "interval", "interval_seconds": 300, "start_time": "2124-01-01T00:00:00Z" }),
    )
    .await;
    assert_eq!(later["next_run_at"], "2124-01-01T00:00:00Z");
    let past = make(
        "no-more",
        json!({ "kind": "interval", "interval_seconds": 300, "end_time": "2024-01-01T00:00:00Z" }),
    )
    .await;
    assert_eq!(past["next_run_at"], Value::Null);
    let files = make(
        "files",
        json!({ "kind": "event", "event_type": "file.created",
                "event_filter": { "path": "/data/input/*.csv" } }),
    )
    .await;
    assert_eq!(files["spec"]["paths"], json!(["/data/input/*.csv"]));
    let off = make("off", json!({ "kind": "interval", "interval_seconds": 60, "enabled": false })).await;
    assert_eq!((&off["id"], &off["enabled"]), (&Value::Null, &json!(false)));
    let shown = world.get("triggers/hello-world-job.off").await;
    assert!(shown["warnings"][0].as_str().expect("text").contains("disabled"), "{shown}");

    let next = world.get(&format!("schedules/{}/next?count=2", minute["id"].as_str().expect("an id"))).await;
    assert_eq!(next["items"].as_array().expect("items").len(), 2);
}

#[tokio::test]
async fn a_schedule_without_its_job_or_with_a_mistake() {
    let world = World::new().await;
    let absent = json!({ "job_id": "550e8400-e29b-41d4-a716-446655440000", "name": "x", "kind": "interval",
                         "interval_seconds": 60 });
    let (status, problem) = world.post("schedules/item", absent).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(problem["detail"].as_str().expect("text").contains("550e8400"), "{problem}");
    let job_id = make_job(&world).await;
    let check = async |more: Value, expected: &str| {
        let mut request = json!({ "job_id": job_id, "name": "x" });
        let fields = request.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        let (status, problem) = world.post("schedules/item", request).await;
        assert!(status.is_client_error(), "{status} {problem}");
        assert!(problem.to_string().contains(expected), "{problem}");
    };
    check(json!({ "kind": "interval" }), "every").await;
    check(json!({ "kind": "cron", "cron_expression": "61 * * * *" }), "61").await;
    check(json!({ "kind": "cron", "cron_expression": "* * * * *", "colour": "red" }), "colour").await;
    check(json!({ "kind": "event" }), "event_type").await;
    check(json!({ "kind": "sometimes" }), "one of").await;
    let backwards = json!({ "kind": "interval", "interval_seconds": 60, "start_time": "2026-02-01T00:00:00Z",
                            "end_time": "2026-01-01T00:00:00Z" });
    check(backwards, "end is before start").await;
}

#[tokio::test]
async fn a_filter_of_an_event_is_a_condition() {
    let world = World::new().await;
    let job_id = make_job(&world).await;
    let schedule = json!({ "job_id": job_id, "name": "paid", "kind": "event", "event_type": "order.paid",
                           "event_filter": { "shop": "a\"b", "total": 3 } });
    let (status, made) = world.post("schedules/item", schedule).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let send = async |data: Value| {
        let (status, sent) = world.post("events", json!({ "type": "order.paid", "data": data })).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{sent}");
        sent["task_ids"].as_array().expect("ids").len()
    };
    assert_eq!(send(json!({ "shop": "a\"b", "total": 3 })).await, 1);
    assert_eq!(send(json!({ "shop": "a\"b", "total": 4 })).await, 0);
    assert_eq!(send(json!({ "total": 3 })).await, 0);
}

#[tokio::test]
async fn started_by_hand() {
    let world = World::new().await;
    let job_id = make_job(&world).await;
    let (status, started) = world.post("triggers/hello-world-job/start", json!({ "why": "to see" })).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{started}");
    let task = started["task_ids"][0].as_str().expect("a task").to_owned();
    assert_eq!(world.get(&format!("tasks/{task}")).await["job_id"], job_id.as_str());
    let event = world.get(&format!("events/{}", started["event_id"].as_str().expect("an id"))).await;
    assert_eq!(
        (&event["type"], &event["body"]),
        (&json!("api.hello-world-job"), &json!("{\"why\":\"to see\"}"))
    );

    let page = json!({ "filter": { "job_id": { "eq": job_id } }, "page": { "page": 1, "page_size": 10 } });
    let (_, tasks) = world.post("tasks/page", page.clone()).await;
    assert_eq!(tasks["items"][0]["id"], task.as_str());
    let (status, _) = world.post("task-instances/page", page).await;
    assert_eq!(status, StatusCode::OK);

    let (status, problem) = world.post("triggers/deploy-site/start", json!({})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(problem["detail"].as_str().expect("text").contains("[on.api]"), "{problem}");
    let (status, _) = world.post("triggers/nothing/start", json!({})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_the_guide_looks_at() {
    let world = World::new().await;
    let stats = world.get("gateway/stats").await;
    assert_eq!((&stats["connected"], &stats["draining"]), (&json!(0), &json!(false)));
    let docs = format!("http://{}/docs", world.server.addresses().http);
    let response = world.client.get(docs).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers()["content-type"].to_str().expect("text").starts_with("text/html"));
    assert!(response.text().await.expect("a page").contains("jobs/item"));
    let response = world.client.get(world.api("system/health")).send().await.expect("an answer");
    assert!(body(response).await["status"].is_string());
}

#[tokio::test]
async fn a_declared_job_goes_with_its_schedules() {
    let world = World::new().await;
    let job_id = make_job(&world).await;
    let schedule = json!({ "job_id": job_id, "name": "often", "kind": "interval", "interval_seconds": 60 });
    let (status, made) = world.post("schedules/item", schedule).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let request = world.client.delete(world.api("triggers/hello-world-job"));
    assert_eq!(request.send().await.expect("an answer").status(), StatusCode::NO_CONTENT);
    let left: Vec<Value> = world.get("triggers").await["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|one| one["name"].clone())
        .collect();
    assert_eq!(left, ["deploy-site"]);
}

#[tokio::test]
async fn files_that_nobody_watches_are_no_secret() {
    let world = World::new().await;
    let text = "[on.file]\npaths = [\"/in/*.csv\"]\nagents = { role = \"ingest\" }\n[job]\ncmd = \"true\"\n";
    world.write_trigger("import", text);
    let listed = world.trigger_until("import", |one| one["live"] == true).await;
    let warning = listed["warnings"][0].as_str().expect("a warning");
    assert_eq!(warning, "no agent is connected that could watch its files");
    let health = world.get("system/health").await;
    assert_eq!(health["status"], "degraded");
    assert!(health["reasons"].to_string().contains("default/import: no agent is connected"), "{health}");
}
