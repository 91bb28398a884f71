//! What providers ask before they deliver, and pings: answered, and never a task.

use std::os::unix::fs::PermissionsExt as _;

use hetuflow_core::Clock;
use hetuflow_signature::{Scheme, Secret};

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::world::{SECRET, World, json};

/// A trigger that runs for whatever comes.
fn hook(webhook: &str) -> String {
    format!("[on.webhook]\n{webhook}\n\n[job]\ncmd = \"true\"\n")
}

fn scheme(name: &str) -> String {
    hook(&format!("scheme = \"{name}\"\nsecret = {{ env = \"DEPLOY_SECRET\" }}"))
}

async fn world(name: &str, text: &str) -> World {
    let world = World::new().await;
    world.write_trigger(name, text);
    world.trigger_until(name, |trigger| trigger["problem"].is_null()).await;
    world
}

/// Signed as `scheme` says.
fn signed(
    world: &World,
    name: &str,
    scheme: &str,
    secret: &str,
    event_type: &str,
    body: &str,
) -> RequestBuilder {
    let scheme = Scheme::builtin(scheme, &Map::new()).expect("a scheme");
    let headers =
        scheme.sign(&Secret::new(secret), body.as_bytes(), "d-1", event_type, Clock::system().now());
    let request = world.client.post(world.hook(name)).body(body.to_owned());
    headers.expect("signs").into_iter().fold(request, |request, (name, value)| request.header(name, value))
}

async fn ask(world: &World, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
    let request = world.client.request(method, world.hook(path));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.send().await.expect("an answer")
}

async fn nothing_started(world: &World) {
    assert_eq!(world.get("tasks").await["items"], json!([]));
}

#[tokio::test]
async fn a_challenge_is_echoed_only_where_it_is_signed() {
    let world = world("chat", &scheme("slack")).await;
    let body = r#"{"type":"url_verification","challenge":"3eZbrw1aBm2r"}"#;
    let response = signed(&world, "chat", "slack", SECRET, "", body).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/plain");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert_eq!(response.text().await.expect("a body"), "3eZbrw1aBm2r");
    assert_eq!(world.get("events").await["items"], json!([]));
    let response = world.client.post(world.hook("chat")).body(body).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    nothing_started(&world).await;
}

