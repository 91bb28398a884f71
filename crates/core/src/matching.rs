//! From an event to tasks: which trigger matches, why not, and what exactly shall run. Pure. Step 4 of the walk.

mod argument;
mod body;
mod facts;
mod plan;
mod rehearsal;
mod wanted;

pub use body::Body;
pub use facts::{Facts, ROOTS};
pub(crate) use facts::{Missing, Path, Step, describe, walk};
pub use plan::{Plan, plan, respond, wanted, wanted_by};
pub use rehearsal::{Rehearsal, rehearse};
pub use wanted::Wanted;

use crate::{
    condition::{Condition, Finding, Judgement},
    event::{Decision, DecisionOutcome, Event, Verdict},
    trigger::{EventSource, Trigger, WebhookSource},
};

/// Whether a webhook source of `trigger` takes the event.
pub fn decide_webhook(trigger: &Trigger, source: &WebhookSource, facts: &Facts<'_>) -> Decision {
    decide(trigger, facts, || takes_type(&source.events, facts.event), source.when.as_ref())
}

/// Whether an `[on.event]` source of `trigger` takes the event.
pub fn decide_event(trigger: &Trigger, source: &EventSource, facts: &Facts<'_>) -> Decision {
    let wanted = std::slice::from_ref(&source.event_type);
    let takes = || is_no_own_end(trigger, facts.event).and_then(|()| takes_type(wanted, facts.event));
    decide(trigger, facts, takes, source.when.as_ref())
}

/// It would start itself for ever.
fn is_no_own_end(trigger: &Trigger, event: &Event) -> Result<(), String> {
    match event.ended_trigger() {
        Some(key) if key == trigger.key() => Err("the end of its own run does not start it".to_owned()),
        _ => Ok(()),
    }
}

/// Of what the sources of one trigger decided: one event becomes at most one task of a trigger, however many match.
pub fn first_match<T>(mut decided: impl Iterator<Item = T>, decision: impl Fn(&T) -> &Decision) -> Option<T> {
    let is_match = |one: &T| decision(one).outcome == DecisionOutcome::Matched;
    let first = decided.next()?;
    if is_match(&first) {
        return Some(first);
    }
    Some(decided.find(is_match).unwrap_or(first))
}

fn decide(
    trigger: &Trigger,
    facts: &Facts<'_>,
    takes_type: impl FnOnce() -> Result<(), String>,
    when: Option<&Condition>,
) -> Decision {
    let judged = is_readable(facts.event).and_then(|()| takes_type());
    let Finding { judgement, clauses } = match (judged, when) {
        (Err(reason), _) => Judgement::No(reason).into(),
        (Ok(()), None) => Judgement::Yes.into(),
        (Ok(()), Some(when)) => remarked(when.judge(facts), facts),
    };
    let outcome = match judgement {
        Judgement::Yes => DecisionOutcome::Matched,
        Judgement::No(_) => DecisionOutcome::NoMatch,
        Judgement::TooCostly(_) => DecisionOutcome::TooCostly,
        Judgement::Error(_) => DecisionOutcome::Error,
    };
    let reason = judgement.reason().map(str::to_owned);
    Decision { trigger: trigger.name.to_string(), outcome, revision: None, reason, clauses }
}

/// A condition that does not hold of a body names what the body is, if that may be why.
fn remarked(finding: Finding, facts: &Facts<'_>) -> Finding {
    let judgement = match (finding.judgement, unlike_json(facts)) {
        (Judgement::No(reason), Some(remark)) if reason.contains("body") => {
            Judgement::No(format!("{reason} ({remark})"))
        }
        (judgement, _) => judgement,
    };
    Finding { judgement, ..finding }
}

/// What a body is that has no fields, or only texts: mostly a wrong setting at its sender.
fn unlike_json(facts: &Facts<'_>) -> Option<String> {
    let kind = facts.event.content_type.as_deref().unwrap_or("no content type");
    match facts.body {
        Body::Json(_) => None,
        Body::Form(_) => Some(format!("the body came as a form, {kind}: its fields are texts")),
        Body::Text(_) => Some(format!("the body came as a text, {kind}, and not as JSON")),
        Body::Bytes => Some(format!("the body came as bytes, {kind}, and not as JSON")),
        Body::Empty => Some("the body is empty".to_owned()),
    }
}

/// No trigger sees what is not authentic or not what it claims to be.
fn is_readable(event: &Event) -> Result<(), String> {
    match &event.verdict {
        Verdict::Accepted => Ok(()),
        Verdict::Malformed { reason }
        | Verdict::Rejected { reason }
        | Verdict::Unverified { reason }
        | Verdict::Ping { reason } => Err(format!("the event is {}: {reason}", event.verdict.name())),
    }
}

fn takes_type(wanted: &[String], event: &Event) -> Result<(), String> {
    if wanted.is_empty() || wanted.contains(&event.event_type) {
        return Ok(());
    }
    Err(format!("type is {:?}, wanted one of {}", event.event_type, wanted.join(", ")))
}

#[cfg(test)]
pub(crate) mod tests;
