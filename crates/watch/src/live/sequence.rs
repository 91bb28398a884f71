//! Files that count: one number after the other. A file whose number is not the next of its group is held until the missing
//! ones have been told, or for so long as the trigger says; then a notice names the missing number. What is next is stored
//! with the files themselves, so that no crash changes the order; who was held is found again.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hetuflow_core::trigger::{FileField, FileSequence, FileSource, OnTimeout};

use super::{Context, Live};
use crate::{
    state::text,
    turn::{Part, Turn},
};

/// Files that are held in order, at most; others look again by themselves.
const MAX_HELD: usize = 65_536;

/// Between two looks at a file that is held, whose turn comes by the one before.
const LOOK: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(crate) struct Sequences {
    /// By group.
    next: BTreeMap<String, u64>,
    /// By group and number. One may be gone, or another by now.
    held: BTreeMap<(String, u64), PathBuf>,
}

impl Sequences {
    pub(crate) fn new(next: impl IntoIterator<Item = (String, u64)>) -> Self {
        Self { next: next.into_iter().collect(), held: BTreeMap::new() }
    }

    pub(super) fn applied(&mut self, next: BTreeMap<String, u64>) {
        self.next.extend(next);
    }

    fn next(&self, group: &str, part: &Part) -> Option<u64> {
        part.sequences.get(group).or_else(|| self.next.get(group)).copied()
    }
}

/// Whether the numbers of one revision mean the same in another. Where not, counting begins anew.
pub(crate) fn counts_alike(one: &FileSource, two: &FileSource) -> bool {
    let groups = |source: &FileSource| source.sequence.as_ref().map(|sequence| sequence.group_by.clone());
    groups(one).is_some()
        && groups(one) == groups(two)
        && one.order == two.order
        && one.capture == two.capture
}

impl Live {
    /// The place of a file; `None` where nothing is counted, or its name has no number there.
    fn place(&self, path: &Path) -> Option<(String, u64)> {
        let (sequence, order) = (self.sequence()?, &self.definition.watch.source.order);
        let FileField::Capture(name) = order else { return None };
        let (captures, path) = (self.rule.captures(path), self.rule.found_at(path));
        let group = match &sequence.group_by {
            Some(FileField::Capture(group)) => captures.get(group).cloned().unwrap_or_default(),
            Some(FileField::Directory) => text(path.parent()?).into_owned(),
            _ => String::new(),
        };
        Some((group, captures.get(name)?.parse().ok()?))
    }

    fn sequence(&self) -> Option<&FileSequence> {
        self.definition.watch.source.sequence.as_ref()
    }

    /// Whether a complete file waits for those before it.
    pub(super) fn is_held(
        &mut self,
        path: &Path,
        cx: &Context<'_>,
        turn: &mut Turn,
        part: &mut Part,
    ) -> bool {
        let Some((group, number)) = self.place(path) else { return false };
        // The first one begins: nobody knows what came before.
        let Some(next) = self.sequences.next(&group, part).filter(|next| number > *next) else {
            return false;
        };
        let Some(rule) = self.sequence().cloned() else { return false };
        let now = Instant::now();
        let Some(candidate) = self.waiting.candidates.get_mut(path) else { return false };
        let until = *candidate.held_since.get_or_insert(now) + rule.gap_timeout;
        let why = format!("number {next} comes before it and is missing");
        candidate.lacks = Some(why.as_str().into());
        candidate.wait_until(if now < until { until.min(now + LOOK) } else { now + LOOK });
        if self.sequences.held.len() < MAX_HELD {
            self.sequences.held.insert((group.clone(), number), path.to_owned());
        }
        if now < until {
            return true;
        }
        self.say_stuck(path, why, cx, turn, part);
        if rule.on_timeout == OnTimeout::Hold {
            return true;
        }
        // Those that are held go on with the lowest.
        let lowest = self.lowest_held(&group, next).unwrap_or(number);
        part.sequences.insert(group.clone(), lowest);
        if lowest < number {
            self.release(&group, lowest);
        }
        lowest < number
    }

    /// It is told: the next one may come.
    pub(super) fn count(&mut self, path: &Path, part: &mut Part) {
        let Some((group, number)) = self.place(path) else { return };
        self.sequences.held.remove(&(group.clone(), number));
        if self.sequences.next(&group, part).is_some_and(|next| number < next) {
            return;
        }
        let next = number.saturating_add(1);
        part.sequences.insert(group.clone(), next);
        self.release(&group, next);
    }

    /// Those that follow each other from `next` on are looked at at once, and the first behind a gap, whose time may be over.
    fn release(&mut self, group: &str, next: u64) {
        let (now, mut number) = (Instant::now(), next);
        let held = self.sequences.held.range((group.to_owned(), next)..);
        for ((_, found), path) in held.take_while(|((of, _), _)| of == group) {
            if let Some(candidate) = self.waiting.candidates.get_mut(path) {
                candidate.hasten(now);
            }
            if *found != number {
                return;
            }
            number = number.saturating_add(1);
        }
    }

    fn lowest_held(&mut self, group: &str, next: u64) -> Option<u64> {
        let waiting = &self.waiting.candidates;
        self.sequences.held.retain(|_, path| waiting.contains_key(path));
        let from = (group.to_owned(), next);
        let first = self.sequences.held.range(from..).map(|((group, number), _)| (group, *number)).next();
        first.filter(|(found, _)| *found == group).map(|(_, number)| number)
    }
}
