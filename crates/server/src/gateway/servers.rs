//! The keys of the servers of this database, as agents know them: each server says that its own is in use, and tells its
//! agents when one has come or gone, so that they know the others before they need them. [`super::keep`] drives it.

use std::time::Duration;

use hetuflow_core::{fingerprint::Fingerprint, protocol::ToAgent};
use hetuflow_store::StoreError;
use tokio::time::Instant;

use crate::{AppState, ingest::chain};

/// How often a server says that its key is in use. After a month of silence it is not told to agents any more.
const SAY_EVERY: Duration = Duration::from_hours(1);

#[derive(Debug)]
pub(super) struct Servers {
    /// Nothing is done without one: then no agent knows this server by it.
    own: Option<Fingerprint>,
    said: Instant,
    /// As agents were last told.
    told: Vec<Fingerprint>,
}

impl Servers {
    /// The start has just said that the server's own key is in use.
    pub(super) fn new(own: Option<Fingerprint>) -> Self {
        Self { own, said: Instant::now(), told: Vec::new() }
    }

    pub(super) async fn follow(&mut self, state: &AppState) {
        let Some(own) = self.own else { return };
        if let Err(error) = self.look(own, state).await {
            tracing::warn!(error = chain(&error), "agents cannot be told of other servers now");
        }
    }

    async fn look(&mut self, own: Fingerprint, state: &AppState) -> Result<(), StoreError> {
        if self.said.elapsed() > SAY_EVERY {
            state.store.know_server(own).await?;
            self.said = Instant::now();
        }
        let keys = state.store.server_keys().await?;
        if keys != self.told {
            for (agent_id, _) in state.hub.sessions() {
                state.hub.send(&agent_id, ToAgent::Servers { keys: keys.clone() });
            }
            self.told = keys;
        }
        Ok(())
    }
}
