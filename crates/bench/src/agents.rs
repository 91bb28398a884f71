//! `bench agents`: what a connected agent costs: the server's memory, and the processor time of heartbeats and of the
//! renewal of sessions.

use std::time::Duration;

use crate::{
    child::Child,
    database::Cluster,
    machine::Machine,
    processor::{self, Whose},
    report::{Figure, Form, Report},
    role::agents::Ready,
    server::Server,
};

const NAME: &str = "bench_agents";
const CONNECT_WITHIN: Duration = Duration::from_mins(5);
/// The heap settles after so many connections at once.
const SETTLE: Duration = Duration::from_secs(5);

/// What one agent may take.
const TARGET: f64 = 64.0;

const MEMORY: Figure = Figure("server KiB/agent");
const SERVER: Figure = Figure("server µs/agent/s");
const DATABASE: Figure = Figure("PostgreSQL µs/agent/s");

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[arg(long, default_value_t = 2000)]
    agents: u32,
    /// How long heartbeats are watched
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut report = Report::new("Connected agents", Machine::look(folder.path())?);
    report.note(format!(
        "{} simulated agents connected and idle, heartbeats every 10 s as shipped, watched for {} s; memory is what is \
         resident above the server without agents",
        args.agents, args.seconds
    ));
    let mut cluster = Cluster::find().await?;
    for name in ["PostgreSQL", "SQLite"] {
        eprintln!("{name}");
        let folder = folder.path().join(name);
        std::fs::create_dir_all(&folder)?;
        let database = match name {
            "PostgreSQL" => cluster.fresh(NAME).await?,
            _ => format!("sqlite:{}", folder.join("hetuflow.db").display()),
        };
        let server = Server::start(&database, &folder).await?;
        let figures = watch(&server, &cluster, &args).await;
        server.stop().await;
        let mut figures = figures?;
        if name == "SQLite" {
            figures.retain(|(figure, _)| *figure != DATABASE);
        }
        report.add(name, figures);
    }
    cluster.remove(NAME).await?;
    cluster.close().await;
    for name in ["PostgreSQL", "SQLite"] {
        if let Some(memory) = report.median(name, MEMORY) {
            let verdict = if memory <= TARGET { "holds" } else { "does not hold" };
            report.note(format!("{name}: at most {TARGET} KiB for an agent: {verdict}"));
        }
    }
    report.print(if args.json { Form::Json } else { Form::Table })
}

async fn watch(server: &Server, cluster: &Cluster, args: &Args) -> anyhow::Result<Vec<(Figure, f64)>> {
    let pid = server.pid()?;
    let (empty, count) = (processor::resident(pid)?, f64::from(args.agents));
    let mut agents = Child::role(&[
        "agents".to_owned(),
        format!("--url=ws://{}", server.agents),
        format!("--count={}", args.agents),
        "--slots=4".to_owned(),
        "--expect=1".to_owned(),
        format!("--within={}", args.seconds + 600),
    ])?;
    let _: Ready = agents.said(CONNECT_WITHIN).await?;
    tokio::time::sleep(SETTLE).await;
    let used = || anyhow::Ok((processor::used(Whose::Process(pid))?, cluster.used()?));
    let before = used()?;
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let after = used()?;
    let memory = processor::resident(pid)? - empty;
    agents.stop().await;
    let each = count * Duration::from_secs(args.seconds).as_secs_f64();
    Ok(vec![
        (MEMORY, memory / count),
        (SERVER, (after.0 - before.0) / each),
        (DATABASE, (after.1 - before.1) / each),
    ])
}
