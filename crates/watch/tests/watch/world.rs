//! A watcher on real files in a folder of its own. Waits on the watcher's changes, never on time.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    time::Duration,
};

use hetuflow_core::{
    event::FileKind,
    id::{AgentId, EventId},
    path_text,
    protocol::{FileBatchAck, FileEvent, FileOutcome, FileVerdict, Watch, WatchState},
    trigger::FileSource,
};
use hetuflow_watch::{Options, Watcher, start};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Only a broken watcher takes so long.
const DEADLINE: Duration = Duration::from_mins(1);

pub(crate) const KEY: &str = "default/test";

pub(crate) struct World {
    home: TempDir,
    /// Of one trigger.
    sources: Vec<FileSource>,
    revision: i64,
    agent: &'static str,
    /// Where watches may be; empty: anywhere.
    allowed: Vec<PathBuf>,
    running: Option<(Watcher, CancellationToken)>,
    /// For how long a file system may give no answer; without it, as long as usual.
    patience: Option<Duration>,
    /// The second trigger and its revision, once there is one.
    beside: Option<(i64, FileSource)>,
    /// Ids of events that were expected.
    told: HashSet<String>,
}

impl World {
    /// Globs in `source` start at the folder `base`, which is made.
    pub(crate) fn new(source: &str) -> Self {
        Self::of(&[source.to_owned()])
    }

