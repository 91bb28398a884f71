//! From an event to what is committed with it: the body is parsed, every trigger that may care decides, and
//! each that matched plans its task. Under a bound, and on a thread of its own unless it is sure to be quick: what
//! breaks it is stored with the verdict `malformed`, never refused and never a crash, and after three tries not tried
//! again (`intake/quarantine.rs`). What runs out of time may be good, and the machine slow: it is tried three times before it
//! is stored so. Step 4 of the walk.

mod quarantine;
#[cfg(test)]
mod tests;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::available_parallelism,
    time::Duration,
};

use hetuflow_core::{
    event::{Decision, DecisionOutcome, Event, FileFacts, SourceKind, Verdict},
    id::TaskId,
    matching::{Body, Facts, Plan, Wanted, decide_event, decide_webhook, first_match, plan, respond},
    task::NewTask,
};
use quarantine::Quarantine;
use tokio::sync::Semaphore;

use crate::triggers::{Live, Route, TriggerSet};

/// Core bounds what a condition may cost; this is for the case that it is wrong about it. Also passed where the machine stands
/// still for so long.
const WITHIN: Duration = Duration::from_secs(3);

const QUARANTINED: &str =
    "quarantined: judging one like it broke three times, and is not tried again before a trigger changes";

/// A body up to this size is verified, parsed and matched in less time than it takes to wake another thread for it.
pub(crate) const SMALL: usize = 64 * 1024;

/// Judges events, as many at once as the machine has use for.
#[derive(Debug, Clone)]
pub(crate) struct Judge {
    turns: Arc<Semaphore>,
    quarantine: Quarantine,
    within: Duration,
}

/// There was no time for it now, and nothing is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("judging it took more than {} s", WITHIN.as_secs())]
pub(crate) struct TooSlow;

enum Broken {
    Slow,
    Failed(String),
}

/// An event with its verdict and decisions, and the tasks that follow.
#[derive(Debug, Clone)]
pub(crate) struct Judged {
    pub(crate) event: Event,
    pub(crate) tasks: Vec<NewTask>,
    /// What the hook answers instead of a receipt, if it says so.
    pub(crate) response: Option<String>,
}

/// Which triggers may care.
#[derive(Debug, Clone)]
pub(crate) enum Candidates {
    /// Those that share a hook, by its key in the set.
    Route(String),
    /// Those with `[on.event]` in the event's namespace: events of the API, and what agents notice about files.
    Events,
}

impl Judge {
    pub(crate) fn new() -> Self {
        let turns = available_parallelism().map_or(2, std::num::NonZero::get) * 2;
        Self { turns: Arc::new(Semaphore::new(turns)), quarantine: Quarantine::default(), within: WITHIN }
    }

    /// For who cannot be told to come again: what runs out of time is tried again here.
    pub(crate) async fn judge(&self, event: Event, set: Arc<TriggerSet>, candidates: Candidates) -> Judged {
        loop {
            let tried = self.try_to_judge(event.clone(), Arc::clone(&set), candidates.clone()).await;
            if let Ok(judged) = tried {
                return judged;
            }
        }
    }

    /// For who comes again. The error is for the first times that one like it runs out of time; after them it is stored as
    /// what breaks the judgement.
    pub(crate) async fn try_to_judge(
        &self,
        event: Event,
        set: Arc<TriggerSet>,
        candidates: Candidates,
    ) -> Result<Judged, TooSlow> {
        let generation = set.generation;
        if self.quarantine.holds(&event, generation) {
            return Ok(broken(event, QUARANTINED));
        }
        let unjudged = event.clone();
        match self.within_bounds(event, set, candidates).await {
            Ok(judged) => {
                self.quarantine.forget(&unjudged, generation);
                Ok(judged)
            }
            Err(Broken::Failed(reason)) => {
                self.quarantine.note(&unjudged, generation);
                Ok(broken(unjudged, &reason))
            }
            Err(Broken::Slow) if self.quarantine.note(&unjudged, generation) => {
                Ok(broken(unjudged, &TooSlow.to_string()))
            }
            Err(Broken::Slow) => {
                tracing::warn!(event.source = unjudged.source, "an event could not be judged in time");
                Err(TooSlow)
            }
        }
    }

    async fn within_bounds(
        &self,
        event: Event,
        set: Arc<TriggerSet>,
        candidates: Candidates,
    ) -> Result<Judged, Broken> {
        let failed = || Broken::Failed("matching it failed unexpectedly".to_owned());
        if is_quick(&event, &set, &candidates) {
            return catch_unwind(AssertUnwindSafe(|| judge(event, &set, &candidates))).map_err(|_| failed());
        }
        // The permit goes with the work: what overruns its time still counts as running.
        let Ok(turn) = Arc::clone(&self.turns).acquire_owned().await else {
            return Err(Broken::Failed("the server is stopping".to_owned()));
        };
        let work = tokio::task::spawn_blocking(move || {
            let judged = judge(event, &set, &candidates);
            drop(turn);
            judged
        });
        match tokio::time::timeout(self.within, work).await {
            Ok(Ok(judged)) => Ok(judged),
            Ok(Err(_)) => Err(failed()),
            Err(_) => Err(Broken::Slow),
        }
    }
}

