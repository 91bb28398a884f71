//! The walk over all failpoints: under load, the process that passes a point dies there, is started again, and goes on
//! to the next one; then, at the points that can lose an answer, answers are lost for a while. What does not come
//! about by the load alone is provoked. Before all that, forgeries must not come to where bodies are parsed. One judge at the end looks at all of it; a point that is not reached is a
//! failure of the walk.

mod forged;
mod provoke;

use std::{os::unix::process::ExitStatusExt as _, path::Path, sync::Arc, time::Duration};

use anyhow::ensure;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use self::{forged::POINT as POINT_OF_FORGERIES, provoke::Provocation};
use super::{Order, Site, absence::Away, conclude, settle};
use crate::{
    check::{Kind, Verdict, Violation},
    generator::Generator,
    history::FaultKind,
    node::Node,
    points::{Part, Point, points},
    random::Random,
    world::{AGENTS, World},
};

const VARIABLE: &str = "HETUFLOW_FAILPOINTS";

const LOOK: Duration = Duration::from_millis(5);

/// What a death has left undone shows itself only when life goes on.
const AFTERWARDS: Duration = Duration::from_secs(3);

/// For how long a point loses answers, from the first one.
const LOSES_FOR: Duration = Duration::from_millis(1500);

/// Walks the points whose names begin with `only`.
pub(crate) async fn walk(
    order: &Order,
    folder: &Path,
    binaries: &Path,
    only: &str,
) -> anyhow::Result<Verdict> {
    let world = World::new(folder, order.form, order.database.clone(), binaries, order.seed).await?;
    let site = Arc::new(Site::new(&world, folder)?);
    settle::start(&world).await?;
    // Before there is any load: that would come to the point.
    if POINT_OF_FORGERIES.starts_with(only) {
        site.forgeries_are_not_looked_into().await?;
    }
    let generator = Generator::start(&world, order.rate, order.seed)?;
    let mut random = Random::new(order.seed, "walk");
    let (mut walked, mut missed) = (0, Vec::new());
    let points = points(&order.database)?;
    for point in points.iter().filter(|point| point.name.starts_with(only)) {
        walked += 1;
        let reached = site.die_at(point, 1 + random.below(4)).await?
            && (!point.ambiguous || site.lose_answers_at(point).await?);
        missed.extend((!reached).then(|| format!("failpoint {}", point.name)));
    }
    ensure!(walked > 0, "no failpoint begins with {only:?}");
    sleep(AFTERWARDS).await;
    let mut verdict = conclude(&site, generator).await?;
    eprintln!("died at {} of {walked} points", walked - missed.len());
    let missed = missed.into_iter().map(|what| Violation { kind: Kind::NotReached, what });
    verdict.violations.extend(missed);
    Ok(verdict)
}

impl Site {
    /// The process dies at its `n`th pass; then it runs again without the point. False when it does not come there.
    async fn die_at(&self, point: &Point, n: u64) -> anyhow::Result<bool> {
        let provocation = Provocation::of(point);
        let mut died = false;
        for life in 0..provocation.lives() {
            // A point that is passed once in a life is not passed a second time.
            let n = if life == 0 && provocation == Provocation::Load { n } else { 1 };
            let away = self.provoke(point, &format!("{}=kill@{n}", point.name)).await?;
            died = self.dies(point, provocation.within()).await?;
            come_back(away).await?;
            if died {
                break;
            }
        }
        self.restart(point, None).await?;
        Ok(died)
    }

    /// False when none was lost.
    async fn lose_answers_at(&self, point: &Point) -> anyhow::Result<bool> {
        let provocation = Provocation::of(point);
        let each = provocation.loses_every(point);
        let mut lost = false;
        for _ in 0..provocation.lives() {
            let away = self.provoke(point, &format!("{}=error/{each}", point.name)).await?;
            lost = self.says_reached(point, provocation.within()).await?;
            come_back(away).await?;
            if lost {
                sleep(LOSES_FOR).await;
                break;
            }
        }
        self.restart(point, None).await?;
        Ok(lost)
    }

    async fn says_reached(&self, point: &Point, within: Duration) -> anyhow::Result<bool> {
        let line = format!("failpoint {} reached", point.name);
        let until = Instant::now() + within;
        while Instant::now() < until {
            if self.node(point).lock().await.said()?.contains(&line) {
                return Ok(true);
            }
            sleep(LOOK * 10).await;
        }
        Ok(false)
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
    async fn dies(&self, point: &Point, within: Duration) -> anyhow::Result<bool> {
        let until = Instant::now() + within;
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

async fn come_back(away: Option<Away<'_>>) -> anyhow::Result<()> {
    match away {
        Some(away) => away.comes_back().await,
        None => Ok(()),
    }
}
