//! `cargo xtask`: the chores of this repository, without any tool to install beforehand.
//!
//! - `test` runs every test of the workspace on both databases; [`postgres`] provides the second one
//! - `check` is what a change must pass before its tests are looked at: format and lints
//! - `chaos` kills and cuts the product under load, and judges what became of it
//! - `fuzz` tries what a stranger's bytes go through
//! - `postgres` runs any command with a throw-away PostgreSQL
//! - `bench` builds everything as it is released and measures it on a throw-away PostgreSQL
//!
//! `.ci/run` calls `check` and `test`. The exit code is that of the command that failed.

mod chaos;
mod child;
mod postgres;

use std::{ffi::OsString, process::ExitCode};

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::child::{Child, Terminal};

/// The package whose tests start binaries of the others.
const END_TO_END: &str = "hetuflow";

/// What benchmarks start, and the benchmarks.
const BENCHED: [&str; 8] =
    ["-p", "hetuflow", "-p", "hetuflow-server", "-p", "hetuflow-agent", "-p", "hetuflow-bench"];

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The chores of this repository", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run every test of the workspace, on SQLite and on a throw-away PostgreSQL
    Test {
        /// Passed on to `cargo test`; with `-p CRATE` only that crate is tested
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Check format and lints
    Check,
    /// Kill, freeze and cut the product under load, and judge what became of it (docs/reliability)
    Chaos {
        /// Passed on to the harness: `--seed`, `--minutes`, `--database`, `--servers`, and others that `--help` lists
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Try what a stranger's bytes go through: `cargo xtask fuzz signature --time 10m`; without a target all of them
    Fuzz {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Run a command with `HETUFLOW_TEST_POSTGRES` set to a throw-away PostgreSQL
    Postgres {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
    /// Measure, beside others: `cargo xtask bench engine`, see docs/benchmarks.md
    Bench {
        /// Build in a hurry and with symbols: to try something, or to profile it
        #[arg(long)]
        draft: bool,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        args: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.context("cannot start").and_then(|runtime| runtime.block_on(run(Cli::parse().task)));
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(task: Task) -> anyhow::Result<ExitCode> {
    match task {
        Task::Test { args } => test(&args).await,
        Task::Check => check().await,
        Task::Chaos { args } => chaos::run(&args).await,
        Task::Fuzz { args } => {
            let fuzz = ["--quiet", "--profile", "fuzz", "--package", "hetuflow-fuzz", "--"];
            Child::cargo("run").args(fuzz).args(&args).run().await
        }
        Task::Postgres { command } => {
            let cluster = postgres::Cluster::start(postgres::Use::Tests)?;
            let [program, args @ ..] = command.as_slice() else { anyhow::bail!("which command?") };
            let child = Child::new(program).args(args).env(postgres::VARIABLE, cluster.url());
            child.terminal(Terminal::Shared).run().await
        }
        Task::Bench { draft, args } => bench(if draft { "draft" } else { "release" }, &args).await,
    }
}

/// The product's own binaries come first, because the benchmarks start them.
async fn bench(profile: &str, args: &[OsString]) -> anyhow::Result<ExitCode> {
    let build = Child::cargo("build").args(["--profile", profile, "--bins"]).args(BENCHED).run().await?;
    if build != ExitCode::SUCCESS {
        return Ok(build);
    }
    let cluster = postgres::Cluster::start(postgres::Use::Benchmarks)?;
    // Not `cargo run`, which would build all of it once more with the features of one package.
    let own = std::env::current_exe().context("cannot find this binary")?;
    let profiles = own.ancestors().nth(2).context("this binary is not in a target folder")?;
    let program = profiles.join(profile).join("hetuflow-bench");
    Child::new(program.as_os_str()).args(args).env(postgres::VARIABLE, cluster.url()).run().await
}

/// The binaries come first, because the end-to-end tests start them.
async fn test(args: &[OsString]) -> anyhow::Result<ExitCode> {
    let cluster = postgres::Cluster::start(postgres::Use::Tests)?;
    let packages = packages(args);
    if packages.is_empty() || packages.contains(&END_TO_END) {
        let build = Child::cargo("build").args(["--workspace", "--bins"]).args(profile(args)).run().await?;
        if build != ExitCode::SUCCESS {
            return Ok(build);
        }
    }
    let scope = packages.is_empty().then_some("--workspace");
    Child::cargo("test").args(scope).args(args).env(postgres::VARIABLE, cluster.url()).run().await
}

async fn check() -> anyhow::Result<ExitCode> {
    let format = Child::cargo("fmt").args(["--all", "--", "--check"]).run().await?;
    if format != ExitCode::SUCCESS {
        return Ok(format);
    }
    Child::cargo("clippy").args(["--workspace", "--all-targets", "--", "-D", "warnings"]).run().await
}

/// What comes before a second `--` is for cargo, the rest for the test binaries.
fn for_cargo(args: &[OsString]) -> impl Iterator<Item = &str> {
    args.iter().map_while(|arg| arg.to_str().filter(|text| *text != "--"))
}

/// The packages that `-p` names.
fn packages(args: &[OsString]) -> Vec<&str> {
    let mut packages = Vec::new();
    let mut rest = for_cargo(args);
    while let Some(arg) = rest.next() {
        match arg {
            "-p" | "--package" => packages.extend(rest.next()),
            _ => packages.extend(arg.strip_prefix("--package=").or_else(|| arg.strip_prefix("-p"))),
        }
    }
    packages
}

/// The arguments that say with which profile cargo builds.
fn profile(args: &[OsString]) -> Vec<&str> {
    let mut profile = Vec::new();
    let mut rest = for_cargo(args);
    while let Some(arg) = rest.next() {
        match arg {
            "--profile" => profile.extend([Some(arg), rest.next()].into_iter().flatten()),
            "--release" | "-r" | "--locked" | "--offline" => profile.push(arg),
            _ if arg.starts_with("--profile=") => profile.push(arg),
            _ => {}
        }
    }
    profile
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binaries_are_built_as_the_tests_will_be() {
        let check = |line: &str, named: &[&str], expected: &[&str]| {
            let args: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            assert_eq!(packages(&args), named, "{line}");
            assert_eq!(profile(&args), expected, "{line}");
        };
        check("", &[], &[]);
        check("--release some_test -- --nocapture", &[], &["--release"]);
        check("-p hetuflow-store --profile ci", &["hetuflow-store"], &["--profile", "ci"]);
        check("--package=hetuflow -pxtask", &["hetuflow", "xtask"], &[]);
        check("-- --release -p x", &[], &[]);
    }
}
