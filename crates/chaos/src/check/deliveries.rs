//! Webhooks: what was acknowledged is there once, whatever else the sender was told before or after.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{Case, Kind};
use crate::{history::Answer, jobs::triggers_of};

/// What is known of one delivery.
#[derive(Default)]
struct Delivery<'a> {
    /// The events that answers or effects named.
    events: BTreeSet<&'a str>,
    acknowledged: BTreeSet<&'a str>,
}

pub(super) fn check(case: &mut Case<'_>) {
    let deliveries = deliveries(case);
    case.counts.deliveries = deliveries.len();
    for (n, delivery) in &deliveries {
        if delivery.events.len() > 1 {
            case.report(Kind::Doubled, format!("delivery {n} became the events {:?}", delivery.events));
        }
        for event in &delivery.acknowledged {
            acknowledged(case, *n, event);
        }
    }
    let unresolved = deliveries.values().filter(|delivery| delivery.events.is_empty()).count();
    let known: HashSet<&str> = deliveries.values().flat_map(|delivery| delivery.events.clone()).collect();
    let strange = case.events_of("webhook").into_iter().filter(|event| !known.contains(event.id.as_str()));
    let strange: Vec<&str> = strange.map(|event| event.id.as_str()).collect();
    // A delivery without an answer may have been stored, once.
    if strange.len() > unresolved {
        let what =
            format!("{unresolved} deliveries have no answer, but these events no delivery: {strange:?}");
        case.report(Kind::Doubled, what);
    }
}

fn deliveries<'a>(case: &mut Case<'a>) -> BTreeMap<u64, Delivery<'a>> {
    let mut deliveries: BTreeMap<u64, Delivery<'a>> = BTreeMap::new();
    for operation in &case.run.operations {
        let delivery = deliveries.entry(operation.n).or_default();
        match &operation.answer {
            Answer::Ok { event_id, duplicate, .. } => {
                delivery.events.insert(event_id);
                delivery.acknowledged.insert(event_id);
                case.counts.acknowledged += 1;
                case.counts.duplicates += usize::from(*duplicate);
            }
            Answer::Info(_) => case.counts.unknown += 1,
            Answer::Fail(_) => {}
        }
    }
    for effect in &case.run.effects {
        let Ok(n) = effect.key.parse::<u64>() else { continue };
        match deliveries.get_mut(&n) {
            Some(delivery) => drop(delivery.events.insert(&effect.event)),
            None => case.report(Kind::Phantom, format!("{effect:?}: delivery {n} was never sent")),
        }
    }
    deliveries
}

/// The event and each of its tasks are stored.
fn acknowledged(case: &mut Case<'_>, n: u64, event: &str) {
    if !case.events.contains_key(event) {
        return case
            .report(Kind::Lost, format!("event {event} of delivery {n} was acknowledged and is gone"));
    }
    let tasks = case.tasks_of.get(event).map_or(&[][..], Vec::as_slice);
    let mut found: Vec<&str> = tasks.iter().map(|task| task.trigger.as_str()).collect();
    let mut expected = triggers_of(n);
    found.sort_unstable();
    expected.sort_unstable();
    if found == expected {
        return;
    }
    let kind = if found.len() > expected.len() { Kind::Doubled } else { Kind::Lost };
    case.report(kind, format!("event {event} of delivery {n} has tasks of {found:?}, not of {expected:?}"));
}