/// Nothing in it can take long: a small body, and no condition that walks over lists.
fn is_quick(event: &Event, set: &TriggerSet, candidates: &Candidates) -> bool {
    let Candidates::Route(key) = candidates else { return false };
    event.body.len() <= SMALL
        && set.routes.get(key).is_none_or(|route| {
            route.members.keys().filter_map(|name| set.live.get(name)).all(|live| {
                live.trigger
                    .webhooks
                    .iter()
                    .all(|source| source.when.as_ref().is_none_or(|when| !when.may_loop()))
            })
        })
}

fn broken(mut event: Event, reason: &str) -> Judged {
    tracing::error!(event.id = %event.id, event.source = event.source, reason, "event could not be judged");
    event.verdict = Verdict::Malformed { reason: reason.to_owned() };
    Judged { event, tasks: Vec::new(), response: None }
}

fn judge(mut event: Event, set: &TriggerSet, candidates: &Candidates) -> Judged {
    let all = Wanted::whole();
    let wanted = match candidates {
        Candidates::Route(key) => set.routes.get(key).map_or(&all, |route| &route.wanted),
        Candidates::Events => &all,
    };
    let body = match Body::parse_for(wanted, event.content_type.as_deref(), &event.body) {
        Ok(body) => body,
        Err(reason) => {
            event.verdict = Verdict::Malformed { reason };
            return Judged { event, tasks: Vec::new(), response: None };
        }
    };
    // What an agent noticed about a file is asked about as that file.
    let file: Option<FileFacts> =
        (event.kind == SourceKind::File).then(|| serde_json::from_slice(&event.body).ok()).flatten();
    let facts = Facts { event: &event, body: &body, file: file.as_ref() };
    let decided = match candidates {
        Candidates::Route(key) => {
            set.routes.get(key).map_or_else(Vec::new, |route| by_route(set, route, &facts))
        }
        Candidates::Events => by_events(set, &facts),
    };
    let tasks = decided.iter().filter_map(|decided| task(decided, &facts)).collect();
    let response = match candidates {
        Candidates::Route(key) => set.routes.get(key).and_then(|route| response(route, &facts)),
        Candidates::Events => None,
    };
    event.decisions = decided
        .into_iter()
        .map(|Decided { live, decision, .. }| Decision { revision: Some(live.revision), ..decision })
        .collect();
    Judged { event, tasks, response }
}

/// One that cannot be filled leaves the receipt: the event is stored all the same.
fn response(route: &Route, facts: &Facts<'_>) -> Option<String> {
    match respond(route.response.as_ref()?, facts) {
        Ok(body) => Some(body),
        Err(reason) => {
            tracing::warn!(event.id = %facts.event.id, event.source = facts.event.source, reason, "no response");
            None
        }
    }
}

/// What one trigger made of the event.
struct Decided<'a> {
    live: &'a Live,
    decision: Decision,
    /// `webhook` or `event`, and which of them.
    source: (&'static str, usize),
}

fn by_route<'a>(set: &'a TriggerSet, route: &Route, facts: &Facts<'_>) -> Vec<Decided<'a>> {
    route
        .members
        .iter()
        .filter_map(|(name, sources)| {
            let live = set.live.get(name)?;
            let decided = sources.iter().map(|&index| Decided {
                live,
                decision: decide_webhook(&live.trigger, &live.trigger.webhooks[index], facts),
                source: ("webhook", index),
            });
            first_match(decided, |decided| &decided.decision)
        })
        .collect()
}

fn by_events<'a>(set: &'a TriggerSet, facts: &Facts<'_>) -> Vec<Decided<'a>> {
    set.live
        .values()
        .filter(|live| live.trigger.namespace == facts.event.namespace)
        .filter_map(|live| {
            let wants = |(_, source): &(usize, &hetuflow_core::trigger::EventSource)| {
                // A trigger for another type says nothing about this event.
                source.event_type == facts.event.event_type
            };
            let decided =
                live.trigger.events.iter().enumerate().filter(wants).map(|(index, source)| Decided {
                    live,
                    decision: decide_event(&live.trigger, source, facts),
                    source: ("event", index),
                });
            first_match(decided, |decided| &decided.decision)
        })
        .collect()
}

fn task(decided: &Decided<'_>, facts: &Facts<'_>) -> Option<NewTask> {
    if decided.decision.outcome != DecisionOutcome::Matched {
        return None;
    }
    let live = decided.live;
    let (kind, index) = decided.source;
    Some(plan(
        &Plan {
            trigger: &live.trigger,
            job_id: live.job_id,
            job: &live.job,
            schedule_id: live.schedule_id(kind, index),
            agent: None,
            task_id: TaskId::at(facts.event.received_at),
            run_at: facts.event.received_at,
            telling: live.telling,
        },
        facts,
    ))
}
