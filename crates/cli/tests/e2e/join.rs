//! Agents of other machines: the listener faces a network, TLS, tokens, keys. Each agent is a process of its own, and
//! what one must not do is tried by one.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    link::Link,
    on_both,
    process::Process,
    split::start_server,
    world::{Database, World, http, on_push},
};

on_both! {
    an_agent_joins_and_is_known_by_its_key,
    nobody_joins_without_a_right,
    a_server_that_is_not_known_is_not_talked_to,
}

/// A server whose agents' listener is on every address, and its agents.
struct Site {
    world: World,
    agents: BTreeMap<String, Process>,
    settings: Vec<(String, String)>,
}

/// An address of this machine that is not loopback, where it has one.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("bound");
    // Nothing is sent: the system only chooses the way.
    let routed = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
    routed.map_or(IpAddr::from([127, 0, 0, 1]), |address| address.ip())
}

/// TLS for everybody, with a key in a folder of this name.
fn settings(dir: &tempfile::TempDir, name: &str) -> Vec<(String, String)> {
    let tls = dir.path().join(name).display().to_string();
    let setting = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    vec![setting("SERVER__WEBSOCKET_PORT", "0.0.0.0:0"), setting("TLS__DIRECTORY", &tls)]
}

impl Site {
    async fn start(database: Database, triggers: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let database_url = database.url(dir.path()).await;
        std::fs::create_dir_all(dir.path().join("triggers")).expect("made");
        let settings = settings(&dir, "tls");
        let (server, places) = start_server(&dir, &database_url, &settings).await;
        let world = World { dir, database_url, server, places, http: http() };
        world.add_triggers(triggers).await;
        Self { world, agents: BTreeMap::new(), settings }
    }

    fn place(&self) -> SocketAddr {
        SocketAddr::new(own_address(), self.world.places.agents.port())
    }

    async fn token(&self, args: &[&str]) -> String {
        let (code, token, error) = self.world.cli(&[&["agent", "token"], args].concat()).await;
        assert_eq!(code, Some(0), "{token}{error}");
        assert!(error.contains("not shown again"), "{error}");
        token.trim().to_owned()
    }

    /// Starts an agent with the data directory `data`.
    fn agent(&mut self, id: &str, data: &str, more: &[(&str, String)]) {
        let environment = [
            ("HETUFLOW_AGENT__AGENT__ID", id.to_owned()),
            ("HETUFLOW_AGENT__AGENT__DATA_DIR", self.world.dir.path().join(data).display().to_string()),
            ("SERVER_URL", format!("wss://{}", self.place())),
        ];
        let environment = [&environment, more].concat();
        self.agents.insert(data.to_owned(), Process::start::<&str>("hetuflow-agent", &[], &environment));
    }

    async fn says(&mut self, data: &str, text: &str) {
        let agent = self.agents.get_mut(data).expect("it was started");
        agent.line(text, |line| line.contains(text).then_some(())).await;
    }

    async fn connection(&self, id: &str, wanted: &str) -> Value {
        self.world
            .until(&format!("agent {id} is {wanted}"), async |world| {
                let agent = world.get(&format!("agents/{id}")).await;
                (agent["connection"] == wanted).then_some(agent)
            })
            .await
    }

    async fn stop(&mut self, data: &str) {
        let mut agent = self.agents.remove(data).expect("it was started");
        assert_eq!(agent.stop().await, Some(0), "{}", agent.said());
    }
}

fn token(token: &str) -> (&'static str, String) {
    ("HETUFLOW_AGENT__AGENT__JOIN_TOKEN", token.to_owned())
}

