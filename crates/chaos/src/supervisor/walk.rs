//! The walk over all failpoints: under load, the process that passes a point dies there, is started again, and goes on
//! to the next one; then, at the points that can lose an answer, every third answer is lost for a while. One judge
//! at the end looks at all of it.

use std::{os::unix::process::ExitStatusExt as _, path::Path, sync::Arc, time::Duration};

use anyhow::{bail, ensure};
use rustix::process::Signal;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use super::{Order, Site, conclude, settle};
use crate::{
    check::{FAULTS, Verdict},
    generator::Generator,
    history::{FaultKind, Log},
    node::Node,
    points::{Part, Point, points},
    random::Random,
    world::{AGENTS, World},
};

const VARIABLE: &str = "HETUFLOW_FAILPOINTS";

/// Some points are passed only after a start: then the process is killed and started again.
const DIES_WITHIN: Duration = Duration::from_secs(6);
const LIVES: u32 = 10;
const LOOK: Duration = Duration::from_millis(5);

/// Points that only a refusal reaches.
const REFUSED: &str = "give_back";
const ASSIGNMENTS_GATHER: Duration = Duration::from_millis(600);
const REFUSES_WITHIN: Duration = Duration::from_secs(1);

/// What a death has left undone shows itself only when life goes on.
const AFTERWARDS: Duration = Duration::from_secs(3);

/// For how long a point loses answers.
const LOSES_FOR: Duration = Duration::from_millis(1500);

/// Walks the points whose names begin with `only`.
pub(crate) async fn walk(
    order: &Order,
    folder: &Path,
    binaries: &Path,
    only: &str,
) -> anyhow::Result<Verdict> {
    let world = World::new(folder, order.form, order.database.clone(), binaries, order.seed).await?;
    let faults = Mutex::new(Log::open(&folder.join(FAULTS))?);
    let site = Arc::new(Site { world: Arc::clone(&world), faults });
    settle::start(&world).await?;
    let generator = Generator::start(&world, order.rate, order.seed)?;
    let mut random = Random::new(order.seed, "walk");
    let mut walked = 0;
    for point in points(&order.database)?.iter().filter(|point| point.name.starts_with(only)) {
        site.die_at(point, 1 + random.below(4)).await?;
        walked += 1;
        if point.ambiguous {
            site.lose_answers_at(point).await?;
        }
    }
    ensure!(walked > 0, "no failpoint begins with {only:?}");
    eprintln!("died at {walked} points");
    sleep(AFTERWARDS).await;
    conclude(&world, generator).await
}

impl Site {
    /// The process dies at its `n`th pass; then it runs again without the point.
    async fn die_at(&self, point: &Point, n: u64) -> anyhow::Result<()> {
        for life in 0..LIVES {
            // A point that is passed once in a life is not passed a second time.
            let n = if life == 0 { n } else { 1 };
            self.restart(point, Some(format!("{}=kill@{n}", point.name))).await?;
            self.provoke(point).await?;
            if self.dies(point).await? {
                return self.restart(point, None).await;
            }
        }
        bail!("failpoint {} was not reached", point.name)
    }

    async fn lose_answers_at(&self, point: &Point) -> anyhow::Result<()> {
        // Every answer, where there are few.
        let each = if point.name.starts_with(REFUSED) { 1 } else { 3 };
        self.restart(point, Some(format!("{}=error/{each}", point.name))).await?;
        self.provoke(point).await?;
        sleep(LOSES_FOR).await;
        self.restart(point, None).await
    }

    /// Nothing is given back unless an agent refuses: one that is told to stop while assignments are on their way.
    async fn provoke(&self, point: &Point) -> anyhow::Result<()> {
        if !point.name.starts_with(REFUSED) {
            return Ok(());
        }
        let until = Instant::now() + DIES_WITHIN;
        while Instant::now() < until && !self.is_online(AGENTS[1]).await {
            sleep(LOOK).await;
        }
        // Not before it has said how much it could take.
        sleep(ASSIGNMENTS_GATHER).await;
        let mut node = self.world.agents[1].lock().await;
        node.signal(Signal::STOP)?;
        sleep(ASSIGNMENTS_GATHER).await;
        node.signal(Signal::TERM)?;
        node.signal(Signal::CONT)?;
        sleep(REFUSES_WITHIN).await;
        node.kill_if_alive().await?;
        self.record(FaultKind::Kill, AGENTS[1]).await?;
        node.start(&[])
    }

    async fn is_online(&self, agent: &str) -> bool {
        let Ok(api) = self.world.api() else { return false };
        api.get(&format!("agents/{agent}")).await.is_ok_and(|agent| agent["connection"] == "online")
    }

    /// With `kill -9`, if it still runs.
    async fn restart(&self, point: &Point, order: Option<String>) -> anyhow::Result<()> {
        let more: Vec<(String, String)> =
            order.map(|order| (VARIABLE.to_owned(), order)).into_iter().collect();
        self.node(point).lock().await.kill_if_alive().await?;
        self.killed(point).await?;
        match point.part {
            Part::Server => {
                self.world.place(0, None);
                // It may die before it listens; then it has reached its point.
                self.world.start_server(0, &more).await?;
                Ok(())
            }
            Part::Agent => self.node(point).lock().await.start(&more),
        }
    }

    /// True when it was its own signal that ended it.
    async fn dies(&self, point: &Point) -> anyhow::Result<bool> {
        let until = Instant::now() + DIES_WITHIN;
        while Instant::now() < until {
            let ended = self.node(point).lock().await.ended()?;
            if let Some(status) = ended {
                ensure!(status.signal() == Some(9), "at {} it ended with {status}", point.name);
                self.killed(point).await?;
                if point.part == Part::Server {
                    self.world.place(0, None);
                }
                return Ok(true);
            }
            sleep(LOOK).await;
        }
        Ok(false)
    }

    fn node(&self, point: &Point) -> &Mutex<Node> {
        match point.part {
            Part::Server => &self.world.servers[0],
            Part::Agent => &self.world.agents[0],
        }
    }

    async fn killed(&self, point: &Point) -> anyhow::Result<()> {
        let target = match point.part {
            Part::Server => "server-0",
            Part::Agent => AGENTS[0],
        };
        self.record(FaultKind::Kill, target).await
    }
}
