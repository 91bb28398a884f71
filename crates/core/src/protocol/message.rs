//! The control messages.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    event::FileFacts,
    fingerprint::{Fingerprint, TokenSecret},
    id::{AgentId, EventId, JournalId, ServerId},
    job::Command,
    labels::Labels,
    task::{Lease, Outcome},
    trigger::FileSource,
};

/// Agent to server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromAgent {
    /// The first message of a connection.
    Hello(Hello),
    /// Before the hello, by an agent that the server does not know yet: from now on the key of this connection is its own.
    Join(Join),
    /// Processes that the agent could start now, every assignment counted that it has answered before. Absolute, so
    /// that a lost message does no harm. Said on every change, and after every [`FromAgent::Accepted`] even when the
    /// number is the same, because the server takes one off for it.
    Credit {
        free: u32,
    },
    /// The assignment is in the journal (durably); the process starts next. Said a moment later, or not at all when the
    /// attempt has ended by then.
    Accepted {
        lease: Lease,
    },
    /// It will not run here; the attempt is given back.
    Refused {
        lease: Lease,
        reason: String,
    },
    /// It will not run here, because an attempt of this task with this fence or a higher one has been here before.
    /// A server that did not send it twice has forgotten that one: a database that was restored, or that lost commits.
    Stale {
        lease: Lease,
    },
    Started {
        lease: Lease,
        at: Timestamp,
    },
    /// Sent until acknowledged. Where it is the first answer to its assignment, the place was never taken off what the
    /// agent said that it could start.
    Result(RunResult),
    /// Files that are complete. Sent until acknowledged.
    Files {
        batch: Vec<FileEvent>,
    },
    /// How do the tasks of these events stand? The answer is [`ToAgent::FileOutcomes`].
    FileOutcomes {
        events: Vec<EventId>,
        /// Their ends are to be told too once they come, as far as this server sees them: others wait for them.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        follow: bool,
    },
    /// How many more files of these triggers does the server take for now? The answer is [`ToAgent::FileRooms`].
    FileRooms {
        keys: Vec<String>,
    },
    /// How the watch of one trigger does; sent on every change.
    Watch(WatchState),
    /// A sign of life; the server answers [`ToAgent::Pong`].
    Ping,
    /// The agent stops on purpose: it takes no new work.
    Bye,
    #[serde(other)]
    Unknown,
}

