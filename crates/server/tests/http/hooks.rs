//! What a sender of webhooks gets to see, and what is kept of it.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::world::{DEPLOY, MAIN, World, json, raw, read_all, signed};

async fn events(world: &World) -> Vec<Value> {
    world.get("events").await["items"].as_array().expect("items").clone()
}

/// A request as bytes, signed for `body`, up to the end of its head.
fn head(length: &str, body: &str) -> String {
    let mut head = format!("POST /hooks/deploy-site HTTP/1.1\r\nhost: hooks\r\n{length}\r\n");
    for (name, value) in signed("raw", body) {
        head.extend([name.as_str(), ": ", value.as_str(), "\r\n"]);
    }
    head + "\r\n"
}

#[tokio::test]
async fn a_signed_delivery_becomes_an_event_and_a_task() {
    let world = World::new().await;
    let response = world.push("d-1", MAIN).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let receipt = json(response).await;
    assert_eq!(receipt["duplicate"], false);
    let event = world.get(&format!("events/{}", receipt["event_id"].as_str().expect("an id"))).await;
    assert_eq!(event["verdict"]["verdict"], "accepted");
    assert_eq!(event["type"], "push");
    assert_eq!(event["source"], "/hooks/deploy-site");
    assert_eq!(event["body"], MAIN);
    let clause = json!({
        "if": "body.ref == \"refs/heads/main\"", "held": true, "found": { "body.ref": "\"refs/heads/main\"" },
    });
    assert_eq!(
        event["decisions"],
        json!([{ "trigger": "deploy-site", "outcome": "matched", "revision": 1, "clauses": [clause] }])
    );
    assert_eq!(event["secret"], "env DEPLOY_SECRET");
    assert_eq!(event["tasks"][0]["id"], receipt["task_ids"][0]);
    let task = world.get(&format!("tasks/{}", receipt["task_ids"][0].as_str().expect("an id"))).await;
    assert_eq!(task["command"]["environment"]["REF"], "refs/heads/main");
    assert_eq!(task["waiting"]["reason"], "no_agent");
    let headers = event["headers"].as_array().expect("headers");
    assert!(headers.contains(&json!(["x-hub-signature-256", "[redacted]"])), "{headers:?}");
}

#[tokio::test]
async fn its_sender_may_ask_what_became_of_it() {
    let world = World::new().await;
    let response = world.push("d-1", MAIN).send().await.expect("an answer");
    let location = response.headers()["location"].to_str().expect("text").to_owned();
    let receipt = json(response).await;
    assert!(!location.contains(receipt["event_id"].as_str().expect("an id")), "{location}");
    let status = json(world.hook_get(&location).await).await;
    let task = &status["tasks"][0];
    assert_eq!((&status["event_id"], &status["done"]), (&receipt["event_id"], &json!(false)));
    assert_eq!((&task["id"], &task["status"]), (&receipt["task_ids"][0], &json!("pending")));
    let again = world.push("d-1", MAIN).send().await.expect("an answer");
    assert_eq!(again.headers()["location"], location, "that of the first");
    let waited = world.hook_get(&format!("{location}?wait=1")).await;
    assert_eq!(json(waited).await["done"], false, "nobody runs it");
}

#[tokio::test]
async fn a_hook_answers_what_its_provider_insists_on() {
    let world = World::new().await;
    let response = "response = { status = 200, content_type = \"application/json\", body = '{\"ref\": {{ body.ref | tojson }}}' }";
    world.write_trigger(
        "said",
        &DEPLOY.replace("events = [\"push\"]", &format!("events = [\"push\"]\n{response}")),
    );
    world.trigger_until("said", |_| true).await;
    for _ in 0..2 {
        let answer = world.push_to("said", "d-1", MAIN).send().await.expect("an answer");
        assert_eq!(
            (answer.status(), &answer.headers()["content-type"]),
            (StatusCode::OK, &"application/json".parse().expect("a type"))
        );
        assert!(answer.headers().contains_key("location"));
        assert_eq!(json(answer).await, json!({ "ref": "refs/heads/main" }));
    }
    let unfilled = world.push_to("said", "d-2", "{}").send().await.expect("an answer");
    assert_eq!(unfilled.status(), StatusCode::ACCEPTED, "the event is stored, and that is what is said");
    assert_eq!(json(unfilled).await["duplicate"], false);
    assert_eq!(events(&world).await.len(), 2);
}

#[tokio::test]
async fn only_a_token_leads_to_a_status() {
    let world = World::new().await;
    let receipt = json(world.push("d-1", MAIN).send().await.expect("an answer")).await;
    let event_id = receipt["event_id"].as_str().expect("an id");
    let far = "ffffffff-ffff-7fff-bfff-ffffffffffff";
    for wrong in [event_id, "x", "00000000-0000-4000-8000-000000000000", far, "%2e%2e"] {
        let response = world.hook_get(&format!("/hooks/-/status/{wrong}")).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{wrong}");
    }
    let refused = world.push_to("deploy-site?wait=soon", "d-2", MAIN).send().await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert_eq!(events(&world).await.len(), 1);
}

