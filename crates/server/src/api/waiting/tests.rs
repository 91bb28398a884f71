//! Every reason as a row: who waits, for whom, and what is said.

use hetuflow_core::{
    id::{EventId, InstanceId, JobId, Namespace},
    job::JobSpec,
    labels::{Lane, Selector},
    retry::{OnLost, RetryPolicy},
    task::{EndReason, Outcome},
};
use jiff::SignedDuration;

use super::*;

fn at(seconds: i64) -> Timestamp {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    start + SignedDuration::from_secs(seconds)
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn name(id: &str) -> AgentId {
    AgentId::new(id).expect("a name")
}

fn agent(id: &str, pairs: &[(&str, &str)], presence: Presence) -> Known {
    Known {
        id: name(id),
        labels: labels(pairs),
        slots: 4,
        running: 4,
        duty: Duty::Active,
        presence,
        longest: None,
    }
}

fn online(id: &str, pairs: &[(&str, &str)], free: u32) -> Known {
    agent(id, pairs, Presence::Online { free })
}

fn offline(id: &str, pairs: &[(&str, &str)]) -> Known {
    agent(id, pairs, Presence::Offline { since: at(-60) })
}

fn lane(pairs: &[(&str, &str)], agent: Option<&str>) -> Lane {
    Lane { selector: Selector(labels(pairs)), agent: agent.map(name) }
}

fn task(status: Status) -> Task {
    let job = JobSpec { max_retries: 3, on_lost: Some(OnLost::Hold), ..JobSpec::running("true") };
    Task {
        id: "0193a000-0000-7000-8000-000000000000".parse().expect("an id"),
        namespace: Namespace::default(),
        trigger: "deploy".to_owned(),
        job_id: JobId::at(at(0)),
        schedule_id: None,
        event_id: EventId::at(at(0)),
        status,
        outcome: None,
        created_at: at(0),
        run_at: at(0),
        finished_at: None,
        priority: 0,
        lane: Lane::default(),
        policy: RetryPolicy::of(&job),
        attempt: 1,
        fence: 1,
        cancel_requested: false,
        queued: false,
        command: None,
    }
}

fn facts(agents: &[Known]) -> Facts<'_> {
    Facts { newest: None, agents, blackout_end: None, now: at(10) }
}

#[test]
fn of_agents() {
    use WaitReason::{
        AboutToStart, AgentLacksLabels, AgentOffline, AgentsDrained, AgentsFull, AgentsOffline, NoAgent,
        NoMatchingAgent,
    };
    let check = |lane: &Lane, agents: &[Known], reason: WaitReason, expected: &str| {
        let task = Task { lane: lane.clone(), ..task(Status::Pending) };
        let found = waiting(&task, &facts(agents)).expect("it waits");
        assert_eq!((found.reason, found.text.as_str()), (reason, expected));
        assert!(!found.remedy.is_empty());
    };
    let (any, web, gpu) = (lane(&[], None), [("role", "web")], [("gpu", "a100")]);
    check(&any, &[], NoAgent, "no agent is connected");
    check(
        &any,
        &[offline("a", &[])],
        AgentsOffline,
        "no agent is connected; offline: a (since 2025-12-31T23:59:00Z)",
    );
    check(
        &lane(&gpu, None),
        &[online("web-1", &web, 1), online("bare", &[], 1)],
        NoMatchingAgent,
        "no agent has gpu=a100; agents: bare (no labels), web-1 (role=web)",
    );
    check(&lane(&gpu, None), &[offline("a", &[])], NoAgent, "no agent is connected");
    check(
        &lane(&[("gpu", "a100"), ("role", "web")], None),
        &[online("a", &web, 1), online("b", &gpu, 1)],
        NoMatchingAgent,
        "no agent has all of gpu=a100,role=web; nearest: a lacks gpu=a100, b lacks role=web",
    );
    check(
        &lane(&gpu, None),
        &[online("a", &web, 1), offline("b", &gpu)],
        AgentsOffline,
        "no connected agent has gpu=a100; offline: b (since 2025-12-31T23:59:00Z)",
    );
    check(
        &lane(&web, None),
        &[online("a", &web, 0), offline("b", &web)],
        AgentsFull,
        "the only matching agent takes nothing more: a (4/4 slots)",
    );
    let drained = |id: &str| Known { duty: Duty::Drained, ..online(id, &web, 0) };
    check(
        &lane(&web, None),
        &[drained("a"), offline("b", &web)],
        AgentsDrained,
        "every matching agent is drained: a",
    );
    check(
        &lane(&web, None),
        &[drained("a"), online("b", &web, 0)],
        AgentsFull,
        "all 2 matching agents take nothing more: a (4/4 slots, drained), b (4/4 slots)",
    );
    let longest = Some(Longest { task_id: task(Status::Running).id, since: at(-5) });
    check(
        &lane(&web, None),
        &[
            Known { longest, ..online("a", &web, 0) },
            Known { running: 1, ..online("b", &web, 0) },
            online("c", &gpu, 9),
        ],
        AgentsFull,
        "all 2 matching agents take nothing more: a (4/4 slots, longest task 0193a000-0000-7000-8000-000000000000 \
         since 2025-12-31T23:59:55Z), b (1/4 slots, stops or has just refused one)",
    );
    let many: Vec<Known> = ["a", "b", "c", "d", "e"].map(|id| online(id, &[], 0)).into();
    check(
        &any,
        &many,
        AgentsFull,
        "all 5 matching agents take nothing more: a (4/4 slots), b (4/4 slots), c (4/4 slots), and 2 more",
    );
    check(
        &lane(&web, None),
        &[online("a", &web, 0), online("b", &web, 1)],
        AboutToStart,
        "an agent is free: it is about to start",
    );
    let pinned = lane(&web, Some("a"));
    let unseen = "it must run on agent a, which this database has never seen";
    check(&pinned, &[online("b", &web, 1)], AgentOffline, unseen);
    let away = "it must run on agent a, which is offline since 2025-12-31T23:59:00Z";
    check(&pinned, &[offline("a", &web), online("b", &web, 1)], AgentOffline, away);
    let lacks = "it must run on agent a, which lacks role=web";
    check(&pinned, &[online("a", &gpu, 1), online("b", &web, 1)], AgentLacksLabels, lacks);
    let full = "the only matching agent takes nothing more: a (4/4 slots)";
    check(&pinned, &[online("a", &web, 0), online("b", &web, 1)], AgentsFull, full);
}