/// Server to agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToAgent {
    Welcome(Welcome),
    /// The key is known; the hello may follow.
    Joined,
    /// The keys of all servers of this database, when one has come or gone since the welcome. Absolute.
    Servers {
        keys: Vec<Fingerprint>,
    },
    /// The connection is refused, with what to do about it.
    Refuse {
        reason: String,
    },
    /// Preceded by the event's body in binary frames.
    Assign(Box<Assignment>),
    /// End the attempt; the agent answers with a [`RunResult`].
    Cancel {
        lease: Lease,
    },
    ResultAck {
        lease: Lease,
        verdict: ResultVerdict,
    },
    /// Pieces of output up to and including `seq` are stored.
    OutputAck {
        lease: Lease,
        seq: u64,
    },
    FileAck {
        batch: Vec<FileBatchAck>,
    },
    /// The answer to a question, or what is new of an event that is followed.
    FileOutcomes {
        outcomes: Vec<(EventId, FileOutcome)>,
    },
    /// By key. What it had told before it asked is taken off already. Of what is not known there is no end of room.
    FileRooms {
        rooms: Vec<(String, u64)>,
    },
    /// Everything this agent shall watch. Absolute: what is not named here is not watched any more.
    Watches {
        watches: Vec<Watch>,
    },
    Pong,
    /// The server stops: reconnect (elsewhere). Running work goes on.
    Drain,
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    pub protocol: u16,
    pub agent_id: AgentId,
    /// Names the journal. One that was wiped or rolled back is another journal.
    pub journal_id: JournalId,
    /// Grows by one with every hello of this journal and is stored before it is sent, so that a
    /// journal that was rolled back to an older copy shows itself.
    pub journal_epoch: u64,
    pub hostname: String,
    pub version: String,
    pub labels: Labels,
    pub slots: u32,
    /// Every attempt in the journal that the server has not acknowledged the end of.
    pub held: Vec<Held>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Join {
    pub protocol: u16,
    pub agent_id: AgentId,
    pub token: TokenSecret,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Held {
    pub lease: Lease,
    pub phase: HeldPhase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldPhase {
    /// Journalled; its process is about to start or runs.
    Running,
    /// Ended; the result follows.
    Ended,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    pub server_id: ServerId,
    /// Fences everything that an earlier connection of this agent left behind.
    pub session_epoch: i64,
    #[serde(with = "crate::duration")]
    pub heartbeat: Duration,
    /// Held attempts that are still this agent's.
    pub keep: Vec<Kept>,
    /// Held attempts that are not its any more: end the process, forget the result.
    pub stop: Vec<Lease>,
    /// The keys of all servers of this database, for an agent that knows servers by their keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Fingerprint>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub lease: Lease,
    /// The next piece of output that the server lacks.
    pub next_seq: u64,
}

/// One attempt to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    pub lease: Lease,
    /// Counted from 1.
    pub attempt: u32,
    pub command: Command,
    pub event: EventBrief,
}

/// What the process learns about its event, besides the body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventBrief {
    pub id: EventId,
    #[serde(rename = "type")]
    pub event_type: String,
    pub source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The event that it repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<EventId>,
    /// Bytes of body that precede the assignment in binary frames.
    pub body_size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileFacts>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    pub lease: Lease,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
    pub output_dropped: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultVerdict {
    /// Committed; the agent may forget it.
    Recorded,
    /// The attempt is not this agent's any more; the agent forgets it.
    Fenced,
}

/// One file trigger that the agent shall watch for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// Namespace and name of the trigger, joined by `/`; several entries of one trigger share it.
    pub key: String,
    /// Changes when the trigger's `[on.file]` does.
    pub revision: i64,
    pub source: FileSource,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEvent {
    /// The watch that saw it.
    pub key: String,
    /// The same for the same version of the same file, whatever crashed in between.
    pub dedupe: String,
    pub facts: FileFacts,
    /// Of a batch: by what each of its files is known, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    pub seen_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileBatchAck {
    pub key: String,
    pub dedupe: String,
    pub verdict: FileVerdict,
    /// The event that it is, or was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<EventId>,
    /// The members that belong to other events, each with its event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<(String, EventId)>,
}

/// How the tasks of an event about files stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileOutcome {
    /// Some have not ended.
    Open,
    Succeeded,
    /// At least one has failed for good.
    Failed,
    /// At least one was cancelled, and none has failed.
    Cancelled,
    /// Of at least one nobody can say how it ended; somebody may decide.
    Lost,
    /// There are none, or not any more.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileVerdict {
    Accepted,
    Duplicate,
    /// Files of the batch belong to other events, so it is none: the rest is to be told without them.
    Overlaps,
    /// The trigger does not exist any more.
    Unwatched,
}

/// How well a watch works, from best to worst.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WatchHealth {
    /// The system tells of changes.
    #[default]
    Live,
    /// Changes are found by looking.
    Polling,
    /// As many tasks of it wait at the server as may: files wait on disk.
    Full,
    /// The system had more to tell than it could: everything is looked at again, so that changes are found late.
    Overflowing,
    /// A part of it cannot be watched.
    Degraded,
    /// A directory is not there, or another one is in its place.
    Offline,
    /// Its file system does not answer.
    Hanging,
    /// The trigger cannot be watched for at all.
    Refused,
}

impl WatchHealth {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Polling => "polling",
            Self::Full => "full",
            Self::Overflowing => "overflowing",
            Self::Degraded => "degraded",
            Self::Offline => "offline",
            Self::Hanging => "hanging",
            Self::Refused => "refused",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchState {
    pub key: String,
    pub revision: i64,
    /// Everything that was there at the first start is recorded; from here on nothing is missed.
    pub baseline_done: bool,
    pub health: WatchHealth,
    pub tracked: u64,
    pub settling: u64,
    /// Of those that settle, how many do so for longer than `max_settle`.
    #[serde(default)]
    pub stuck: u64,
    /// Of those that settle, how many wait for their checksum.
    #[serde(default)]
    pub hashing: u64,
    /// Of those that settle, how many are complete and wait for files that come before them.
    #[serde(default)]
    pub behind: u64,
    /// An event whose end they wait for: one that has failed, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<EventId>,
    /// Files that are not told, because the server has as many of the trigger waiting as it may.
    #[serde(default)]
    pub withheld: u64,
    /// Files that were refused since the agent started.
    #[serde(default)]
    pub rejected: u64,
    /// When everything was last looked at, to the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_scan: Option<Timestamp>,
    /// Everything that was complete before this time is acknowledged. Told now and then, where there are deadlines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Timestamp>,
    /// What keeps the watch from working, with what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
