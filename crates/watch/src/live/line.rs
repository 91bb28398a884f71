//! A strict order: of each group one file, or one batch, is under way at a time. The files of a group are a *line*. Who is
//! ahead in it was told, and the tasks of its event have not ended well; which that is, is kept in the state file, and this
//! is a copy. Those behind it are complete and wait, in the trigger's order.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hetuflow_core::{
    event::FileFacts,
    id::EventId,
    path_text,
    protocol::FileEvent,
    trigger::{FileChange, FileField, FileStrict},
};

use super::{
    Context, Live, Outbox,
    order::{Known, Place, place},
};
use crate::{
    state::text,
    turn::{Part, Turn},
    version,
};

/// Between two looks at a file behind another, which is looked at once it comes first.
const LOOK: Duration = Duration::from_mins(10);

/// How the event that is ahead stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stands {
    /// To be told, or its tasks have not ended.
    Open,
    Failed,
    Lost,
}

impl Stands {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }

    pub(crate) fn from_name(name: &str) -> Self {
        [Self::Failed, Self::Lost].into_iter().find(|stands| stands.name() == name).unwrap_or(Self::Open)
    }
}

/// The event that the files of a line wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ahead {
    /// Once the server has given it one.
    pub(crate) event_id: Option<EventId>,
    pub(crate) stands: Stands,
}

/// Who is ahead, by group.
pub(crate) type Heads = BTreeMap<String, Ahead>;

#[derive(Debug, Default)]
pub(super) struct Lines {
    heads: BTreeMap<String, Head>,
    /// By group.
    behind: BTreeMap<String, BTreeSet<Behind>>,
}

#[derive(Debug)]
struct Head {
    ahead: Ahead,
    /// Since when it is known to stand like that.
    since: Instant,
    /// That those behind it are stuck is told.
    said: bool,
}

/// A complete file that waits, first by its place. It may be gone, or another by now.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Behind {
    place: Place,
    changed_at: Instant,
    path: PathBuf,
}

impl Head {
    const fn new(ahead: Ahead, now: Instant) -> Self {
        Self { ahead, since: now, said: false }
    }

    /// When it is to be told that those behind it are stuck.
    fn say_at(&self, rule: &FileStrict) -> Option<Instant> {
        (self.ahead.stands != Stands::Open && !self.said).then(|| self.since + rule.stuck_after)
    }
}

impl Lines {
    pub(super) fn applied(&mut self, told: BTreeMap<String, String>) {
        let now = Instant::now();
        let open = Ahead { event_id: None, stands: Stands::Open };
        self.heads.extend(told.into_keys().map(|group| (group, Head::new(open, now))));
    }

    /// A turn was not committed: nothing was said in it.
    pub(super) fn forget_said(&mut self) {
        self.heads.values_mut().for_each(|head| head.said = false);
    }

    fn take(&mut self, heads: Heads, now: Instant) {
        let mut before = std::mem::take(&mut self.heads);
        let head = |(group, ahead): (String, Ahead)| match before.remove(&group) {
            Some(head) if head.ahead == ahead => (group, head),
            _ => (group, Head::new(ahead, now)),
        };
        self.heads = heads.into_iter().map(head).collect();
    }

    pub(super) fn has_head(&self, group: &str) -> bool {
        self.heads.contains_key(group)
    }

    /// The event that files wait for: one that has failed, if there is one.
    pub(super) fn ahead(&self) -> Option<EventId> {
        let mut known = self.heads.values().filter(|head| head.ahead.event_id.is_some());
        let bad = known.clone().find(|head| head.ahead.stands != Stands::Open);
        bad.or_else(|| known.next()).and_then(|head| head.ahead.event_id)
    }

    /// What somebody has to do, so that files go on.
    pub(super) fn describe(&self) -> Option<String> {
        let mut bad = self.heads.values().filter(|head| head.ahead.stands != Stands::Open);
        let first = bad.next()?;
        let more = match bad.count() {
            0 => String::new(),
            more => format!(" (and {more} more are like that)"),
        };
        Some(format!("files wait: {}{more}", reason(first.ahead)))
    }
}

/// Why those behind it wait.
fn reason(ahead: Ahead) -> String {
    let Some(id) = ahead.event_id else { return "the file before it is being told".to_owned() };
    let (what, advice) = match ahead.stands {
        Stands::Open => return format!("the task of event {id} comes before it and has not ended"),
        Stands::Failed => ("has failed", ""),
        Stands::Lost => {
            ("is lost, and nobody can say how it ended", ", when it surely does not run any more")
        }
    };
    format!(
        "the task of event {id} comes before it and {what}: retry it, or `hetuflow event replay {id}`{advice}"
    )
}

impl Live {
    fn strict(&self) -> Option<&FileStrict> {
        self.definition.watch.source.strict.as_ref()
    }

    /// When it is to be said that files are stuck.
    pub(super) fn line_at(&self, now: Instant, outbox: Outbox) -> Option<Instant> {
        let rule = self.strict()?;
        let said = self.lines.heads.iter().filter_map(|(group, head)| Some((group, head.say_at(rule)?)));
        let said = said.filter_map(|(group, at)| {
            if self.lines.behind.contains_key(group) {
                return Some(at);
            }
            let batch = (outbox == Outbox::HasRoom).then(|| self.batch_due_at(group, now)).flatten();
            batch.map(|due| due.max(at))
        });
        said.min()
    }

