//! Files that arrive in the watched folder: written elsewhere and moved in, or written in place.

use std::{
    fs,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::history::{Drop, Log, now};

/// For each file at least.
const DELIVERIES: u64 = 5;

pub(super) async fn run(
    shared: Arc<Shared>,
    mut drops: Log,
    pause: Duration,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut pace = interval(pause);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let folder = &shared.world.folder;
    let mut n = 0_u64;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = pace.tick() => {}
        }
        // Behind faults deliveries slow down by themselves; files would heap up.
        if shared.is_behind() || shared.next.load(Ordering::Relaxed) < n * DELIVERIES {
            continue;
        }
        n += 1;
        let path = folder.join(format!("inbox/{n}.job"));
        let text = format!("file {n}\n");
        if n.is_multiple_of(2) {
            let fresh = folder.join(format!("{n}.new"));
            fs::write(&fresh, text)?;
            fs::rename(&fresh, &path)?;
        } else {
            fs::write(&path, text)?;
        }
        // After the fact: a file that was counted is there.
        drops.write(&Drop { path: path.display().to_string(), at: now() })?;
    }
    Ok(())
}
