//! The verbs of `hetuflow trigger`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hetuflow_core::id::EventId;

const TEST_HELP: &str = "\
Examples:
  hetuflow trigger test triggers/deploy-site.toml --payload push.json --type push
  hetuflow trigger test triggers/deploy-site.toml --event 0199c1d4-...
  hetuflow trigger test triggers/deploy-site.toml --last 100 --diff
  hetuflow trigger test triggers/import-csv.toml --list

Nothing runs and nothing is stored. --payload and --list need no server. Signatures are not judged. Values of variables that are
named like secrets (TOKEN, PASSWORD, ..) are not shown.";

#[derive(Debug, Subcommand)]
pub(crate) enum TriggerVerb {
    /// List triggers: which are live, and what is wrong with those that are not.
    List,
    /// Show one trigger with its schedules and its text.
    Show { name: String },
    /// Check files, or folders of them, without a server: every problem at once, each with its line. Exits 3 when there is one.
    Check {
        #[arg(required = true, value_name = "PATH")]
        files: Vec<PathBuf>,
    },
    /// Say what a file would make of a payload or of events that were received, and what would run.
    #[command(after_help = TEST_HELP)]
    Test(TestArgs),
    /// Start a trigger that has `[on.api]`, with or without data.
    Start {
        name: String,
        /// The event's data: JSON, `@FILE`, or `-` for standard input.
        #[arg(long, value_name = "DATA")]
        data: Option<String>,
        /// Print what its task prints as it comes, and fail if it fails.
        #[arg(long)]
        follow: bool,
    },
    /// Say what `apply` would change, line by line, and change nothing.
    Plan {
        #[arg(required = true, value_name = "PATH")]
        files: Vec<PathBuf>,
    },
    /// Put files in force on a server that loads no folder.
    Apply {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Remove a trigger that was applied. What it started runs on.
    Remove { name: String },
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").args(["payload", "event", "last", "list"]).required(true))]
pub(crate) struct TestArgs {
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// A file with the body of a request, or `-` for standard input.
    #[arg(long, value_name = "FILE")]
    pub payload: Option<PathBuf>,
    /// An event that was received.
    #[arg(long, value_name = "ID")]
    pub event: Option<EventId>,
    /// The last events that the file's triggers would be asked about.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500))]
    pub last: Option<u32>,
    /// Every file of this machine below its globs, each with the rule that takes it or not.
    #[arg(long)]
    pub list: bool,
    /// Where globs start that do not begin with `/`: an agent's data directory.
    #[arg(long, value_name = "DIR", requires = "list", default_value = ".")]
    pub base: PathBuf,
    /// Compare with the definition in force: only events of which it decides otherwise, or runs something else.
    #[arg(long)]
    pub diff: bool,
    /// The type of the payload's event; without it the first that the trigger takes.
    #[arg(long = "type", value_name = "TYPE", requires = "payload")]
    pub event_type: Option<String>,
    /// A header of the payload's request; may be repeated.
    #[arg(long, value_name = "NAME: VALUE", requires = "payload")]
    pub header: Vec<String>,
    /// The query of the payload's request, such as `env=prod`.
    #[arg(long, requires = "payload")]
    pub query: Option<String>,
    /// The name of a trigger that does not say its own: of a copy that is tried, that of the original. Without it, the
    /// file's name.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Of a file with several triggers, only this one.
    #[arg(long, value_name = "NAME")]
    pub trigger: Option<String>,
}
