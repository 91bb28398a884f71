//! Follows the triggers as they change: makes their folders, and gives the agent the labels that they ask for.

use std::path::PathBuf;

use hetuflow_core::{id::AgentId, labels::Labels};
use hetuflow_server::{AppState, Server, triggers::TriggerSet};

use super::folders;

pub(crate) struct Follower {
    state: AppState,
    data_dir: PathBuf,
}

impl Follower {
    pub(crate) fn new(server: &Server, data_dir: PathBuf) -> Self {
        // Globs start at the agent's absolute path; folders are compared with it.
        let data_dir = data_dir.canonicalize().unwrap_or(data_dir);
        Self { state: server.state.clone(), data_dir }
    }

    /// Until it is aborted.
    pub(crate) async fn run(self) {
        let mut triggers = self.state.triggers.subscribe();
        let mut agents = self.state.hub.changes();
        loop {
            triggers.borrow_and_update();
            agents.borrow_and_update();
            self.prepare().await;
            let ended = tokio::select! {
                changed = triggers.changed() => changed.is_err(),
                changed = agents.changed() => changed.is_err(),
            };
            if ended {
                return;
            }
        }
    }

    pub(crate) async fn prepare(&self) {
        let set = self.state.triggers.current();
        for live in set.live.values() {
            if let Err(error) = folders::make(&self.data_dir, &live.trigger) {
                tracing::warn!(trigger = %live.trigger.name, %error, "a watched folder could not be made");
            }
        }
        let Some(agent_id) = &self.state.config.embedded.expect_agent else { return };
        self.label(agent_id, &wanted(&set)).await;
    }

    /// Adds what the agent lacks; it keeps what it has.
    async fn label(&self, agent_id: &AgentId, wanted: &Labels) {
        let Some(online) = self.state.hub.online().into_iter().find(|online| online.agent_id == *agent_id)
        else {
            return;
        };
        let mut labels = wanted.clone();
        labels.extend(online.labels.clone());
        if labels == online.labels {
            return;
        }
        match self.state.store.set_labels(agent_id, &labels).await {
            Ok(_) => self.state.hub.set_labels(agent_id, &labels),
            Err(error) => tracing::warn!(%error, "the agent could not be labelled"),
        }
    }
}

/// Every label that a job or a watch asks for. Where two ask for different values of one key, the first has it.
pub(super) fn wanted(set: &TriggerSet) -> Labels {
    let mut labels = Labels::new();
    for live in set.live.values() {
        let selectors = live.trigger.files.iter().map(|source| &source.agents).chain([&live.job.labels]);
        for (key, value) in selectors.flat_map(|selector| &selector.0) {
            labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    labels
}
