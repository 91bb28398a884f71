//! The verbs of `hetuflow event`, and the filters that they share.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use hetuflow_core::id::EventId;
use jiff::Timestamp;

use super::{PageArgs, task::moment};

const LIST_HELP: &str = "\
Examples:
  hetuflow event list --trigger deploy-site --decision no-match --since 2h
  hetuflow event list --header x-github-delivery=72d3162e-cc78-11e3-81ab-4c9367dc0958
  hetuflow event list --json body.ref=refs/heads/main --type push
  hetuflow event list --when 'body.pull_request.number > 100 && !body.pull_request.draft'

Headers and bodies are looked into a part of the journal at a time; --cursor goes on where it ended.";

const REPLAY_HELP: &str = "\
Examples:
  hetuflow event replay 0199c1d4-...
  hetuflow event replay 0199c1d4-... --definition original
  hetuflow event replay --all --trigger deploy-site --decision no-match --since 2h --rate 5

A replay is an event of its own that names the one it repeats. The bytes are those that were received; whether they are
authentic was judged then. --all passes over what was refused, what a clock started, and what is a replay itself.";

#[derive(Debug, Subcommand)]
pub(crate) enum EventVerb {
    /// List events, newest first.
    #[command(after_help = LIST_HELP)]
    List(EventListArgs),
    /// Show one event: its verdict, what each trigger decided and why, the tasks it caused.
    Show {
        id: EventId,
        /// Print only the body, byte for byte as it was received.
        #[arg(long)]
        body: bool,
    },
    /// Have triggers decide about an event once more, or with --all about many.
    #[command(after_help = REPLAY_HELP)]
    Replay(ReplayArgs),
    /// Sign a payload as the hook's provider would, and post it to the hook.
    Send(SendArgs),
}

#[derive(Debug, Args)]
pub(crate) struct EventListArgs {
    #[command(flatten)]
    pub filter: EventFilterArgs,
    #[command(flatten)]
    pub page: PageArgs,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct EventFilterArgs {
    /// Only events that this trigger was asked about, or that its hook refused.
    #[arg(long)]
    pub trigger: Option<String>,
    /// What that trigger decided.
    #[arg(long, value_enum, requires = "trigger")]
    pub decision: Option<DecisionArg>,
    /// webhook, file, schedule, api or internal.
    #[arg(long)]
    pub kind: Option<String>,
    /// Where it came from: `/hooks/deploy-site`, or only the end of it.
    #[arg(long)]
    pub source: Option<String>,
    /// The event's type, such as `push`.
    #[arg(long = "type", value_name = "TYPE")]
    pub event_type: Option<String>,
    /// accepted, malformed, rejected, unverified or ping.
    #[arg(long)]
    pub verdict: Option<String>,
    /// Only events that came from this address. For a network: `--when 'event.sender.inCidr("10.0.0.0/8")'`.
    #[arg(long, value_name = "ADDRESS")]
    pub sender: Option<std::net::IpAddr>,
    /// Only events that were signed with this secret, as `event show` names it: `env DEPLOY_SECRET`.
    #[arg(long, value_name = "PLACE")]
    pub secret: Option<String>,
    /// Only replays of this event.
    #[arg(long, value_name = "ID")]
    pub replay_of: Option<EventId>,
    /// Only events received at this time or later: `2026-01-31T12:00:00Z`, or `2h` for the last two hours.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// Only events received before this time, in the same forms.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Timestamp>,
    /// Only events with this header, or with this value of it.
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub header: Option<String>,
    /// Only events with this field, or with this value of it: `body.ref=refs/heads/main`.
    #[arg(long, value_name = "PATH[=VALUE]")]
    pub json: Option<String>,
    /// Only events for which this condition holds: CEL, as in a trigger's `when`.
    #[arg(long, value_name = "CONDITION")]
    pub when: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DecisionArg {
    Matched,
    #[value(alias = "no_match")]
    NoMatch,
    Skipped,
    #[value(alias = "too_costly")]
    TooCostly,
    Error,
}

impl DecisionArg {
    /// As the API writes it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::NoMatch => "no_match",
            Self::Skipped => "skipped",
            Self::TooCostly => "too_costly",
            Self::Error => "error",
        }
    }
}

/// Which text of the triggers decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DefinitionArg {
    /// The one in force.
    Current,
    /// The one that decided when the event was received.
    Original,
}

impl DefinitionArg {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Original => "original",
        }
    }
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").args(["id", "all"]).required(true))]
pub(crate) struct ReplayArgs {
    pub id: Option<EventId>,
    /// Every event that the filters let through, oldest first.
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub filter: EventFilterArgs,
    /// Which text of the triggers decides.
    #[arg(long, value_enum, default_value_t = DefinitionArg::Current)]
    pub definition: DefinitionArg,
    /// With --all: this many in a second, at most.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rate: u32,
    /// At most this many.
    #[arg(long, requires = "all", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Nothing is repeated twice under the same key: the one that was printed, to go on after a cut.
    #[arg(long)]
    pub key: Option<String>,
    /// Do not ask.
    #[arg(long, short, requires = "all")]
    pub yes: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hetuflow event send deploy-site --data '{\"ref\":\"refs/heads/main\"}'")]
pub(crate) struct SendArgs {
    /// The trigger whose hook shall receive it.
    pub trigger: String,
    /// The payload: a text, `@FILE`, or `-` for standard input. Without it, the scheme's sample.
    #[arg(long)]
    pub data: Option<String>,
    /// The event's type; without it, the sample's.
    #[arg(long = "type", value_name = "TYPE")]
    pub event_type: Option<String>,
    /// The delivery's id; the same id again is a duplicate. Without it, a new one.
    #[arg(long)]
    pub id: Option<String>,
    /// The environment variable with the secret; without it the one that the trigger names, then the secrets
    /// that `hetuflow dev` made.
    #[arg(long, value_name = "NAME")]
    pub secret_env: Option<String>,
    /// Where `hetuflow dev` keeps its data.
    #[arg(long, default_value = ".hetuflow", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Where webhooks arrive.
    #[arg(long, env = "HETUFLOW_HOOKS_URL", default_value = "http://127.0.0.1:8082", value_name = "URL")]
    pub hooks: String,
    /// Print what its tasks print as it comes, and fail if one of them fails.
    #[arg(long)]
    pub follow: bool,
}
