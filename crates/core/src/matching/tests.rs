use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::{
    event::{FileFacts, SourceKind},
    id::{AgentId, JobId, Namespace, TaskId, TriggerName},
    job::JobSpec,
    labels::Selector,
    task::Telling,
    trigger::TriggerJob,
};

/// An event with everything that a condition can look at.
pub(crate) fn event() -> Event {
    Event {
        subject: Some("octo/site".to_owned()),
        content_type: Some("application/json".to_owned()),
        headers: vec![
            ("x-github-event".to_owned(), "push".to_owned()),
            ("accept".to_owned(), "a".to_owned()),
            ("accept".to_owned(), "b".to_owned()),
        ],
        query: Some("env=prod&name=a+b".to_owned()),
        ..Event::new(
            SourceKind::Webhook,
            Namespace::default(),
            "/hooks/deploy",
            "push",
            Timestamp::UNIX_EPOCH,
        )
    }
}

pub(crate) fn file() -> FileFacts {
    FileFacts {
        path: "/data/in/a b.csv".to_owned(),
        size: 12,
        mtime: Timestamp::UNIX_EPOCH,
        labels: [("role".to_owned(), "ingest".to_owned())].into(),
        ..FileFacts::default()
    }
}

fn trigger(job: JobSpec) -> Trigger {
    Trigger {
        namespace: Namespace::default(),
        name: TriggerName::new("deploy").expect("a name"),
        description: String::new(),
        enabled: true,
        job: TriggerJob::Inline(job),
        webhooks: Vec::new(),
        files: Vec::new(),
        clocks: Vec::new(),
        daemons: Vec::new(),
        events: Vec::new(),
    }
}

fn hook(events: &[&str], when: Option<&str>) -> WebhookSource {
    WebhookSource {
        path: "deploy".to_owned(),
        scheme: "github".to_owned(),
        options: serde_json::Map::new(),
        secrets: Vec::new(),
        events: events.iter().map(|&name| name.to_owned()).collect(),
        when: when.map(|source| Condition::compile(source).expect("a condition")),
        max_body: 1,
        allow_from: Vec::new(),
        observe_until: None,
        sender_sees: crate::trigger::SenderSees::Output,
        response: None,
    }
}

#[test]
fn a_webhook_is_decided_by_type_then_by_condition() {
    let body = Body::Json(json!({"ref": "refs/heads/dev"}));
    let check = |events: &[&str], when: Option<&str>, outcome: DecisionOutcome, reason: Option<&str>| {
        let facts = Facts { event: &event(), body: &body, file: None };
        let decision = decide_webhook(&trigger(JobSpec::running("true")), &hook(events, when), &facts);
        assert_eq!(decision.trigger, "deploy");
        assert_eq!((decision.outcome, decision.reason.as_deref()), (outcome, reason));
    };
    check(&[], None, DecisionOutcome::Matched, None);
    check(&["push"], Some("body.ref.startsWith('refs/')"), DecisionOutcome::Matched, None);
    check(
        &["ping", "release"],
        Some("body.ref == 1"),
        DecisionOutcome::NoMatch,
        Some("type is \"push\", wanted one of ping, release"),
    );
    check(
        &["push"],
        Some("body.ref == 'refs/heads/main'"),
        DecisionOutcome::NoMatch,
        Some("body.ref == 'refs/heads/main' is false: body.ref is \"refs/heads/dev\""),
    );
    check(
        &[],
        Some("body.ref > 1"),
        DecisionOutcome::Error,
        Some("body.ref > 1: > cannot be used on a text and an integer; int(), double() and string() convert"),
    );
}

#[test]
fn a_body_that_is_no_json_is_named_as_the_reason() {
    let check = |content_type: &str, body: &[u8], expected: &str| {
        let event = Event { content_type: Some(content_type.to_owned()), ..event() };
        let body = Body::parse(event.content_type.as_deref(), body).expect("a body");
        let facts = Facts { event: &event, body: &body, file: None };
        let source = hook(&[], Some("body.size == 3"));
        let reason = decide_webhook(&trigger(JobSpec::running("true")), &source, &facts).reason;
        assert!(reason.as_ref().is_some_and(|reason| reason.ends_with(expected)), "{reason:?}");
    };
    let form = "application/x-www-form-urlencoded";
    check(
        form,
        b"size=3",
        "(the body came as a form, application/x-www-form-urlencoded: its fields are texts)",
    );
    check("text/plain", b"{\"size\": 3}", "(the body came as a text, text/plain, and not as JSON)");
    check("image/png", b"\xff", "(the body came as bytes, image/png, and not as JSON)");
    check("application/json", b"", "(the body is empty)");
    check("application/json", b"{\"size\": 4}", "body.size is 4");
}