#[tokio::test]
async fn a_subscription_is_confirmed_to_who_knows_the_token() {
    let world = world("pages", &scheme("meta")).await;
    let path =
        |token: &str| format!("pages?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token={token}");
    let response = ask(&world, Method::GET, &path("it%27s+a+secret+to+everybody"), &[]).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.text().await.expect("a body"), "1158201444");
    let response = ask(&world, Method::GET, &path("guess"), &[]).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let event = world.until("events?verdict=rejected", |list| list["items"].get(0).cloned()).await;
    let query = event["query"].as_str().expect("a query");
    assert!(query.ends_with("hub.verify_token=[redacted]"), "{query}");
    // Nothing else can be asked.
    assert_eq!(ask(&world, Method::GET, "pages", &[]).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(ask(&world, Method::OPTIONS, "pages", &[]).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    nothing_started(&world).await;
}

#[tokio::test]
async fn head_and_options_are_answered() {
    let world = world("cards", &scheme("intercom")).await;
    assert_eq!(ask(&world, Method::HEAD, "cards", &[]).await.status(), StatusCode::OK);
    assert_eq!(ask(&world, Method::GET, "cards", &[]).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    world.write_trigger("cloud", &scheme("cloudevents"));
    world.trigger_until("cloud", |trigger| trigger["problem"].is_null()).await;
    let headers = [("webhook-request-origin", "emitter.example.com"), ("webhook-request-rate", "120")];
    let response = ask(&world, Method::OPTIONS, "cloud", &headers).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["allow"], "POST");
    assert_eq!(response.headers()["webhook-allowed-origin"], "emitter.example.com");
    assert_eq!(response.headers()["webhook-allowed-rate"], "120");
    nothing_started(&world).await;
}

#[tokio::test]
async fn a_ping_is_recorded_and_starts_nothing() {
    let world = world("pinged", &scheme("github")).await;
    let unsigned = ask(&world, Method::POST, "pinged", &[("x-github-event", "ping")]).await;
    assert_eq!(unsigned.status(), StatusCode::ACCEPTED);
    let event = world.until("events?verdict=ping", |list| list["items"].get(0).cloned()).await;
    let verdict = json!({ "verdict": "ping", "reason": "a test of the provider, not signed" });
    assert_eq!((event["type"].clone(), event["verdict"].clone()), (json!("ping"), verdict));
    let (status, _) =
        world.post(&format!("events/{}/replay", event["id"].as_str().expect("an id")), json!({})).await;
    assert!(status.is_client_error(), "{status}");
    let request = signed(&world, "pinged", "github", SECRET, "ping", "{}");
    assert_eq!(request.send().await.expect("an answer").status(), StatusCode::ACCEPTED);
    let pings = world.get("events?verdict=ping").await;
    assert_eq!(pings["items"].as_array().map(Vec::len), Some(2), "{pings}");
    let badly = [("x-github-event", "ping"), ("x-hub-signature-256", "sha256=00")];
    assert_eq!(ask(&world, Method::POST, "pinged", &badly).await.status(), StatusCode::UNAUTHORIZED);
    nothing_started(&world).await;
}

#[tokio::test]
async fn a_handshake_sets_the_secret_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("asana");
    let text = hook(&format!("scheme = \"asana\"\nsecret = {{ file = {:?} }}", file.display().to_string()));
    let world = world("tasks", &text).await;
    let told = "b537207f20cbfa02357cf448134da559";
    let delivery = |secret: &str| signed(&world, "tasks", "asana", secret, "", r#"{"events":[]}"#);
    // Before it there is no secret that would fit.
    assert_eq!(delivery(told).send().await.expect("an answer").status(), StatusCode::UNAUTHORIZED);
    let response = ask(&world, Method::POST, "tasks", &[("x-hook-secret", told)]).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["x-hook-secret"], told);
    assert_eq!(std::fs::read_to_string(&file).expect("kept"), told);
    assert_eq!(std::fs::metadata(&file).expect("kept").permissions().mode() & 0o777, 0o600);
    // At once, and for ever after.
    let again = [("x-hook-secret", "00000000000000000000000000000000")];
    assert_eq!(ask(&world, Method::POST, "tasks", &again).await.status(), StatusCode::UNAUTHORIZED);
    world.trigger_until("tasks", |trigger| trigger["warnings"].is_null()).await;
    assert_eq!(ask(&world, Method::POST, "tasks", &again).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(std::fs::read_to_string(&file).expect("kept"), told);
    nothing_started(&world).await;
    assert_eq!(delivery(told).send().await.expect("an answer").status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_signed_address_is_the_configured_one() {
    let body = r#"{"type":"payment.updated","event_id":"e-1"}"#;
    let world = World::with(|config| config.hooks.public_url = "https://hooks.example.com/".to_owned()).await;
    world.write_trigger("pay", &scheme("square"));
    world.trigger_until("pay", |trigger| trigger["problem"].is_null()).await;
    let post = async |address: &str, host: &str| {
        let options = json!({ "url": address }).as_object().cloned().expect("a table");
        let scheme = Scheme::builtin("square", &options).expect("a scheme");
        let headers =
            scheme.sign(&Secret::new(SECRET), body.as_bytes(), "", "", Clock::system().now()).expect("signs");
        let request = world.client.post(world.hook("pay")).body(body).header("host", host);
        let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        request.send().await.expect("an answer").status()
    };
    assert_eq!(post("https://evil.example/hooks/pay", "evil.example").await, StatusCode::UNAUTHORIZED);
    assert_eq!(post("https://hooks.example.com/hooks/pay", "evil.example").await, StatusCode::ACCEPTED);
}

const ACME: &str = r#"
about = "Acme"
message = "{body}"

[[signature]]
header = "X-Acme"
algorithm = "hmac-sha256"
encoding = "hex"

[dedupe]
by = "message"
because = "it numbers its messages"

[sample]
body = "{}"
"#;

#[tokio::test]
async fn a_scheme_beside_the_triggers_is_taken_along() {
    let world = World::new().await;
    std::fs::create_dir(world.triggers.join("schemes")).expect("a folder");
    let write = |text: &str| {
        let new = world.triggers.join("schemes/.acme.new");
        std::fs::write(&new, text).expect("written");
        std::fs::rename(new, world.triggers.join("schemes/acme.toml")).expect("renamed");
    };
    write(ACME);
    world.write_trigger("own", &scheme("acme"));
    let trigger = world.trigger_until("own", |trigger| trigger["problem"].is_null()).await;
    let text = trigger["text"].as_str().map(str::to_owned);
    let sign = |header: &str| {
        let acme = Scheme::parse("acme", &ACME.replace("X-Acme", header)).expect("a scheme");
        acme.sign(&Secret::new(SECRET), b"{}", "", "", Clock::system().now()).expect("signs")
    };
    let post = async |headers: Vec<(String, String)>| {
        let request = world.client.post(world.hook("own")).body("{}");
        let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        request.send().await.expect("an answer")
    };
    assert_eq!(post(sign("X-Acme")).await.status(), StatusCode::ACCEPTED, "{text:?}");
    // A change of the scheme is a change of the trigger.
    write(&ACME.replace("X-Acme", "X-Acme-2"));
    world.trigger_until("own", |trigger| trigger["revision"].as_i64() > Some(1)).await;
    assert_eq!(post(sign("X-Acme")).await.status(), StatusCode::UNAUTHORIZED);
    let receipt: Value = json(post(sign("X-Acme-2")).await).await;
    assert_eq!(receipt["duplicate"], true);
    // A broken one leaves the last good version in force.
    write("about = 7");
    let trigger = world.trigger_until("own", |trigger| trigger["problem"].is_string()).await;
    let problem = trigger["problem"].as_str().expect("a text");
    assert!(problem.contains("scheme \"acme\", line 1"), "{problem}");
    assert_eq!(post(sign("X-Acme-2")).await.status(), StatusCode::OK);
}
