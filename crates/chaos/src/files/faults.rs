//! What is done to agent and server while files come: out of a seed, one thing after the other.

use std::{fmt, time::Duration};

use rustix::process::Signal;
use tokio::time::sleep;

use super::{place::Place, writers::Writers};
use crate::random::Random;

/// Tasks that have not ended, at most: a run measures faults, not overload.
const BACKLOG: usize = 200;

const COPY: &str = "older";

/// How often each thing is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) agent_kills: u32,
    pub(super) server_kills: u32,
    pub(super) rollbacks: u32,
    pub(super) deletions: u32,
    pub(super) freezes: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    KillAgent,
    KillServer,
    RollBack,
    Delete,
    Freeze,
}

impl Plan {
    /// All of it in an order of chance. A rollback and a deletion come with a kill of the agent.
    fn faults(&self, random: &mut Random) -> Vec<Fault> {
        let plain = self.agent_kills.saturating_sub(self.rollbacks + self.deletions);
        let counts = [
            (Fault::KillAgent, plain),
            (Fault::KillServer, self.server_kills),
            (Fault::RollBack, self.rollbacks),
            (Fault::Delete, self.deletions),
            (Fault::Freeze, self.freezes),
        ];
        let mut faults: Vec<Fault> =
            counts.into_iter().flat_map(|(fault, count)| (0..count).map(move |_| fault)).collect();
        for last in (1..faults.len()).rev() {
            let other = usize::try_from(random.below(last as u64 + 1)).unwrap_or(0);
            faults.swap(last, other);
        }
        faults
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { agent_kills, server_kills, rollbacks, deletions, freezes } = self;
        write!(
            f,
            "agent killed {agent_kills} times (with {rollbacks} rollbacks and {deletions} deletions of its memory), server \
             {server_kills}, agent frozen {freezes}"
        )
    }
}

pub(super) async fn run(
    place: &mut Place,
    plan: &Plan,
    seed: u64,
    writers: &Writers,
) -> anyhow::Result<Plan> {
    let mut random = Random::new(seed, "faults of files");
    for (number, fault) in plan.faults(&mut random).into_iter().enumerate() {
        sleep(random.millis(200..800)).await;
        act(place, fault, &mut random).await?;
        if number % 5 == 0 {
            hold_back(place, writers).await;
        }
    }
    Ok(*plan)
}

async fn act(place: &mut Place, fault: Fault, random: &mut Random) -> anyhow::Result<()> {
    match fault {
        Fault::KillServer => {
            place.kill_server().await?;
            sleep(random.millis(0..400)).await;
            return place.start_server().await;
        }
        Fault::Freeze => {
            place.agent.signal(Signal::STOP)?;
            sleep(random.millis(500..2_000)).await;
            return place.agent.signal(Signal::CONT);
        }
        Fault::KillAgent | Fault::RollBack | Fault::Delete => {}
    }
    place.agent.kill().await?;
    match fault {
        Fault::RollBack => place.restore_memory(COPY)?,
        Fault::Delete => place.delete_memory()?,
        // Now and then, so that a rollback goes some way back.
        Fault::KillAgent if random.one_in(4) => place.copy_memory(COPY)?,
        Fault::KillAgent | Fault::KillServer | Fault::Freeze => {}
    }
    sleep(random.millis(0..300)).await;
    place.agent.start(&[])
}

/// Writers wait while tasks heap up.
async fn hold_back(place: &Place, writers: &Writers) {
    let Ok(api) = place.api() else { return };
    let mut tries = 0;
    while api.count_unsettled().await.is_ok_and(|count| count > BACKLOG) && tries < 100 {
        writers.pause(Duration::from_millis(500));
        sleep(Duration::from_millis(300)).await;
        tries += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_plan() {
        let plan = Plan { agent_kills: 20, server_kills: 3, rollbacks: 2, deletions: 1, freezes: 2 };
        let faults = |seed| plan.faults(&mut Random::new(seed, "faults of files"));
        assert_eq!(faults(1), faults(1));
        assert_ne!(faults(1), faults(2));
        assert_eq!(faults(1).len(), 25);
    }
}