#[tokio::test]
async fn what_does_not_match_is_accepted_with_the_reason() {
    let world = World::new().await;
    let response = world.push("d-1", r#"{"ref":"refs/heads/other"}"#).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    assert_eq!(json(response).await["task_ids"], json!([]));
    let event = &events(&world).await[0];
    assert_eq!(event["decisions"][0]["outcome"], "no_match");
    assert!(event["decisions"][0]["reason"].is_string(), "{event}");
    let clause = &event["decisions"][0]["clauses"][0];
    assert_eq!((&clause["held"], &clause["wanted"]), (&json!(false), &json!("== \"refs/heads/main\"")));
    assert_eq!(clause["found"]["body.ref"], "\"refs/heads/other\"");
}

#[tokio::test]
async fn the_same_delivery_again_is_a_duplicate() {
    let world = World::new().await;
    let first = json(world.push("d-1", MAIN).send().await.expect("an answer")).await;
    let response = world.push("d-1", MAIN).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    let second = json(response).await;
    assert_eq!(
        second,
        json!({ "event_id": first["event_id"], "task_ids": first["task_ids"], "duplicate": true })
    );
    assert_eq!(events(&world).await.len(), 1);
}

#[tokio::test]
async fn ten_copies_at_once_are_one_event() {
    let world = World::new().await;
    let copies = join_all((0..10).map(|_| world.push("d-1", MAIN).send())).await;
    let mut statuses = Vec::new();
    let mut ids = BTreeSet::new();
    for copy in copies {
        let copy = copy.expect("an answer");
        statuses.push(copy.status().as_u16());
        ids.insert(json(copy).await["event_id"].to_string());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 200, 200, 202]);
    assert_eq!(ids.len(), 1);
    assert_eq!(world.get("tasks").await["items"].as_array().expect("items").len(), 1);
}

