//! `hetuflow task retry --all` and `cancel --all`: says how many, asks, then walks over them in stretches and shows
//! how far it is: a bar on a terminal, a line per stretch elsewhere.

use hetuflow_core::status::Status;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::filter;
use crate::{
    args::{ManyArgs, TaskFilterArgs},
    client::Client,
    commands::progress::{Progress, confirm},
    error::CliError,
    output::Output,
};

/// Tasks of one request: one short transaction.
const STRETCH: u64 = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Retry,
    Cancel,
}

impl Verb {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Cancel => "cancel",
        }
    }

    /// What `--all` means without `--status`: nothing of which a process may run, or may have run.
    fn unsaid(self) -> Vec<Status> {
        match self {
            Self::Retry => vec![Status::Failed, Status::TimedOut],
            Self::Cancel => vec![Status::Pending, Status::WaitingRetry],
        }
    }
}

#[derive(Debug, Deserialize)]
struct Count {
    count: u64,
    as_of: Timestamp,
}

/// What the server did in one stretch, or in all of them.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Done {
    #[serde(skip_serializing_if = "is_zero")]
    retried: u64,
    #[serde(skip_serializing_if = "is_zero")]
    skipped: u64,
    #[serde(skip_serializing_if = "is_zero")]
    cancelled: u64,
    #[serde(skip_serializing_if = "is_zero")]
    asked: u64,
    #[serde(skip_serializing)]
    next: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Done {
    const fn seen(&self) -> u64 {
        self.retried + self.skipped + self.cancelled + self.asked
    }

    fn add(&mut self, other: &Self) {
        self.retried += other.retried;
        self.skipped += other.skipped;
        self.cancelled += other.cancelled;
        self.asked += other.asked;
    }

    fn words(&self, verb: Verb) -> String {
        match verb {
            Verb::Retry if self.skipped > 0 => {
                format!(
                    "{} retried, {} skipped that have no command or are runs of a daemon",
                    self.retried, self.skipped
                )
            }
            Verb::Retry => format!("{} retried", self.retried),
            Verb::Cancel if self.asked > 0 => {
                format!("{} cancelled, {} that run asked to end", self.cancelled, self.asked)
            }
            Verb::Cancel => format!("{} cancelled", self.cancelled),
        }
    }
}

pub(super) async fn run(verb: Verb, args: ManyArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let mut wanted = args.filter;
    if wanted.status.is_empty() && !wanted.held {
        wanted.status = verb.unsaid();
    }
    let words = filter::words(&wanted);
    let counted: Count = client.get("tasks/count", &filter::query(&wanted)).await?;
    // What comes later was not counted, and nobody said yes to it.
    wanted.until = Some(wanted.until.map_or(counted.as_of, |until| until.min(counted.as_of)));
    let total = args.limit.map_or(counted.count, |limit| limit.min(counted.count));
    if total == 0 {
        return summary(verb, 0, &Done::default(), output);
    }
    if !args.yes {
        let tasks = if total == 1 { "1 task".to_owned() } else { format!("{total} tasks") };
        confirm(&format!("{} {tasks} ({words})", verb.name()))?;
    }
    let done = walk(verb, total, &wanted, client, &Progress::new(total, "tasks")).await?;
    summary(verb, counted.count, &done, output)
}

async fn walk(
    verb: Verb,
    total: u64,
    wanted: &TaskFilterArgs,
    client: &Client,
    progress: &Progress,
) -> Result<Done, CliError> {
    let path = format!("tasks/{}", verb.name());
    let (mut all, mut after) = (Done::default(), None);
    while all.seen() < total {
        let limit = STRETCH.min(total - all.seen());
        let body = json!({ "filter": filter::body(wanted), "limit": limit, "after": after });
        let done: Done = client.post(&path, &body).await.inspect_err(|_| {
            progress.stopped(&format!("stopped after {}; the same command goes on", all.words(verb)));
        })?;
        all.add(&done);
        progress.at(all.seen());
        let Some(next) = done.next else { break };
        after = Some(next);
    }
    progress.finish();
    Ok(all)
}

fn summary(verb: Verb, matched: u64, done: &Done, output: Output) -> Result<(), CliError> {
    if !output.is_json() {
        let nothing = || "No task is like that.".to_owned();
        return output.line(&if matched == 0 { nothing() } else { done.words(verb) });
    }
    match verb {
        Verb::Retry => {
            output.json(&json!({ "matched": matched, "retried": done.retried, "skipped": done.skipped }))
        }
        Verb::Cancel => {
            output.json(&json!({ "matched": matched, "cancelled": done.cancelled, "asked": done.asked }))
        }
    }
}
