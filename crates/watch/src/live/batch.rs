//! One event for many files. What is complete is a member first, remembered on disk; a batch that is full, or has waited
//! for long enough, becomes one event in a turn of its own. The files of a batch are told once, in that event.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use hetuflow_core::{
    event::FileFacts,
    protocol::FileEvent,
    trigger::{FileBatch, FileField, OnTimeout},
};

use super::{
    Context, Live,
    order::{Known, place},
};
use crate::{
    state::text,
    turn::{Closed, Member, Part, Turn},
    version,
};

/// Bytes of the members of one batch as JSON, at most: they travel in one message.
const MAX_TEXT: usize = 256 * 1024;

/// Members of one watch that wait, at most; beyond that, files wait on disk.
const MAX_MEMBERS: usize = 10_000;

/// Members that wait.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    /// By group, in the order in which they became complete.
    groups: BTreeMap<String, Vec<Waiting>>,
    /// Their dedupe keys.
    known: HashSet<String>,
}

#[derive(Debug)]
struct Waiting {
    event: FileEvent,
    text: usize,
    added: Instant,
}

impl Batches {
    /// One that is the same as another that waits, as the trigger sees it, is dropped, as the state file does. If something is
    /// to become of it afterwards, that is what becomes of the other.
    pub(crate) fn add(&mut self, member: Member, added: Instant) {
        if !self.known.insert(member.event.dedupe.clone()) {
            return;
        }
        let text = serde_json::to_string(&member.event.facts).map_or(MAX_TEXT, |text| text.len());
        let waiting = Waiting { event: member.event, text, added };
        self.groups.entry(member.group).or_default().push(waiting);
    }

    pub(crate) fn close(&mut self, closed: &Closed) {
        if let Some(members) = self.groups.get_mut(&closed.group) {
            members.retain(|member| !closed.members.contains(&member.event.dedupe));
        }
        self.known.retain(|dedupe| !closed.members.contains(dedupe));
        self.groups.retain(|_, members| !members.is_empty());
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= MAX_MEMBERS
    }

    /// When the first of those that wait was seen.
    pub(super) fn first_seen(&self) -> Option<jiff::Timestamp> {
        self.groups.values().flatten().map(|waiting| waiting.event.seen_at).min()
    }

    pub(super) fn len(&self) -> usize {
        self.groups.values().map(Vec::len).sum()
    }

    /// When the first of them is to be closed, of the groups that may have another.
    pub(crate) fn wake_at(
        &self,
        rule: &FileBatch,
        now: Instant,
        is_free: impl Fn(&str) -> bool,
    ) -> Option<Instant> {
        let free = self.groups.iter().filter(|(group, _)| is_free(group));
        free.filter_map(|(_, members)| due_at(members, rule, now)).min()
    }
}

/// When a group has waited for long enough: at once, if it is full. `None`: more members are waited for.
fn due_at(members: &[Waiting], rule: &FileBatch, now: Instant) -> Option<Instant> {
    let bytes: u64 = members.iter().map(|member| member.event.facts.size).sum();
    let text: usize = members.iter().map(|member| member.text).sum();
    let full = members.len() >= rule.max_files as usize
        || rule.max_bytes.is_some_and(|most| bytes >= most)
        || text >= MAX_TEXT;
    if full {
        return Some(now);
    }
    let enough = members.len() >= rule.min_files as usize || rule.on_timeout == OnTimeout::Fire;
    members.iter().map(|member| member.added).min().filter(|_| enough).map(|first| first + rule.max_wait)
}

impl Live {
    /// A trigger that makes no batches any more may still have members.
    pub(super) fn batch_rule(&self) -> FileBatch {
        let none = FileBatch { max_wait: Duration::ZERO, ..FileBatch::default() };
        self.definition.watch.source.batch.clone().unwrap_or(none)
    }

    /// When a group has waited for long enough.
    pub(super) fn batch_due_at(&self, group: &str, now: Instant) -> Option<Instant> {
        due_at(self.batches.groups.get(group)?, &self.batch_rule(), now)
    }

    /// Takes events as members, or as they are.
    pub(super) fn collect(&self, events: Vec<FileEvent>, part: &mut Part) -> Vec<FileEvent> {
        let Some(rule) = &self.definition.watch.source.batch else { return events };
        let (notices, members): (Vec<_>, Vec<_>) =
            events.into_iter().partition(|event| event.facts.is_notice());
        part.members
            .extend(members.into_iter().map(|event| Member { group: group(rule, &event.facts), event }));
        notices
    }

    pub(super) fn close_batches(&mut self, cx: &Context<'_>, turn: &mut Turn, part: &mut Part) {
        let (rule, now) = (self.batch_rule(), Instant::now());
        let mut behind = Vec::new();
        for (group, members) in &self.batches.groups {
            if !turn.has_room_for_batch() || !turn.has_room_of(self.key()) {
                break;
            }
            if due_at(members, &rule, now).is_none_or(|at| at > now) {
                continue;
            }
            let chosen = choose(members, &rule, &self.definition.watch.source.order);
            if !self.is_free(group, part) {
                behind.extend(chosen.first().map(|first| (group.clone(), (*first).clone())));
                continue;
            }
            let event = self.batch(&chosen, cx);
            let members = chosen.iter().map(|event| event.dedupe.clone()).collect();
            part.closed.push(Closed { group: group.clone(), event: event.dedupe.clone(), members });
            if self.has_lines() {
                part.lines.insert(group.clone(), event.dedupe.clone());
            }
            turn.tell(event);
        }
        for (group, first) in behind {
            if let Some(notice) = self.stuck_batch(&group, &first, cx) {
                turn.tell(notice);
            }
        }
    }

