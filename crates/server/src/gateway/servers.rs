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
        let mut keys = state.store.server_keys().await?;
        if !keys.contains(&own) {
            // Somebody had it forgotten, and it runs: agents that know it by nothing else must not be left alone.
            tracing::warn!(key = %own, "this server's key was forgotten while it runs with it: it is known again");
            state.store.know_server(own).await?;
            keys = state.store.server_keys().await?;
        }
        if keys != self.told {
            for (agent_id, _) in state.hub.sessions() {
                state.hub.send(&agent_id, ToAgent::Servers { keys: keys.clone() });
            }
            self.told = keys;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    #[tokio::test]
    async fn a_server_that_runs_is_not_forgotten() {
        let world = World::start().await;
        let (own, other) = (Fingerprint([1; 32]), Fingerprint([2; 32]));
        for key in [own, other] {
            world.state.store.know_server(key).await.expect("kept");
        }
        let mut agent = world.agent("a", &[]).await;
        let mut servers = Servers::new(Some(own));
        servers.follow(&world.state).await;
        assert_eq!(agent.hear().await, ToAgent::Servers { keys: vec![own, other] });
        for key in [own, other] {
            world.state.store.forget_server(key).await.expect("forgotten");
        }
        servers.follow(&world.state).await;
        assert_eq!(agent.hear().await, ToAgent::Servers { keys: vec![own] });
        assert_eq!(world.state.store.server_keys().await.expect("an answer"), [own]);
    }
}
