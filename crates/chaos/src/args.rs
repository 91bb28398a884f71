//! What can be asked of the harness.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::plan::{Goals, Length};

#[derive(Debug, Parser)]
#[command(
    name = "hetuflow-chaos",
    about = "Kills, freezes and cuts hetuflow under load, and judges what became of it"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the product through random faults
    Run(RunArgs),
    /// Files of many kinds of writers, while the agent and its memory come to harm
    Files(crate::files::FilesArgs),
    /// Judge the histories of an earlier run again
    Check { folder: PathBuf },
    /// The job of every run
    #[command(hide = true)]
    Effect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Databases {
    Sqlite,
    Postgres,
    Both,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// The plan of faults; a failing run says how it is repeated
    #[arg(long)]
    pub(crate) seed: Option<u64>,

    /// For how long things break, unless counts say when it is enough; half a minute is `0.5`
    #[arg(long, default_value_t = 1.0)]
    pub(crate) minutes: f64,

    #[arg(long, value_enum, default_value = "both")]
    pub(crate) database: Databases,

    /// Servers that share the database; two need PostgreSQL
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(crate) servers: u8,

    /// Everything in one process (`hetuflow up`)
    #[arg(long, conflicts_with = "servers")]
    pub(crate) up: bool,

    /// What belongs to every change: one server, two servers and one process, half a minute each
    #[arg(long, conflicts_with_all = ["points", "up", "servers"])]
    pub(crate) short: bool,

    /// What belongs to a release: five hundred kills of servers and of agents and much else on each database, side by
    /// side, with a summary
    #[arg(long, conflicts_with_all = ["points", "up", "servers", "short"])]
    pub(crate) long: bool,

    /// Succeed only when violations of this kind are found: for binaries with a seeded mistake
    #[arg(long, value_name = "KIND")]
    pub(crate) expect: Option<String>,

    /// Instead of random faults, die at every failpoint in turn; with a value, at those whose name begins so
    #[arg(long, value_name = "PREFIX", num_args = 0..=1, default_missing_value = "", conflicts_with = "up")]
    pub(crate) points: Option<String>,

    /// Deliveries per second, at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub(crate) rate: u32,

    #[arg(long, default_value_t = 0)]
    pub(crate) server_kills: u32,
    #[arg(long, default_value_t = 0)]
    pub(crate) agent_kills: u32,
    #[arg(long, default_value_t = 0)]
    pub(crate) postgres_restarts: u32,
    #[arg(long, default_value_t = 0)]
    pub(crate) partitions: u32,
    #[arg(long, default_value_t = 0)]
    pub(crate) freezes: u32,
    /// How often an agent, or one of two servers, stays away for longer than anybody waits for it
    #[arg(long, default_value_t = 0)]
    pub(crate) absences: u32,

    /// Where folders of runs are made; a run that fails leaves its own there
    #[arg(long, default_value = "/tmp")]
    pub(crate) folder: PathBuf,

    /// Where the binaries under test are; beside this one when not given
    #[arg(long)]
    pub(crate) binaries: Option<PathBuf>,

    /// The throw-away PostgreSQL and its programs, as `cargo xtask chaos` gives them
    #[arg(long, env = "HETUFLOW_TEST_POSTGRES", hide_env_values = true)]
    pub(crate) postgres: Option<String>,
    #[arg(long, env = "HETUFLOW_TEST_POSTGRES_PROGRAMS")]
    pub(crate) postgres_programs: Option<PathBuf>,
}

impl RunArgs {
    pub(crate) fn goals(&self) -> Goals {
        Goals {
            server_kills: self.server_kills,
            agent_kills: self.agent_kills,
            postgres_restarts: self.postgres_restarts,
            partitions: self.partitions,
            freezes: self.freezes,
            absences: self.absences,
        }
    }

    pub(crate) fn length(&self) -> Length {
        let goals = self.goals();
        if goals == Goals::default() {
            Length::For(Duration::from_secs_f64(self.minutes.clamp(0.05, 10_000.0) * 60.0))
        } else {
            Length::Counts(goals)
        }
    }
}
