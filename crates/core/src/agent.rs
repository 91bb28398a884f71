//! An agent as the server knows it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{id::AgentId, labels::Labels};

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
    pub first_seen_at: Timestamp,
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
