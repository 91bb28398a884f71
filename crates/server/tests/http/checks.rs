//! The classes of attack and accident that an ingress meets, a test for each by its id. What is not here is elsewhere: C01
//! and C08 for every scheme are the vectors of `crates/signature`, C02 by a failpoint is in the walk of the harness, C05 has a
//! process of its own (`tests/idle.rs`), its deadlines are in `listeners` and those of bodies in `hooks`, C07 is measured in `crates/signature` (on demand: it takes time), C10 is in the stories of
//! `crates/cli` (and the seeded mistake M4 of the harness), C12 that conditions see nothing that is not of the delivery.

use std::{collections::BTreeSet, fmt::Write as _};

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::Value;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::world::{DEPLOY, MAIN, World, json, raw, signed};

/// Chunks of 64 KiB that nobody reads: 64 MiB.
const MOST: usize = 1024;
/// Growth that a flood of bodies may cause: the budget of bodies in flight.
const MAX_GROWTH_MIB: u64 = 64;
async fn events(world: &World) -> Vec<Value> {
    world.get("events?limit=500").await["items"].as_array().expect("items").clone()
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("KiB") / 1024
}

/// A request line and a head, signed for `body`, that says `lines` besides.
fn request(line: &str, lines: &[&str], delivery: &str, body: &str) -> String {
    let mut head = format!("{line}\r\nhost: hooks\r\nconnection: close\r\n");
    for (name, value) in signed(delivery, body) {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    for line in lines {
        let _ = write!(head, "{line}\r\n");
    }
    head + "\r\n"
}

#[tokio::test]
async fn c01_whatever_lacks_a_signature_is_refused() {
    let world = World::new().await;
    let (name, good) =
        signed("d-1", MAIN).into_iter().find(|(name, _)| name.contains("signature")).expect("one");
    let bare = good.trim_start_matches("sha256=").to_owned();
    let check = async |value: Option<&str>, query: &str| {
        let mut request = world.client.post(world.hook(&format!("deploy-site{query}"))).body(MAIN);
        for (name, value) in signed("d-1", MAIN).iter().filter(|(other, _)| *other != name) {
            request = request.header(name, value);
        }
        if let Some(value) = value {
            request = request.header(&name, value);
        }
        let status = request.send().await.expect("an answer").status();
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{value:?} {query}");
    };
    check(None, "").await;
    for wrong in
        ["", " ", "sha256=", "sha256", bare.as_str(), "sha1=00", "sha256=zz", &good[..good.len() - 2]]
    {
        check(Some(wrong), "").await;
    }
    check(None, &format!("?{name}={good}")).await;
    assert_eq!(world.get("tasks").await["items"], serde_json::json!([]));
}

/// A malformed body shows who looked at it: what is parsed before it is verified would be told from what is not.
#[tokio::test]
async fn c02_nothing_looks_at_a_body_before_it_is_verified() {
    let world = World::new().await;
    let bodies = ["", "{", "[[[[", "\u{0}", "{\"ref\":\"refs/heads/main\"}", &"[".repeat(100_000)];
    for (n, body) in bodies.iter().enumerate() {
        for content_type in
            ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
        {
            // Signed for another body.
            let mut request =
                world.client.post(world.hook("deploy-site")).header("content-type", content_type);
            for (name, value) in signed(&format!("d-{n}"), "something else") {
                request = request.header(name, value);
            }
            let response = request.body((*body).to_owned()).send().await.expect("an answer");
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{content_type}");
        }
    }
    // Ten of them in a minute are kept, and nobody was asked about them.
    let samples = world.until("events?verdict=rejected&limit=500", |list| {
        list["items"].as_array().filter(|items| items.len() == 10).cloned()
    });
    for sample in samples.await {
        assert_eq!(
            (&sample["verdict"]["reason"], &sample["decisions"]),
            (&"signature does not match".into(), &Value::Array(Vec::new()))
        );
        assert_eq!(sample["type"], "webhook", "the type is not believed either");
    }
    assert_eq!(world.get("events?verdict=malformed").await["items"], serde_json::json!([]));
    assert_eq!(world.get("tasks").await["items"], serde_json::json!([]));
}

#[tokio::test]
async fn c03_no_content_type_reaches_what_is_not_the_body() {
    let world = World::new().await;
    let body = r#"{"ref":"refs/heads/main","headers":{"x-github-event":"x"},"event":{"type":"x"},"query":{},"files":[],"_meta":1}"#;
    let types = [
        "application/json",
        "application/json; charset=utf-16",
        "application/JSON;a=b",
        "text/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "image/png",
        "application/vnd.api+json",
        "application/octet-stream",
        "a/b; c=\"d\"",
        ";",
        "json",
        "*/*",
    ];
    for (n, content_type) in types.iter().enumerate() {
        let delivery = format!("d-{n}");
        let mut request = world.client.post(world.hook("deploy-site")).header("content-type", *content_type);
        for (name, value) in signed(&delivery, body) {
            request = request.header(name, value);
        }
        let response = request.body(body).send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::ACCEPTED, "{content_type}");
    }
    for event in events(&world).await {
        assert_eq!((&event["type"], &event["source"]), (&"push".into(), &"/hooks/deploy-site".into()));
    }
}

