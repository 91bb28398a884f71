//! Why a task does not run: a code for programs, a sentence for people, and what would change it. The API
//! shows it with every task that waits; the server works it out, the command line prints it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    pub reason: WaitReason,
    /// What it waits for: `no agent has gpu=a100; agents: web-1 (role=web)`.
    pub text: String,
    /// What would free it: `start an agent with the label gpu=a100`.
    pub remedy: String,
    /// When it ends by itself, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// Programs decide by it, so that the list only grows. A new reason to wait gets a variant here and a rule in
/// the server's `api/waiting`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// Its time has not come.
    Scheduled,
    /// The schedule that planned it has a blackout now, and its time is after that.
    Blackout,
    /// An earlier run of its schedule has not ended, and they do not overlap.
    EarlierRun,
    /// An attempt ended badly and the next one's time has not come.
    Retry,
    /// No agent is connected at all.
    NoAgent,
    /// No connected agent has the labels, and none that is known either.
    NoMatchingAgent,
    /// Agents that would do are known, and not connected.
    AgentsOffline,
    /// It belongs to one agent, and that one is not connected.
    AgentOffline,
    /// It belongs to one agent, and that one lacks labels.
    AgentLacksLabels,
    /// Every agent that would do runs as much as it may, or takes nothing now.
    AgentsFull,
    /// Every agent that would do is drained.
    AgentsDrained,
    /// An agent that would do has room.
    AboutToStart,
    /// It was given to an agent, which has not confirmed yet.
    Unconfirmed,
    /// Its agent is away; when it stays away the attempt is lost.
    AgentAway,
    /// Its end was asked for and has not come yet.
    Ending,
    /// Its last attempt was lost and a person must decide.
    Held,
    /// A newer server's reason.
    #[serde(other)]
    Unknown,
}
