//! `cargo xtask chaos`: builds the product and its proof harness, gives it a throw-away PostgreSQL, and runs it.

use std::{ffi::OsString, process::ExitCode};

use crate::{
    child::Child,
    postgres::{self, Cluster},
};

const HARNESS: &str = "hetuflow-chaos";

pub(crate) async fn run(args: &[OsString]) -> anyhow::Result<ExitCode> {
    // The binaries under test lie beside the harness.
    let build = Child::cargo("build").args(["--workspace", "--bins"]).run().await?;
    if build != ExitCode::SUCCESS {
        return Ok(build);
    }
    let harness = Child::cargo("run").args(["--quiet", "--package", HARNESS, "--", "run"]).args(args);
    // Asking for help needs no database, and neither does SQLite.
    if only_sqlite(args) {
        return harness.run().await;
    }
    let cluster = Cluster::start()?;
    let programs = cluster.programs().to_string_lossy().into_owned();
    harness.env(postgres::VARIABLE, cluster.url()).env(postgres::PROGRAMS, &programs).run().await
}

fn only_sqlite(args: &[OsString]) -> bool {
    let says = |text: &str| args.iter().any(|arg| arg == text);
    says("--help") || says("--database=sqlite") || args.windows(2).any(|two| two == ["--database", "sqlite"])
}
