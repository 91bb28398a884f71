//! Runs what was asked for, database by database, and says what came of it: figures when all is well, otherwise each
//! violation with its ids, the folder with the histories, and the one command that repeats the run.

mod long;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use tokio::time::Instant;

use self::long::{long, summary};
use crate::{
    args::{Databases, RunArgs},
    check::{FAULTS, Recovery, Run, Verdict, judge},
    history::{self, Fault},
    plan::Length,
    postgres::Postgres,
    supervisor::{self, Order},
    world::{Database, Form},
};

/// The parts of the short form: long enough for some dozens of faults, and with a load that any machine takes.
const SHORT: f64 = 0.4;
const SHORT_RATE: u32 = 40;

/// Beside the ordinary binaries, those that were built with failpoints.
const FAILPOINTS: &str = "failpoints";

/// What of each kind of violation is shown; the rest is counted.
const SHOWN: usize = 10;

pub(crate) async fn runs(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let seed = args.seed.unwrap_or_else(|| history::now() / 1_000_000 % 1_000_000);
    let binaries = binaries(args)?;
    let mut good = true;
    if args.long {
        // Side by side: each mostly waits for what it has broken.
        let mut parts = long(args).into_iter();
        let one = async |part: Option<RunArgs>, seed| match part {
            Some(args) => Box::pin(all_of(&args, seed, &binaries)).await,
            None => Ok(true),
        };
        let (first, second) = tokio::join!(one(parts.next(), seed), one(parts.next(), seed + 1));
        good = first? & second?;
    } else {
        for args in parts(args) {
            good &= all_of(&args, seed, &binaries).await?;
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is run, one after the other.
fn parts(args: &RunArgs) -> Vec<RunArgs> {
    if !args.short {
        return vec![args.clone()];
    }
    let part = |database, servers, up| RunArgs {
        database,
        servers,
        up,
        short: false,
        minutes: SHORT,
        rate: SHORT_RATE,
        ..args.clone()
    };
    vec![
        part(Databases::Sqlite, 1, false),
        part(Databases::Postgres, 2, false),
        part(Databases::Sqlite, 1, true),
    ]
}

/// On every database that was asked for; false when one has something to complain of.
async fn all_of(args: &RunArgs, seed: u64, binaries: &Path) -> anyhow::Result<bool> {
    let mut all_good = true;
    for (name, database) in databases(args)? {
        let form = if args.up { Form::Up } else { Form::Split { servers: args.servers.into() } };
        let order = Order { seed, form, database, length: args.length(), rate: args.rate };
        let folder =
            tempfile::Builder::new().prefix(&format!("chaos-{name}-{seed}-")).tempdir_in(&args.folder)?;
        eprintln!("{name}, {}, seed {seed}, in {}", describe(form), folder.path().display());
        let began = Instant::now();
        let ended = match &args.points {
            Some(only) => supervisor::walk(&order, folder.path(), &binaries.join(FAILPOINTS), only).await,
            None => supervisor::run(&order, folder.path(), binaries).await,
        };
        let good = say(name, &ended, folder.path(), began)?;
        if let Ok(verdict) = &ended
            && args.length() == Length::Counts(args.goals())
        {
            let faults: Vec<Fault> = history::read(&folder.path().join(FAULTS))?;
            eprintln!("{}", summary(&format!("{name}, {}, seed {seed}", describe(form)), &faults, verdict));
        }
        if let Some(kind) = &args.expect {
            all_good &= ended.is_ok_and(|verdict| found(&verdict, kind));
            continue;
        }
        if !good {
            eprintln!("FAILED; the histories are in {}", folder.keep().display());
            eprintln!("again: {}", again(args, name, seed));
            all_good = false;
        }
    }
    Ok(all_good)
}

pub(crate) fn check(folder: &Path) -> anyhow::Result<ExitCode> {
    let verdict = judge(&Run::load(folder)?);
    Ok(if list(&verdict) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn describe(form: Form) -> String {
    match form {
        Form::Up => "one process".to_owned(),
        Form::Split { servers: 1 } => "one server, two agents".to_owned(),
        Form::Split { servers } => format!("{servers} servers, two agents"),
    }
}

fn binaries(args: &RunArgs) -> anyhow::Result<PathBuf> {
    match &args.binaries {
        Some(folder) => Ok(folder.clone()),
        None => Ok(std::env::current_exe()?.parent().context("a binary is in a folder")?.to_owned()),
    }
}

fn databases(args: &RunArgs) -> anyhow::Result<Vec<(&'static str, Database)>> {
    let mut databases = Vec::new();
    let single = args.servers == 1 && !args.up;
    if args.database != Databases::Postgres && (args.servers == 1 || args.up) {
        databases.push(("sqlite", Database::Sqlite));
    } else if args.database == Databases::Sqlite && !single {
        bail!("several servers need PostgreSQL");
    }
    if args.database != Databases::Sqlite {
        let given = args.postgres.as_deref().zip(args.postgres_programs.as_deref());
        let (url, programs) = given.context("no PostgreSQL: run `cargo xtask chaos`, which starts one")?;
        databases.push(("postgres", Database::Postgres(Postgres::of(url, programs)?)));
    }
    Ok(databases)
}

/// True when there is nothing to complain of.
fn say(name: &str, ended: &anyhow::Result<Verdict>, folder: &Path, began: Instant) -> anyhow::Result<bool> {
    let faults: Vec<Fault> = history::read(&folder.join(FAULTS))?;
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for fault in &faults {
        let target = fault.target.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
        *kinds.entry(format!("{target} {:?}", fault.kind).to_lowercase()).or_default() += 1;
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    eprintln!("{name}: faults in {} s: {}", began.elapsed().as_secs(), kinds.join(", "));
    match ended {
        Ok(verdict) => Ok(list(verdict)),
        Err(error) => {
            eprintln!("the run broke: {error:#}");
            Ok(false)
        }
    }
}

fn found(verdict: &Verdict, kind: &str) -> bool {
    verdict.violations.iter().any(|violation| violation.kind.to_string().starts_with(kind))
}

fn list(verdict: &Verdict) -> bool {
    let counts = &verdict.counts;
    eprintln!(
        "deliveries {} (acknowledged {} times, unknown {}, duplicates {}), files {}, fires {} (passed over {})",
        counts.deliveries,
        counts.acknowledged,
        counts.unknown,
        counts.duplicates,
        counts.files,
        counts.fires,
        counts.passed_over
    );
    eprintln!(
        "tasks {} (ends told {}), processes {} (of daemons {}), attempts lost to faults {}, tasks held {}, violations {}",
        counts.tasks,
        counts.ends,
        counts.effects,
        counts.runs,
        counts.lost_attempts,
        counts.held,
        verdict.violations.len()
    );
    if let Some(Recovery { answered, settled }) = &verdict.recovery {
        eprintln!(
            "after the last fault: every delivery answered in {:.1} s, everything settled in {:.1} s",
            answered.as_secs_f32(),
            settled.as_secs_f32()
        );
    }
    let mut shown: BTreeMap<_, usize> = BTreeMap::new();
    for violation in &verdict.violations {
        let count = shown.entry(violation.kind).or_default();
        *count += 1;
        if *count <= SHOWN {
            eprintln!("  {}: {}", violation.kind, violation.what);
        }
    }
    for (kind, count) in shown.into_iter().filter(|(_, count)| *count > SHOWN) {
        eprintln!("  {kind}: {} more", count - SHOWN);
    }
    verdict.violations.is_empty()
}

fn again(args: &RunArgs, database: &str, seed: u64) -> String {
    let mut parts =
        vec![format!("cargo xtask chaos --seed {seed} --database {database} --rate {}", args.rate)];
    if let Some(only) = &args.points {
        parts.push(format!("--points {only}"));
    }
    if args.up {
        parts.push("--up".to_owned());
    } else if args.servers > 1 {
        parts.push(format!("--servers {}", args.servers));
    }
    let goals = args.goals();
    for (name, count) in [
        ("server-kills", goals.server_kills),
        ("agent-kills", goals.agent_kills),
        ("postgres-restarts", goals.postgres_restarts),
        ("partitions", goals.partitions),
        ("freezes", goals.freezes),
        ("absences", goals.absences),
    ] {
        if count > 0 {
            parts.push(format!("--{name} {count}"));
        }
    }
    parts.push(format!("--minutes {}", args.minutes));
    parts.join(" ")
}