#[tokio::test]
async fn c04_bodies_of_strangers_take_no_memory() {
    let world = World::new().await;
    let address = world.server.addresses().hooks;
    let before = resident_mib();
    let announced = join_all((0..200).map(|n| async move {
        let length = if n % 2 == 0 { "104857600" } else { "18446744073709551615" };
        let line = format!("content-length: {length}");
        raw(address, request("POST /hooks/deploy-site HTTP/1.1", &[&line], "d", MAIN).as_bytes()).await
    }));
    for answer in announced.await {
        assert!(answer.starts_with("HTTP/1.1 413") || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    let unannounced = join_all((0..50).map(|_| async move {
        let head = request("POST /hooks/deploy-site HTTP/1.1", &["transfer-encoding: chunked"], "d", MAIN);
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        // Until the server has had enough; what the two sockets hold comes on top of its limit.
        let mut sent = 0;
        while sent < MOST && stream.write_all(chunk.as_bytes()).await.is_ok() {
            sent += 1;
        }
        sent
    }));
    assert!(unannounced.await.into_iter().all(|sent| sent < MOST), "it reads on and on");
    for encoding in ["gzip", "br", "zstd", "deflate, gzip"] {
        let request = world.push("d-9", MAIN).header("content-encoding", encoding);
        let status = request.send().await.expect("an answer").status();
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{encoding}");
    }
    let grown = resident_mib().saturating_sub(before);
    assert!(grown <= MAX_GROWTH_MIB, "{grown} MiB");
    assert_eq!(world.push("d-1", MAIN).send().await.expect("an answer").status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn c06_what_is_no_delivery_takes_nothing_from_those_that_are() {
    let world = World::new().await;
    for n in 0..300 {
        let path = if n % 2 == 0 { "no-such-hook" } else { "deploy-site" };
        let method = if n % 2 == 0 { reqwest::Method::POST } else { reqwest::Method::PUT };
        let status = world.client.request(method, world.hook(path)).send().await.expect("an answer").status();
        assert!(status == StatusCode::NOT_FOUND || status == StatusCode::METHOD_NOT_ALLOWED, "{status}");
    }
    let spoofed =
        world.push("d-1", MAIN).header("x-forwarded-for", "192.0.2.1").header("forwarded", "for=192.0.2.1");
    assert_eq!(spoofed.send().await.expect("an answer").status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn c08_nothing_beside_the_signed_bytes_makes_a_delivery_another() {
    let world = World::new().await;
    let first = json(world.push("d-1", MAIN).send().await.expect("an answer")).await;
    let mut head =
        request("POST /hooks/deploy-site?b=2&a=1 HTTP/1.1", &["content-type: text/plain"], "d-1", MAIN);
    let upper = |text: &str| {
        text.split_once("sha256=").map_or_else(
            || text.to_owned(),
            |(before, rest)| {
                let (hex, after) = rest.split_at(64);
                format!("{before}sha256={}{after}", hex.to_ascii_uppercase())
            },
        )
    };
    let length = format!("content-length: {}\r\n\r\n", MAIN.len());
    head.truncate(head.len() - 2);
    for head in [head.clone(), upper(&head), head.replace("x-hub-signature-256", "X-HUB-Signature-256")] {
        let whole = format!("{head}{length}{MAIN}");
        let answer = raw(world.server.addresses().hooks, whole.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"duplicate\":true"), "{answer}");
    }
    assert_eq!(events(&world).await[0]["id"], first["event_id"]);
    assert_eq!(events(&world).await.len(), 1);
}

#[tokio::test]
async fn c08_a_strict_hook_knows_the_signed_bytes_under_any_id() {
    let world = World::new().await;
    let strict = DEPLOY.replace("events =", "options = { replay = \"strict\" }\nevents =");
    world.write_trigger("deploy-site", &strict);
    world.trigger_until("deploy-site", |one| one["revision"] == 2).await;
    let deliver =
        async |id: &str, body: &str| json(world.push(id, body).send().await.expect("an answer")).await;
    let first = deliver("d-1", MAIN).await;
    let again = deliver("d-2", MAIN).await;
    assert_eq!((&again["duplicate"], &again["event_id"]), (&true.into(), &first["event_id"]));
    let copies = join_all((3..13).map(|n| world.push(&format!("d-{n}"), "{\"n\":1}").send())).await;
    let mut ids = BTreeSet::new();
    for copy in copies {
        ids.insert(json(copy.expect("an answer")).await["event_id"].as_str().expect("an id").to_owned());
    }
    assert_eq!((ids.len(), events(&world).await.len()), (1, 2));
    // The id counts too, whatever is signed; one that a copy came with does not.
    assert_eq!(deliver("d-1", "{\"n\":2}").await["event_id"], first["event_id"]);
    assert_eq!(deliver("d-2", "{\"n\":3}").await["duplicate"], false);
}

#[tokio::test]
async fn c09_equal_bodies_can_be_two_events() {
    let world = World::new().await;
    for delivery in ["d-1", "d-2"] {
        let response = world.push(delivery, MAIN).send().await.expect("an answer");
        assert_eq!(json(response).await["duplicate"], false);
    }
    assert_eq!(world.get("tasks").await["items"].as_array().expect("items").len(), 2);
}

#[tokio::test]
async fn c11_no_body_breaks_the_parser() {
    let world = World::new().await;
    let deep = |open: &str, close: &str, n: usize| format!("{}{}", open.repeat(n), close.repeat(n));
    let bodies = [
        "{\"ref\":1,\"ref\":\"refs/heads/main\"}".to_owned(),
        "1e400".to_owned(),
        "{\"ref\":123456789012345678901234567890}".to_owned(),
        "{\"ref\":\"\\ud800\"}".to_owned(),
        "\u{feff}{\"ref\":\"refs/heads/main\"}".to_owned(),
        "{\"ref\":\"a\\u0000b\"}".to_owned(),
        "{\"ref\":\"a\u{0}b\"}".to_owned(),
        deep("[", "]", 100_000),
        deep("{\"ref\":", "}", 100_000),
        format!("[{}0]", "0,".repeat(400_000)),
        "{\"ref\":\"refs/heads/main\"} {}".to_owned(),
        "NaN".to_owned(),
        "'ref'".to_owned(),
        "\"".repeat(1001),
    ];
    let mut verdicts = BTreeSet::new();
    for (n, body) in bodies.iter().enumerate() {
        let response = world.push(&format!("d-{n}"), body).send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::ACCEPTED, "{}", &body[..body.len().min(40)]);
    }
    let stored = events(&world).await;
    assert_eq!(stored.len(), bodies.len());
    for event in &stored {
        verdicts.insert(event["verdict"]["verdict"].as_str().expect("a verdict").to_owned());
    }
    assert_eq!(verdicts.into_iter().collect::<Vec<_>>(), ["accepted", "malformed"]);
    // Of a field that comes twice the last counts.
    assert_eq!(world.get("tasks").await["items"].as_array().expect("items").len(), 1);
}

#[tokio::test]
async fn c13_only_the_path_of_a_hook_leads_to_it() {
    let world = World::new().await;
    let paths = [
        "/hooks/..;/deploy-site",
        "/hooks/%2e%2e/api/v1/events",
        "/hooks//deploy-site",
        "/hooks/deploy-site/",
        "/HOOKS/deploy-site",
        "/hooks/deploy-site%2F",
        "/hooks%2Fdeploy-site",
        "/hooks/deploy-site%5C",
        "/hooks/./deploy-site/.",
        "/hooks/deploy-site/configs",
        "//hooks/deploy-site",
        "/api/v1/events",
        "/hooks/Deploy-Site",
        "/hooks/deploy-site%00",
        "/hooks/-/deploy-site",
        "/hooks/-/status/deploy-site",
    ];
    let length = format!("content-length: {}", MAIN.len());
    for path in paths {
        let head = request(&format!("POST {path} HTTP/1.1"), &[&length], "d-1", MAIN);
        let answer = raw(world.server.addresses().hooks, format!("{head}{MAIN}").as_bytes()).await;
        let status = answer.get(9..12).unwrap_or_default();
        assert!(["400", "404", "405"].contains(&status), "{path}: {answer}");
    }
    let both =
        request("POST /hooks/deploy-site HTTP/1.1", &[&length, "transfer-encoding: chunked"], "d-1", MAIN);
    let smuggled = format!("{both}0\r\n\r\nPOST /hooks/deploy-site HTTP/1.1\r\n");
    let answer = raw(world.server.addresses().hooks, smuggled.as_bytes()).await;
    assert!(!answer.contains(" 202 "), "{answer}");
    let twice = request("POST /hooks/deploy-site HTTP/1.1", &[&length, "content-length: 5"], "d-1", MAIN);
    let answer = raw(world.server.addresses().hooks, format!("{twice}{MAIN}").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let accepted = |event: &Value| event["verdict"]["verdict"] == "accepted";
    assert!(!events(&world).await.iter().any(accepted));
}

#[tokio::test]
async fn c14_what_a_stranger_sends_is_told_escaped() {
    let world = World::new().await;
    let nasty = "a\\u001b]52;c;x\\u0007\\r\\n\\u202e\\u2028";
    let body = format!("{{\"ref\":\"{nasty}\"}}");
    assert_eq!(world.push("d-1", &body).send().await.expect("an answer").status(), StatusCode::ACCEPTED);
    let event = &events(&world).await[0];
    let told = event["decisions"][0]["reason"].as_str().expect("a reason");
    assert!(told.chars().all(|c| !c.is_control() && !('\u{2028}'..='\u{202e}').contains(&c)), "{told:?}");
    let request = world.push("d-2\u{1b}[2J", MAIN);
    assert!(request.send().await.is_err(), "no header holds it");
    let raw_type = request_with_control();
    let answer = raw(world.server.addresses().hooks, raw_type.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

/// A header that holds an escape.
fn request_with_control() -> String {
    request("POST /hooks/deploy-site HTTP/1.1", &["x-note: \u{1b}[2J", "content-length: 0"], "d-3", "")
}
