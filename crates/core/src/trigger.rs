//! A trigger: a file in `triggers/` that declares one job and what starts it.
//!
//! A [`Trigger`] cannot exist unparsed: [`parse`] reads a whole file, checks and compiles it
//! (globs, conditions, templates, cron lines), or returns every problem of the file at once, each
//! with its place and with what is allowed there. Who loads files and when is the server's matter.

mod calendar;
mod check;
mod clock;
mod daemon;
mod file;
mod files;
mod job;
mod policy;
mod problem;
mod reader;
mod schemes;
mod script;
mod source;
mod text;
mod webhook;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use files::{
    After, Backend, CaptureRule, Captures, Claim, Collision, DateRange, DateRule, FileBatch, FileChange,
    FileDedupe, FileField, FileLimits, FileSequence, FileSource, FileStrict, Hardlinks, Initial, Kind,
    LoopGuard, MarkerAfter, NameTemplate, Names, OnFailure, OnReject, OnTimeout, RunOn, Symlinks, Verify,
    WriterCheck,
};
pub use problem::{Problem, Problems};
pub(crate) use script::starts_another;

use crate::{
    condition::Condition,
    event::ENDS,
    id::{Namespace, TriggerName},
    job::JobSpec,
    labels::Labels,
    network::Network,
    schedule::{ClockSchedule, DaemonSchedule},
};

#[derive(Debug, Clone)]
pub struct Trigger {
    pub namespace: Namespace,
    pub name: TriggerName,
    pub description: String,
    /// Of one that is not, everything is checked, and nothing starts it: it has no sources.
    pub enabled: bool,
    pub job: TriggerJob,
    pub webhooks: Vec<WebhookSource>,
    pub files: Vec<FileSource>,
    /// `[on.cron]`, `[on.interval]` and `[on.once]`.
    pub clocks: Vec<ClockSchedule>,
    /// `[on.daemon]`.
    pub daemons: Vec<DaemonSchedule>,
    pub events: Vec<EventSource>,
}

#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one per trigger, and most are inline")]
pub enum TriggerJob {
    Inline(JobSpec),
    /// A job that exists already.
    Named(String),
}

/// `[on.webhook]`: `POST /hooks/{path}` on the hook listener.
#[derive(Debug, Clone)]
pub struct WebhookSource {
    /// One segment; the trigger's name unless the file says otherwise.
    pub path: String,
    pub scheme: String,
    /// For schemes that ask for them, such as `hmac`.
    pub options: serde_json::Map<String, serde_json::Value>,
    /// All are tried; more than one while a secret is rotated.
    pub secrets: Vec<SecretRef>,
    /// Event types that it takes; empty takes all.
    pub events: Vec<String>,
    pub when: Option<Condition>,
    /// Bytes of body, at most.
    pub max_body: u64,
    pub sender_sees: SenderSees,
    /// Who may send; empty: anybody who can sign.
    pub allow_from: Vec<Network>,
    /// Until then what is not authentic is taken and recorded, and starts nothing.
    pub observe_until: Option<Timestamp>,
    /// What a delivery that was taken is answered with instead of a receipt.
    pub response: Option<HookResponse>,
}

/// An answer that a provider insists on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookResponse {
    /// 200 to 299: anything else would tell the sender that nothing was stored.
    pub status: u16,
    pub content_type: String,
    /// With templates, as a job has them.
    pub body: String,
}

/// What whoever sent a delivery may see of what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SenderSees {
    Nothing,
    /// How its tasks stand, and how they ended.
    Status,
    /// Also what they write.
    Output,
}

/// Where a secret is kept. The secret itself is never in a trigger file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretRef {
    /// An environment variable of the server.
    Env(String),
    /// A file that the server can read; a newline at its end is not part of the secret.
    File(String),
    /// A systemd credential of the server's unit.
    Credential(String),
    /// An https address where the sender publishes its public keys.
    Url(String),
}

/// `[on.event]`: an event from the API, or from hetuflow itself; `[on.api]`: one that is made to start this trigger.
#[derive(Debug, Clone)]
pub struct EventSource {
    pub event_type: String,
    pub when: Option<Condition>,
}

impl EventSource {
    /// The type of the events that start a trigger by hand.
    #[must_use]
    pub fn by_hand(trigger: &TriggerName) -> String {
        format!("api.{trigger}")
    }
}

/// What a file may refer to that core cannot know.
pub trait Known {
    /// Whether `scheme` exists and takes these options and secrets of these places; if not, one
    /// sentence that says what is allowed.
    fn check_scheme(
        &self,
        scheme: &str,
        options: &serde_json::Map<String, serde_json::Value>,
        secrets: &[SecretRef],
    ) -> Result<(), String>;
}

/// Reads a trigger file. `origin` is its path for messages; a file with one trigger is named by
/// `default_name`, the file's name without `.toml`.
pub fn parse(
    origin: &str,
    default_name: &str,
    namespace: &Namespace,
    text: &str,
    known: &dyn Known,
) -> Result<Vec<Trigger>, Problems> {
    file::parse(origin, default_name, namespace, text, known)
}

/// What is wrong with a file in `calendars/`, which has the keys of `[calendars.NAME]`.
pub fn check_calendar(origin: &str, text: &str) -> Result<(), Problems> {
    calendar::check(origin, text)
}

impl Trigger {
    /// The key by which agents know the watch of this trigger.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether an agent with these labels watches files for it.
    #[must_use]
    pub fn is_watched_on(&self, labels: &Labels) -> bool {
        self.files.iter().any(|source| source.agents.matches(labels))
    }

    /// The types of ends of jobs that it asks for.
    pub fn ends(&self) -> impl Iterator<Item = &'static str> {
        let asks = |end: &&str| self.events.iter().any(|source| source.event_type == *end);
        ENDS.into_iter().filter(asks)
    }

    /// The `source` of events that come in at this hook.
    #[must_use]
    pub fn source_of(&self, hook: &WebhookSource) -> String {
        hook_source(&self.namespace, &hook.path)
    }

    /// Environment variables that the secrets of this trigger name.
    pub fn secret_variables(&self) -> impl Iterator<Item = &str> {
        self.webhooks.iter().flat_map(|hook| &hook.secrets).filter_map(|secret| match secret {
            SecretRef::Env(name) => Some(name.as_str()),
            SecretRef::File(_) | SecretRef::Credential(_) | SecretRef::Url(_) => None,
        })
    }
}

/// `/hooks/deploy-site`, or `/hooks/{namespace}/deploy-site` outside of the default namespace.
#[must_use]
pub fn hook_source(namespace: &Namespace, path: &str) -> String {
    if *namespace == Namespace::default() {
        format!("/hooks/{path}")
    } else {
        format!("/hooks/{namespace}/{path}")
    }
}