#[tokio::test]
async fn a_wrong_signature_starts_nothing_and_leaves_a_sample() {
    let world = World::new().await;
    let request = world.push("d-1", MAIN).body(r#"{"ref":"refs/heads/main" }"#);
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let mut problem = json(response).await;
    problem["request_id"] = json!("[id]");
    insta::assert_json_snapshot!(problem, @r#"
    {
      "detail": "the delivery could not be verified",
      "request_id": "[id]",
      "status": 401,
      "title": "Not verified",
      "type": "urn:hetuflow:problem:not-verified"
    }
    "#);
    let event = world.until("events?verdict=rejected", |list| list["items"].get(0).cloned()).await;
    assert_eq!(event["verdict"], json!({ "verdict": "rejected", "reason": "signature does not match" }));
    assert_eq!(world.get("tasks").await["items"], json!([]));
    // What was refused is no first delivery.
    assert_eq!(world.push("d-1", MAIN).send().await.expect("an answer").status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_missing_signature_is_refused_before_the_body_is_read() {
    let world = World::new().await;
    let head =
        "POST /hooks/deploy-site HTTP/1.1\r\nhost: h\r\ncontent-length: 1000\r\nconnection: close\r\n\r\n";
    let answer = raw(world.server.addresses().hooks, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[tokio::test]
async fn a_signature_that_came_twice_is_refused() {
    let world = World::new().await;
    let (name, value) =
        signed("d-1", MAIN).into_iter().find(|(name, _)| name.contains("256")).expect("there");
    let response = world.push("d-1", MAIN).header(name, value).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn no_secret_means_no_delivery() {
    let world = World::with(|config| config.embedded.make_secret = None).await;
    let response = world.push("d-1", MAIN).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let reason = "secret env DEPLOY_SECRET is not set";
    let event = world.until("events?verdict=rejected", |list| list["items"].get(0).cloned()).await;
    assert_eq!(event["verdict"]["reason"], reason);
    let trigger = world.trigger_until("deploy-site", |_| true).await;
    assert_eq!(trigger["warnings"], json!([reason]));
    assert_eq!(world.get("system/health").await["status"], "degraded");
}

#[tokio::test]
async fn what_is_too_large_is_refused_announced_or_not() {
    let world = World::new().await;
    let announced = head("content-length: 18446744073709551615", MAIN);
    let answer = raw(world.server.addresses().hooks, announced.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    let announced = head("content-length: 2000000", MAIN);
    let answer = raw(world.server.addresses().hooks, announced.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let chunk = format!("{:x}\r\n{}\r\n", 65536, "x".repeat(65536));
    let chunked = head("transfer-encoding: chunked", MAIN) + &chunk.repeat(20);
    let answer = raw(world.server.addresses().hooks, chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(events(&world).await.is_empty());
}

#[tokio::test]
async fn a_chunked_delivery_is_taken() {
    let world = World::new().await;
    let chunked = head("transfer-encoding: chunked\r\nconnection: close", MAIN)
        + &format!("{:x}\r\n{MAIN}\r\n0\r\n\r\n", MAIN.len());
    let answer = raw(world.server.addresses().hooks, chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
}

#[tokio::test]
async fn an_encoded_body_is_refused() {
    let world = World::new().await;
    let response =
        world.push("d-1", MAIN).header("content-encoding", "gzip").send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn a_body_that_stops_half_way_is_closed_at_the_deadline() {
    let world = World::with(|config| config.hooks.body_grace = Duration::from_millis(200)).await;
    let half = head(&format!("content-length: {}", MAIN.len()), MAIN) + &MAIN[..10];
    let answer = raw(world.server.addresses().hooks, half.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(events(&world).await.is_empty());
}

#[tokio::test]
async fn a_sender_that_leaves_half_way_leaves_nothing() {
    let world = World::new().await;
    let half = head(&format!("content-length: {}", MAIN.len()), MAIN) + &MAIN[..10];
    let mut stream = tokio::net::TcpStream::connect(world.server.addresses().hooks).await.expect("connected");
    tokio::io::AsyncWriteExt::write_all(&mut stream, half.as_bytes()).await.expect("sent");
    tokio::io::AsyncWriteExt::shutdown(&mut stream).await.expect("closed");
    read_all(stream).await;
    assert!(events(&world).await.is_empty());
}

#[tokio::test]
async fn bodies_in_flight_are_bounded() {
    let world = World::with(|config| config.hooks.max_bytes_in_flight = 10).await;
    let response = world.push("d-1", MAIN).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key("retry-after"));
}

/// Each has said how much it will send, and the server reads.
#[tokio::test]
async fn bodies_that_do_not_come_take_no_room() {
    let world = World::with(|config| config.hooks.max_bytes_in_flight = 1000).await;
    let large = format!("{{\"ref\":\"{}\"}}", "x".repeat(980));
    let announced = format!("expect: 100-continue\r\ncontent-length: {}", large.len());
    let mut slow = Vec::new();
    for _ in 0..8 {
        let address = world.server.addresses().hooks;
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
        let head = head(&announced, &large);
        tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.expect("sent");
        let mut answer = [0; 12];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 100");
        slow.push(stream);
    }
    let response = world.push("d-1", MAIN).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn malformed_json_is_stored_and_answered() {
    let world = World::new().await;
    let response = world.push("d-1", "{\"ref\": ").send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let event = &events(&world).await[0];
    assert_eq!(event["verdict"]["verdict"], "malformed");
    let id = event["id"].as_str().expect("an id");
    assert_eq!(world.get(&format!("events/{id}")).await["body"], "{\"ref\": ");
}

#[tokio::test]
async fn a_form_as_github_sends_it() {
    let world = World::new().await;
    let body = "payload=%7B%22ref%22%3A%22refs%2Fheads%2Fmain%22%7D";
    let mut request = world
        .client
        .post(world.hook("default/deploy-site"))
        .header("content-type", "application/x-www-form-urlencoded");
    for (name, value) in signed("d-1", body) {
        request = request.header(name, value);
    }
    let response = request.body(body).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    assert_eq!(json(response).await["task_ids"].as_array().expect("ids").len(), 1);
}

#[tokio::test]
async fn nothing_else_exists_there() {
    let world = World::new().await;
    let check = async |method: &str, path: &str, expected: u16| {
        let url = format!("http://{}{path}", world.server.addresses().hooks);
        let method = method.parse().expect("a method");
        let response = world.client.request(method, url).send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), expected, "{path}");
    };
    check("POST", "/hooks/no-such-hook", 404).await;
    check("POST", "/hooks/other/deploy-site", 404).await;
    check("POST", "/hooks/..%2fdeploy-site", 404).await;
    check("POST", "/hooks/deploy-site/", 404).await;
    check("GET", "/hooks/deploy-site", 405).await;
    check("HEAD", "/hooks/deploy-site", 405).await;
    check("PUT", "/hooks/deploy-site", 405).await;
    check("GET", "/api/v1/events", 404).await;
    check("GET", "/agent/v1", 404).await;
    check("GET", "/", 404).await;
}

#[tokio::test]
async fn without_a_database_nothing_is_promised() {
    let world = World::new().await;
    world.server.state.store.close().await;
    let response = world.push("d-1", MAIN).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "5");
}

#[tokio::test]
async fn triggers_that_share_a_path_get_one_event_and_a_task_each() {
    let world = World::new().await;
    let text = crate::world::DEPLOY.replace("[on.webhook]", "[on.webhook]\npath = \"deploy-site\"");
    world.write_trigger("also", &text);
    world.write_trigger("stranger", &text.replace("DEPLOY_SECRET", "OTHER_SECRET"));
    world.trigger_until("also", |one| one["live"] == true).await;
    let stranger = world.trigger_until("stranger", |one| one["warnings"].is_array()).await;
    assert!(stranger["warnings"][0].as_str().expect("text").contains("share"), "{stranger}");
    let receipt = json(world.push("d-1", MAIN).send().await.expect("an answer")).await;
    assert_eq!(receipt["task_ids"].as_array().expect("ids").len(), 2, "{receipt}");
    assert_eq!(events(&world).await.len(), 1);
}
