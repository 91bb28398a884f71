//! The judge of a run with files: pure, over what writers, jobs and the server say.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    witness::Seen,
    writers::{Pattern, Written},
};
use crate::state::State;

/// What of each kind is shown; the rest is counted.
const SHOWN: usize = 10;

#[derive(Debug, Default)]
pub(crate) struct Verdict {
    files: BTreeMap<Pattern, usize>,
    processes: usize,
    /// Files that no process saw, or that have no event.
    lost: Vec<String>,
    /// Files with several events or tasks.
    doubled: Vec<String>,
    /// Processes that did not see what the writer left.
    half_read: Vec<String>,
    /// Events about files that were never there.
    phantom: Vec<String>,
}

/// Of each file its events, with how many tasks each has.
pub(super) type Told = HashMap<String, Vec<usize>>;

/// Where each event is of one file.
pub(super) fn by_event(state: &State) -> Told {
    let mut tasks: HashMap<&str, usize> = HashMap::new();
    for task in &state.tasks {
        *tasks.entry(&task.event_id).or_default() += 1;
    }
    let mut told = Told::new();
    for event in state.events.iter().filter(|event| event.kind == "file") {
        let tasks = tasks.get(event.id.as_str()).copied().unwrap_or_default();
        told.entry(event.file()).or_default().push(tasks);
    }
    told
}

/// Where an event is of many: by the tasks whose processes saw the file.
pub(super) fn by_process(seen: &[Seen]) -> Told {
    let pairs: HashSet<(&str, &str)> =
        seen.iter().map(|one| (one.path.as_str(), one.task.as_str())).collect();
    let mut told = Told::new();
    for (path, _) in pairs {
        told.entry(path.to_owned()).or_default().push(1);
    }
    told
}

pub(super) fn judge(written: &[Written], events: &Told, seen: &[Seen]) -> Verdict {
    let mut verdict = Verdict { processes: seen.len(), ..Verdict::default() };
    let mut processes: HashMap<&str, Vec<&Seen>> = HashMap::new();
    for one in seen {
        processes.entry(&one.path).or_default().push(one);
    }
    for file in written {
        *verdict.files.entry(file.pattern).or_default() += 1;
        verdict.look_at(file, events.get(file.path.as_str()), processes.get(file.path.as_str()));
    }
    let known: HashSet<&str> = written.iter().map(|file| file.path.as_str()).collect();
    let strange = events.keys().filter(|path| !known.contains(path.as_str()) && !path.contains("/warm-"));
    verdict.phantom.extend(strange.cloned());
    verdict
}

impl Verdict {
    fn look_at(&mut self, file: &Written, events: Option<&Vec<usize>>, processes: Option<&Vec<&Seen>>) {
        let name = format!("{:?}: {}", file.pattern, file.path);
        match events.map(Vec::as_slice) {
            None => self.lost.push(format!("{name} became no event")),
            Some([1]) => {}
            Some(tasks) => self.doubled.push(format!("{name} has events with {tasks:?} tasks")),
        }
        let processes = processes.map_or(&[][..], Vec::as_slice);
        if processes.is_empty() {
            self.lost.push(format!("{name} was seen by no process"));
        }
        for seen in processes.iter().filter(|seen| seen.hash != file.hash) {
            let (saw, left) = (seen.size, file.size);
            self.half_read.push(format!("{name}: a process saw {saw} bytes, the writer left {left}"));
        }
    }

    /// True when there is nothing to complain of.
    pub(super) fn say(&self) -> bool {
        let files: Vec<String> =
            self.files.iter().map(|(pattern, count)| format!("{pattern:?} {count}")).collect();
        let Self { lost, doubled, half_read, phantom, processes, .. } = self;
        eprintln!("{}; processes {processes}", files.join(", ").to_lowercase());
        eprintln!(
            "lost {}, doubled {}, half-read {}, phantom {}",
            lost.len(),
            doubled.len(),
            half_read.len(),
            phantom.len()
        );
        let all = [("lost", lost), ("doubled", doubled), ("half-read", half_read), ("phantom", phantom)];
        for (kind, found) in all {
            for what in found.iter().take(SHOWN) {
                eprintln!("  {kind}: {what}");
            }
        }
        lost.is_empty() && doubled.is_empty() && half_read.is_empty() && phantom.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{EventRow, TaskRow};

    fn world() -> (Vec<Written>, State, Vec<Seen>) {
        let path = "/in/a.dat".to_owned();
        let written = Written { path: path.clone(), pattern: Pattern::Rename, size: 3, hash: "h".to_owned() };
        let event: EventRow = serde_json::from_value(serde_json::json!({
            "id": "e", "kind": "file", "source": "s", "subject": path, "time": "2026-01-01T00:00:00Z",
            "received_at": "2026-01-01T00:00:00Z", "verdict": { "verdict": "accepted" }, "decisions": [],
        }))
        .expect("an event");
        let task: TaskRow = serde_json::from_value(serde_json::json!({
            "id": "t", "trigger": "f", "event_id": "e", "status": "succeeded", "attempt": 1,
        }))
        .expect("a task");
        let seen = Seen { path, task: "t".to_owned(), size: 3, hash: "h".to_owned() };
        let state = State { events: vec![event], tasks: vec![task], ..State::default() };
        (vec![written], state, vec![seen])
    }

    fn check(change: impl FnOnce(&mut Vec<Written>, &mut State, &mut Vec<Seen>)) -> [usize; 4] {
        let (mut written, mut state, mut seen) = world();
        change(&mut written, &mut state, &mut seen);
        let Verdict { lost, doubled, half_read, phantom, .. } = judge(&written, &by_event(&state), &seen);
        [lost.len(), doubled.len(), half_read.len(), phantom.len()]
    }

    #[test]
    fn each_kind_of_violation_is_found() {
        assert_eq!(check(|_, _, _| {}), [0, 0, 0, 0]);
        assert_eq!(check(|_, state, _| state.events.clear()), [1, 0, 0, 0]);
        assert_eq!(check(|_, _, seen| seen.clear()), [1, 0, 0, 0]);
        assert_eq!(check(|_, state, _| state.events.push(state.events[0].clone())), [0, 1, 0, 0]);
        assert_eq!(check(|_, state, _| state.tasks.push(state.tasks[0].clone())), [0, 1, 0, 0]);
        assert_eq!(check(|_, _, seen| seen[0].hash = "half".to_owned()), [0, 0, 1, 0]);
        assert_eq!(check(|written, _, _| written.clear()), [0, 0, 0, 1]);
    }

    #[test]
    fn a_file_in_two_batches_is_doubled_and_a_second_try_of_one_is_not() {
        let (written, _, seen) = world();
        let doubled = |seen: &[Seen]| judge(&written, &by_process(seen), seen).doubled.len();
        let [one] = seen.as_slice() else { panic!("{seen:?}") };
        assert_eq!(doubled(&[one.clone(), one.clone()]), 0);
        assert_eq!(doubled(&[one.clone(), Seen { task: "u".to_owned(), ..one.clone() }]), 1);
    }
}
