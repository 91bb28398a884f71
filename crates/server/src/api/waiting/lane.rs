//! What a due task waits for: agents.

use hetuflow_core::{
    id::AgentId,
    labels::Lane,
    waiting::{WaitReason, Waiting},
};

use super::{Known, Presence, because};

/// Agents that one sentence names, at most.
const NAMED: usize = 3;

pub(super) fn waiting(lane: &Lane, agents: &[Known]) -> Waiting {
    if let Some(wanted) = &lane.agent {
        return pinned(lane, wanted, agents);
    }
    let matching: Vec<&Known> = agents.iter().filter(|agent| lane.selector.matches(&agent.labels)).collect();
    let online: Vec<&Known> = matching.iter().copied().filter(|agent| agent.is_online()).collect();
    if !online.is_empty() {
        return among(&online);
    }
    if !matching.is_empty() {
        return offline(lane, &matching, agents);
    }
    let connected: Vec<&Known> = agents.iter().filter(|agent| agent.is_online()).collect();
    if connected.is_empty() {
        let wanted = lane.selector.to_string();
        let with = if wanted.is_empty() { String::new() } else { format!(" with the labels {wanted}") };
        return because(WaitReason::NoAgent, "no agent is connected", format!("start an agent{with}"));
    }
    no_match(lane, &connected)
}

fn pinned(lane: &Lane, wanted: &AgentId, agents: &[Known]) -> Waiting {
    let Some(agent) = agents.iter().find(|agent| agent.id == *wanted) else {
        let text = format!("it must run on agent {wanted}, which this database has never seen");
        return because(WaitReason::AgentOffline, text, format!("start agent {wanted}"));
    };
    if let Presence::Offline { since } = agent.presence {
        let text = format!("it must run on agent {wanted}, which is offline since {since}");
        return because(WaitReason::AgentOffline, text, format!("start agent {wanted}"));
    }
    let missing = missing(lane, agent);
    if !missing.is_empty() {
        let text = format!("it must run on agent {wanted}, which lacks {missing}");
        return because(WaitReason::AgentLacksLabels, text, format!("give agent {wanted} {missing}"));
    }
    among(&[agent])
}

/// Connected agents that would do.
fn among(agents: &[&Known]) -> Waiting {
    if agents.iter().all(|agent| agent.is_drained()) {
        let text =
            format!("every matching agent is drained: {}", named(agents, |agent| agent.id.to_string()));
        let remedy = format!("`hetuflow agent drain --undo {}`, or another agent", agents[0].id);
        return because(WaitReason::AgentsDrained, text, remedy);
    }
    if agents.iter().any(|agent| !agent.is_full()) {
        let text = "an agent is free: it is about to start";
        return because(WaitReason::AboutToStart, text, "nothing is needed");
    }
    let loads = named(agents, load);
    let text = match agents {
        [_] => format!("the only matching agent takes nothing more: {loads}"),
        all => format!("all {} matching agents take nothing more: {loads}", all.len()),
    };
    let remedy = "one of their tasks ends; or more agents, or more `slots`";
    because(WaitReason::AgentsFull, text, remedy)
}

/// `web-1 4/4 slots, longest 0199.. since ..`
fn load(agent: &Known) -> String {
    let Known { id, slots, running, .. } = agent;
    let longest = agent.longest.as_ref().map_or_else(String::new, |longest| {
        format!(", longest task {} since {}", longest.task_id, longest.since)
    });
    let why = if agent.is_drained() {
        ", drained"
    } else if running < slots {
        ", stops or has just refused one"
    } else {
        ""
    };
    format!("{id} ({running}/{slots} slots{why}{longest})")
}

fn offline(lane: &Lane, matching: &[&Known], agents: &[Known]) -> Waiting {
    let since = |agent: &Known| match agent.presence {
        Presence::Offline { since } => format!("{} (since {since})", agent.id),
        Presence::Online { .. } => agent.id.to_string(),
    };
    let names = named(matching, since);
    let text = if agents.iter().any(Known::is_online) {
        format!("no connected agent has {}; offline: {names}", lane.selector)
    } else {
        format!("no agent is connected; offline: {names}")
    };
    because(WaitReason::AgentsOffline, text, "one of them comes back")
}

/// Names what nobody has; where each label is somewhere but never together, the agents that come closest.
fn no_match(lane: &Lane, connected: &[&Known]) -> Waiting {
    let nobody_has = |(key, value): &(&String, &String)| {
        connected.iter().all(|agent| agent.labels.get(*key) != Some(*value))
    };
    let missing: Vec<String> =
        lane.selector.0.iter().filter(nobody_has).map(|(key, value)| format!("{key}={value}")).collect();
    let mut nearest = connected.to_vec();
    nearest.sort_by_key(|agent| (lane.selector.missing(&agent.labels).count(), agent.id.clone()));
    let remedy = format!("start an agent with {}, or give these labels to one that is there", lane.selector);
    let text = if missing.is_empty() {
        let lacks = |agent: &Known| format!("{} lacks {}", agent.id, self::missing(lane, agent));
        format!("no agent has all of {}; nearest: {}", lane.selector, named(&nearest, lacks))
    } else {
        format!("no agent has {}; agents: {}", missing.join(", "), named(&nearest, labelled))
    };
    because(WaitReason::NoMatchingAgent, text, remedy)
}

fn labelled(agent: &Known) -> String {
    let labels: Vec<String> = agent.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if labels.is_empty() {
        format!("{} (no labels)", agent.id)
    } else {
        format!("{} ({})", agent.id, labels.join(","))
    }
}

fn missing(lane: &Lane, agent: &Known) -> String {
    let missing = lane.selector.missing(&agent.labels).map(|(key, value)| format!("{key}={value}"));
    missing.collect::<Vec<_>>().join(", ")
}

fn named(agents: &[&Known], say: impl Fn(&Known) -> String) -> String {
    let mut names: Vec<String> = agents.iter().take(NAMED).map(|agent| say(agent)).collect();
    if agents.len() > NAMED {
        names.push(format!("and {} more", agents.len() - NAMED));
    }
    names.join(", ")
}
