//! What a trigger would make of an event, without anything being stored or run: for people who try a rule.

use super::{Facts, decide_event, decide_webhook, first_match, plan::command};
use crate::{
    event::{Decision, DecisionOutcome, SourceKind},
    job::{Command, JobSpec},
    trigger::{Trigger, TriggerJob},
};

#[derive(Debug, Clone, PartialEq)]
pub struct Rehearsal {
    pub decision: Decision,
    /// Of a match: what would run, or why its templates cannot be filled. `None` where the job is not in the file.
    pub command: Option<Result<Command, String>>,
}

/// `None` where the trigger would not be asked about such an event.
#[must_use]
pub fn rehearse(trigger: &Trigger, facts: &Facts<'_>) -> Option<Rehearsal> {
    let decision = decide(trigger, facts)?;
    let job: Option<&JobSpec> = match &trigger.job {
        TriggerJob::Inline(job) if decision.outcome == DecisionOutcome::Matched => Some(job),
        TriggerJob::Inline(_) | TriggerJob::Named(_) => None,
    };
    Some(Rehearsal { command: job.map(|job| command(job, facts)), decision })
}

fn decide(trigger: &Trigger, facts: &Facts<'_>) -> Option<Decision> {
    match facts.event.kind {
        SourceKind::Webhook => {
            let mine = trigger.webhooks.iter().filter(|hook| trigger.source_of(hook) == facts.event.source);
            first_match(mine.map(|hook| decide_webhook(trigger, hook, facts)), |decision| decision)
        }
        SourceKind::Api | SourceKind::Internal => by_type(trigger, facts),
        SourceKind::File if facts.event.is_notice() => by_type(trigger, facts),
        SourceKind::File => {
            let mine = facts.event.source.ends_with(&format!("/files/{}", trigger.key()));
            (mine && !trigger.files.is_empty()).then(|| unasked(trigger))
        }
        SourceKind::Schedule => {
            let mine = facts.event.source.starts_with(&format!("/schedules/{}/", trigger.key()));
            let fires = facts.event.event_type == "schedule.fired";
            (mine && fires && !(trigger.clocks.is_empty() && trigger.daemons.is_empty()))
                .then(|| unasked(trigger))
        }
    }
}

fn by_type(trigger: &Trigger, facts: &Facts<'_>) -> Option<Decision> {
    let mine = trigger.events.iter().filter(|source| source.event_type == facts.event.event_type);
    first_match(mine.map(|source| decide_event(trigger, source, facts)), |decision| decision)
}

/// What it watches for, or came due, runs.
fn unasked(trigger: &Trigger) -> Decision {
    let outcome = DecisionOutcome::Matched;
    Decision { trigger: trigger.name.to_string(), outcome, revision: None, reason: None, clauses: Vec::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        event::Event,
        id::Namespace,
        matching::{Body, tests::event},
        trigger::{self, Known},
    };

    struct AnyScheme;

    impl Known for AnyScheme {
        fn check_scheme(
            &self,
            _: &str,
            _: &serde_json::Map<String, serde_json::Value>,
            _: &[crate::trigger::SecretRef],
        ) -> Result<(), String> {
            Ok(())
        }
    }

    const TEXT: &str = r#"
        [[on.webhook]]
        scheme = "github"
        secret = { env = "A" }
        when = 'body.ref == "a"'
        [[on.webhook]]
        scheme = "github"
        secret = { env = "A" }
        when = 'body.ref == "b"'
        [[on.event]]
        type = "made"
        [[on.event]]
        type = "file.stuck"
        [job]
        cmd = "echo"
        args = ["{{ body.ref }}", "{{ body.n }}"]
    "#;

    /// What is decided, and of a match the arguments or why there are none.
    type Expected<'a> = Option<(DecisionOutcome, Option<Result<&'a [&'a str], &'a str>>)>;

    fn check(event: &Event, body: serde_json::Value, expected: Expected<'_>) {
        let mut triggers = trigger::parse("deploy.toml", "deploy", &Namespace::default(), TEXT, &AnyScheme)
            .expect("it parses");
        let trigger = triggers.pop().expect("a trigger");
        let body = Body::Json(body);
        let rehearsal = rehearse(&trigger, &Facts { event, body: &body, file: None });
        let found = rehearsal.as_ref().map(|rehearsal| {
            let command = rehearsal.command.as_ref();
            let args = command.map(|command| command.as_ref().map(|command| command.args.clone()));
            (rehearsal.decision.outcome, args.map(|args| args.map_err(String::as_str)))
        });
        let expected = expected.map(|(outcome, args)| {
            let owned = |args: &[&str]| args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>();
            (outcome, args.map(|args| args.map(owned)))
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_trigger_is_asked_as_the_ingress_asks_it() {
        let (matched, no) = (DecisionOutcome::Matched, DecisionOutcome::NoMatch);
        let hook = event();
        check(&hook, json!({"ref": "b", "n": 1}), Some((matched, Some(Ok(&["b", "1"])))));
        check(&hook, json!({"ref": "c"}), Some((no, None)));
        check(&hook, json!({"ref": "a"}), Some((matched, Some(Err("args[1]: body has no field \"n\"")))));
        check(&Event { source: "/hooks/other".to_owned(), ..event() }, json!({"ref": "b"}), None);
        let made = Event { kind: SourceKind::Api, event_type: "made".to_owned(), ..event() };
        check(&made, json!({"ref": "x", "n": 2}), Some((matched, Some(Ok(&["x", "2"])))));
        check(&Event { event_type: "other".to_owned(), ..made }, json!({}), None);
        check(&Event { kind: SourceKind::File, ..event() }, json!({}), None);
        let notice = Event { kind: SourceKind::File, event_type: "file.stuck".to_owned(), ..event() };
        check(&notice, json!({"ref": "x", "n": 3}), Some((matched, Some(Ok(&["x", "3"])))));
        check(&Event { kind: SourceKind::Schedule, ..event() }, json!({}), None);
    }
}
