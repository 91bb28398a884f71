//! `bench ingress`: signed deliveries that are accepted, over 1, 16 and 64 connections that send one after the other. Ours
//! are durable with their task when they are answered. Beside Debian's `webhook`, which starts the job and keeps
//! nothing, and beside a server that only verifies: the ceiling.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde_json::json;

use crate::{
    child::Child,
    database::Cluster,
    debian,
    machine::Machine,
    payload,
    processor::{self, Whose},
    program::Program,
    report::{Figure, Form, Report},
    role::{load::Sent, verify::Listening},
    server::Server,
};

/// Connections, the figure of each, and deliveries of a round as parts of `--deliveries`.
const LEVELS: [(u64, Figure, u64); 3] =
    [(1, Figure("1 conn /s"), 8), (16, Figure("16 conn /s"), 1), (64, Figure("64 conn /s"), 1)];
const COST: Figure = Figure("receiver µs at 64");
const MEMORY: Figure = Figure("MiB after");

const DATABASE: &str = "bench_ingress";
const WITHIN: Duration = Duration::from_mins(2);
const WARM: u64 = 200;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// One short round
    #[arg(long)]
    quick: bool,
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Deliveries of one level in one round; an eighth over one connection
    #[arg(long, default_value_t = 12_000)]
    deliveries: u64,
    /// Only contenders whose name contains this
    #[arg(long)]
    only: Option<String>,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ceiling,
    Debian,
    Sqlite,
    Postgres,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Ceiling, Self::Debian, Self::Sqlite, Self::Postgres];

    const fn name(self) -> &'static str {
        match self {
            Self::Ceiling => "verifies only",
            Self::Debian => debian::NAME,
            Self::Sqlite => "hetuflow-server, SQLite",
            Self::Postgres => "hetuflow-server, PostgreSQL",
        }
    }
}

/// Who receives, while it is measured.
enum Receiver {
    Ceiling(Child),
    Debian(crate::child::Drained),
    Server(Server),
}

struct Ring {
    args: Args,
    cluster: Cluster,
    folder: PathBuf,
}

pub(crate) async fn run(mut args: Args) -> anyhow::Result<()> {
    if args.quick {
        (args.rounds, args.deliveries) = (1, args.deliveries / 2);
    }
    let folder = tempfile::Builder::new().prefix("hetuflow-bench-").tempdir()?;
    let mut report = Report::new("Signed deliveries accepted", Machine::look(folder.path())?);
    debian::install().await;
    let debian = debian::present(&mut report);
    report.note(format!(
        "deliveries of {} bytes, signed as GitHub signs, whose `ref` a rule compares; each connection sends the next when it has its \
         answer; {} deliveries a level (an eighth over one connection)",
        payload::push().len(),
        args.deliveries
    ));
    report.note("ours: the event with its dedupe key and its task are durable when it is answered; no agent is connected");
    let (form, rounds) = (if args.json { Form::Json } else { Form::Table }, args.rounds);
    let only = args.only.clone();
    let wanted = |kind: &Kind| only.as_ref().is_none_or(|only| kind.name().contains(only.as_str()));
    let mut ring = Ring { args, cluster: Cluster::find().await?, folder: folder.path().to_owned() };
    for round in 1..=rounds {
        for kind in Kind::ALL.into_iter().filter(wanted).filter(|kind| debian || *kind != Kind::Debian) {
            eprintln!("round {round} of {rounds}: {}", kind.name());
            report.add(kind.name(), ring.fight(kind).await?);
        }
    }
    ring.cluster.close().await;
    judge(&mut report);
    report.print(form)
}

