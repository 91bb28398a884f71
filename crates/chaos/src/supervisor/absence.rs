//! An absence: one part of the product is frozen for longer than anybody waits for it, while everything else is well
//! and the load goes on. What an agent held is then lost, and goes on elsewhere where its job says so; when it thaws,
//! what it has to say of that must count for nothing. Another server takes over from a leader that is away.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::{
    sync::MutexGuard,
    time::{Instant, sleep},
};

use super::Site;
use crate::{
    check::GIVEN_UP,
    history::{FaultKind, GivenUp, Log, now},
    jobs::REPEATED,
    node::Node,
    plan::Target,
    state::{InstanceRow, TaskRow},
    world::AGENTS,
};

const LOOK: Duration = Duration::from_millis(50);
/// A server that was just started waits for the last one's leadership to run out, and then as long as for an agent.
const GIVEN_UP_WITHIN: Duration = Duration::from_mins(1);
const ONLINE_WITHIN: Duration = Duration::from_secs(20);
const BUSY_WITHIN: Duration = Duration::from_secs(10);
/// By then the server has noticed, and sends nothing more.
const SENT_WITHIN: Duration = Duration::from_secs(4);
const SUCCEEDED_WITHIN: Duration = Duration::from_secs(10);
/// A leadership runs out after 12 s.
const SERVER_AWAY: Duration = Duration::from_secs(15);

/// Somebody who is away, and comes back by [`Away::comes_back`].
pub(super) struct Away<'a> {
    site: &'a Site,
    name: String,
    node: MutexGuard<'a, Node>,
}

impl Site {
    /// Who is away is a matter of `turn`. Nothing else breaks meanwhile.
    pub(super) async fn absence(&self, turn: u64) -> anyhow::Result<()> {
        let _nothing_else = self.calm.write().await;
        let (agents, servers) = (self.world.agents.len(), self.world.servers.len());
        // One server that is away is an outage, and no different from a freeze.
        let targets = if servers > 1 { agents + servers } else { agents };
        match usize::try_from(turn % u64::try_from(targets)?)? {
            n if n < agents => self.agent_is_away(n).await,
            n => self.server_is_away(n - agents).await,
        }
    }

    async fn agent_is_away(&self, n: usize) -> anyhow::Result<()> {
        let away = self.agent_leaves(n).await?;
        sleep(SENT_WITHIN).await;
        // Without an answer there is less to judge, and no more than that.
        let held = self.held_by(AGENTS[n]).await.unwrap_or_default();
        self.wait_until(GIVEN_UP_WITHIN, n, |agent| agent["running"] == 0).await;
        self.note_given_up(AGENTS[n], &held).await?;
        self.wait_for_successors(&held).await?;
        away.comes_back().await
    }

    /// The tasks whose attempts the agent has, or was sent and will not read.
    async fn held_by(&self, agent: &str) -> anyhow::Result<Vec<TaskRow>> {
        let mut tasks = self.world.api()?.tasks("status=locked,dispatched,running").await?;
        let held = |one: &InstanceRow| one.agent_id == agent && one.finished_at.is_none();
        tasks.retain(|task| task.instances.iter().any(held));
        Ok(tasks)
    }

    async fn note_given_up(&self, agent: &str, held: &[TaskRow]) -> anyhow::Result<()> {
        let mut log = Log::open(&self.world.folder.join(GIVEN_UP))?;
        for task in held {
            let Ok(task) = self.world.api()?.task(&task.id).await else { continue };
            let lost = |one: &&InstanceRow| one.agent_id == agent && one.status == "lost";
            for instance in task.instances.iter().filter(lost) {
                log.write(&GivenUp { at: now(), task: task.id.clone(), instance: instance.id.clone() })?;
            }
        }
        Ok(())
    }

    /// What is repeated has come to its end elsewhere, if that is soon.
    async fn wait_for_successors(&self, held: &[TaskRow]) -> anyhow::Result<()> {
        let until = Instant::now() + SUCCEEDED_WITHIN;
        for task in held {
            while Instant::now() < until {
                if self.world.api()?.task(&task.id).await.is_ok_and(|task| task.is_settled()) {
                    break;
                }
                sleep(LOOK).await;
            }
        }
        Ok(())
    }

    async fn server_is_away(&self, n: usize) -> anyhow::Result<()> {
        let away = self.leave(Target::Server(n), self.world.servers[n].lock().await).await?;
        sleep(SERVER_AWAY).await;
        away.comes_back().await
    }

    /// Once it is online and runs something that is repeated when it is lost, if that comes soon.
    pub(super) async fn agent_leaves(&self, n: usize) -> anyhow::Result<Away<'_>> {
        let node = self.world.agents[n].lock().await;
        self.wait_until(ONLINE_WITHIN, n, |agent| agent["connection"] == "online").await;
        let until = Instant::now() + BUSY_WITHIN;
        while Instant::now() < until && !self.runs_what_is_repeated(AGENTS[n]).await.unwrap_or(false) {
            sleep(LOOK).await;
        }
        self.leave(Target::Agent(n), node).await
    }

    async fn leave<'a>(&'a self, target: Target, node: MutexGuard<'a, Node>) -> anyhow::Result<Away<'a>> {
        let name = target.name();
        self.record(FaultKind::Absence, &name).await?;
        node.signal(Signal::STOP)?;
        Ok(Away { site: self, name, node })
    }

    async fn runs_what_is_repeated(&self, agent: &str) -> anyhow::Result<bool> {
        for task in self.world.api()?.tasks(&format!("status=running&trigger={REPEATED}")).await? {
            if task.instances.iter().any(|one| one.agent_id == agent && one.status == "running") {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Or until the time is up: what it comes to is the judge's business.
    pub(super) async fn wait_until(&self, within: Duration, agent: usize, is: impl Fn(&Value) -> bool) {
        let until = Instant::now() + within;
        while Instant::now() < until {
            if let Ok(api) = self.world.api()
                && api.get(&format!("agents/{}", AGENTS[agent])).await.is_ok_and(|agent| is(&agent))
            {
                return;
            }
            sleep(LOOK).await;
        }
    }
}

impl Away<'_> {
    pub(super) async fn comes_back(self) -> anyhow::Result<()> {
        self.node.signal(Signal::CONT)?;
        self.site.record(FaultKind::Return, &self.name).await
    }
}
