//! One lane: breaks its target and mends it, until the time is up or its goals are met. It always leaves its target
//! mended.

use std::{sync::Arc, time::Duration};

use rustix::process::Signal;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Site;
use crate::{
    cable::Passage,
    history::FaultKind,
    plan::{Goals, Lane, Planned, Step, Target},
    world::{AGENTS, Database, Form},
};

/// A server may need several starts while its database is down, as under any supervisor; not more than this.
const COMES_UP_WITHIN: Duration = Duration::from_mins(1);
const START_AGAIN: Duration = Duration::from_millis(200);

pub(super) async fn run(
    site: Arc<Site>,
    lane: Lane,
    mut goals: Option<Goals>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let target = lane.target;
    for step in lane {
        if goals.is_some_and(|goals| goals == Goals::default()) || stop.is_cancelled() {
            break;
        }
        if goals.as_mut().is_some_and(|goals| !take(goals, target, step.fault.kind())) {
            continue;
        }
        if timeout(step.pause, stop.cancelled()).await.is_ok() {
            break;
        }
        site.act(target, &step).await?;
    }
    Ok(())
}

/// Counts one fault off; false when enough of its kind have been.
fn take(goals: &mut Goals, target: Target, kind: FaultKind) -> bool {
    let left = match (target, kind) {
        (Target::Server(_), FaultKind::Kill) => &mut goals.server_kills,
        (Target::Agent(_), FaultKind::Kill) => &mut goals.agent_kills,
        (_, FaultKind::Freeze) => &mut goals.freezes,
        (_, FaultKind::Absence | FaultKind::Return) => &mut goals.absences,
        (_, FaultKind::Partition) => &mut goals.partitions,
        (_, FaultKind::Kill | FaultKind::Restart | FaultKind::Stall) => &mut goals.postgres_restarts,
    };
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}

impl Site {
    async fn act(&self, target: Target, step: &Step) -> anyhow::Result<()> {
        if let Planned::Absence(turn) = step.fault {
            return self.absence(turn).await;
        }
        let name = target.name();
        let _together = self.calm.read().await;
        match (target, step.fault) {
            (Target::Server(n), Planned::Kill) => self.kill_server(n, step.broken).await,
            (Target::Agent(n), Planned::Kill) => self.kill_agent(n, step.broken).await,
            (Target::Agent(n), Planned::CutOffAndKill) => self.cut_off_and_kill(n, step.broken).await,
            (Target::Server(_) | Target::Agent(_), Planned::Freeze) => self.freeze(target, step.broken).await,
            (Target::Cable(n), Planned::Partition(passage)) => {
                let cable = self.world.cables[n].lock().await;
                self.record(FaultKind::Partition, &name).await?;
                cable.set(passage);
                sleep(step.broken).await;
                cable.set(Passage::Open);
                Ok(())
            }
            (Target::Postgres, Planned::Restart) => {
                self.record(FaultKind::Restart, &name).await?;
                match &self.world.database {
                    Database::Postgres(postgres) => postgres.restart().await,
                    Database::Sqlite => Ok(()),
                }
            }
            (target, fault) => anyhow::bail!("{target:?} cannot suffer {fault:?}"),
        }
    }

    async fn kill_server(&self, n: usize, down: Duration) -> anyhow::Result<()> {
        self.record(FaultKind::Kill, &Target::Server(n).name()).await?;
        if self.world.form == Form::Up {
            self.record(FaultKind::Kill, AGENTS[0]).await?;
        }
        self.world.servers[n].lock().await.kill().await?;
        self.world.place(n, None);
        sleep(down).await;
        self.bring_up(n).await
    }

    pub(super) async fn bring_up(&self, n: usize) -> anyhow::Result<()> {
        let until = Instant::now() + COMES_UP_WITHIN;
        while !self.world.start_server(n, &[]).await? {
            let node = self.world.servers[n].lock().await;
            let said = node.said()?;
            anyhow::ensure!(Instant::now() < until, "{} does not start: {said}", node.program.name);
            drop(node);
            sleep(START_AGAIN).await;
        }
        Ok(())
    }

    async fn kill_agent(&self, n: usize, down: Duration) -> anyhow::Result<()> {
        self.record(FaultKind::Kill, AGENTS[n]).await?;
        let mut node = self.world.agents[n].lock().await;
        node.kill().await?;
        sleep(down).await;
        node.start(&[])
    }

    /// Dies while nobody has heard how its attempts ended: only its journal knows.
    async fn cut_off_and_kill(&self, n: usize, cut_off: Duration) -> anyhow::Result<()> {
        let mut node = self.world.agents[n].lock().await;
        let cable = self.world.cables[n].lock().await;
        self.record(FaultKind::Partition, &Target::Cable(n).name()).await?;
        cable.set(Passage::HeldUp);
        sleep(cut_off).await;
        self.record(FaultKind::Kill, AGENTS[n]).await?;
        node.kill().await?;
        node.start(&[])?;
        cable.set(Passage::Open);
        Ok(())
    }

    async fn freeze(&self, target: Target, time: Duration) -> anyhow::Result<()> {
        let node = match target {
            Target::Server(n) => &self.world.servers[n],
            Target::Agent(n) => &self.world.agents[n],
            Target::Cable(_) | Target::Postgres | Target::Anyone => {
                anyhow::bail!("{target:?} is not a process of ours")
            }
        };
        let node = node.lock().await;
        self.record(FaultKind::Freeze, &target.name()).await?;
        node.signal(Signal::STOP)?;
        sleep(time).await;
        node.signal(Signal::CONT)
    }
}
