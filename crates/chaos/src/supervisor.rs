//! Runs a world through its plan: starts it, lets every lane break its target again and again while the load goes on,
//! mends everything, waits until all has settled, and has the judge look.

mod absence;
mod lane;
mod last;
mod machine;
mod orphans;
mod settle;
mod walk;

use std::{path::Path, sync::Arc};

use tokio::{
    sync::{Mutex, RwLock},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    check::{self, FAULTS, Recovery, Run, STATE, Verdict},
    generator::Generator,
    history::{Fault, FaultKind, Log, Nanos, now},
    plan::{Goals, Lane, Length, Pace, Target},
    world::{Database, Form, World},
};

pub(crate) use walk::walk;

/// What a run is.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) seed: u64,
    pub(crate) form: Form,
    pub(crate) database: Database,
    pub(crate) length: Length,
    pub(crate) rate: u32,
}

/// What the lanes share.
pub(crate) struct Site {
    pub(crate) world: Arc<World>,
    faults: Mutex<Log>,
    /// Held by whatever breaks something, and alone by an absence.
    calm: RwLock<()>,
}

/// One whole run in `folder`, with the binaries of that folder.
pub(crate) async fn run(order: &Order, folder: &Path, binaries: &Path) -> anyhow::Result<Verdict> {
    let world = World::new(folder, order.form, order.database.clone(), binaries, order.seed).await?;
    let site = Arc::new(Site::new(&world, folder)?);
    settle::start(&world).await?;
    let generator = Generator::start(&world, order.rate, order.seed)?;
    let machine = tokio::spawn(machine::watch(Arc::clone(&site)));
    break_things(&site, order).await?;
    let verdict = conclude(&site, generator).await;
    if machine.is_finished() {
        machine.await??;
    } else {
        machine.abort();
    }
    verdict
}

/// Everything is mended: what has begun comes to its end, and the judge looks.
async fn conclude(site: &Site, generator: Generator) -> anyhow::Result<Verdict> {
    let world = &site.world;
    let mended = Instant::now();
    settle::revive(world).await?;
    generator.finish().await?;
    let answered = mended.elapsed();
    site.last_files().await?;
    let daemons_until = settle::settle(world).await?;
    let recovery = Recovery { answered, settled: mended.elapsed() };
    let mut state = world.api()?.state().await?;
    state.daemons_until = Some(daemons_until);
    state.orphans = orphans::find(&world.folder).await?;
    state.save(&world.folder.join(STATE))?;
    settle::stop(world).await?;
    Ok(Verdict { recovery: Some(recovery), ..check::judge(&Run::load(&world.folder)?) })
}

/// Every lane at once, until each has come to its end.
async fn break_things(site: &Arc<Site>, order: &Order) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let mut lanes = JoinSet::new();
    for (target, weights) in targets(order) {
        let goals = goals_of(order, target);
        let pace = if goals.is_some() { Pace::Fast } else { Pace::Steady };
        let lane = Lane::new(order.seed, target, weights, pace);
        lanes.spawn(lane::run(Arc::clone(site), lane, goals, stop.clone()));
    }
    if let Length::For(duration) = order.length {
        let stop = stop.clone();
        // Ends with the lanes at the latest.
        lanes.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(duration) => stop.cancel(),
                () = stop.cancelled() => {}
            }
            Ok(())
        });
    }
    while let Some(ended) = lanes.join_next().await {
        ended??;
    }
    Ok(())
}

/// What can break in this form, with how many kills come with how many freezes.
fn targets(order: &Order) -> Vec<(Target, (u64, u64))> {
    let mut targets = Vec::new();
    match order.form {
        Form::Up => targets.push((Target::Server(0), (1, 0))),
        Form::Split { servers } => {
            targets.extend((0..servers).map(|n| (Target::Server(n), (8, 2))));
            targets.extend((0..2).map(|n| (Target::Agent(n), (8, 1))));
            targets.extend((0..2).map(|n| (Target::Cable(n), (0, 0))));
            targets.push((Target::Anyone, (0, 0)));
        }
    }
    if let Database::Postgres(_) = order.database {
        targets.push((Target::Postgres, (0, 0)));
    }
    targets
}

/// What is left of the goals for one of several equals.
fn goals_of(order: &Order, target: Target) -> Option<Goals> {
    let Length::Counts(goals) = order.length else { return None };
    let share = |goal: u32, of: usize, n: usize| {
        let (of, n) = (u32::try_from(of).unwrap_or(1), u32::try_from(n).unwrap_or(0));
        goal / of + u32::from(n < goal % of)
    };
    let none = Goals::default();
    Some(match (target, order.form) {
        (Target::Server(n), Form::Split { servers }) => Goals {
            server_kills: share(goals.server_kills, servers, n),
            freezes: share(goals.freezes, servers + 2, n),
            ..none
        },
        (Target::Server(_), Form::Up) => Goals { server_kills: goals.server_kills, ..none },
        (Target::Agent(n), form) => {
            let Form::Split { servers } = form else { return Some(none) };
            let freezes = share(goals.freezes, servers + 2, servers + n);
            Goals { agent_kills: share(goals.agent_kills, 2, n), freezes, ..none }
        }
        (Target::Cable(n), _) => Goals { partitions: share(goals.partitions, 2, n), ..none },
        (Target::Anyone, _) => Goals { absences: goals.absences, ..none },
        (Target::Postgres, _) => Goals { postgres_restarts: goals.postgres_restarts, ..none },
    })
}

impl Site {
    fn new(world: &Arc<World>, folder: &Path) -> anyhow::Result<Self> {
        let faults = Mutex::new(Log::open(&folder.join(FAULTS))?);
        Ok(Self { world: Arc::clone(world), faults, calm: RwLock::new(()) })
    }

    pub(crate) async fn record(&self, kind: FaultKind, target: &str) -> anyhow::Result<()> {
        self.record_at(now(), kind, target).await
    }

    async fn record_at(&self, at: Nanos, kind: FaultKind, target: &str) -> anyhow::Result<()> {
        let fault = Fault { at, kind, target: target.to_owned() };
        self.faults.lock().await.write(&fault)
    }
}