async fn an_agent_joins_and_is_known_by_its_key(database: Database) {
    let job = on_push("echo ran >> $DIR/effects", "labels = { role = \"web\" }");
    let mut site = Site::start(database, &[("deploy", &job)]).await;
    let made = site.token(&["--labels", "role=web"]).await;
    site.agent("web-1", "one", &[token(&made)]);
    let agent = site.connection("web-1", "online").await;
    let key = agent["key"]["fingerprint"].as_str().expect("a key").to_owned();
    assert!(key.starts_with("sha256:"), "{agent:#}");
    assert_eq!(agent["labels"], serde_json::json!({ "role": "web" }));
    let answer = site.world.push("deploy", "1", "{}").await;
    let task = answer.body["task_ids"][0].as_str().expect("one task").to_owned();
    site.world.task_until(&task, "succeeded").await;

    // From now on without a token, with the labels that it was given.
    site.stop("one").await;
    site.connection("web-1", "offline").await;
    site.agent("web-1", "one", &[]);
    let agent = site.connection("web-1", "online").await;
    assert_eq!(agent["key"]["fingerprint"], key.as_str());
    assert_eq!(agent["labels"], serde_json::json!({ "role": "web" }));

    // A restarted server is the same one, and the agent comes back to it.
    let (_, shown, _) = site.world.cli(&["agent", "show", "web-1"]).await;
    assert!(shown.contains(&key) && shown.contains("joined"), "{shown}");
    site.stop("one").await;
    let other = [("HETUFLOW_AGENT__LABELS__ROLE", "db".to_owned())];
    site.agent("web-1", "one", &other);
    site.says("one", "its token gave it the labels {role=web} and no others").await;
    site.stop("one").await;

    // Taken back: cut off, and refused from then on.
    site.agent("web-1", "one", &[]);
    site.connection("web-1", "online").await;
    let (code, said, error) = site.world.cli(&["agent", "revoke", "web-1"]).await;
    assert_eq!(code, Some(0), "{said}{error}");
    site.says("one", "has not joined, or was taken back").await;
    let agent = site.connection("web-1", "offline").await;
    assert!(agent["key"].is_null() && agent["key_revoked_at"].is_string(), "{agent:#}");
    let (_, listed, _) = site.world.cli(&["agent", "list"]).await;
    assert!(listed.contains(" revoked "), "{listed}");
    let (_, shown, _) = site.world.cli(&["agent", "show", "web-1"]).await;
    assert!(shown.contains("none: taken back at"), "{shown}");
    let (code, _, error) = site.world.cli(&["agent", "revoke", "web-1"]).await;
    assert_eq!(code, Some(4), "{error}");

    // A token that names it lets the same host join again, with another key.
    site.stop("one").await;
    let made = site.token(&["--agent", "web-1"]).await;
    site.agent("web-1", "one", &[token(&made)]);
    let agent = site.connection("web-1", "online").await;
    assert_ne!(agent["key"]["fingerprint"], key.as_str());
    site.stop("one").await;
}

async fn nobody_joins_without_a_right(database: Database) {
    let mut site = Site::start(database, &[]).await;
    let made = site.token(&[]).await;
    site.agent("web-1", "one", &[token(&made)]);
    site.connection("web-1", "online").await;

    // The token once more, from elsewhere.
    site.agent("web-2", "two", &[token(&made)]);
    site.says("two", "this token was used at").await;
    // A name that somebody has, with a token that is good.
    let good = site.token(&[]).await;
    site.agent("web-1", "three", &[token(&good)]);
    site.says("three", "there is an agent web-1 already").await;
    // A key that has joined, under somebody else's name: the first agent's data with another id in it.
    site.agent("web-3", "three-and-a-half", &[token(&good)]);
    site.connection("web-3", "online").await;
    site.stop("three-and-a-half").await;
    std::fs::write(site.world.dir.path().join("three-and-a-half/agent_id"), "web-1\n").expect("written");
    site.agent("web-1", "three-and-a-half", &[]);
    site.says("three-and-a-half", "this key is that of the agent web-3, not of web-1").await;
    // The name without a key, from the server's own machine.
    let local = ("SERVER_URL", format!("ws://127.0.0.1:{}", site.world.places.agents.port()));
    site.agent("web-1", "four", std::slice::from_ref(&local));
    site.says("four", "the agent web-1 has joined with a key").await;
    // Without a token and without having joined: it does not even start.
    let mut nobody = Process::start::<&str>(
        "hetuflow-agent",
        &[],
        &[
            ("HETUFLOW_AGENT__AGENT__DATA_DIR", site.world.dir.path().join("five").display().to_string()),
            ("SERVER_URL", format!("wss://{}", site.place())),
        ],
    );
    nobody.line("what to do", |line| line.contains("hetuflow agent token").then_some(())).await;

    // Of all this the rightful one notices nothing; and who is on this machine needs nothing.
    site.agent("local", "six", &[local]);
    site.connection("local", "online").await;
    let (_, listed, _) = site.world.cli(&["agent", "list"]).await;
    assert!(listed.contains(" local ") && !listed.contains("revoked"), "{listed}");
    assert_eq!(site.connection("web-1", "online").await["id"], "web-1");
    without_tls(&site).await;
}

/// From another address than loopback nobody gets anywhere without TLS.
async fn without_tls(site: &Site) {
    if site.place().ip().is_loopback() {
        return;
    }
    let mut stream = TcpStream::connect(site.place()).await.expect("connected");
    stream.write_all(b"GET /agent/v1 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await.expect("sent");
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("wss://"), "{answer}");
}