    /// A trigger with several sources.
    pub(crate) fn of(sources: &[String]) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        for folder in ["base", "state"] {
            std::fs::create_dir(home.path().join(folder)).expect("a folder");
        }
        Self {
            home,
            sources: parse(sources),
            revision: 1,
            agent: "agent-1",
            allowed: Vec::new(),
            running: None,
            patience: None,
            beside: None,
            told: HashSet::new(),
        }
    }

    /// Where globs start.
    pub(crate) fn base(&self) -> PathBuf {
        self.home.path().join("base")
    }

    /// As another agent.
    pub(crate) fn named(self, agent: &'static str) -> Self {
        Self { agent, ..self }
    }

    /// Percent-encoded, so that it can be any bytes.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.home.path().join("base").join(path_text::decode(path).expect("%25 is a percent sign"))
    }

    pub(crate) fn state_folder(&self) -> PathBuf {
        self.home.path().join("state")
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("written");
    }

    /// Only below this folder watches may be set.
    pub(crate) fn allow(&mut self, folder: &str) {
        self.allowed.push(self.path(folder));
    }

    /// Starts and sets a watch that will not be in force.
    pub(crate) async fn start_refused(&mut self) {
        self.run().await;
        self.watcher().set(self.own());
    }

    /// Starts and sets the watch, and waits until what was there before is recorded.
    pub(crate) async fn start(&mut self) {
        self.run().await;
        self.set().await;
    }

    async fn run(&mut self) {
        let (state, base) = (self.state_folder().join("watch.db"), self.home.path().join("base"));
        let options = Options::new(state, base, AgentId::new(self.agent).expect("a name"));
        let patience = self.patience.unwrap_or(options.patience);
        let options = Options { roots: self.allowed.clone(), patience, ..options };
        let shutdown = CancellationToken::new();
        let watcher = start(options, shutdown.clone()).await.expect("started");
        self.running = Some((watcher, shutdown));
    }

    pub(crate) async fn stop(&mut self) {
        let (watcher, shutdown) = self.running.take().expect("a running watcher");
        shutdown.cancel();
        tokio::time::timeout(DEADLINE, watcher.stopped()).await.expect("it stops");
    }

    /// Another revision of the trigger.
    pub(crate) async fn edit(&mut self, source: &str) {
        self.edit_all(&[source.to_owned()]).await;
    }

    pub(crate) async fn edit_all(&mut self, sources: &[String]) {
        self.edit_unsound(sources);
        self.set().await;
    }

    /// One that will be refused.
    pub(crate) fn edit_unsound(&mut self, sources: &[String]) {
        self.sources = parse(sources);
        self.revision += 1;
        self.watcher().set(self.own());
    }

    fn own(&self) -> Vec<Watch> {
        let watch = |source: &FileSource| Watch {
            key: KEY.to_owned(),
            revision: self.revision,
            source: source.clone(),
        };
        self.sources.iter().map(watch).collect()
    }

    pub(crate) async fn set(&self) {
        self.watcher().set(self.own());
        self.state(|state| state.revision == self.revision && state.baseline_done).await;
    }

    /// A second trigger, under the key of this one with `-2`.
    pub(crate) async fn set_beside(&mut self, source: &str) {
        self.edit_beside(source);
        self.state(|state| state.key.ends_with("-2") && state.baseline_done).await;
    }

    /// Another revision of it.
    pub(crate) fn edit_beside(&mut self, source: &str) {
        let source = toml::from_str(source).expect("a file source");
        let revision = self.beside.as_ref().map_or(1, |(revision, _)| revision + 1);
        self.beside = Some((revision, source));
        self.watcher().set(self.watches());
    }

    fn watches(&self) -> Vec<Watch> {
        let beside = self.beside.clone();
        let beside = beside.map(|(revision, source)| Watch { key: format!("{KEY}-2"), revision, source });
        self.own().into_iter().chain(beside).collect()
    }

    pub(crate) fn patience(&mut self, patience: Duration) {
        self.patience = Some(patience);
    }

    /// Starts again, and sets what was set; waits for nothing.
    pub(crate) async fn restart(&mut self) {
        self.run().await;
        self.watcher().set(self.watches());
    }

    /// The same source twice under one key.
    pub(crate) async fn set_twice(&mut self) {
        self.revision += 1;
        self.watcher().set([self.own(), self.own()].concat());
        self.state(|state| state.revision == self.revision && state.baseline_done).await;
    }

    /// Watches for nothing, and waits until that is so.
    pub(crate) async fn unset(&self) {
        self.watcher().set(Vec::new());
        let mut changes = self.watcher().changes();
        let wait = async {
            while !self.watcher().states().is_empty() {
                changes.changed().await.expect("a running watcher");
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.expect("it is taken away");
    }

    pub(crate) fn watcher(&self) -> &Watcher {
        &self.running.as_ref().expect("a running watcher").0
    }

    /// Waits until the watch is in a state.
    pub(crate) async fn state(&self, wanted: impl Fn(&WatchState) -> bool) -> WatchState {
        let mut changes = self.watcher().changes();
        let wait = async {
            loop {
                changes.borrow_and_update();
                if let Some(state) = self.watcher().states().into_iter().find(&wanted) {
                    return state;
                }
                changes.changed().await.expect("a running watcher");
            }
        };
        let Ok(state) = tokio::time::timeout(DEADLINE, wait).await else {
            panic!("the state is {:?}", self.watcher().states());
        };
        state
    }

    async fn pending(&self) -> Vec<FileEvent> {
        self.watcher().pending(&[], 100_000).await.expect("the outbox")
    }

    /// The next `count` events, in order of their paths. More than that is a failure.
    pub(crate) async fn events(&mut self, count: usize) -> Vec<FileEvent> {
        let events = self.events_of_many(count).await;
        assert_eq!(
            events.len(),
            count,
            "more events than expected: {:#?}",
            events.iter().take(10).collect::<Vec<_>>()
        );
        events
    }

    /// At least the next `count` events, in order of their paths.
    pub(crate) async fn events_of_many(&mut self, count: usize) -> Vec<FileEvent> {
        let mut changes = self.watcher().changes();
        let wait = async {
            loop {
                changes.borrow_and_update();
                let mut events = self.pending().await;
                events.retain(|event| !self.told.contains(&event.dedupe));
                if events.len() >= count {
                    return events;
                }
                changes.changed().await.expect("a running watcher");
            }
        };
        let Ok(mut events) = tokio::time::timeout(DEADLINE, wait).await else {
            let mut last = self.pending().await;
            let pending = last.len();
            last.drain(..pending.saturating_sub(10));
            panic!(
                "not {count} new events: {pending} pending, last {last:#?}; {:#?}",
                self.watcher().states()
            );
        };
        events.sort_by_key(|event| (event.facts.found_at(), event.facts.change.clone()));
        self.told.extend(events.iter().map(|event| event.dedupe.clone()));
        events
    }

    /// The next events, each as `change path size`, with `from` before the path where the file was claimed there, and after it what it is if it is no file (of a directory, with its number of files).
    pub(crate) async fn told(&mut self, count: usize) -> Vec<String> {
        let base = self.home.path().join("base");
        let events = self.events(count).await;
        events.iter().map(|event| describe(event, &base)).collect()
    }

    /// The next events in the order of the outbox.
    pub(crate) async fn told_in_order(&mut self, count: usize) -> Vec<String> {
        let known = self.told.clone();
        self.events(count).await;
        let base = self.home.path().join("base");
        let pending = self.pending().await;
        pending
            .iter()
            .filter(|event| !known.contains(&event.dedupe))
            .map(|event| describe(event, &base))
            .collect()
    }

    /// The tasks of all that was acknowledged have ended.
    pub(crate) async fn settle(&self, outcome: FileOutcome) {
        let awaited = self.watcher().awaited(0, 100).await.expect("the state");
        let outcomes: Vec<_> = awaited.into_iter().map(|(_, id)| (id, outcome)).collect();
        assert!(!outcomes.is_empty(), "nothing is waited for");
        self.watcher().settle(&outcomes).await.expect("settled");
    }

    /// The tasks have ended that others of a strict order wait for.
    pub(crate) async fn end(&self, outcome: FileOutcome) {
        let followed = self.watcher().followed(0, 100).await.expect("the state");
        let outcomes: Vec<_> = followed.into_iter().map(|(_, id)| (id, outcome)).collect();
        assert!(!outcomes.is_empty(), "nothing is waited for");
        self.watcher().settle(&outcomes).await.expect("settled");
    }

    /// As if a new life of the agent knew nothing of what it was told.
    pub(crate) fn forget_told(&mut self) {
        self.told.clear();
    }

    pub(crate) async fn acknowledge(&self) {
        let events = self.pending().await;
        self.answer(events, FileVerdict::Accepted).await;
    }

    pub(crate) async fn answer(&self, events: Vec<FileEvent>, verdict: FileVerdict) {
        self.watcher().acknowledge(&acks_of(events, verdict)).await.expect("acknowledged");
    }

    /// For all that wait.
    pub(crate) async fn acks(&self) -> Vec<FileBatchAck> {
        acks_of(self.pending().await, FileVerdict::Accepted)
    }

    /// What a new connection asks about, in order of the paths.
    pub(crate) async fn asked(&self) -> Vec<FileEvent> {
        self.watcher().ask(usize::MAX).await.expect("the state")
    }

    /// The paths that wait to be told.
    pub(crate) async fn waiting(&self) -> Vec<String> {
        let names = self.pending().await.into_iter().map(|event| event.facts.path);
        names.map(|path| path.rsplit('/').next().unwrap_or_default().to_owned()).collect()
    }
}

/// Whether whole file systems can be marked here. Where not, what needs that is not tested, and says so loudly.
pub(crate) async fn has_fanotify() -> bool {
    let mut world = World::new("paths = ['*']\nbackend = 'fanotify'");
    world.start().await;
    let state = world.state(|state| state.baseline_done).await;
    world.stop().await;
    if let Some(problem) = &state.problem {
        eprintln!("NOT TESTED: {problem}");
    }
    state.problem.is_none()
}

fn parse(sources: &[String]) -> Vec<FileSource> {
    sources.iter().map(|source| toml::from_str(source).expect("a file source")).collect()
}

fn acks_of(events: Vec<FileEvent>, verdict: FileVerdict) -> Vec<FileBatchAck> {
    let ack = |event: FileEvent| FileBatchAck {
        key: event.key,
        dedupe: event.dedupe,
        verdict,
        event_id: Some(EventId::at(Timestamp::UNIX_EPOCH)),
        known: Vec::new(),
    };
    events.into_iter().map(ack).collect()
}

fn describe(event: &FileEvent, base: &Path) -> String {
    let from = event.facts.claimed_from.as_ref();
    let path = Path::new(from.unwrap_or(&event.facts.path));
    let path = path.strip_prefix(base).unwrap_or(path);
    let from = if from.is_some() { "from " } else { "" };
    let reason = event.facts.reason.as_ref().map(|reason| format!(" {reason}")).unwrap_or_default();
    let encoded = if event.facts.percent_encoded { " encoded" } else { "" };
    let kind = match event.facts.kind {
        FileKind::File => String::new(),
        FileKind::Link => " link".to_owned(),
        FileKind::Directory => format!(" directory {}", event.facts.count.unwrap_or_default()),
    };
    format!("{} {from}{} {}{encoded}{kind}{reason}", event.facts.change, path.display(), event.facts.size)
}