#[test]
fn of_time() {
    let check = |task: &Task, blackout_end, reason: WaitReason, expected: &str| {
        let found = waiting(task, &Facts { blackout_end, ..facts(&[]) }).expect("it waits");
        assert_eq!((found.reason, found.text.as_str()), (reason, expected));
        assert_eq!(found.until, Some(task.run_at));
    };
    let planned = Task { run_at: at(60), ..task(Status::Pending) };
    let text = "it is planned for 2026-01-01T00:01:00Z";
    check(&planned, None, WaitReason::Scheduled, text);
    // Planned for a time within it: that is not what it waits for.
    check(&planned, Some(at(90)), WaitReason::Scheduled, text);
    let text =
        "its schedule has a blackout until 2026-01-01T00:00:30Z; it is planned for 2026-01-01T00:01:00Z";
    check(&planned, Some(at(30)), WaitReason::Blackout, text);
    let again = Task { run_at: at(60), outcome: Some(Outcome::exit(75)), ..task(Status::WaitingRetry) };
    let text = "attempt 2 of 4 starts at 2026-01-01T00:01:00Z; attempt 1 ended with exit 75";
    check(&again, Some(at(30)), WaitReason::Retry, text);
    let due = waiting(&Task { run_at: at(5), ..again }, &facts(&[])).expect("it waits");
    assert_eq!(due.reason, WaitReason::NoAgent);
}

#[test]
fn of_what_an_agent_holds() {
    let attempt = |status| TaskInstance {
        id: InstanceId::at(at(0)),
        task_id: task(status).id,
        job_id: JobId::at(at(0)),
        agent_id: name("a"),
        attempt: 1,
        fence: 1,
        status,
        created_at: at(3),
        started_at: None,
        finished_at: None,
        outcome: None,
        output_dropped: 0,
    };
    let check = |task: &Task, agents: &[Known], expected: Option<(WaitReason, &str)>| {
        let found = waiting(task, &Facts { newest: Some(&attempt(task.status)), ..facts(agents) });
        assert_eq!(found.as_ref().map(|found| (found.reason, found.text.as_str())), expected);
    };
    let here = [online("a", &[], 0)];
    let unconfirmed = "it was given to agent a, which has not confirmed it for 7 s";
    check(&task(Status::Locked), &here, Some((WaitReason::Unconfirmed, unconfirmed)));
    check(&task(Status::Dispatched), &here, None);
    check(&task(Status::Running), &here, None);
    let asked = Task { cancel_requested: true, ..task(Status::Running) };
    check(&asked, &here, Some((WaitReason::Ending, "agent a was asked to end it")));
    let away = "agent a, which holds it, has not been heard of since 2025-12-31T23:59:00Z";
    check(&asked, &[offline("a", &[])], Some((WaitReason::AgentAway, away)));
    check(&task(Status::Running), &[offline("a", &[])], Some((WaitReason::AgentAway, away)));
}

#[test]
fn of_a_person() {
    let lost = Task {
        outcome: Some(Outcome::because(EndReason::Lost, "the agent came back with another journal")),
        ..task(Status::Lost)
    };
    let found = waiting(&lost, &facts(&[])).expect("it waits");
    assert_eq!(found.reason, WaitReason::Held);
    assert!(found.text.starts_with("its fate is unknown (the agent came back with another journal)"));
    assert!(found.remedy.contains(&format!("`hetuflow task retry {}`", lost.id)), "{}", found.remedy);
    let policy = RetryPolicy { on_lost: OnLost::Fail, ..lost.policy.clone() };
    assert_eq!(waiting(&Task { policy, ..lost }, &facts(&[])), None);
    assert_eq!(waiting(&task(Status::Failed), &facts(&[])), None);
    assert_eq!(waiting(&task(Status::Succeeded), &facts(&[])), None);
}
