//! What the judge makes of events that break it, and of those that it has no time for.

use std::collections::BTreeMap;

use hetuflow_core::{
    id::{JobId, Namespace},
    task::Telling,
    trigger::{self, TriggerJob},
};
use jiff::Timestamp;

use super::*;
use crate::triggers::{KnownSchemes, routes};

const TEXT: &str = r#"
    [on.webhook]
    scheme = "github"
    secret = { env = "A" }
    [job]
    cmd = "true"
"#;

fn set() -> TriggerSet {
    let mut triggers =
        trigger::parse("a.toml", "a", &Namespace::default(), TEXT, &KnownSchemes).expect("it parses");
    let trigger = triggers.pop().expect("a trigger");
    let TriggerJob::Inline(job) = trigger.job.clone() else { panic!("it declares its job") };
    let live = Live {
        trigger,
        revision: 1,
        job_id: JobId::at(Timestamp::UNIX_EPOCH),
        job,
        clocks: Vec::new(),
        daemons: Vec::new(),
        schedules: BTreeMap::new(),
        telling: Telling::Nothing,
    };
    let live = BTreeMap::from([("default/a".to_owned(), live)]);
    TriggerSet { routes: routes(&live).0, live, ..TriggerSet::default() }
}

fn event() -> Event {
    let now = Timestamp::UNIX_EPOCH;
    Event {
        content_type: Some("application/json".to_owned()),
        body: bytes::Bytes::from_static(b"{}"),
        ..Event::new(SourceKind::Webhook, Namespace::default(), "/hooks/a", "push", now)
    }
}

#[tokio::test]
async fn what_matches_is_planned() {
    let candidates = Candidates::Route("default/a".to_owned());
    let judged = Judge::new().judge(event(), Arc::new(set()), candidates).await;
    assert_eq!(judged.event.verdict, Verdict::Accepted);
    assert_eq!(judged.event.decisions.len(), 1);
    assert_eq!(judged.tasks.len(), 1);
}

#[tokio::test]
async fn what_breaks_the_matching_is_kept() {
    let mut set = set();
    // The route names a source that is not there: looking it up panics.
    set.live.get_mut("default/a").expect("a trigger").trigger.webhooks.clear();
    let candidates = Candidates::Route("default/a".to_owned());
    let judged = Judge::new().judge(event(), Arc::new(set), candidates).await;
    assert!(matches!(judged.event.verdict, Verdict::Malformed { .. }), "{:?}", judged.event.verdict);
    assert!(judged.tasks.is_empty());
}

#[tokio::test]
async fn what_breaks_the_matching_three_times_is_not_tried_again() {
    let good = Arc::new(set());
    let mut breaks = set();
    breaks.live.get_mut("default/a").expect("a trigger").trigger.webhooks.clear();
    let breaks = Arc::new(breaks);
    let judge = Judge::new();
    let verdict = async |set: &Arc<TriggerSet>, event: Event| {
        let candidates = Candidates::Route("default/a".to_owned());
        judge.judge(event, Arc::clone(set), candidates).await.event.verdict
    };
    let broken = Verdict::Malformed { reason: "matching it failed unexpectedly".to_owned() };
    for _ in 0..3 {
        assert_eq!(verdict(&breaks, event()).await, broken);
    }
    let kept = Verdict::Malformed { reason: QUARANTINED.to_owned() };
    assert_eq!(verdict(&breaks, event()).await, kept);
    // Triggers of the same generation would take it: it is really not tried.
    assert_eq!(verdict(&good, event()).await, kept);
    let other = Event { body: bytes::Bytes::from_static(b"[]"), ..event() };
    assert_eq!(verdict(&good, other).await, Verdict::Accepted);
    let changed = TriggerSet { generation: 1, ..set() };
    assert_eq!(verdict(&Arc::new(changed), event()).await, Verdict::Accepted);
}

/// Larger than what is judged at once: its thread has just begun when no time at all has passed.
fn large() -> Event {
    let body = format!("[{}1]", "1,".repeat(500_000));
    Event { body: bytes::Bytes::from(body), ..event() }
}

#[tokio::test]
async fn what_runs_out_of_time_is_to_come_again_twice() {
    let hurried = Judge { within: Duration::ZERO, ..Judge::new() };
    let set = Arc::new(set());
    let tried = async |judge: &Judge| {
        judge.try_to_judge(large(), Arc::clone(&set), Candidates::Route("default/a".to_owned())).await
    };
    assert_eq!(tried(&hurried).await.expect_err("no time"), TooSlow);
    assert_eq!(tried(&hurried).await.expect_err("no time"), TooSlow);
    let judged = tried(&hurried).await.expect("stored");
    assert_eq!(judged.event.verdict, Verdict::Malformed { reason: TooSlow.to_string() });

    let hurried = Judge { within: Duration::ZERO, ..Judge::new() };
    assert_eq!(tried(&hurried).await.expect_err("no time"), TooSlow);
    assert_eq!(tried(&hurried).await.expect_err("no time"), TooSlow);
    let patient = Judge { within: Duration::from_mins(10), ..hurried.clone() };
    let judged = tried(&patient).await.expect("judged");
    assert_eq!((judged.event.verdict, judged.tasks.len()), (Verdict::Accepted, 1));
    assert_eq!(tried(&hurried).await.expect_err("it counts anew"), TooSlow);
}

#[tokio::test]
async fn who_cannot_come_again_is_tried_again_at_once() {
    let hurried = Judge { within: Duration::ZERO, ..Judge::new() };
    let candidates = Candidates::Route("default/a".to_owned());
    let judged = hurried.judge(large(), Arc::new(set()), candidates).await;
    assert_eq!(judged.event.verdict, Verdict::Malformed { reason: TooSlow.to_string() });
}
