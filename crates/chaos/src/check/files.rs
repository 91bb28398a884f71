//! Files: each that was moved into the folder became one event.

use std::collections::HashMap;

use super::{Case, Kind};

pub(super) fn check(case: &mut Case<'_>) {
    let mut events: HashMap<String, Vec<&str>> = HashMap::new();
    for event in case.events_of("file") {
        events.entry(event.file()).or_default().push(&event.id);
    }
    case.counts.files = case.run.drops.len();
    for drop in &case.run.drops {
        match events.remove(drop.path.as_str()).unwrap_or_default().as_slice() {
            [_] => {}
            [] => case.report(Kind::Lost, format!("file {} became no event", drop.path)),
            several => {
                case.report(Kind::Doubled, format!("file {} became the events {several:?}", drop.path));
            }
        }
    }
    for (path, events) in events {
        case.report(Kind::Phantom, format!("file {path} was never there, and became {events:?}"));
    }
}
