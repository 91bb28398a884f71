//! The quiet parts of a run: everything comes up, and at the end everything settles. Both wait on states, with
//! deadlines that only a defect or a very slow machine passes.

use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::{
    check::{DROPS, each_lives},
    effect::EFFECTS,
    history::{self, Drop, Nanos, now},
    jobs::{JOBS, Job, Source},
    node::Node,
    state::{Api, TaskRow},
    world::World,
};

const LOOK: Duration = Duration::from_millis(100);
const UP_WITHIN: Duration = Duration::from_mins(2);

/// After the last fault, while nothing comes any nearer to its end; and at all. Disks that are shared may stall for
/// seconds, and a task may have a dozen attempts before it.
const STUCK_FOR: Duration = Duration::from_mins(4);
const SETTLED_WITHIN: Duration = Duration::from_mins(20);

/// More than the longest backoff, and whatever a machine with much to do adds.
const LIVE_WITHIN: Duration = Duration::from_mins(1);

/// From a line's time to its place in the file.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);

const STOPPED_WITHIN: Duration = Duration::from_secs(40);

pub(super) async fn start(world: &World) -> anyhow::Result<()> {
    start_servers(world).await?;
    for agent in &world.agents {
        agent.lock().await.start(&[])?;
    }
    revive(world).await
}

/// With the triggers in force.
pub(crate) async fn start_servers(world: &World) -> anyhow::Result<()> {
    for n in 0..world.servers.len() {
        if !world.start_server(n, &[]).await? {
            bail!("a server does not start: {}", world.servers[n].lock().await.said()?);
        }
    }
    world.apply_triggers().await
}

/// Waits until every server is well and knows the triggers.
pub(crate) async fn revive(world: &World) -> anyhow::Result<()> {
    let places: Vec<_> = world.places.borrow().iter().copied().collect();
    for place in places {
        let api = Api::new(&world.http, place.context("a server was not started again")?.api);
        until("a server is well", UP_WITHIN, async || {
            let health = api.get("system/health").await.ok()?;
            (health["triggers"].as_u64() == Some(JOBS.len() as u64)).then_some(())
        })
        .await?;
    }
    Ok(())
}

/// Waits until every file was seen, every task has ended and every end was told; at the deadline it is the judge who says
/// what has not. Yields until when daemons were left running.
pub(crate) async fn settle(world: &World) -> anyhow::Result<Nanos> {
    let api = world.api()?;
    remove(world, &api, Source::Clock, Job::of(Source::Daemon).count()).await?;
    come_to_rest(world, &api, Rest::ButDaemons).await?;
    let until = daemons_live(world, &api).await?;
    remove(world, &api, Source::Daemon, 0).await?;
    come_to_rest(world, &api, Rest::Everything).await?;
    Ok(until)
}

/// Nothing of this source starts any more. `kept` schedules are left.
async fn remove(world: &World, api: &Api, source: Source, kept: usize) -> anyhow::Result<()> {
    world.remove_triggers(source).await?;
    let without = |job: &&Job| ![Source::Clock, Source::Daemon].contains(&job.source);
    let left = JOBS.iter().filter(without).count() + kept;
    until("triggers are removed", UP_WITHIN, async || {
        let health = api.get("system/health").await.ok()?;
        (health["triggers"].as_u64() == Some(left as u64)).then_some(())
    })
    .await
}

/// What must have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    ButDaemons,
    Everything,
}

async fn come_to_rest(world: &World, api: &Api, rest: Rest) -> anyhow::Result<()> {
    let drops = history::read::<Drop>(&world.folder.join(DROPS))?.len();
    let began = Instant::now();
    let (mut best, mut since) =
        (Left { files: usize::MAX, tasks: usize::MAX, attempts: 0, ends: usize::MAX }, began);
    while since.elapsed() < STUCK_FOR && began.elapsed() < SETTLED_WITHIN {
        let Ok(left) = left(api, drops, rest).await else {
            sleep(LOOK).await;
            continue;
        };
        if left.files == 0 && left.tasks == 0 && left.ends == 0 {
            return Ok(());
        }
        if left.is_nearer_than(&best) {
            (best, since) = (left, Instant::now());
        }
        sleep(LOOK).await;
    }
    eprintln!("not everything settles: {best:?} for {} s", since.elapsed().as_secs());
    Ok(())
}

/// Until each daemon has one run, unless a person would have to decide; at the deadline the judge says which has not. Yields
/// when that was: runs end by themselves too, and what one had said by then must have been written down.
async fn daemons_live(world: &World, api: &Api) -> anyhow::Result<Nanos> {
    let mut held = Vec::new();
    for job in Job::of(Source::Daemon) {
        held.extend(api.is_held(job.name).await?.then_some(job.name));
    }
    let began = Instant::now();
    loop {
        let at = now();
        sleep(WRITTEN_WITHIN).await;
        if each_lives(&history::read(&world.folder.join(EFFECTS))?, &held, at) {
            return Ok(at);
        }
        if began.elapsed() >= LIVE_WITHIN {
            eprintln!("not every daemon lives; held: {held:?}");
            return Ok(at);
        }
    }
}

/// What has not come to its end.
#[derive(Debug)]
struct Left {
    /// Files without an event.
    files: usize,
    tasks: usize,
    /// Of these tasks, so far: one that is only handed to and fro has no more than before.
    attempts: usize,
    /// Once no task is left: those whose end was not told.
    ends: usize,
}

impl Left {
    fn is_nearer_than(&self, best: &Self) -> bool {
        let rest = (self.files, self.tasks);
        let (files, tasks) = (best.files, best.tasks);
        let further = self.attempts > best.attempts || self.ends < best.ends;
        self.files < files || self.tasks < tasks || (rest == (files, tasks) && further)
    }
}

async fn left(api: &Api, drops: usize, rest: Rest) -> anyhow::Result<Left> {
    let mut tasks = api.unsettled().await?;
    tasks.retain(|task| rest == Rest::Everything || !is_of_daemon(task));
    let files = drops.saturating_sub(api.count_events("file").await?);
    let ends = match (tasks.is_empty(), rest) {
        (false, _) => usize::MAX,
        (true, Rest::Everything) => api.count_untold().await?,
        (true, Rest::ButDaemons) => 0,
    };
    let attempts = tasks.iter().map(|task| task.attempt as usize).sum();
    Ok(Left { files, tasks: tasks.len(), attempts, ends })
}

fn is_of_daemon(task: &TaskRow) -> bool {
    Job::named(&task.trigger).is_some_and(|job| job.source == Source::Daemon)
}

/// In order, as an operator would; whoever does not end is a defect too.
pub(crate) async fn stop(world: &World) -> anyhow::Result<()> {
    for node in world.agents.iter().chain(&world.servers) {
        let mut node = node.lock().await;
        node.signal(Signal::TERM)?;
        wait_for_end(&mut node).await?;
    }
    Ok(())
}

async fn wait_for_end(node: &mut Node) -> anyhow::Result<()> {
    let until = Instant::now() + STOPPED_WITHIN;
    while Instant::now() < until {
        match node.ended()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("{} ended with {status}: {}", node.program.name, node.said()?),
            None => sleep(LOOK).await,
        }
    }
    bail!("{} does not stop: {}", node.program.name, node.said()?)
}

async fn until(what: &str, within: Duration, look: impl AsyncFn() -> Option<()>) -> anyhow::Result<()> {
    let until = Instant::now() + within;
    while look().await.is_none() {
        if Instant::now() > until {
            bail!("it did not come to this within {} s: {what}", within.as_secs());
        }
        sleep(LOOK).await;
    }
    Ok(())
}
