//! The quiet parts of a run: everything comes up, and at the end everything settles. Both wait on states, with
//! deadlines that only a defect or a very slow machine passes.

use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::{
    check::DROPS,
    history::{self, Drop},
    node::Node,
    state::Api,
    world::World,
};

const LOOK: Duration = Duration::from_millis(100);
const UP_WITHIN: Duration = Duration::from_mins(2);

/// After the last fault, for everything that was accepted to come to its end.
const SETTLED_WITHIN: Duration = Duration::from_mins(4);

/// What the judge reports, when it is not so.
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
            (health["triggers"].as_u64() == Some(crate::jobs::JOBS.len() as u64)).then_some(())
        })
        .await?;
    }
    Ok(())
}

/// Waits until every file was seen and every task has ended; at the deadline it is the judge who says what has not.
pub(crate) async fn settle(world: &World) -> anyhow::Result<()> {
    world.stop_clocks().await?;
    let api = world.api()?;
    until("no clock fires", UP_WITHIN, async || {
        let health = api.get("system/health").await.ok()?;
        (health["triggers"].as_u64() == Some(crate::jobs::JOBS.len() as u64 - 2)).then_some(())
    })
    .await?;
    let drops = history::read::<Drop>(&world.folder.join(DROPS))?.len();
    let settled = until("everything has settled", SETTLED_WITHIN, async || {
        let unsettled = api.count_unsettled().await.ok()?;
        (unsettled == 0 && api.count_events("file").await.ok()? >= drops).then_some(())
    });
    if let Err(error) = settled.await {
        eprintln!("{error:#}");
    }
    Ok(())
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
