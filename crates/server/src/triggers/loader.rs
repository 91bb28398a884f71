//! Keeps the set of triggers at what the folder and the store say. The only writer of both the
//! folder's triggers in the store and the set in memory.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use hetuflow_core::{Clock, id::Namespace};
use hetuflow_store::{Store, StoreError, TriggerChange};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    TriggerFolder, TriggerSet, Triggers, build, diff,
    folder::{self, Files, Stamp},
};
use crate::{metrics::Metrics, secrets::Vault};

/// How often the folder is looked at.
const SCAN_EVERY: Duration = Duration::from_millis(500);
/// How often the store is asked whether another server, or the API, changed something, and files of secrets are looked at.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// How often secrets are read again, whatever their files look like.
const SECRETS_EVERY: Duration = Duration::from_mins(1);

pub(crate) struct Loader {
    store: Arc<dyn Store>,
    vault: Vault,
    clock: Clock,
    metrics: Arc<Metrics>,
    namespace: Namespace,
    folder: Option<TriggerFolder>,
    /// As last applied; `None` before the first time.
    files: Option<Files>,
    folder_problems: Vec<String>,
    /// The files of secrets, as they were before they were last read.
    secret_files: BTreeMap<PathBuf, Stamp>,
    current: watch::Sender<Arc<TriggerSet>>,
    reload: Arc<Notify>,
}

/// When which part is due again.
struct Due {
    poll: Instant,
    secrets: Instant,
}

