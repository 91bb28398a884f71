//! Who an agent is. Over TLS its key says so, and nothing that it tells: the key has joined with a token, or joins now. Without
//! TLS it is on this machine, and is whoever it says, unless that one has a key.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use axum::{
    extract::Request,
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use hetuflow_core::{
    fingerprint::Fingerprint,
    labels::Labels,
    protocol::{Hello, Join},
};
use hetuflow_store::{Joined, NotJoined, StoreError};
use hetuflow_trust::hash;
use tokio_util::sync::CancellationToken;

use crate::{
    AppState,
    api::from_this_machine,
    hooks::Rates,
    ingest::chain,
    listen::{Caller, Peer, Prefix},
};

/// How often agents that are not known may try, from one address.
const TRIES_PER_SECOND: u32 = 1;
const TRIES_AT_ONCE: u32 = 20;
const SWEEP_EVERY: Duration = Duration::from_mins(1);

/// Counts those who try to join, and those whose key is not known.
#[derive(Clone)]
pub(crate) struct Tries(Arc<Rates>);

/// A connection that has not said hello yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visitor {
    pub(super) key: Option<Fingerprint>,
    sender: Prefix,
}

/// Why an agent is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("too many tries from this address: come again in {0} s")]
    TooMany(u64),
    #[error("{0}")]
    NotJoined(#[from] NotJoined),
    #[error("only a connection with TLS joins: write wss:// in [agent] server_url")]
    Plain,
    #[error(
        "this agent's key {0} is not known here: it has not joined, or was taken back. `hetuflow agent token` makes a \
         token for [agent] join_token"
    )]
    Unknown(Fingerprint),
    #[error("this key is that of the agent {0}, not of {1}")]
    Another(String, String),
    #[error(
        "its token gave it the labels {{{bound}}} and no others, but its configuration says {label}: take that out, or \
         let it join with another token"
    )]
    Label { bound: String, label: String },
    #[error(
        "the agent {0} has joined with a key: it connects with that (wss://), and nobody else does in its name"
    )]
    HasKey(String),
    /// What it is stays in the server's log.
    #[error("the server's database does not answer now")]
    Store,
}

/// What comes without TLS comes from this machine, and not from a web page that is shown on it.
pub(super) async fn guard(request: Request, next: Next) -> Response {
    if matches!(request.extensions().get(), Some(Caller::Key(_))) {
        return next.run(request).await;
    }
    let peer = request.extensions().get::<Peer>();
    if !peer.is_some_and(|Peer(address)| address.ip().to_canonical().is_loopback()) {
        return (StatusCode::FORBIDDEN, "agents of other machines speak TLS here: wss://\n").into_response();
    }
    match from_this_machine(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

impl Visitor {
    pub(super) fn new(caller: Option<Caller>, peer: Option<Peer>) -> Self {
        let key = match caller {
            Some(Caller::Key(key)) => Some(key),
            Some(Caller::Plain) | None => None,
        };
        Self { key, sender: peer.map_or(Prefix::Loopback, |Peer(address)| Prefix::of(address.ip())) }
    }

    /// The key of this connection joins, or has joined with this very token before.
    pub(super) async fn join(&self, join: &Join, state: &AppState, tries: &Tries) -> Result<(), Refused> {
        let key = self.key.ok_or(Refused::Plain)?;
        tries.count(self.sender)?;
        let token = hash(&join.token);
        let joined = state.store.join(token, key, &join.agent_id).await.map_err(|error| away(&error))??;
        tracing::info!(agent.id = %joined.agent_id, %key, "an agent has joined");
        Ok(())
    }

    /// The hello of the agent that this key belongs to, with the labels that its token bound.
    pub(super) async fn known(
        &self,
        mut hello: Hello,
        state: &AppState,
        tries: &Tries,
    ) -> Result<Hello, Refused> {
        let Some(key) = self.key else { return Ok(hello) };
        let Some(joined) = state.store.joined(key).await.map_err(|error| away(&error))? else {
            tries.count(self.sender)?;
            return Err(Refused::Unknown(key));
        };
        check(&hello, &joined)?;
        if let Some(bound) = joined.labels {
            hello.labels = bound;
        }
        Ok(hello)
    }

    /// What is left to say when the store does not admit a hello.
    pub(super) fn not_admitted(&self, hello: &Hello) -> Refused {
        self.key.map_or_else(|| Refused::HasKey(hello.agent_id.to_string()), Refused::Unknown)
    }
}

fn away(error: &StoreError) -> Refused {
    tracing::warn!(error = chain(error), "whether an agent is known cannot be told");
    Refused::Store
}

/// Labels decide what an agent may run: those of a token are all that it has.
fn check(hello: &Hello, joined: &Joined) -> Result<(), Refused> {
    if joined.agent_id != hello.agent_id {
        return Err(Refused::Another(joined.agent_id.to_string(), hello.agent_id.to_string()));
    }
    let Some(bound) = &joined.labels else { return Ok(()) };
    match hello.labels.iter().find(|(key, value)| bound.get(*key) != Some(*value)) {
        Some((key, value)) => Err(Refused::Label { bound: shown(bound), label: format!("{key}={value}") }),
        None => Ok(()),
    }
}

fn shown(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

impl Tries {
    fn count(&self, sender: Prefix) -> Result<(), Refused> {
        self.0.check(sender).map_err(Refused::TooMany)
    }

    /// Forgets senders that have their whole allowance again, now and then.
    pub(crate) async fn sweep(self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(SWEEP_EVERY) => self.0.sweep(),
            }
        }
    }
}

impl Default for Tries {
    fn default() -> Self {
        Self(Arc::new(Rates::new(TRIES_PER_SECOND, TRIES_AT_ONCE)))
    }
}

impl std::fmt::Debug for Tries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tries").finish_non_exhaustive()
    }
}
