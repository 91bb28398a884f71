//! The server under test, and what a sender needs.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use hetuflow_server::{Config, Listeners, Server, start};
use hetuflow_signature::{Scheme, Secret};
use jiff::Timestamp;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const SECRET: &str = "it's a secret to everybody";

/// Whatever a test waits for comes sooner than this, or never.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const DEPLOY: &str = r#"
description = "Deploy the site when main is pushed"

[on.webhook]
scheme = "github"
secret = { env = "DEPLOY_SECRET" }
events = ["push"]
when = 'body.ref == "refs/heads/main"'

[job]
cmd = "bash"
args = ["-c", 'echo "$REF"']
environment = { REF = "{{ body.ref }}" }
"#;

pub(crate) const MAIN: &str = r#"{"ref":"refs/heads/main","deleted":false}"#;

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) triggers: PathBuf,
    pub(crate) shutdown: CancellationToken,
    _stop: DropGuard,
    _folder: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With the trigger `deploy-site`, and a configuration that is changed first.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let triggers = folder.path().join("triggers");
        std::fs::create_dir(&triggers).expect("a folder");
        std::fs::write(triggers.join("deploy-site.toml"), DEPLOY).expect("written");
        let mut config = Config::read(None, &[]).expect("the defaults parse");
        let free = "127.0.0.1:0".parse::<std::net::SocketAddr>().expect("an address").into();
        (config.server.http_port, config.server.websocket_port, config.server.hook_port) = (free, free, free);
        config.database.url = format!("sqlite://{}", folder.path().join("hetuflow.db").display());
        config.triggers.directory = Some(triggers.clone());
        config.embedded.make_secret =
            Some(Arc::new(|name| (name == "DEPLOY_SECRET").then(|| SECRET.to_owned())));
        change(&mut config);
        let listeners = Listeners::bind(&config).await.expect("bound");
        let shutdown = CancellationToken::new();
        let server = start(config, listeners, shutdown.clone()).await.expect("started");
        let stop = shutdown.clone().drop_guard();
        Self { server, client: Client::new(), triggers, shutdown, _stop: stop, _folder: folder }
    }

    pub(crate) fn hook(&self, path: &str) -> String {
        format!("http://{}/hooks/{path}", self.server.addresses().hooks)
    }

    pub(crate) fn api(&self, path: &str) -> String {
        format!("http://{}/api/v1/{path}", self.server.addresses().http)
    }

    /// A push that GitHub could have sent.
    pub(crate) fn push(&self, delivery: &str, body: &str) -> RequestBuilder {
        self.push_to("deploy-site", delivery, body)
    }

    /// `GET` on the hook listener.
    pub(crate) async fn hook_get(&self, path: &str) -> Response {
        let url = format!("http://{}{path}", self.server.addresses().hooks);
        self.client.get(url).send().await.expect("an answer")
    }

    pub(crate) fn push_to(&self, hook: &str, delivery: &str, body: &str) -> RequestBuilder {
        let request = self.client.post(self.hook(hook)).header("content-type", "application/json");
        signed(delivery, body)
            .into_iter()
            .fold(request, |request, (name, value)| request.header(name, value))
            .body(body.to_owned())
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let response = self.client.get(self.api(path)).send().await.expect("an answer");
        let status = response.status();
        let value = json(response).await;
        assert!(status.is_success(), "{path}: {status} {value}");
        value
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let response = self.client.post(self.api(path)).json(&body).send().await.expect("an answer");
        (response.status(), json(response).await)
    }

    pub(crate) fn write_trigger(&self, name: &str, text: &str) {
        // As editors do it: whole, and then into its place.
        let new = self.triggers.join(format!(".{name}.new"));
        std::fs::write(&new, text).expect("written");
        std::fs::rename(new, self.triggers.join(format!("{name}.toml"))).expect("renamed");
    }

    /// Looks until `what` finds something.
    pub(crate) async fn until<T>(&self, path: &str, what: impl Fn(&Value) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            let value = self.get(path).await;
            if let Some(found) = what(&value) {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "{path} stays {value:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn trigger_until(&self, name: &str, what: impl Fn(&Value) -> bool) -> Value {
        self.until("triggers", |list| {
            let items = list["items"].as_array().expect("items");
            items.iter().find(|one| one["name"] == name && what(one)).cloned()
        })
        .await
    }
}

pub(crate) fn signed(delivery: &str, body: &str) -> Vec<(String, String)> {
    let scheme = Scheme::builtin("github", &serde_json::Map::new()).expect("a scheme");
    let now: Timestamp = "2026-11-21T10:00:00Z".parse().expect("a timestamp");
    scheme.sign(&Secret::new(SECRET), body.as_bytes(), delivery, "push", now).expect("signed")
}

pub(crate) async fn json(response: Response) -> Value {
    let text = response.text().await.expect("a body");
    if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(Value::String(text)) }
}

/// Sends bytes as they are and reads until the server closes.
pub(crate) async fn raw(address: std::net::SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(bytes).await.expect("sent");
    read_all(stream).await
}

pub(crate) async fn read_all(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // A connection that was reset is closed, too.
    let _ = read.expect("the server closes the connection");
    String::from_utf8_lossy(&answer).into_owned()
}
