//! Events that were stored a moment ago and whose tasks wait for room, so that a claim need not read them again. Only a
//! shortcut: what is not here is in the store, with the same content, because nothing changes an event.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use hetuflow_core::{
    event::{Event, FileFacts, SourceKind},
    id::EventId,
    protocol::EventBrief,
};
use tokio::time::Instant;

/// What they weigh together, at most. What comes then is not kept: the oldest are claimed first.
const MAX_BYTES: usize = 8 << 20;
/// What nobody has claimed by then makes room: it waits for an agent of another server, or for nobody.
const KEPT: Duration = Duration::from_mins(1);
/// Of an event beside its body, about.
const OVERHEAD: usize = 1024;

/// What an agent is told of an event.
#[derive(Debug, Clone)]
pub(crate) struct Briefing {
    pub(crate) brief: EventBrief,
    pub(crate) body: Bytes,
}

#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<Events>);

#[derive(Debug, Default)]
struct Events {
    kept: BTreeMap<EventId, Kept>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    briefing: Briefing,
    /// Tasks of it that wait.
    tasks: usize,
    since: Instant,
}

impl Recent {
    /// Keeps the event for so many claims, if there is room.
    pub(crate) fn keep(&self, event: &Event, tasks: usize) {
        self.keep_at(event, tasks, Instant::now());
    }

    fn keep_at(&self, event: &Event, tasks: usize, now: Instant) {
        let mut events = self.events();
        while events.kept.first_key_value().is_some_and(|(_, kept)| now.duration_since(kept.since) >= KEPT) {
            let (_, kept) = events.kept.pop_first().expect("there is a first");
            events.bytes -= size(&kept.briefing.body);
        }
        let size = size(&event.body);
        if events.bytes + size <= MAX_BYTES {
            events.bytes += size;
            events.kept.insert(event.id, Kept { briefing: Briefing::of(event), tasks, since: now });
        }
    }

    /// For one claim.
    pub(super) fn take(&self, id: EventId) -> Option<Briefing> {
        let mut events = self.events();
        let Entry::Occupied(mut entry) = events.kept.entry(id) else { return None };
        if entry.get().tasks > 1 {
            entry.get_mut().tasks -= 1;
            return Some(entry.get().briefing.clone());
        }
        let briefing = entry.remove().briefing;
        events.bytes -= size(&briefing.body);
        Some(briefing)
    }

    fn events(&self) -> MutexGuard<'_, Events> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Briefing {
    pub(crate) fn of(event: &Event) -> Self {
        // The files of a batch are in the body, which goes along.
        let file = || serde_json::from_slice::<FileFacts>(&event.body).ok();
        let file = || file().map(|file| FileFacts { files: Vec::new(), ..file });
        let brief = EventBrief {
            id: event.id,
            event_type: event.event_type.clone(),
            source: event.source.clone(),
            subject: event.subject.clone(),
            replay_of: event.replay_of,
            body_size: event.body.len() as u64,
            file: (event.kind == SourceKind::File).then(file).flatten(),
        };
        Self { brief, body: event.body.clone() }
    }
}

fn size(body: &Bytes) -> usize {
    body.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn event(body: usize) -> Event {
        let namespace = "default".parse().expect("a namespace");
        let event = Event::new(SourceKind::Api, namespace, "/events", "test", Timestamp::UNIX_EPOCH);
        Event { body: vec![b'x'; body].into(), ..event }
    }

    #[test]
    fn an_event_is_kept_for_each_of_its_tasks() {
        let (recent, event) = (Recent::default(), event(3));
        recent.keep(&event, 2);
        for _ in 0..2 {
            assert_eq!(recent.take(event.id).expect("kept").body, event.body);
        }
        assert!(recent.take(event.id).is_none());
        assert_eq!(recent.events().bytes, 0);
    }

    #[test]
    fn what_finds_no_room_is_not_kept_and_what_nobody_wants_makes_room() {
        let (recent, now) = (Recent::default(), Instant::now());
        let (first, second) = (event(MAX_BYTES - OVERHEAD), event(1));
        recent.keep_at(&first, 1, now);
        recent.keep_at(&second, 1, now);
        assert!(recent.take(second.id).is_none());
        recent.keep_at(&second, 1, now + KEPT);
        assert!(recent.take(first.id).is_none());
        assert!(recent.take(second.id).is_some());
        assert_eq!(recent.events().bytes, 0);
    }
}
