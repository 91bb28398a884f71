//! An event: something that happened, with its raw bytes. Its attributes follow CloudEvents 1.0
//! (`id`, `source`, `type`, `subject`, `time`).

mod file;

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::file::NOTICES;
pub use self::file::{FileFacts, FileKind};

use crate::{
    id::{EventId, Namespace, StatusToken},
    task::Task,
};

/// Where events come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    Webhook,
    File,
    /// A cron line or an interval.
    Schedule,
    Api,
    /// hetuflow itself, such as the end of a job.
    Internal,
}

impl SourceKind {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::File => "file",
            Self::Schedule => "schedule",
            Self::Api => "api",
            Self::Internal => "internal",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Webhook, Self::File, Self::Schedule, Self::Api, Self::Internal]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub id: EventId,
    pub namespace: Namespace,
    pub kind: SourceKind,
    /// `/hooks/deploy-site`, `/agents/web-1/files/import-csv`, `/schedules/nightly`.
    pub source: String,
    /// `push`, `file.arrived`, `schedule.fired`.
    #[serde(rename = "type")]
    pub event_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When it happened, as far as the source knows; otherwise when it was received.
    pub time: Timestamp,
    pub received_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Names in lower case; values of secret headers are redacted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    pub verdict: Verdict,
    /// The address that sent it, where that is known: of a proxy only if nobody is known behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<IpAddr>,
    /// Which of the hook's secrets it was signed with: where that is kept, such as `env DEPLOY_SECRET`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The event that this one repeats, because somebody asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<EventId>,
    /// For whoever sent it, where senders are told.
    #[serde(skip)]
    pub status_token: Option<StatusToken>,
    /// What each trigger that looked at it decided, and why.
    #[serde(default)]
    pub decisions: Vec<Decision>,
    /// The bytes as received. Not part of the JSON form: the API serves them apart.
    #[serde(skip)]
    pub body: bytes::Bytes,
}

impl Event {
    /// One that happened and was received now, with nothing known about it yet.
    #[must_use]
    pub fn new(
        kind: SourceKind,
        namespace: Namespace,
        source: impl Into<String>,
        event_type: impl Into<String>,
        now: Timestamp,
    ) -> Self {
        Self {
            id: EventId::at(now),
            namespace,
            kind,
            source: source.into(),
            event_type: event_type.into(),
            subject: None,
            time: now,
            received_at: now,
            content_type: None,
            headers: Vec::new(),
            query: None,
            verdict: Verdict::Accepted,
            sender: None,
            secret: None,
            replay_of: None,
            status_token: None,
            decisions: Vec::new(),
            body: bytes::Bytes::new(),
        }
    }
}

/// Types of the events that ends of tasks are, for triggers that ask for them. No other type begins like these.
pub const ENDS: [&str; 3] = [SUCCEEDED, "job.failed", "job.cancelled"];
const SUCCEEDED: &str = "job.succeeded";

/// What the ingress made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Authentic, and committed with its tasks.
    Accepted,
    /// Authentic and stored, but its body is not what its content type says: no trigger saw the body.
    Malformed { reason: String },
    /// Not authentic: it started nothing and is kept only as a sample.
    Rejected { reason: String },
    /// Not authentic, but its hook only observes: it was taken, and starts nothing unless somebody replays it.
    Unverified { reason: String },
    /// A provider's test or question, not an event of its own: it starts nothing.
    Ping { reason: String },
}

impl Verdict {
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Malformed { .. } => "malformed",
            Self::Rejected { .. } => "rejected",
            Self::Unverified { .. } => "unverified",
            Self::Ping { .. } => "ping",
        }
    }

    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Accepted => None,
            Self::Malformed { reason }
            | Self::Rejected { reason }
            | Self::Unverified { reason }
            | Self::Ping { reason } => Some(reason),
        }
    }

    #[must_use]
    pub fn from_parts(name: &str, reason: Option<String>) -> Option<Self> {
        let reason = reason.unwrap_or_default();
        match name {
            "accepted" => Some(Self::Accepted),
            "malformed" => Some(Self::Malformed { reason }),
            "rejected" => Some(Self::Rejected { reason }),
            "unverified" => Some(Self::Unverified { reason }),
            "ping" => Some(Self::Ping { reason }),
            _ => None,
        }
    }
}

/// What one trigger decided about one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The store searches for this field and the next as they are written here: they stay the first two.
    pub trigger: String,
    pub outcome: DecisionOutcome,
    /// The version of the trigger that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Why not, in a sentence: `type is "ping", wanted one of push`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What each part of the trigger's `when` came to; none where it was not asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clauses: Vec<Clause>,
}

/// One of the parts that `&&` joins in a condition, and what it came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clause {
    /// As the trigger says it, shortened if it is long.
    #[serde(rename = "if")]
    pub text: String,
    pub held: bool,
    /// What was there, as messages quote it, by its path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub found: BTreeMap<String, String>,
    /// Of one that did not hold: what should have been there, where the clause is a plain comparison.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
    /// Why it could not be judged: a field that is missing, a text where a number was wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionOutcome {
    Matched,
    NoMatch,
    /// It came due, and its own rules (missed times, blackouts, overlap) kept it from running.
    Skipped,
    /// The condition would have walked more of the body than is allowed.
    TooCostly,
    /// The condition could not be judged, such as a comparison of a text with a number.
    Error,
}

/// How one delivery is recognised when it comes again: unique within its scope until it expires.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DedupeKey {
    /// `/hooks/deploy-site`, `/agents/web-1/files/import-csv`.
    pub scope: String,
    pub key: String,
    /// Another by which it is recognised as well, among second keys alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<String>,
    /// What the event is put together from, by keys of the same scope. It is stored only if none of them is another's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
    pub expires_at: Timestamp,
}

impl DedupeKey {
    #[must_use]
    pub const fn new(scope: String, key: String, expires_at: Timestamp) -> Self {
        Self { scope, key, second: None, parts: Vec::new(), expires_at }
    }

    /// Each with the scope in which it is unique.
    pub fn keys(&self) -> impl Iterator<Item = (String, &str)> {
        let second = self.second.iter().map(|key| (format!("{} second", self.scope), key.as_str()));
        std::iter::once((self.scope.clone(), self.key.as_str())).chain(second)
    }
}

impl Event {
    /// Whether an agent noticed something about a file that is for other triggers: they are asked as about an event of the
    /// API.
    #[must_use]
    pub fn is_notice(&self) -> bool {
        let change = self.event_type.strip_prefix("file.");
        self.kind == SourceKind::File && change.is_some_and(|change| NOTICES.contains(&change))
    }
}

/// What the source of an end begins with; then comes the key of the trigger whose task it was.
const END_OF: &str = "/triggers/";

impl Event {
    /// The end of a task of this trigger, with nothing known about it yet.
    #[must_use]
    pub fn end_of(trigger: &str, task: &Task, ended_at: Timestamp, now: Timestamp) -> Self {
        let source = format!("{END_OF}{}/{trigger}", task.namespace);
        let event_type = task.status.end_type().unwrap_or_default();
        Self {
            time: ended_at,
            ..Self::new(SourceKind::Internal, task.namespace.clone(), source, event_type, now)
        }
    }

    /// Of the end of a task: the key of its trigger.
    #[must_use]
    pub fn ended_trigger(&self) -> Option<&str> {
        let is_end = self.kind == SourceKind::Internal && ENDS.contains(&self.event_type.as_str());
        self.source.strip_prefix(END_OF).filter(|_| is_end)
    }
}