    /// Whether it may have told of something whose end others wait for.
    pub(crate) fn has_lines(&self) -> bool {
        self.strict().is_some()
    }

    /// Who is ahead now, as the state file says.
    pub(crate) fn take_heads(&mut self, heads: Heads) {
        self.lines.take(heads, Instant::now());
    }

    /// The line that a file is in; those of a batch are in that of their batch.
    fn line(&self, path: &Path) -> Option<String> {
        let strict = self.strict().filter(|_| self.definition.watch.source.batch.is_none())?;
        Some(match &strict.group_by {
            Some(FileField::Capture(name)) => self.rule.captures(path).remove(name).unwrap_or_default(),
            Some(FileField::Directory) => text(self.rule.found_at(path).parent()?).into_owned(),
            _ => String::new(),
        })
    }

    /// Whether nobody of the group is under way. Without a strict order nobody ever is.
    pub(super) fn is_free(&self, group: &str, part: &Part) -> bool {
        self.strict().is_none() || !(self.lines.has_head(group) || part.lines.contains_key(group))
    }

    /// Whether a complete file waits for the end of another.
    pub(super) fn is_behind(&mut self, path: &Path, part: &Part) -> bool {
        let Some(group) = self.line(path).filter(|group| !self.is_free(group, part)) else { return false };
        let (now, standing) = (Instant::now(), self.standing(path));
        let why = self.lines.heads.get(&group).map_or_else(
            || reason(Ahead { event_id: None, stands: Stands::Open }),
            |head| reason(head.ahead),
        );
        let Some(candidate) = self.waiting.candidates.get_mut(path) else { return false };
        candidate.held_since.get_or_insert(now);
        candidate.lacks = Some(why.into());
        candidate.wait_until(now + LOOK);
        if let Some((place, changed_at)) = standing {
            let behind = Behind { place, changed_at, path: path.to_owned() };
            self.lines.behind.entry(group).or_default().insert(behind);
        }
        true
    }

    /// A file is told: those behind it wait for its event.
    pub(super) fn lead(&self, path: &Path, events: &[FileEvent], part: &mut Part) {
        let event = events.iter().find(|event| !event.facts.is_notice());
        if let (Some(event), Some(group)) = (event, self.line(path)) {
            part.lines.insert(group, event.dedupe.clone());
        }
    }

    /// Of each line that nobody is ahead in, the first of those that wait is looked at at once.
    pub(super) fn call(&mut self, part: &Part) {
        let now = Instant::now();
        let Lines { heads, behind } = &mut self.lines;
        for (group, waiting) in behind.iter_mut() {
            if heads.contains_key(group) || part.lines.contains_key(group) {
                continue;
            }
            while let Some(first) = waiting.pop_first() {
                if let Some(candidate) = self.waiting.candidates.get_mut(&first.path) {
                    candidate.hasten(now);
                    break;
                }
            }
        }
        behind.retain(|_, waiting| !waiting.is_empty());
    }

    /// Where a candidate stands among others.
    pub(super) fn standing(&self, path: &Path) -> Option<(Place, Instant)> {
        let candidate = self.waiting.candidates.get(path)?;
        let version = candidate.fact.version;
        let known = Known {
            path: &path_text::show(&*self.rule.found_at(path)),
            size: version.size,
            mtime: i128::from(version.mtime),
            captures: &self.rule.captures(path),
        };
        Some((place(&self.definition.watch.source.order, known), candidate.changed_at))
    }

    /// Says of the first file of each line that it is stuck behind one that has failed, once.
    pub(super) fn say_lines(&mut self, cx: &Context<'_>, turn: &mut Turn, part: &mut Part) {
        for (group, why) in self.overdue() {
            let first = self.lines.behind.get(&group).and_then(|waiting| {
                waiting.iter().find(|behind| self.waiting.candidates.contains_key(&behind.path))
            });
            let Some(path) = first.map(|behind| behind.path.clone()) else {
                self.lines.behind.remove(&group);
                continue;
            };
            self.say_stuck(&path, why, cx, turn, part);
            self.said(&group);
        }
    }

    /// The groups that are stuck for so long that it is to be told, and why.
    fn overdue(&self) -> Vec<(String, String)> {
        let Some(rule) = self.strict() else { return Vec::new() };
        let now = Instant::now();
        let overdue =
            self.lines.heads.iter().filter(|(_, head)| head.say_at(rule).is_some_and(|at| at <= now));
        overdue.map(|(group, head)| (group.clone(), reason(head.ahead))).collect()
    }

    fn said(&mut self, group: &str) {
        if let Some(head) = self.lines.heads.get_mut(group) {
            head.said = true;
        }
    }

    /// Likewise of the first file of a batch that waits.
    pub(super) fn stuck_batch(
        &mut self,
        group: &str,
        first: &FileEvent,
        cx: &Context<'_>,
    ) -> Option<FileEvent> {
        let (_, why) = self.overdue().into_iter().find(|(stuck, _)| stuck == group)?;
        self.said(group);
        let change = FileChange::Stuck.name();
        let facts = FileFacts { change: change.to_owned(), reason: Some(why), ..first.facts.clone() };
        let dedupe = version::batch_id([change, first.dedupe.as_str()].into_iter());
        Some(FileEvent { key: first.key.clone(), dedupe, facts, members: Vec::new(), seen_at: cx.wall })
    }
}
