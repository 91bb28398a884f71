//! Why a task waits, in one sentence. Pure, over what is known of the agents.

use hetuflow_core::{
    id::AgentId,
    labels::{Labels, Lane},
    task::Task,
};
use jiff::Timestamp;

/// An agent that is connected to some server.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) id: AgentId,
    pub(super) labels: Labels,
    /// Attempts that it could start now.
    pub(super) free: u32,
}

/// `None` when it does not wait.
pub(super) fn pending_reason(task: &Task, agents: &[Connected], now: Timestamp) -> Option<String> {
    if !task.status.is_waiting() {
        return None;
    }
    if task.run_at > now {
        return Some(format!("not before {}", task.run_at));
    }
    Some(lane_reason(&task.lane, agents))
}

fn lane_reason(lane: &Lane, agents: &[Connected]) -> String {
    if let Some(wanted) = &lane.agent
        && !agents.iter().any(|agent| agent.id == *wanted)
    {
        return format!("it must run on agent {wanted}, which is not connected");
    }
    if agents.is_empty() {
        return "no agent is connected".to_owned();
    }
    let matching: Vec<&Connected> =
        agents.iter().filter(|agent| lane.admits(&agent.id, &agent.labels)).collect();
    match matching.as_slice() {
        [] => no_match(lane, agents),
        all if all.iter().all(|agent| agent.free == 0) => match all {
            [one] => format!("agent {} is full", one.id),
            _ => format!("all {} matching agents are full", all.len()),
        },
        _ => "an agent is free: it is about to start".to_owned(),
    }
}

/// Names the labels that nobody has; where each is somewhere but never together, all of them.
fn no_match(lane: &Lane, agents: &[Connected]) -> String {
    let considered: Vec<&Connected> =
        agents.iter().filter(|agent| lane.agent.as_ref().is_none_or(|wanted| *wanted == agent.id)).collect();
    let nobody_has = |(key, value): &(&String, &String)| {
        considered.iter().all(|agent| agent.labels.get(*key) != Some(*value))
    };
    let missing: Vec<String> =
        lane.selector.0.iter().filter(nobody_has).map(|(key, value)| format!("{key}={value}")).collect();
    match (&lane.agent, missing.as_slice()) {
        (Some(agent), _) => format!("it must run on agent {agent}, which lacks {}", missing.join(", ")),
        (None, []) => format!("no connected agent has all of {}", lane.selector),
        (None, [one]) => format!("no connected agent has the label {one}"),
        (None, several) => format!("no connected agent has the labels {}", several.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hetuflow_core::labels::Selector;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn agent(id: &str, pairs: &[(&str, &str)], free: u32) -> Connected {
        Connected { id: AgentId::new(id).expect("a name"), labels: labels(pairs), free }
    }

    fn lane(pairs: &[(&str, &str)], agent: Option<&str>) -> Lane {
        let agent = agent.map(|id| AgentId::new(id).expect("a name"));
        Lane { selector: Selector(labels(pairs)), agent }
    }

    #[test]
    fn reasons() {
        let check = |lane: &Lane, agents: &[Connected], expected: &str| {
            assert_eq!(lane_reason(lane, agents), expected);
        };
        let web = [("role", "web")];
        check(&lane(&[], None), &[], "no agent is connected");
        check(&lane(&web, None), &[agent("a", &[], 1)], "no connected agent has the label role=web");
        check(
            &lane(&[("gpu", "a100"), ("role", "web")], None),
            &[agent("a", &web, 1), agent("b", &[("gpu", "a100")], 1)],
            "no connected agent has all of gpu=a100,role=web",
        );
        check(&lane(&web, None), &[agent("a", &web, 0)], "agent a is full");
        check(
            &lane(&web, None),
            &[agent("a", &web, 0), agent("b", &web, 0)],
            "all 2 matching agents are full",
        );
        check(&lane(&web, None), &[agent("a", &web, 1)], "an agent is free: it is about to start");
        check(&lane(&[], Some("b")), &[agent("a", &[], 1)], "it must run on agent b, which is not connected");
        check(
            &lane(&web, Some("a")),
            &[agent("a", &[], 1), agent("b", &web, 1)],
            "it must run on agent a, which lacks role=web",
        );
    }
}
