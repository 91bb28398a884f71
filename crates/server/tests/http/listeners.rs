//! Connections: deadlines, bounds, sharing, the stop.

use std::time::Duration;

use hetuflow_server::{Config, Listeners};
use reqwest::StatusCode;

use crate::world::{MAIN, PATIENCE, World, raw, read_all};

#[tokio::test]
async fn a_head_that_never_ends_is_closed_at_the_deadline() {
    let world = World::with(|config| config.limits.head_timeout = Duration::from_millis(200)).await;
    for address in
        [world.server.addresses().http, world.server.addresses().agents, world.server.addresses().hooks]
    {
        raw(address, b"POST /hooks/deploy-site HTTP/1.1\r\nhost: h\r\nx-slow: ").await;
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_at_the_deadline() {
    let world = World::with(|config| config.limits.head_timeout = Duration::from_millis(200)).await;
    let answer = raw(world.server.addresses().hooks, b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

/// It asks again and again; what it is answered stays with the system until that takes no more.
#[tokio::test]
async fn who_never_reads_its_answers_is_closed_at_the_deadline() {
    let world = World::with(|config| config.limits.answer_timeout = Duration::from_millis(200)).await;
    for address in [world.server.addresses().http, world.server.addresses().hooks] {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
        let questions = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n".repeat(1000);
        let ask =
            async { while tokio::io::AsyncWriteExt::write_all(&mut stream, &questions).await.is_ok() {} };
        tokio::time::timeout(PATIENCE, ask).await.expect("the server closes the connection");
    }
}

#[tokio::test]
async fn heads_are_bounded() {
    let world = World::new().await;
    let large = format!("GET / HTTP/1.1\r\nhost: h\r\nx-large: {}\r\n\r\n", "x".repeat(20_000));
    let answer = raw(world.server.addresses().hooks, large.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let many = format!("GET / HTTP/1.1\r\nhost: h\r\n{}\r\n", "x-a: b\r\n".repeat(70));
    let answer = raw(world.server.addresses().hooks, many.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn a_full_listener_closes_who_comes_next() {
    let world = World::with(|config| config.limits.max_connections = 1).await;
    let address = world.server.addresses().hooks;
    let mut first = tokio::net::TcpStream::connect(address).await.expect("connected");
    tokio::io::AsyncWriteExt::write_all(&mut first, b"GET / HTTP/1.1\r\n").await.expect("sent");
    world.until("system/metrics", |_| Some(())).await;
    let second = tokio::net::TcpStream::connect(address).await.expect("connected");
    assert_eq!(read_all(second).await, "");
}

#[tokio::test]
async fn one_port_can_serve_everything() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = taken.local_addr().expect("an address");
    drop(taken);
    let world = World::with(|config| {
        let address = address.into();
        (config.server.http_port, config.server.websocket_port) = (address, address);
        config.server.hook_port = address;
    })
    .await;
    assert_eq!(world.server.addresses().http, world.server.addresses().hooks);
    assert_eq!(world.push("d-1", MAIN).send().await.expect("an answer").status(), StatusCode::ACCEPTED);
    assert_eq!(world.get("events").await["items"].as_array().expect("items").len(), 1);
}

#[tokio::test]
async fn the_stop_finishes_what_was_begun() {
    let world = World::new().await;
    let World { server, client: _, triggers: _, shutdown, .. } = &world;
    let address = server.addresses().hooks;
    // The head and half of the body are with the server, which answers 100 once it reads the body.
    let (body, rest) = MAIN.split_at(10);
    let mut head = format!(
        "POST /hooks/deploy-site HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: {}\r\n",
        MAIN.len()
    );
    for (name, value) in crate::world::signed("d-1", MAIN) {
        head.extend([name.as_str(), ": ", value.as_str(), "\r\n"]);
    }
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
    tokio::io::AsyncWriteExt::write_all(&mut stream, (head + "\r\n").as_bytes()).await.expect("sent");
    let mut go_on = [0; 25];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut go_on).await.expect("100 Continue");
    tokio::io::AsyncWriteExt::write_all(&mut stream, body.as_bytes()).await.expect("sent");
    shutdown.cancel();
    tokio::io::AsyncWriteExt::write_all(&mut stream, rest.as_bytes()).await.expect("sent");
    let answer = read_all(stream).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let World { server, .. } = world;
    server.join().await.expect("it stops in order");
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn the_api_stays_on_this_machine() {
    let mut config = Config::read(None, &[]).expect("the defaults parse");
    config.server.http_port = "0.0.0.0:0".parse::<std::net::SocketAddr>().expect("an address").into();
    let error = Listeners::bind(&config).await.expect_err("refused");
    let expected = "[server] http_port = \"0.0.0.0:0\" is not loopback: the API takes no tokens yet, and so connections \
                    from this machine only (127.0.0.1 or [::1])";
    assert_eq!(error.to_string(), expected);
}
