//! The command line: nouns first, then verbs. Help texts teach: each says what comes next.

mod agent;
mod event;
mod task;
mod trigger;

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use agent::{AgentVerb, ServerVerb, TokenArgs};
pub(crate) use event::{EventFilterArgs, EventListArgs, EventVerb, ReplayArgs, SendArgs};
pub(crate) use task::{ManyArgs, TaskFilterArgs, TaskListArgs, TaskVerb};
pub(crate) use trigger::{TestArgs, TriggerVerb};

const EXIT_CODES: &str = "\
Exit codes:
  0  done            3  a file has problems       6  not possible in this state
  1  failed          4  not found                 7  the server cannot be reached
  2  wrong usage     5  not allowed";

/// Runs a process when something happens: a signed webhook, a file, a clock. Nothing accepted is lost or doubled.
#[derive(Debug, Parser)]
#[command(name = "hetuflow", version, after_help = EXIT_CODES, arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Where the server's API listens.
    #[arg(
        long,
        global = true,
        env = "HETUFLOW_URL",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    pub server: String,
    /// How results are printed: a table for people, JSON for scripts.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Colours: only on a terminal (`auto`), always, or never. `NO_COLOR` turns them off.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub color: Color,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Start everything on this machine, to try it or to write triggers: reloads them as you edit.
    Dev(DevArgs),
    /// Run server and agent on one machine, in production.
    Up(UpArgs),
    /// The files that say what runs when.
    #[command(subcommand)]
    Trigger(TriggerVerb),
    /// What happened.
    #[command(subcommand)]
    Event(EventVerb),
    /// What ran because of it, or waits to.
    #[command(subcommand)]
    Task(TaskVerb),
    /// When clocks start something.
    #[command(subcommand)]
    Schedule(ScheduleVerb),
    /// What there is to run.
    #[command(subcommand)]
    Job(JobVerb),
    /// The machines that run it.
    #[command(subcommand)]
    Agent(AgentVerb),
    /// The keys by which agents of other machines know the servers.
    #[command(subcommand)]
    Server(ServerVerb),
    /// Say whether the server can do its work; exits 1 when it cannot.
    Health,
    /// Look at this machine, and at the configurations of its server and agent: what would not work, and what to do about
    /// it. Exits 1 when something is wrong.
    Doctor(DoctorArgs),
    /// Webhook signature schemes.
    #[command(subcommand)]
    Signature(SignatureVerb),
    /// Configuration files.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Print a completion script for your shell.
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
#[command(
    after_help = "Then, in a second terminal:\n  hetuflow trigger list\n  hetuflow event list\n  hetuflow task list"
)]
pub(crate) struct DevArgs {
    /// Everything that is kept: database, agent state, generated secrets, watched folders.
    #[arg(long, default_value = ".hetuflow", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// The folder with trigger files.
    #[arg(long, default_value = "triggers", value_name = "DIR")]
    pub triggers: PathBuf,
    /// The API's address; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub http: SocketAddr,
    /// Where agents connect.
    #[arg(long, default_value = "127.0.0.1:8081", value_name = "ADDR")]
    pub agents: SocketAddr,
    /// Where webhooks arrive.
    #[arg(long, default_value = "127.0.0.1:8082", value_name = "ADDR")]
    pub hooks: SocketAddr,
    /// `sqlite:FILE` or `postgres://..`; without it a SQLite file in the data directory.
    #[arg(long, env = "DATABASE_URL", value_name = "URL")]
    pub database: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The server's configuration; without it /etc/hetuflow/server.toml, if it is there.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The agent's configuration; without it /etc/hetuflow/agent.toml, if it is there.
    #[arg(long, value_name = "FILE")]
    pub agent_config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// The server's configuration; `config/server.toml` is the commented sample.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The agent's configuration; without it `agent.toml` beside the server's, if it is there.
    #[arg(long, value_name = "FILE")]
    pub agent_config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PageArgs {
    /// At most this many, up to 500.
    #[arg(long, default_value_t = 20)]
    pub limit: u32,
    /// Go on after this place: `next_cursor` of the page before.
    #[arg(long)]
    pub cursor: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobVerb {
    /// List jobs: those of triggers, and those that were declared over the API.
    List,
    /// Show one job: what it runs, within which limits.
    Show { name: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleVerb {
    /// List schedules, newest first: what they say, and when they fire next or how their daemon is.
    List {
        /// Only those of this trigger.
        #[arg(long)]
        trigger: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Show when schedules fire next, in UTC and on their own clocks, and what changed clocks do to it; of a daemon, how it
    /// is and when it starts again.
    Next {
        /// A trigger, or the id of one schedule.
        name: String,
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
        count: u32,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SignatureVerb {
    /// List the schemes that are built in.
    List,
    /// Run test vectors: a `.json` file of rows, or a scheme file with its own. Exits 1 when one differs.
    Test { file: PathBuf },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Check a server's or an agent's configuration: every problem at once, each with its line.
    Check {
        file: PathBuf,
        /// The file is an agent's; without this, told by its tables, or else by its name.
        #[arg(long)]
        agent: bool,
    },
    /// Show every value in force, and whether the file, a variable or the default says it. Passwords are left out.
    Show {
        /// Without it: what holds without a file.
        file: Option<PathBuf>,
        /// That of an agent; without this, told by the file's tables, or else by its name.
        #[arg(long)]
        agent: bool,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
