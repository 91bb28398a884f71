//! How many more files of each trigger the server takes for now. Nothing is told of a trigger before that is known, and never
//! more: what waits at the server is bounded, and the rest waits on disk. Asked when half of what was given is
//! used up, for all such triggers together.

use std::{collections::BTreeMap, time::Duration};

use hetuflow_core::protocol::{FileEvent, FromAgent};
use tokio::time::Instant;

/// Between two questions, at first and at most.
const ASK_AGAIN: Duration = Duration::from_millis(250);
const ASK_SELDOM: Duration = Duration::from_secs(2);

/// A question without an answer is asked again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Triggers that are asked about together.
const ASKED: usize = 1000;

#[derive(Debug)]
pub(super) struct Rooms {
    /// By key; `None`: not known yet.
    known: BTreeMap<String, Option<Room>>,
    /// Until then nothing is asked: there is a question without an answer, or there was one a moment ago.
    rest: Option<Instant>,
    pause: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Room {
    left: u64,
    given: u64,
    /// Told since it was last asked about: the answer does not count these.
    since: u64,
}

impl Room {
    const fn is_low(self) -> bool {
        self.left <= self.given / 2
    }
}

impl Rooms {
    pub(super) const fn new() -> Self {
        Self { known: BTreeMap::new(), rest: None, pause: ASK_AGAIN }
    }

    /// Those of which nothing can be told now.
    pub(super) fn full(&self) -> Vec<String> {
        let full = self.known.iter().filter(|(_, room)| room.is_none_or(|room| room.left == 0));
        full.map(|(key, _)| key.clone()).collect()
    }

    /// Takes what may be told out of what is to be told. What the agent notices starts nothing, and needs no room.
    pub(super) fn take(&mut self, events: Vec<FileEvent>) -> Vec<FileEvent> {
        let fits = |event: &FileEvent| {
            if event.facts.is_notice() {
                return true;
            }
            if !self.known.contains_key(&event.key) {
                self.known.insert(event.key.clone(), None);
                // It is news, and shall not wait.
                self.rest = None;
            }
            match self.known.get_mut(&event.key) {
                Some(Some(room)) if room.left > 0 => {
                    (room.left, room.since) = (room.left - 1, room.since + 1);
                    true
                }
                _ => false,
            }
        };
        events.into_iter().filter(fits).collect()
    }

    /// When there is something to ask next.
    pub(super) fn at(&self, now: Instant) -> Option<Instant> {
        self.wanting().next().map(|_| self.rest.unwrap_or(now))
    }

    fn wanting(&self) -> impl Iterator<Item = &String> {
        self.known.iter().filter(|(_, room)| room.is_none_or(Room::is_low)).map(|(key, _)| key)
    }

    pub(super) fn ask(&mut self, now: Instant) -> Option<FromAgent> {
        if self.rest.is_some_and(|until| until > now) {
            return None;
        }
        let keys: Vec<String> = self.wanting().take(ASKED).cloned().collect();
        if keys.is_empty() {
            return None;
        }
        let asked = self.known.iter_mut().filter(|(key, _)| keys.binary_search(key).is_ok());
        asked.filter_map(|(_, room)| room.as_mut()).for_each(|room| room.since = 0);
        self.rest = Some(now + PATIENCE);
        Some(FromAgent::FileRooms { keys })
    }

    /// What is not told yet and may be told after all shows in the next look.
    pub(super) fn answered(&mut self, rooms: &[(String, u64)], now: Instant) {
        let grows = rooms.iter().any(|(_, left)| *left > 0);
        for (key, room) in rooms {
            let since = self.known.get(key).and_then(|known| known.map(|known| known.since));
            let left = room.saturating_sub(since.unwrap_or_default());
            self.known.insert(key.clone(), Some(Room { left, given: *room, since: 0 }));
        }
        self.pause = if grows { ASK_AGAIN } else { (self.pause * 2).min(ASK_SELDOM) };
        self.rest = Some(now + self.pause);
    }
}

#[cfg(test)]
mod tests {
    use hetuflow_core::event::FileFacts;
    use jiff::Timestamp;

    use super::*;

    fn events(keys: &[&str]) -> Vec<FileEvent> {
        let event = |key: &&str| FileEvent {
            key: (*key).to_owned(),
            dedupe: String::new(),
            facts: FileFacts::default(),
            members: Vec::new(),
            seen_at: Timestamp::UNIX_EPOCH,
        };
        keys.iter().map(event).collect()
    }

    fn asked(rooms: &mut Rooms, now: Instant) -> Vec<String> {
        match rooms.ask(now) {
            Some(FromAgent::FileRooms { keys }) => keys,
            _ => Vec::new(),
        }
    }

    #[test]
    fn nothing_is_told_beyond_what_the_server_takes() {
        let (mut rooms, mut now) = (Rooms::new(), Instant::now());
        assert_eq!((rooms.take(events(&["a", "a"])).len(), rooms.full()), (0, vec!["a".to_owned()]));
        assert_eq!(asked(&mut rooms, now), ["a"]);
        assert_eq!(asked(&mut rooms, now), Vec::<String>::new(), "one question at a time");
        // Another is news, and is asked about beside it.
        assert_eq!(rooms.take(events(&["b"])).len(), 0);
        assert_eq!(asked(&mut rooms, now), ["a", "b"]);
        rooms.answered(&[("a".to_owned(), 4), ("b".to_owned(), 0)], now);
        assert_eq!(rooms.take(events(&["a", "b"])).len(), 1);
        assert_eq!(rooms.full(), ["b"]);
        now += ASK_AGAIN;
        assert_eq!(asked(&mut rooms, now), ["b"]);
        // Half of it is gone: time to ask.
        rooms.take(events(&["a"]));
        rooms.answered(&[("b".to_owned(), 9)], now);
        now += ASK_AGAIN;
        assert_eq!(asked(&mut rooms, now), ["a"]);
        assert_eq!(rooms.take(events(&["a", "a", "a", "b"])).len(), 3);
        // What was told meanwhile is not in the answer.
        rooms.answered(&[("a".to_owned(), 8)], now);
        now += ASK_AGAIN;
        rooms.take(events(&["a", "a", "a", "a"]));
        assert_eq!(asked(&mut rooms, now), ["a"]);
        rooms.take(events(&["a"]));
        rooms.answered(&[("a".to_owned(), 3)], now);
        assert_eq!(rooms.take(events(&["a", "a", "a"])).len(), 2);
        // While nothing gives, the server is asked less and less often.
        rooms.answered(&[("a".to_owned(), 0)], now);
        assert_eq!(rooms.at(now), Some(now + 2 * ASK_AGAIN));
        for _ in 0..9 {
            rooms.answered(&[("a".to_owned(), 0)], now);
        }
        assert_eq!(rooms.at(now), Some(now + ASK_SELDOM));
        let mut notice = events(&["a"]);
        "stuck".clone_into(&mut notice[0].facts.change);
        assert_eq!(rooms.take(notice).len(), 1);
    }
}