    fn batch(&self, members: &[&FileEvent], cx: &Context<'_>) -> FileEvent {
        let files: Vec<FileFacts> = members.iter().map(|event| event.facts.clone()).collect();
        let first = files.first().map(FileFacts::found_at).unwrap_or_default();
        let directory = match self.batch_rule().group_by {
            Some(FileField::Directory) => first.parent(),
            _ => self.rule.root_of(&first),
        };
        FileEvent {
            key: self.definition.watch.key.clone(),
            dedupe: version::batch_id(members.iter().map(|event| event.dedupe.as_str())),
            facts: FileFacts {
                recheck: self.definition.watch.source.recheck,
                ..FileFacts::batch(directory.unwrap_or(&first), files)
            },
            members: members.iter().map(|event| event.dedupe.clone()).collect(),
            seen_at: cx.wall,
        }
    }
}

/// The first members in the trigger's order, as many as fit.
fn choose<'a>(members: &'a [Waiting], rule: &FileBatch, order: &FileField) -> Vec<&'a FileEvent> {
    let mut all: Vec<&Waiting> = members.iter().collect();
    all.sort_by_cached_key(|member| {
        let FileFacts { path, claimed_from, size, mtime, captures, .. } = &member.event.facts;
        let path = claimed_from.as_ref().unwrap_or(path);
        place(order, Known { path, size: *size, mtime: mtime.as_nanosecond(), captures })
    });
    let (mut bytes, mut text) = (0_u64, 0_usize);
    let fits = |member: &&&Waiting| {
        let first = text == 0;
        bytes += member.event.facts.size;
        text += member.text;
        first || (text <= MAX_TEXT && rule.max_bytes.is_none_or(|most| bytes <= most))
    };
    all.iter().take(rule.max_files as usize).take_while(fits).map(|member| &member.event).collect()
}

fn group(rule: &FileBatch, file: &FileFacts) -> String {
    match &rule.group_by {
        Some(FileField::Directory) => {
            file.found_at().parent().map(|parent| text(parent).into_owned()).unwrap_or_default()
        }
        Some(FileField::Capture(name)) => file.captures.get(name).cloned().unwrap_or_default(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(number: u64, size: u64) -> Member {
        let facts = FileFacts { path: format!("/in/{number}"), size, ..FileFacts::default() };
        let event = FileEvent {
            key: "k".to_owned(),
            dedupe: number.to_string(),
            facts,
            members: Vec::new(),
            seen_at: jiff::Timestamp::UNIX_EPOCH,
        };
        Member { group: (number % 2).to_string(), event }
    }

    proptest! {
        /// Files come at any time; a clock of our own passes. Each file is in exactly one batch, of its own group; no
        /// batch is too large, none waits for longer than it may, and none is too small.
        #[test]
        fn every_file_is_in_one_batch(
            steps in proptest::collection::vec((0_u64..40, 0_u64..9), 1..80),
            max_files in 1_u32..6,
            min_files in 1_u32..3,
            max_bytes in proptest::option::of(1_u64..30),
            hold: bool,
        ) {
            let rule = FileBatch {
                max_files: max_files.max(min_files),
                min_files,
                max_bytes,
                max_wait: Duration::from_secs(30),
                group_by: None,
                on_timeout: if hold { OnTimeout::Hold } else { OnTimeout::Fire },
            };
            let (mut batches, mut now, mut told) = (Batches::default(), Instant::now(), Vec::new());
            let settle = |batches: &mut Batches, now: Instant, told: &mut Vec<u64>| {
                while batches.wake_at(&rule, now, |_| true).is_some_and(|at| at <= now) {
                    let (group, members) = batches.groups.iter()
                        .find(|(_, members)| due_at(members, &rule, now).is_some_and(|at| at <= now))
                        .expect("one is due");
                    let chosen = choose(members, &rule, &FileField::Arrival);
                    assert!(!chosen.is_empty() && chosen.len() <= rule.max_files as usize);
                    let bytes: u64 = chosen.iter().map(|event| event.facts.size).sum();
                    assert!(chosen.len() == 1 || rule.max_bytes.is_none_or(|most| bytes <= most));
                    let ids = chosen.iter().map(|event| event.dedupe.clone()).collect::<std::collections::HashSet<_>>();
                    let closed = Closed { group: group.clone(), event: String::new(), members: ids };
                    for id in &closed.members {
                        let number: u64 = id.parse().expect("a number");
                        assert_eq!((number % 2).to_string(), closed.group);
                        told.push(number);
                    }
                    batches.close(&closed);
                }
            };
            let total = steps.len() as u64;
            for (number, (wait, size)) in steps.into_iter().enumerate() {
                now += Duration::from_secs(wait);
                settle(&mut batches, now, &mut told);
                batches.add(member(number as u64, size), now);
                settle(&mut batches, now, &mut told);
            }
            now += Duration::from_secs(30);
            settle(&mut batches, now, &mut told);
            let held = batches.len() as u64;
            prop_assert!(held == 0 || (hold && batches.groups.values().all(|group| group.len() < min_files as usize)));
            told.sort_unstable();
            let distinct = told.iter().collect::<std::collections::BTreeSet<_>>().len() as u64;
            prop_assert_eq!(distinct, told.len() as u64);
            prop_assert_eq!(distinct + held, total);
        }
    }
}
