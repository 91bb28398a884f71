//! `bench schedules`: whether many schedules that are not due cost anything while a few are.

use std::{fmt::Write, fs, path::Path, time::Duration};

use crate::{
    database::Cluster,
    machine::Machine,
    processor::{self, Whose},
    report::{Figure, Form, Report},
    server::Server,
};

const NAME: &str = "bench_schedules";
/// Entries in one trigger file.
const IN_A_FILE: u32 = 1000;
/// What was loaded is written, and the loops are in step.
const SETTLE: Duration = Duration::from_secs(10);

const SERVER: Figure = Figure("server ms/s");
const DATABASE: Figure = Figure("PostgreSQL ms/s");

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[arg(long, default_value_t = 100)]
    few: u32,
    #[arg(long, default_value_t = 100_000)]
    many: u32,
    /// Schedules that fire every second, in both
    #[arg(long, default_value_t = 10)]
    due: u32,
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut report = Report::new("Schedules that are not due", Machine::look(folder.path())?);
    report.note(format!(
        "{} schedules fire every second, the others in months; processor time for each second of {}",
        args.due, args.seconds
    ));
    let mut cluster = Cluster::find().await?;
    for round in 1..=args.rounds {
        for count in [args.few, args.many] {
            for database in ["PostgreSQL", "SQLite"] {
                let name = format!("{database}, {count} schedules");
                eprintln!("round {round} of {}: {name}", args.rounds);
                let folder = folder.path().join("round");
                let _ = fs::remove_dir_all(&folder);
                write(&folder.join("triggers"), count, args.due)?;
                let url = match database {
                    "PostgreSQL" => cluster.fresh(NAME).await?,
                    _ => format!("sqlite:{}", folder.join("hetuflow.db").display()),
                };
                let server = Server::start(&url, &folder).await?;
                let used = watch(&server, &cluster, args.seconds).await;
                server.stop().await;
                let (server, postgres) = used?;
                report.add(&name, [(SERVER, server)]);
                if database == "PostgreSQL" {
                    report.add(&name, [(DATABASE, postgres)]);
                }
            }
        }
    }
    cluster.remove(NAME).await?;
    cluster.close().await;
    report.print(if args.json { Form::Json } else { Form::Table })
}

/// Milliseconds of the server and of PostgreSQL for each second.
async fn watch(server: &Server, cluster: &Cluster, seconds: u64) -> anyhow::Result<(f64, f64)> {
    let pid = server.pid()?;
    let used = || anyhow::Ok((processor::used(Whose::Process(pid))?, cluster.used()?));
    tokio::time::sleep(SETTLE).await;
    let before = used()?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after = used()?;
    let each = |before: f64, after: f64| (after - before) / 1e3 / Duration::from_secs(seconds).as_secs_f64();
    Ok((each(before.0, after.0), each(before.1, after.1)))
}

fn write(folder: &Path, count: u32, due: u32) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let job = "[job]\ncmd = \"true\"\n";
    fs::write(
        folder.join("due.toml"),
        format!("{}{job}", "[[on.interval]]\nevery = \"1s\"\n".repeat(due as usize)),
    )?;
    let mut left = count;
    while left > 0 {
        let entries = left.min(IN_A_FILE);
        let mut text = String::new();
        for n in 0..entries {
            write!(text, "[[on.interval]]\nevery = \"{}h\"\n", 4000 + n)?;
        }
        text.push_str(job);
        fs::write(folder.join(format!("later-{left}.toml")), text)?;
        left -= entries;
    }
    Ok(())
}
