//! The guard against loops: a job that writes to the file that started it would start itself for ever. A path with too
//! many events in a while is left alone until the while is over, and the watch says so.

use std::{
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
    time::Instant,
};

use hetuflow_core::{duration, path_text, trigger::LoopGuard};

/// Paths whose events are counted, at most: of more, the guard forgets those that were quiet.
const MAX_PATHS: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Guard {
    events: HashMap<PathBuf, VecDeque<Instant>>,
    /// A path that is left alone, and until when.
    held: Option<(PathBuf, Instant)>,
}

impl Guard {
    /// Counts an event of the path; `Some`: it has had too many, and is left alone until then.
    pub(super) fn count(&mut self, path: &Path, rule: LoopGuard, now: Instant) -> Option<Instant> {
        if self.events.len() >= MAX_PATHS {
            self.events.retain(|_, times| times.back().is_some_and(|last| *last + rule.within > now));
        }
        let times = self.events.entry(path.to_owned()).or_default();
        while times.front().is_some_and(|first| *first + rule.within <= now) {
            times.pop_front();
        }
        if times.len() >= rule.events as usize {
            let until = times.front().map_or(now, |first| *first + rule.within);
            self.held = Some((path.to_owned(), until));
            return Some(until);
        }
        times.push_back(now);
        None
    }

    pub(super) fn describe(&self, rule: Option<LoopGuard>, now: Instant) -> Option<String> {
        let (path, _) = self.held.as_ref().filter(|(_, until)| *until > now)?;
        let LoopGuard { events, within } = rule?;
        Some(format!(
            "`{}` has had {events} events in {}: it is left alone until that is over (loop_guard); does the job write to it?",
            path_text::show(path),
            duration::format(within)
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn too_many_events_of_one_path_are_held_back() {
        let rule = LoopGuard { events: 2, within: Duration::from_secs(10) };
        let (mut guard, start) = (Guard::default(), Instant::now());
        let (a, b) = (Path::new("/a"), Path::new("/b"));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(guard.count(a, rule, at(0)), None);
        assert_eq!(guard.count(a, rule, at(4)), None);
        assert_eq!(guard.count(a, rule, at(5)), Some(at(10)));
        assert_eq!(guard.count(b, rule, at(5)), None);
        assert!(guard.describe(Some(rule), at(6)).is_some_and(|text| text.contains("2 events in 10s")));
        assert_eq!(guard.count(a, rule, at(10)), None);
        assert_eq!(guard.count(a, rule, at(11)), Some(at(14)));
        assert_eq!(guard.describe(Some(rule), at(14)), None);
    }
}
