//! `cargo xtask chaos`: builds the product and its proof harness, gives it a throw-away PostgreSQL, and runs it.

mod mutants;

use std::{ffi::OsString, process::ExitCode};

use anyhow::Context;

use crate::{
    child::Child,
    postgres::{self, Cluster},
};

const HARNESS: &str = "hetuflow-chaos";

/// What turns the failpoints of the product on, and the folder beside the ordinary binaries for those that have them.
const FEATURE: &str = "hetuflow-failpoint/failpoints";
const FAILPOINTS: &str = "failpoints";

pub(crate) async fn run(args: &[OsString]) -> anyhow::Result<ExitCode> {
    if let Some(only) = args.iter().position(|arg| arg == "--mutants") {
        let built = Child::cargo("build").args(["--package", HARNESS]).run().await?;
        let only = args.get(only + 1).and_then(|arg| arg.to_str()).unwrap_or_default();
        return if built == ExitCode::SUCCESS { mutants::run(only).await } else { Ok(built) };
    }
    if args.iter().any(|arg| arg.to_str().is_some_and(|arg| arg.starts_with("--points"))) {
        let built = with_failpoints().await?;
        if built != ExitCode::SUCCESS {
            return Ok(built);
        }
    }
    // The binaries under test lie beside the harness.
    let build = Child::cargo("build").args(["--workspace", "--bins"]).run().await?;
    if build != ExitCode::SUCCESS {
        return Ok(build);
    }
    let (what, args): (&str, Vec<&OsString>) = match args.iter().position(|arg| arg == "--files") {
        Some(at) => ("files", args.iter().take(at).chain(args.iter().skip(at + 1)).collect()),
        None => ("run", args.iter().collect()),
    };
    let harness = Child::cargo("run").args(["--quiet", "--package", HARNESS, "--", what]).args(&args);
    // Asking for help needs no database, and neither does SQLite.
    if what == "files" || only_sqlite(&args) {
        return harness.run().await;
    }
    let cluster = Cluster::start(postgres::Use::Tests)?;
    let programs = cluster.programs().to_string_lossy().into_owned();
    harness.env(postgres::VARIABLE, cluster.url()).env(postgres::PROGRAMS, &programs).run().await
}

/// Built where the ordinary ones are, because everything below them is the same, and then put aside.
async fn with_failpoints() -> anyhow::Result<ExitCode> {
    let build = Child::cargo("build").args(["--workspace", "--bins", "--features", FEATURE]).run().await?;
    let own = std::env::current_exe()?;
    let binaries = own.parent().context("a binary is in a folder")?;
    let aside = binaries.join(FAILPOINTS);
    std::fs::create_dir_all(&aside)?;
    for name in ["hetuflow", "hetuflow-server", "hetuflow-agent"] {
        let to = aside.join(name);
        // A run may still have the last one open.
        drop(std::fs::remove_file(&to));
        std::fs::copy(binaries.join(name), &to).with_context(|| format!("{name} was not built"))?;
    }
    Ok(build)
}

fn only_sqlite(args: &[&OsString]) -> bool {
    let says = |text: &str| args.iter().any(|arg| *arg == text);
    says("--help") || says("--database=sqlite") || args.windows(2).any(|two| two == ["--database", "sqlite"])
}