impl Loader {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        vault: Vault,
        clock: Clock,
        metrics: Arc<Metrics>,
        folder: Option<TriggerFolder>,
    ) -> (Self, Triggers) {
        let (current, receiver) = watch::channel(Arc::default());
        let triggers = Triggers::new(receiver);
        let loader = Self {
            store,
            vault,
            clock,
            metrics,
            namespace: Namespace::default(),
            folder,
            files: None,
            folder_problems: Vec::new(),
            secret_files: BTreeMap::new(),
            current,
            reload: Arc::clone(&triggers.reload),
        };
        (loader, triggers)
    }

    /// The first load: a server answers nobody before it.
    pub(crate) async fn load(&mut self) -> Result<(), StoreError> {
        self.rebuild().await?;
        self.look_at_folder().await
    }

    /// Runs until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let now = Instant::now();
        let mut due = Due { poll: now + POLL_EVERY, secrets: now + SECRETS_EVERY };
        let reload = Arc::clone(&self.reload);
        loop {
            let asked = tokio::select! {
                () = shutdown.cancelled() => return,
                () = reload.notified() => true,
                () = tokio::time::sleep(SCAN_EVERY) => false,
            };
            if asked {
                let now = Instant::now();
                due = Due { poll: now, secrets: now };
            }
            if let Err(error) = self.tick(&mut due).await {
                // The set in force stays; the next tick tries again.
                tracing::warn!(%error, "triggers could not be reloaded");
            }
        }
    }

    async fn tick(&mut self, due: &mut Due) -> Result<(), StoreError> {
        self.look_at_folder().await?;
        let now = Instant::now();
        if now >= due.poll {
            due.poll = now + POLL_EVERY;
            if self.store.trigger_generation().await? != self.current.borrow().generation {
                self.rebuild().await?;
            }
            if self.stamp_secrets().await != self.secret_files {
                due.secrets = now;
            }
        }
        if now >= due.secrets {
            due.secrets = now + SECRETS_EVERY;
            self.refresh_secrets().await?;
        }
        Ok(())
    }

    /// Applies what changed in the folder. Files count as seen only after the store has their changes.
    async fn look_at_folder(&mut self) -> Result<(), StoreError> {
        let Some(folder) = self.folder.clone() else { return Ok(()) };
        let files = match self.scan(folder.path.clone()).await {
            Ok(files) => files,
            // A folder that cannot be read says nothing about its triggers: they stay in force.
            Err(error) => {
                let name = folder.path.display();
                let problem = format!("the trigger folder {name} cannot be read: {error}");
                return self.note_folder_problems(vec![problem]).await;
            }
        };
        if self.files.as_ref().is_some_and(|seen| folder::same(seen, &files)) {
            return Ok(());
        }
        let problems = self.apply(&folder.owner, &files).await?;
        self.files = Some(files);
        self.set_folder_problems(problems);
        self.rebuild().await
    }

    async fn scan(&self, directory: PathBuf) -> std::io::Result<Files> {
        let (namespace, now) = (self.namespace.clone(), self.clock.now());
        let before = self.files.clone().unwrap_or_default();
        let scan = move || folder::scan(&directory, &namespace, &before, now);
        tokio::task::spawn_blocking(scan).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
    }

    /// All files in one transaction; file by file where one of them has a trigger that is not the
    /// folder's. Yields the problems that the store has no place for.
    async fn apply(&self, owner: &str, files: &Files) -> Result<Vec<String>, StoreError> {
        let stored = self.store.triggers().await?;
        let by_file = folder::changes(files, owner, &self.namespace, &stored);
        let all: Vec<TriggerChange> = by_file.iter().flat_map(|(_, changes)| changes.clone()).collect();
        match self.put(owner, &all).await {
            Err(StoreError::Conflict(_)) => {}
            other => return other.map(|()| Vec::new()),
        }
        let mut problems = Vec::new();
        for (path, changes) in by_file {
            match self.put(owner, &changes).await {
                Err(StoreError::Conflict(reason)) => problems.push(format!("{}: {reason}", path.display())),
                other => other?,
            }
        }
        Ok(problems)
    }

    async fn put(&self, owner: &str, changes: &[TriggerChange]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.store.apply_triggers(owner, changes, self.clock.now()).await.map(|_| ())
    }

    async fn note_folder_problems(&mut self, problems: Vec<String>) -> Result<(), StoreError> {
        if self.folder_problems == problems {
            return Ok(());
        }
        // What is read once the folder is back must be applied again.
        self.files = None;
        self.set_folder_problems(problems);
        self.rebuild().await
    }

    fn set_folder_problems(&mut self, problems: Vec<String>) {
        for problem in problems.iter().filter(|problem| !self.folder_problems.contains(problem)) {
            tracing::warn!("{problem}");
        }
        self.folder_problems = problems;
    }

    /// Swaps the set and wakes all who subscribed to it.
    async fn rebuild(&mut self) -> Result<(), StoreError> {
        let set = self.build().await?;
        diff::log(&self.current.borrow(), &set);
        self.metrics.trigger_reloads.inc();
        self.current.send_replace(Arc::new(set));
        Ok(())
    }

    /// Swaps the set without waking anybody: only the secrets in it may be others.
    async fn refresh_secrets(&mut self) -> Result<(), StoreError> {
        let set = Arc::new(self.build().await?);
        diff::log(&self.current.borrow(), &set);
        self.current.send_if_modified(|current| {
            let changed = current.generation != set.generation;
            *current = set;
            changed
        });
        Ok(())
    }

    /// Of the secrets of the set in force; those of triggers that are new are looked at the next time.
    async fn stamp_secrets(&self) -> BTreeMap<PathBuf, Stamp> {
        let set = Arc::clone(&self.current.borrow());
        let webhooks = set.live.values().flat_map(|live| &live.trigger.webhooks);
        let files =
            webhooks.flat_map(|webhook| &webhook.secrets).filter_map(|secret| self.vault.file(secret));
        let files: Vec<PathBuf> = files.collect();
        if files.is_empty() {
            return BTreeMap::new();
        }
        tokio::task::spawn_blocking(move || folder::stamps(files)).await.unwrap_or_default()
    }

    async fn build(&mut self) -> Result<TriggerSet, StoreError> {
        // Before they are read: what changes meanwhile is read once more.
        self.secret_files = self.stamp_secrets().await;
        let mut set = build::build(self.store.as_ref(), &self.vault).await?;
        set.folder_problems.clone_from(&self.folder_problems);
        set.warn_of_observers(self.clock.now());
        Ok(set)
    }
}
