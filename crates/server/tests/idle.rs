//! C05: ten thousand connections that do nothing. In a process of its own, because its memory is measured and its
//! descriptors are used up.

use std::{path::Path, sync::Arc, time::Duration};

use futures_util::future::join_all;
use hetuflow_server::{Config, Listeners, Server, start};
use hetuflow_signature::{Scheme, Secret};
use jiff::Timestamp;
use reqwest::{Client, Response, StatusCode};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_util::sync::CancellationToken;

const SECRET: &str = "it's a secret to everybody";

const TRIGGER: &str = r#"
[on.webhook]
scheme = "github"
secret = { env = "SECRET" }
[job]
cmd = "true"
"#;

/// Of all that say nothing; both ends of each are in this process.
const SILENT_MIB: u64 = 32;
/// Of one that has begun a head: the two buffers of 8 KiB that hyper makes, and what goes with them.
const HEAD: usize = 20 * 1024;
const CONNECTIONS: usize = 10_000;
/// Descriptors for everything else.
const OTHERS: usize = 400;
/// A delivery takes milliseconds; this is for machines that have much else to do.
const PATIENCE: Duration = Duration::from_secs(20);
const DELIVERIES: usize = 50;
const AT_ONCE: usize = 100;

async fn serve(folder: &Path, stop: CancellationToken) -> Server {
    let triggers = folder.join("triggers");
    std::fs::create_dir(&triggers).expect("a folder");
    std::fs::write(triggers.join("hook.toml"), TRIGGER).expect("written");
    let mut config = Config::read(None, &[]).expect("the defaults parse");
    let free = "127.0.0.1:0".parse::<std::net::SocketAddr>().expect("an address").into();
    (config.server.http_port, config.server.websocket_port, config.server.hook_port) = (free, free, free);
    config.database.url = format!("sqlite://{}", folder.join("hetuflow.db").display());
    config.triggers.directory = Some(triggers);
    config.embedded.make_secret = Some(Arc::new(|_| Some(SECRET.to_owned())));
    // They stay for the whole test, beside those that deliver.
    config.limits.head_timeout = Duration::from_mins(10);
    config.limits.max_connections = CONNECTIONS + 100;
    let listeners = Listeners::bind(&config).await.expect("bound");
    start(config, listeners, stop).await.expect("started")
}

async fn deliver(client: &Client, server: &Server, n: usize) -> Response {
    let scheme = Scheme::builtin("github", &serde_json::Map::new()).expect("a scheme");
    let signed = scheme.sign(&Secret::new(SECRET), b"{}", &n.to_string(), "push", Timestamp::UNIX_EPOCH);
    let url = format!("http://{}/hooks/hook", server.addresses().hooks);
    let request = signed
        .expect("signed")
        .into_iter()
        .fold(client.post(url), |request, (name, value)| request.header(name, value));
    let answer = tokio::time::timeout(PATIENCE, request.body("{}").send()).await;
    answer.expect("it does not wait for the idle").expect("an answer")
}

async fn accepted(client: &Client, server: &Server) -> usize {
    let url = format!("http://{}/api/v1/system/metrics", server.addresses().http);
    let text = client.get(url).send().await.expect("an answer").text().await.expect("a body");
    let line = text.lines().find(|line| line.starts_with("hetuflow_connections_accepted_total "));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("a number")
}

/// As many as this process may have, with both ends in it.
fn affordable() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("this process");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    let soft = line.split_whitespace().nth(3).and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
    CONNECTIONS.min(soft.saturating_sub(OTHERS) / 2)
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("KiB") / 1024
}

/// First all of them say nothing; then each begins a head that never ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c05_idle_connections_take_little_and_delay_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let stop = CancellationToken::new();
    let server = serve(folder.path(), stop.clone()).await;
    let client = Client::new();
    assert_eq!(deliver(&client, &server, 0).await.status(), StatusCode::ACCEPTED);
    let (before, count) = (resident_mib(), affordable());
    let check = async |first: usize, most: u64, who: &str| {
        for n in first..first + DELIVERIES {
            assert_eq!(deliver(&client, &server, n).await.status(), StatusCode::ACCEPTED);
        }
        let grown = resident_mib().saturating_sub(before);
        assert!(grown <= most, "{grown} MiB for {count} that {who}");
    };

    let mut idle = Vec::with_capacity(count);
    while idle.len() < count {
        let connects = (0..AT_ONCE).map(|_| TcpStream::connect(server.addresses().hooks));
        idle.extend(join_all(connects).await.into_iter().map(|stream| stream.expect("connected")));
    }
    let there = async {
        while accepted(&client, &server).await < idle.len() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, there).await.expect("all are accepted");
    check(1, SILENT_MIB, "say nothing").await;

    for stream in &mut idle {
        stream.write_all(b"POST /hooks/hook HTTP/1.1\r\nhost: h\r\nx-slow: ").await.expect("sent");
    }
    check(1000, (idle.len() * HEAD) as u64 >> 20, "have begun a head").await;
    drop(idle);
    stop.cancel();
    server.join().await.expect("it stops in order");
}