async fn a_server_that_is_not_known_is_not_talked_to(database: Database) {
    let mut site = Site::start(database, &[]).await;
    let foreign = Site::start(Database::Sqlite, &[]).await;
    let made = site.token(&[]).await;
    let elsewhere = ("SERVER_URL", format!("wss://{}", foreign.place()));
    site.agent("web-1", "one", &[token(&made), elsewhere]);
    site.says("one", "which this agent does not know").await;
    site.stop("one").await;
    let (code, found) = doctor(&site, foreign.place(), Some(&made)).await;
    assert!(code == Some(1) && found.contains("which this agent does not know"), "{found}");
    let (code, found) = doctor(&site, site.place(), Some(&made)).await;
    assert!(code == Some(0) && found.contains("joins at its next start"), "{found}");
    let (code, found) = doctor(&site, site.place(), None).await;
    assert!(code == Some(1) && found.contains("has not joined"), "{found}");
    let agents = foreign.world.get("agents").await;
    assert_eq!(agents["items"].as_array().map(Vec::len), Some(0), "{agents:#}");

    // The token was not shown to it, and serves where it belongs.
    site.agent("web-1", "one", &[token(&made)]);
    site.connection("web-1", "online").await;
    site.stop("one").await;
    let (code, found) = doctor(&site, site.place(), None).await;
    assert!(code == Some(0) && found.contains("the agent has joined"), "{found}");
    // A server that has lost its key is another one.
    assert_eq!(site.world.server.stop().await, Some(0));
    std::fs::remove_dir_all(site.world.dir.path().join("tls")).expect("it was there");
    let (server, places) = start_server(&site.world.dir, &site.world.database_url, &site.settings).await;
    (site.world.server, site.world.places) = (server, places);
    site.agent("web-1", "one", &[]);
    site.says("one", "which this agent does not know").await;
}

/// What `doctor` says of a server to the agent with the data directory `one`.
async fn doctor(site: &Site, server: SocketAddr, token: Option<&str>) -> (Option<i32>, String) {
    let dir = site.world.dir.path();
    let token = token.map_or_else(String::new, |token| format!("join_token = \"{token}\"\n"));
    let data = dir.join("one").display().to_string();
    let text = format!("[agent]\nserver_url = \"wss://{server}\"\ndata_dir = \"{data}\"\n{token}");
    std::fs::write(dir.join("agent.toml"), text).expect("written");
    let file = dir.join("agent.toml").display().to_string();
    let (code, found, _) = crate::process::run("hetuflow", &["doctor", "--agent-config", &file]).await;
    (code, found)
}

/// Three servers on one database, each with a key of its own: an agent that has joined at one goes to all of them.
#[tokio::test]
async fn an_agent_knows_all_servers_of_a_database() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let database_url = Database::Postgres.url(dir.path()).await;
    let with = |name: &str| {
        let more = [("TRIGGERS__DIRECTORY", ""), ("AGENTS__LEASE", "1s"), ("AGENTS__HEARTBEAT", "1s")];
        let more = more.map(|(key, value)| (key.to_owned(), value.to_owned()));
        settings(&dir, name).into_iter().chain(more).collect::<Vec<_>>()
    };
    let start = async |name: &str| {
        let (server, places) = start_server(&dir, &database_url, &with(name)).await;
        World {
            dir: tempfile::tempdir().expect("a directory"),
            database_url: database_url.clone(),
            server,
            places,
            http: http(),
        }
    };
    let (mut a, mut b) = (start("a").await, start("b").await);
    let (one, two) = (Link::to(a.places.agents).await, Link::to(b.places.agents).await);
    let (code, made, error) = a.cli(&["agent", "token"]).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(error.contains("2 servers"), "{error}");
    let url = |link: &Link| format!("wss://{}", link.address);
    let environment = [
        ("HETUFLOW_AGENT__AGENT__ID", "web-1".to_owned()),
        ("HETUFLOW_AGENT__AGENT__DATA_DIR", dir.path().join("agent").display().to_string()),
        ("SERVER_URL", url(&one)),
        ("HETUFLOW_AGENT__AGENT__SERVERS", format!("[\"{}\"]", url(&two))),
        token(made.trim()),
    ];
    let mut agent = Process::start::<&str>("hetuflow-agent", &[], &environment);
    let connected = async |world: &World| {
        world
            .until("the agent is connected here", async |world| {
                let stats = world.get("agents").await;
                // Only the server that has the connection knows how many more it could start.
                stats["items"][0]["free"].is_u64().then_some(())
            })
            .await;
    };
    connected(&a).await;
    a.server.kill().await;
    one.cut();
    connected(&b).await;

    // A third one comes, and its key is told over the connection that there is.
    let c = start("c").await;
    one.plug_into(c.places.agents);
    agent
        .line("another server's key", |line| line.contains("keys of the servers have changed").then_some(()))
        .await;
    assert_eq!(b.server.stop().await, Some(0), "{}", b.server.said());
    two.cut();
    connected(&c).await;

    // What another server takes back ends here too.
    let a = start("a").await;
    let (code, said, error) = a.cli(&["agent", "revoke", "web-1"]).await;
    assert_eq!(code, Some(0), "{said}{error}");
    agent.line("it is refused", |line| line.contains("was taken back").then_some(())).await;
}
