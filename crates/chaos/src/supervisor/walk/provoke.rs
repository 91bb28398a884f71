//! What brings a process to a failpoint: mostly the load, and for some points a certain state of the others.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::{
    cable::Passage,
    history::FaultKind,
    points::Point,
    supervisor::{Site, absence::Away},
    world::AGENTS,
};

/// More than any claim leaves over, and than the first places of two agents take.
const WAITING: usize = 20;
const WAIT_WITHIN: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(50);
const ONLINE_WITHIN: Duration = Duration::from_secs(6);
const ASSIGNMENTS_GATHER: Duration = Duration::from_millis(600);
const STOP_IS_HEARD: Duration = Duration::from_millis(300);
const REFUSES_WITHIN: Duration = Duration::from_secs(1);

/// What it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Provocation {
    Load,
    /// Tasks that are stored while no agent is there: only they are claimed.
    Waiting,
    /// An agent that is told to stop while assignments are on their way and something runs for which it waits: nothing is
    /// given back unless one refuses.
    Refusal,
    /// An agent that stays away with what it has.
    Absence,
    /// Time: what a server does twice a minute, once it leads.
    Patience,
}

impl Provocation {
    pub(super) fn of(point: &Point) -> Self {
        let (step, _) = point.name.split_once('.').unwrap_or((&point.name, ""));
        match step {
            "lease" => Self::Waiting,
            "give_back" => Self::Refusal,
            "reaper" => Self::Absence,
            "drop" | "share" => Self::Patience,
            _ => Self::Load,
        }
    }

    /// Every third answer is lost; more where there are few.
    pub(super) fn loses_every(self, point: &Point) -> u32 {
        match self {
            Self::Load if point.name.starts_with("hello.") => 2,
            Self::Load => 3,
            Self::Waiting | Self::Refusal | Self::Absence | Self::Patience => 1,
        }
    }

    pub(super) const fn within(self) -> Duration {
        match self {
            Self::Load | Self::Waiting | Self::Refusal => Duration::from_secs(6),
            Self::Absence | Self::Patience => Duration::from_secs(50),
        }
    }

    /// Some points are passed only after a start: then the process is killed and started again.
    pub(super) const fn lives(self) -> u32 {
        match self {
            Self::Load | Self::Waiting | Self::Refusal => 10,
            Self::Absence | Self::Patience => 3,
        }
    }
}

impl Site {
    /// Starts the process with the order, and brings about what leads it there. Yields who is away for it.
    pub(super) async fn provoke(&self, point: &Point, order: &str) -> anyhow::Result<Option<Away<'_>>> {
        let provocation = Provocation::of(point);
        if provocation == Provocation::Waiting {
            self.kill_agents().await?;
        }
        self.restart(point, Some(order.to_owned())).await?;
        match provocation {
            Provocation::Load | Provocation::Patience => {}
            Provocation::Waiting => {
                self.wait_for_tasks().await;
                for agent in &self.world.agents {
                    agent.lock().await.start(&[])?;
                }
            }
            Provocation::Refusal => self.refuse().await?,
            Provocation::Absence => return Ok(Some(self.agent_leaves(1).await?)),
        }
        Ok(None)
    }

    async fn kill_agents(&self) -> anyhow::Result<()> {
        for (agent, name) in self.world.agents.iter().zip(AGENTS) {
            self.record(FaultKind::Kill, name).await?;
            agent.lock().await.kill_if_alive().await?;
        }
        Ok(())
    }

    /// Until enough of them have no place.
    async fn wait_for_tasks(&self) {
        let until = Instant::now() + WAIT_WITHIN;
        while Instant::now() < until {
            if let Ok(api) = self.world.api()
                && api.count_unsettled().await.is_ok_and(|unsettled| unsettled >= WAITING)
            {
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// Until the agent has something to wait for.
    async fn wait_for_a_long_run(&self, agent: &str) {
        let until = Instant::now() + WAIT_WITHIN;
        while Instant::now() < until {
            if let Ok(api) = self.world.api()
                && let Ok(tasks) = api.tasks("trigger=long&status=running").await
                && tasks
                    .iter()
                    .flat_map(|task| &task.instances)
                    .any(|one| one.agent_id == agent && one.status == "running")
            {
                return;
            }
            sleep(LOOK).await;
        }
    }

    async fn refuse(&self) -> anyhow::Result<()> {
        self.wait_until(ONLINE_WITHIN, 1, |agent| agent["connection"] == "online").await;
        self.wait_for_a_long_run(AGENTS[1]).await;
        // Not before it has said how much it could take: what runs may be from before.
        sleep(ASSIGNMENTS_GATHER).await;
        let mut node = self.world.agents[1].lock().await;
        let cable = self.world.cables[1].lock().await;
        // What is assigned now comes to an agent that has been told to stop.
        cable.set(Passage::Held);
        sleep(ASSIGNMENTS_GATHER).await;
        node.signal(Signal::TERM)?;
        sleep(STOP_IS_HEARD).await;
        cable.set(Passage::Open);
        sleep(REFUSES_WITHIN).await;
        node.kill_if_alive().await?;
        self.record(FaultKind::Kill, AGENTS[1]).await?;
        node.start(&[])
    }
}
