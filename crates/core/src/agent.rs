//! An agent as the server knows it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{fingerprint::Fingerprint, id::AgentId, labels::Labels};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    pub id: AgentId,
    pub hostname: String,
    pub version: String,
    pub labels: Labels,
    /// Processes that it runs at once.
    pub slots: u32,
    pub connection: Connection,
    pub duty: Duty,
    /// Attempts that it holds now.
    pub running: u32,
    /// By trigger: up to when it has told of every file that was complete, where there are deadlines.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub watermarks: BTreeMap<String, Timestamp>,
    /// None: it is on the server's own machine, or its key was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<AgentKey>,
    /// When its last key was taken back; none while it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_revoked_at: Option<Timestamp>,
    pub first_seen_at: Timestamp,
    pub last_seen_at: Timestamp,
}

/// By which an agent that has joined is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentKey {
    pub fingerprint: Fingerprint,
    pub joined_at: Timestamp,
}

/// By which agents of other machines know a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerKey {
    pub fingerprint: Fingerprint,
    pub first_seen_at: Timestamp,
    /// Said at its start, and once an hour while it runs.
    pub last_seen_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Connection {
    Online,
    Offline,
}

/// Whether it is given tasks. Somebody decides it, and it holds until somebody decides otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Duty {
    #[default]
    Active,
    /// It ends what it runs, watches files as before, and gets nothing more.
    Drained,
}
