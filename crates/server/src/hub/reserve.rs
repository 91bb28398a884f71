//! Places on agents that are set aside while a commit is under way, so that a claim and an ingest that run at the
//! same time never promise the same place. The agent with most room comes first, in turn where that is equal.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::atomic::Ordering,
};

use hetuflow_core::{id::AgentId, labels::Lane, task::Lease};
use hetuflow_store::Slot;
use tokio::time::Instant;

use super::{Connection, Hub, SessionKey, outbox::Unit};

/// The lanes in which tasks wait for room, as dispatch last saw them.
#[derive(Debug, Default)]
pub(crate) enum Backlog {
    /// Nobody has looked: there may be some in every lane.
    #[default]
    Unknown,
    Lanes(Vec<Lane>),
}

impl Backlog {
    fn wants(&self, agent_id: &AgentId, connection: &Connection) -> bool {
        match self {
            Self::Unknown => true,
            Self::Lanes(lanes) => lanes.iter().any(|lane| connection.admitted_by(lane, agent_id)),
        }
    }
}

/// For whom a place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// For tasks that wait.
    Waiting,
    /// For tasks that are just being stored. They take no place that a waiting task could have.
    New,
}

/// Places that are set aside; those that were not used are free again when it goes.
#[derive(Debug)]
pub(crate) struct Reservation {
    hub: Hub,
    open: HashMap<SessionKey, u32>,
}

impl Reservation {
    pub(crate) fn new(hub: &Hub) -> Self {
        Self { hub: hub.clone(), open: HashMap::new() }
    }

    /// Sets aside up to `count` places for tasks of the lane, in the order in which to fill them.
    pub(crate) fn take(&mut self, lane: &Lane, count: usize, purpose: Purpose) -> Vec<Slot> {
        let slots = self.hub.reserve(lane, count, purpose);
        for slot in &slots {
            *self.open.entry(session(slot)).or_default() += 1;
        }
        slots
    }

    /// Hands one attempt over to the agent in one of the places; `false` when it was not queued and so will never
    /// reach the agent.
    pub(crate) fn assign(&mut self, key: &SessionKey, lease: Lease, unit: &Unit) -> bool {
        match self.open.get_mut(key) {
            Some(left) if *left > 0 => *left -= 1,
            Some(_) | None => return false,
        }
        self.hub.assign(key, lease, unit)
    }

    /// Ends every session with a place that is still set aside: a commit that may or may not have happened
    /// may have leased to it, and only its next hello can tell.
    pub(crate) fn doubt(&self) {
        self.open.keys().for_each(|key| self.hub.close(key));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        for (key, count) in self.open.drain().filter(|(_, count)| *count > 0) {
            self.hub.unreserve(&key, count);
        }
    }
}

fn session(slot: &Slot) -> SessionKey {
    SessionKey { agent_id: slot.agent_id.clone(), epoch: slot.session_epoch }
}

impl Hub {
    /// What dispatch leaves waiting.
    pub(crate) fn set_backlog(&self, backlog: Backlog) {
        *self.backlog() = backlog;
    }

    /// Whether any agent has room.
    pub(crate) fn has_room(&self) -> bool {
        let now = Instant::now();
        self.table().values().any(|connection| connection.free(now) > 0)
    }

    /// Whether an agent with room could take some of what waits.
    pub(crate) fn has_room_for_backlog(&self) -> bool {
        let (backlog, now) = (self.backlog(), Instant::now());
        self.table().iter().any(|(agent_id, one)| one.free(now) > 0 && backlog.wants(agent_id, one))
    }

    fn reserve(&self, lane: &Lane, count: usize, purpose: Purpose) -> Vec<Slot> {
        let turn = self.shared.turn.fetch_add(1, Ordering::Relaxed);
        let (backlog, now) = (self.backlog(), Instant::now());
        let mut table = self.table();
        let mut agents: Vec<(&AgentId, &mut Connection)> = table
            .iter_mut()
            .filter(|(agent_id, connection)| {
                connection.free(now) > 0
                    && connection.admitted_by(lane, agent_id)
                    && (purpose == Purpose::Waiting || !backlog.wants(agent_id, connection))
            })
            .collect();
        agents.sort_unstable_by_key(|(agent_id, _)| *agent_id);
        let free: Vec<u32> = agents.iter().map(|(_, connection)| connection.free(now)).collect();
        let places = share(&free, count, turn);
        for &place in &places {
            agents[place].1.reserve();
        }
        let slot = |(agent_id, connection): &(&AgentId, &mut Connection)| Slot {
            agent_id: (*agent_id).clone(),
            session_epoch: connection.epoch(),
        };
        places.into_iter().map(|place| slot(&agents[place])).collect()
    }

    fn unreserve(&self, key: &SessionKey, count: u32) {
        self.with(key, |connection| connection.unreserve(count));
        self.changed();
    }
}

/// Which of the agents gets the next task, and the next, until `count` or nothing is free. `turn` rotates who comes
/// first among equals.
fn share(free: &[u32], count: usize, turn: usize) -> Vec<usize> {
    let agents = free.len().max(1);
    let rank = |place: usize| (place + agents - turn % agents) % agents;
    let mut heap: BinaryHeap<(u32, Reverse<usize>, usize)> = free
        .iter()
        .enumerate()
        .filter(|(_, free)| **free > 0)
        .map(|(place, free)| (*free, Reverse(rank(place)), place))
        .collect();
    let mut places = Vec::new();
    while places.len() < count
        && let Some((free, rank, place)) = heap.pop()
    {
        places.push(place);
        if free > 1 {
            heap.push((free - 1, rank, place));
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_room_first_then_in_turn() {
        assert_eq!(share(&[1, 3, 1], 9, 0), [1, 1, 0, 1, 2]);
        assert_eq!(share(&[1, 3, 1], 9, 1), [1, 1, 1, 2, 0]);
        assert_eq!(share(&[1, 3, 1], 2, 7), [1, 1]);
        assert_eq!(share(&[0, 2], 9, 0), [1, 1]);
        assert_eq!(share(&[], 9, 3), [0; 0]);
    }
}
