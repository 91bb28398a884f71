//! Whether the server can keep its word now: the store commits, triggers are loaded, loops are alive; inside `dev`
//! and `up` also the agent of the same process is connected and has its baselines.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hetuflow_core::{
    agent::Connection,
    id::{AgentId, ServerId},
};
use hetuflow_store::Leadership;
use serde::Serialize;

use crate::{
    AppState,
    housekeeping::Reports,
    hub::Online,
    ingest::chain,
    triggers::{Live, TriggerSet},
};

/// A store that takes longer is away.
const PROBE_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Serialize)]
pub struct Health {
    pub status: Status,
    /// What is wrong, or not ready yet.
    pub reasons: Vec<String>,
    pub version: &'static str,
    pub store: String,
    pub triggers: usize,
    pub agents: usize,
    /// Who looks after the whole database; for a few seconds after a leader was killed, nobody.
    pub leader: Option<LeaderShown>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LeaderShown {
    pub server_id: ServerId,
    pub epoch: i64,
    pub this_server: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Ok,
    /// It works, but not everything that somebody wrote down is in force.
    Degraded,
    Unavailable,
}

/// The loops that run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Loops(Arc<Mutex<BTreeSet<&'static str>>>);

impl Loops {
    pub(crate) fn started(&self, name: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
    }

    pub(crate) fn ended(&self, name: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    fn missing(&self) -> Vec<&'static str> {
        let alive = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        crate::run::LOOPS.into_iter().filter(|name| !alive.contains(name)).collect()
    }
}

pub(crate) async fn check(app: &AppState, loops: &Loops, reports: &Reports) -> Health {
    let set = app.triggers.current();
    let online = app.hub.online();
    let mut severe = Vec::new();
    severe.extend(store_problem(app).await);
    severe.extend(loops.missing().iter().map(|name| format!("loop {name} does not run")));
    severe.extend(app.config.embedded.expect_agent.iter().filter_map(|id| agent_problem(id, &online, &set)));
    let mut mild = degraded(&set);
    mild.extend(
        unwatched(app, &set).await.into_iter().map(|(key, warning)| format!("trigger {key}: {warning}")),
    );
    mild.extend(reports.borrow().as_ref().and_then(|report| report.problem()));
    let status = match (severe.is_empty(), mild.is_empty()) {
        (false, _) => Status::Unavailable,
        (true, false) => Status::Degraded,
        (true, true) => Status::Ok,
    };
    severe.extend(mild);
    Health {
        status,
        reasons: severe,
        version: env!("CARGO_PKG_VERSION"),
        store: app.store.describe(),
        triggers: set.live.len(),
        agents: online.len(),
        leader: leader(app).await,
    }
}

async fn leader(app: &AppState) -> Option<LeaderShown> {
    let leader = tokio::time::timeout(PROBE_WITHIN, app.store.leader()).await;
    // A store that does not answer is said to be one already.
    let Leadership { holder, epoch } = leader.ok()?.ok()??;
    Some(LeaderShown { server_id: holder, epoch, this_server: holder == app.server_id })
}

async fn store_problem(app: &AppState) -> Option<String> {
    match tokio::time::timeout(PROBE_WITHIN, app.store.probe()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => {
            tracing::warn!(error = chain(&error), "the store does not commit");
            Some("the store does not commit".to_owned())
        }
        Err(_) => Some(format!("the store did not commit within {} s", PROBE_WITHIN.as_secs())),
    }
}

/// The agent of this process is there, and knows what lay in the folders before.
fn agent_problem(id: &AgentId, online: &[Online], set: &TriggerSet) -> Option<String> {
    let Some(agent) = online.iter().find(|agent| agent.agent_id == *id) else {
        return Some(format!("agent {id} is not connected yet"));
    };
    let unready: Vec<&str> = set
        .live
        .iter()
        .filter(|(_, live)| live.trigger.is_watched_on(&agent.labels))
        // A watch with a problem will not get ready; it shows up as degraded.
        .filter(|(key, _)| {
            agent.watches.get(*key).is_none_or(|watch| !watch.baseline_done && watch.problem.is_none())
        })
        .map(|(key, _)| key.as_str())
        .collect();
    if unready.is_empty() {
        return None;
    }
    Some(format!("agent {id} still takes stock of the files of {}", unready.join(", ")))
}

/// Triggers in force whose files nobody watches, with a warning.
pub(crate) async fn unwatched(app: &AppState, set: &TriggerSet) -> Vec<(String, String)> {
    let wanted = |live: &Live| !live.trigger.files.is_empty();
    if !set.live.values().any(wanted) {
        return Vec::new();
    }
    // A store that does not answer is said to be one elsewhere.
    let Ok(Ok(agents)) = tokio::time::timeout(PROBE_WITHIN, app.store.agents()).await else {
        return Vec::new();
    };
    let online: Vec<_> = agents.iter().filter(|agent| agent.connection == Connection::Online).collect();
    let lonely = |live: &Live| {
        let mut sources = live.trigger.files.iter();
        let source =
            sources.find(|source| !online.iter().any(|agent| source.agents.matches(&agent.labels)))?;
        Some(if online.is_empty() {
            "no agent is connected that could watch its files".to_owned()
        } else {
            format!("no agent that is connected watches its files: none has {}", source.agents)
        })
    };
    set.live.iter().filter_map(|(key, live)| Some((key.clone(), lonely(live)?))).collect()
}

fn degraded(set: &TriggerSet) -> Vec<String> {
    let broken = set.stored.iter().filter_map(|stored| {
        stored.problem.as_ref().map(|problem| format!("trigger {} is broken: {problem}", stored.name))
    });
    let warnings = set
        .warnings
        .iter()
        .flat_map(|(key, warnings)| warnings.iter().map(move |warning| format!("trigger {key}: {warning}")));
    set.folder_problems.iter().cloned().chain(broken).chain(warnings).collect()
}
