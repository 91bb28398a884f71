//! The verbs of `hetuflow task`, and the filters that they share.

use clap::{Args, Subcommand};
use hetuflow_core::{Clock, duration, id::EventId, status::Status, task::EndReason};
use jiff::Timestamp;

use super::PageArgs;

const RETRY_HELP: &str = "\
Examples:
  hetuflow task retry 0199c1d4-...
  hetuflow task retry --all --trigger deploy-site --since 2h
  hetuflow task retry --all --status lost --yes

--all means tasks that failed or timed out; those that are lost may have had their effect and are only retried when
--status says so. Interrupted, the same command goes on: what runs again does not match any more.";

const CANCEL_HELP: &str = "\
Examples:
  hetuflow task cancel 0199c1d4-...
  hetuflow task cancel --all --trigger deploy-site
  hetuflow task cancel --all --status running --yes

--all means tasks that wait; those that agents hold are only ended when --status says so.";

#[derive(Debug, Subcommand)]
pub(crate) enum TaskVerb {
    /// List tasks, newest first.
    List(TaskListArgs),
    /// Show one task: what runs, each attempt, and why it waits if it does.
    Show { id: String },
    /// Print the output of a task's last attempt (or of the attempt with this id).
    Logs {
        id: String,
        /// Go on printing until the task has ended; exits 1 when it ended badly.
        #[arg(long, short)]
        follow: bool,
    },
    /// Cancel a task: one that waits never starts, one that runs is ended, one that failed is given up. With --all many
    /// that have not ended.
    #[command(after_help = CANCEL_HELP)]
    Cancel(ManyArgs),
    /// Run an ended task once more, or with --all many.
    #[command(after_help = RETRY_HELP)]
    Retry(ManyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TaskListArgs {
    #[command(flatten)]
    pub filter: TaskFilterArgs,
    #[command(flatten)]
    pub page: PageArgs,
}

/// One task by its id, or all that a filter lets through.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").args(["id", "all"]).required(true))]
pub(crate) struct ManyArgs {
    pub id: Option<String>,
    /// Every task that the filters let through, oldest first.
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub filter: TaskFilterArgs,
    /// At most this many.
    #[arg(long, requires = "all", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Do not ask.
    #[arg(long, short, requires = "all")]
    pub yes: bool,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TaskFilterArgs {
    /// A status by name or number; several are separated by commas.
    #[arg(long, value_delimiter = ',')]
    pub status: Vec<Status>,
    /// Why the last attempt ended: exit, signal, timeout, lost, cancelled, render, spawn.
    #[arg(long, value_delimiter = ',')]
    pub reason: Vec<EndReason>,
    /// Only tasks whose last attempt was lost and that wait for a person's decision.
    #[arg(long, conflicts_with = "status")]
    pub held: bool,
    /// Only tasks of this trigger.
    #[arg(long)]
    pub trigger: Option<String>,
    /// Only tasks of the job with this name.
    #[arg(long)]
    pub job: Option<String>,
    /// Only tasks that this event caused.
    #[arg(long)]
    pub event: Option<EventId>,
    /// Only tasks made at this time or later: `2026-01-31T12:00:00Z`, or `2h` for the last two hours.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// Only tasks made before this time, in the same forms.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Timestamp>,
}

impl TaskFilterArgs {
    pub(crate) fn is_empty(&self) -> bool {
        let lists = self.status.is_empty() && self.reason.is_empty() && !self.held;
        let names = self.trigger.is_none() && self.job.is_none() && self.event.is_none();
        lists && names && self.since.is_none() && self.until.is_none()
    }
}

/// A time, or how long ago it was.
pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago = duration::parse(text).map_err(|_| {
        format!("{text:?} is neither a time (2026-01-31T12:00:00Z) nor how long ago it was (2h)")
    })?;
    Clock::system().now().checked_sub(ago).map_err(|error| error.to_string())
}
