//! The agents connected to this server: who they are, what they can take, how to reach them.

use std::collections::BTreeMap;

use hetuflow_core::{
    id::AgentId,
    labels::Labels,
    protocol::{ToAgent, WatchState},
    task::Lease,
};

/// A handle to the table of connections; every method takes a short lock and never waits.
#[derive(Debug, Clone, Default)]
pub struct Hub {}

#[derive(Debug, Clone)]
pub struct Online {
    pub agent_id: AgentId,
    pub session_epoch: i64,
    pub labels: Labels,
    pub slots: u32,
    /// Attempts that it could start now, less those on their way.
    pub free: u32,
    pub watches: BTreeMap<String, WatchState>,
}

impl Hub {
    /// A copy of the table.
    pub fn online(&self) -> Vec<Online> {
        Vec::new()
    }

    /// Asks the agent to end an attempt; false when it is not connected here.
    pub fn cancel(&self, _agent_id: &AgentId, _lease: Lease) -> bool {
        false
    }

    /// Queues a message; false when the agent is not connected here or its queue is full.
    pub fn send(&self, _agent_id: &AgentId, _message: ToAgent) -> bool {
        false
    }
}