#[test]
fn no_trigger_sees_a_malformed_event() {
    let mut event = event();
    event.verdict = Verdict::Malformed { reason: "the body is not JSON".to_owned() };
    let facts = Facts { event: &event, body: &Body::Empty, file: None };
    for when in [None, Some("body.size == 3")] {
        let decision = decide_webhook(&trigger(JobSpec::running("true")), &hook(&[], when), &facts);
        assert_eq!(decision.outcome, DecisionOutcome::NoMatch);
        assert_eq!(decision.reason.as_deref(), Some("the event is malformed: the body is not JSON"));
    }
}

#[test]
fn an_event_source_takes_its_own_type() {
    let check = |event_type: &str, when: Option<&str>, expected: DecisionOutcome| {
        let source = EventSource {
            event_type: event_type.to_owned(),
            when: when.map(|source| Condition::compile(source).expect("a condition")),
        };
        let facts = Facts { event: &event(), body: &Body::Empty, file: None };
        assert_eq!(decide_event(&trigger(JobSpec::running("true")), &source, &facts).outcome, expected);
    };
    check("push", None, DecisionOutcome::Matched);
    check("push", Some("event.subject == 'octo/site'"), DecisionOutcome::Matched);
    check("push", Some("event.subject == 'octo'"), DecisionOutcome::NoMatch);
    check("pull", None, DecisionOutcome::NoMatch);
}

fn planned(job: &JobSpec, body: &Body, agent: Option<&AgentId>) -> crate::task::NewTask {
    let (event, file) = (event(), file());
    let facts = Facts { event: &event, body, file: Some(&file) };
    let plan_ = Plan {
        trigger: &trigger(job.clone()),
        job_id: JobId::at(Timestamp::UNIX_EPOCH),
        job,
        schedule_id: None,
        agent,
        task_id: TaskId::at(Timestamp::UNIX_EPOCH),
        run_at: Timestamp::UNIX_EPOCH,
        telling: Telling::Nothing,
    };
    plan(&plan_, &facts)
}

#[test]
fn a_plan_fixes_the_command() {
    let mut job = JobSpec::running("rsync");
    job.args = vec!["-a".to_owned(), "{{ file.path }}".to_owned()];
    job.environment = [("REF".to_owned(), "{{ body.ref }}!".to_owned())].into();
    job.working_dir = Some("/srv/{{ query.env }}".to_owned());
    job.stdin = Some("{{ body | tojson }}".to_owned());
    job.timeout = Some(Duration::from_secs(5));
    job.max_retries = 2;
    job.priority = 7;
    job.labels = Selector([("role".to_owned(), "web".to_owned())].into());
    let here = AgentId::new("here").expect("a name");
    let task = planned(&job, &Body::Json(json!({"ref": "main"})), Some(&here));
    let command = task.command.expect("every template has a value");
    assert_eq!(command.args, ["-a", "/data/in/a b.csv"]);
    assert_eq!(command.environment["REF"], "main!");
    assert_eq!(command.working_dir.as_deref(), Some("/srv/prod"));
    assert_eq!(command.stdin.as_deref(), Some(r#"{"ref":"main"}"#));
    assert_eq!(command.timeout, job.timeout);
    assert_eq!((task.priority, task.trigger.as_str(), task.policy.max_retries), (7, "deploy", 2));
    assert_eq!((task.lane.selector, task.lane.agent), (job.labels, Some(here)));
}

#[test]
fn a_plan_that_cannot_be_filled_says_why() {
    let check = |job: &JobSpec, body: serde_json::Value, expected: &str| {
        let reason = planned(job, &Body::Json(body), None).command.expect_err("must fail");
        assert_eq!(reason, expected);
    };
    let mut job = JobSpec::running("echo");
    job.args = vec!["hello".to_owned(), "{{ body.ref }}".to_owned()];
    check(&job, json!({}), "args[1]: body has no field \"ref\"");
    check(&job, json!({"ref": "a\0b"}), "args[1]: the text holds a NUL byte, which no process can be given");
    job.args.clear();
    job.environment = (0..6).map(|n| (format!("V{n}"), "{{ body.ref }}".to_owned())).collect();
    check(
        &job,
        json!({"ref": "x".repeat(100_000)}),
        "the command with its values takes 600136 bytes, at most 524288 are possible",
    );
}
