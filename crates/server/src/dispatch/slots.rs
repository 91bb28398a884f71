//! Who gets the next tasks of a lane: the agent with most room, in turn where that is equal.

use std::cmp::Reverse;

use hetuflow_core::labels::Lane;
use hetuflow_store::Slot;

use crate::hub::Online;

/// Slots that one claim offers, at most: what one statement leases.
pub(super) const MAX_SLOTS: usize = 100;

/// The free places for tasks of the lane, in the order in which to fill them.
pub(super) fn slots(lane: &Lane, online: &[Online], turn: usize) -> Vec<Slot> {
    let mut agents: Vec<&Online> =
        online.iter().filter(|agent| lane.admits(&agent.agent_id, &agent.labels)).collect();
    agents.sort_by(|a, b| a.agent_id.cmp(&b.agent_id));
    let count = agents.len().max(1);
    agents.rotate_left(turn % count);
    let mut free: Vec<u32> = agents.iter().map(|agent| agent.free).collect();
    let mut slots = Vec::new();
    while slots.len() < MAX_SLOTS {
        // The first of those with most room, so that equals take turns.
        let Some(best) = (0..free.len()).filter(|&i| free[i] > 0).max_by_key(|&i| (free[i], Reverse(i)))
        else {
            break;
        };
        free[best] -= 1;
        let agent = agents[best];
        slots.push(Slot { agent_id: agent.agent_id.clone(), session_epoch: agent.session_epoch });
    }
    slots
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hetuflow_core::{
        id::AgentId,
        labels::{Labels, Selector},
    };

    use super::*;

    fn agent(name: &str, free: u32, role: &str) -> Online {
        Online {
            agent_id: AgentId::new(name).expect("a name"),
            session_epoch: 1,
            labels: Labels::from([("role".to_owned(), role.to_owned())]),
            slots: 8,
            free,
            watches: BTreeMap::new(),
        }
    }

    fn check(lane: &Lane, agents: &[Online], turn: usize, expected: &[&str]) {
        let given = slots(lane, agents, turn);
        let names: Vec<&str> = given.iter().map(|slot| slot.agent_id.as_str()).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn most_room_first_then_in_turn() {
        let any = Lane::default();
        let agents = [agent("a", 1, "web"), agent("b", 3, "web"), agent("c", 1, "db")];
        check(&any, &agents, 0, &["b", "b", "a", "b", "c"]);
        check(&any, &agents, 1, &["b", "b", "b", "c", "a"]);
        check(&any, &[], 3, &[]);
    }

    #[test]
    fn only_agents_that_the_lane_admits() {
        let agents = [agent("a", 1, "web"), agent("b", 2, "db"), agent("c", 0, "db")];
        let db = Selector(BTreeMap::from([("role".to_owned(), "db".to_owned())]));
        check(&Lane { selector: db.clone(), agent: None }, &agents, 0, &["b", "b"]);
        let pinned = Some(AgentId::new("a").expect("a name"));
        check(&Lane { selector: Selector::default(), agent: pinned.clone() }, &agents, 0, &["a"]);
        check(&Lane { selector: db, agent: pinned }, &agents, 0, &[]);
    }

    #[test]
    fn one_claim_has_a_limit() {
        let agents = [agent("a", 1000, "web")];
        assert_eq!(slots(&Lane::default(), &agents, 0).len(), MAX_SLOTS);
    }
}