impl Ring {
    async fn fight(&mut self, kind: Kind) -> anyhow::Result<Vec<(Figure, f64)>> {
        let (receiver, address) = self.start(kind).await?;
        self.send(kind, address, 4, WARM).await?;
        let mut figures = Vec::new();
        for (connections, figure, part) in LEVELS {
            let count = self.args.deliveries / part;
            let before = processor::used(Whose::Process(receiver.pid()?))?;
            let sent = self.send(kind, address, connections, count).await?;
            let used = processor::used(Whose::Process(receiver.pid()?))? - before;
            let seconds = sent.ended.saturating_sub(sent.began) as f64 / 1e9;
            figures.push((figure, sent.accepted as f64 / seconds));
            if connections == 64 {
                figures.push((COST, used / sent.accepted as f64));
            }
        }
        figures.push((MEMORY, processor::resident(receiver.pid()?)? / 1024.0));
        receiver.stop().await;
        Ok(figures)
    }

    async fn start(&mut self, kind: Kind) -> anyhow::Result<(Receiver, SocketAddr)> {
        let folder = self.folder.join("round");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        let database = match kind {
            Kind::Ceiling => {
                let mut process = Child::role(&["verify".to_owned()])?;
                let Listening { address } = process.said(WITHIN).await?;
                return Ok((Receiver::Ceiling(process), address));
            }
            Kind::Debian => {
                let job = Program::default().path()?.display().to_string();
                // What it writes is of no use here.
                let arguments = [
                    json!({"source": "string", "name": "/dev/null"}),
                    json!({"source": "string", "name": "0"}),
                ];
                let rule = json!({"match": {
                    "type": "value", "value": "refs/heads/main", "parameter": {"source": "payload", "name": "ref"},
                }});
                let (process, address) = debian::start(&folder, &job, &arguments, &[rule]).await?;
                return Ok((Receiver::Debian(process), address));
            }
            Kind::Sqlite => format!("sqlite:{}", folder.join("hetuflow.db").display()),
            Kind::Postgres => self.cluster.fresh(DATABASE).await?,
        };
        let server = Server::start(&database, &folder).await?;
        let address = server.hooks;
        Ok((Receiver::Server(server), address))
    }

    async fn send(
        &self,
        kind: Kind,
        address: SocketAddr,
        connections: u64,
        count: u64,
    ) -> anyhow::Result<Sent> {
        let status = if kind == Kind::Debian { 200 } else { 202 };
        let args = [
            "load".to_owned(),
            "--push".to_owned(),
            format!("--address={address}"),
            format!("--status={status}"),
            format!("--count={count}"),
            format!("--connections={connections}"),
            "--depth=1".to_owned(),
        ];
        let mut load = Child::role(&args)?;
        let sent: Sent = load.said(WITHIN).await?;
        load.stop().await;
        anyhow::ensure!(sent.refused == 0, "{} of {count} deliveries were refused", sent.refused);
        Ok(sent)
    }
}

impl Receiver {
    fn pid(&self) -> anyhow::Result<u32> {
        match self {
            Self::Ceiling(process) => process.pid(),
            Self::Debian(process) => process.pid(),
            Self::Server(server) => server.pid(),
        }
    }

    async fn stop(self) {
        match self {
            Self::Ceiling(process) => process.stop().await,
            Self::Debian(process) => process.stop().await,
            Self::Server(server) => server.stop().await,
        }
    }
}

fn judge(report: &mut Report) {
    for (connections, figure, _) in LEVELS {
        let (theirs, ceiling) =
            (report.median(debian::NAME, figure), report.median(Kind::Ceiling.name(), figure));
        for kind in [Kind::Sqlite, Kind::Postgres] {
            let Some(ours) = report.median(kind.name(), figure) else { continue };
            let mut parts = Vec::new();
            if let Some(theirs) = theirs {
                let wanted = if connections == 1 { 1.0 } else { 2.0 };
                parts.push(verdict(ours / theirs, wanted, "Debian's webhook"));
            }
            if let Some(ceiling) = ceiling.filter(|_| connections > 1) {
                parts.push(verdict(ours / ceiling, 0.25, "the ceiling"));
            }
            if !parts.is_empty() {
                report.note(format!("{}, {connections} connections: {}", kind.name(), parts.join("; ")));
            }
        }
    }
}

fn verdict(times: f64, wanted: f64, of: &str) -> String {
    let holds = if times >= wanted { "holds" } else { "does not hold" };
    format!("{times:.2} of {of}, at least {wanted}: {holds}")
}
