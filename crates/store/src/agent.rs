//! Agents and their sessions. A session is the agent's lease on everything it runs: one row to renew, however
//! many processes there are. Its epoch grows with every hello.

use std::time::Duration;

use async_trait::async_trait;
use hetuflow_core::{
    agent::{Agent, Duty},
    fingerprint::Fingerprint,
    id::{AgentId, ServerId, TaskId},
    labels::Labels,
    protocol::{Hello, Kept},
    task::Lease,
};
use jiff::Timestamp;

use crate::{Leadership, StoreError};

/// Who says hello.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    pub hello: &'a Hello,
    /// That the connection has proved; none on the server's own machine.
    pub key: Option<Fingerprint>,
}

/// One that shows no key.
impl<'a> From<&'a Hello> for Arrival<'a> {
    fn from(hello: &'a Hello) -> Self {
        Self { hello, key: None }
    }
}

/// What a hello comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub epoch: i64,
    /// As somebody has decided before, or `Active`.
    pub duty: Duty,
    /// Held attempts that are still the agent's, with the output that is stored of each.
    pub keep: Vec<Kept>,
    /// Held attempts that are not its any more.
    pub stop: Vec<Lease>,
    /// Tasks whose attempt was found lost, each already settled by its policy.
    pub lost: Vec<TaskId>,
    /// Tasks that were leased to the agent but never reached its journal: waiting again.
    pub returned: Vec<TaskId>,
}

#[async_trait]
pub trait AgentStore: Send + Sync {
    /// An agent says hello on this server. Raises the session epoch, takes the agent over from any
    /// other server, and settles what it held:
    /// - an attempt that the store leases to it and that it holds is kept;
    /// - one that it holds but the store does not lease to it must be stopped;
    /// - one that the store leases to it, that it never reported on and that it does not hold never reached its
    ///   journal: it is given back. Had it been accepted, nobody knows what became of it: it is `lost`.
    ///
    /// Unless the journal is another one than before (`journal_id` differs, or `journal_epoch` did not grow). A hello
    /// that waited for the database while its agent came back elsewhere looks the same, so nothing happens yet:
    /// `InDoubt`, with the epoch of the session that is known.
    ///
    /// `NotAdmitted` when the agent has a key and this is not it, or has none and one is shown.
    async fn open_session(
        &self,
        arrival: Arrival<'_>,
        server_id: ServerId,
        lease: Duration,
        now: Timestamp,
        random: f64,
    ) -> Result<Session, StoreError>;

    /// The same for a hello that was in doubt, after its agent has shown that it still is where it said it. Nobody
    /// knows what ran under the journal before: every attempt leased to the agent is `lost` under its policy, and
    /// everything it says it holds must be stopped. `InDoubt` once more when the session is not `known` any more.
    async fn replace_journal(
        &self,
        arrival: Arrival<'_>,
        known: i64,
        server_id: ServerId,
        lease: Duration,
        now: Timestamp,
        random: f64,
    ) -> Result<Session, StoreError>;

    /// Prolongs sessions by `lease` from now (the database's now). Yields the agents whose session is
    /// not this one any more, or was closed.
    async fn renew_sessions(
        &self,
        server_id: ServerId,
        sessions: &[(AgentId, i64)],
        lease: Duration,
    ) -> Result<Vec<AgentId>, StoreError>;

    /// The connection ended: the agent is offline and its session runs out now. What it holds stays its own until
    /// [`reap`](Self::reap) finds that too long ago. Nothing happens when the session is not this one any more.
    async fn close_session(&self, agent_id: &AgentId, epoch: i64) -> Result<(), StoreError>;

    /// Attempts of agents whose session ran out longer than `resume` ago are `lost`, each settled by its task's
    /// policy, at most `limit`: the leader's business. Their sessions are over, so that an agent that is still connected somewhere,
    /// to a server that lost the database, has to say hello and hears what to stop. One guarded statement decides, so that a result that arrives meanwhile wins
    /// or is fenced, never both.
    async fn reap(
        &self,
        leadership: Leadership,
        resume: Duration,
        now: Timestamp,
        random: f64,
        limit: u32,
    ) -> Result<Vec<TaskId>, StoreError>;

    async fn agent(&self, id: &AgentId) -> Result<Agent, StoreError>;

    /// By id.
    async fn agents(&self) -> Result<Vec<Agent>, StoreError>;

    /// The agent has told of every file of a trigger that was complete before `at`. A new session begins without
    /// any; nothing happens when the session is not this one any more.
    async fn set_watermark(
        &self,
        agent_id: &AgentId,
        epoch: i64,
        key: &str,
        at: Timestamp,
    ) -> Result<(), StoreError>;

    /// Replaces the labels until the agent's next hello.
    async fn set_labels(&self, id: &AgentId, labels: &Labels) -> Result<Agent, StoreError>;

    /// Holds over hellos, until it is set anew. Servers give a drained agent nothing; a lease that they are just
    /// committing may still come.
    async fn set_duty(&self, id: &AgentId, duty: Duty) -> Result<Agent, StoreError>;
}
