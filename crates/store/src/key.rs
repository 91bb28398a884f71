//! Keys of agents and servers, and the tokens by which agents join. An agent whose key is here is that agent
//! wherever it connects; nobody else is.

use std::time::Duration;

use async_trait::async_trait;
use hetuflow_core::{
    agent::ServerKey,
    fingerprint::{Fingerprint, TokenHash},
    id::AgentId,
    labels::Labels,
};
use jiff::Timestamp;

use crate::StoreError;

/// A token that was just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    pub hash: TokenHash,
    /// What the agent that joins with it has, and nothing else; without them its own configuration says it.
    pub labels: Option<Labels>,
    /// The only agent that may join with it. It may be one that is known.
    pub agent_id: Option<AgentId>,
}

/// To whom a key belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    pub agent_id: AgentId,
    /// As its token bound them.
    pub labels: Option<Labels>,
    pub joined_at: Timestamp,
}

/// Why a key does not join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotJoined {
    #[error("this token is not known: it was made for other servers, or long ago")]
    Unknown,
    #[error("this token was used at {at}: each is for one agent")]
    Used { at: Timestamp },
    #[error("this token was good until {at}")]
    Expired { at: Timestamp },
    #[error("this token is for the agent {0}: set [agent] id, or ask for a token without a name")]
    ForAnother(AgentId),
    #[error("there is an agent {0} already: choose another [agent] id, or ask for a token that names it")]
    Taken(AgentId),
    #[error("this key was taken back; an agent that joins again makes another")]
    Revoked,
}

#[async_trait]
pub trait KeyStore: Send + Sync {
    /// Keeps a token for so long, by the database's clock, and yields when that is over. Tokens that are of no use any
    /// more are forgotten after a month.
    async fn make_token(&self, token: &NewToken, valid: Duration) -> Result<Timestamp, StoreError>;

    /// The key becomes that of the agent, and the token is used up: both or nothing. Of many that come with one token
    /// one wins. The same key with the same token is answered again.
    ///
    /// A token that names no agent makes a new one: an id that has been here before, with a key or without, is refused. One that
    /// names an agent gives it this key in the place of the one it had, and ends its session.
    async fn join(
        &self,
        token: TokenHash,
        key: Fingerprint,
        agent_id: &AgentId,
    ) -> Result<Result<Joined, NotJoined>, StoreError>;

    /// `None`: it has not joined, or was taken back.
    async fn joined(&self, key: Fingerprint) -> Result<Option<Joined>, StoreError>;

    /// Takes the agent's key back, for good, and ends its session: whatever it runs is lost once it stayed away for too long.
    /// `NotFound` when it has none.
    async fn revoke(&self, agent_id: &AgentId) -> Result<Fingerprint, StoreError>;

    /// A server of this database has this key now. Said again and again while it runs.
    async fn know_server(&self, key: Fingerprint) -> Result<(), StoreError>;

    /// The keys of all servers that ran in the last month, in their order.
    async fn server_keys(&self) -> Result<Vec<Fingerprint>, StoreError>;

    /// All keys that servers of this database had and that are not forgotten, the last seen first.
    async fn servers(&self) -> Result<Vec<ServerKey>, StoreError>;

    /// Agents are not told of this key any more. A server that still runs with it makes it known again. `NotFound` when it is not
    /// known.
    async fn forget_server(&self, key: Fingerprint) -> Result<(), StoreError>;
}
