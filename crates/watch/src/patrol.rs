//! Who looks where. A patrol is a group of watches that one thread looks after. All watches whose directories are on local
//! file systems are one patrol, the *common* one; a watch that reaches a file system which may leave questions without an
//! answer is a patrol of its own, so that nobody waits for it but itself. Where the common patrol gets no answer after
//! all, its watches part, and then it is known which one it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hetuflow_core::protocol::Watch;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Options, WatchError,
    mounts::{MountChanges, Mounts},
    rule,
    run::{COMMON, RETRY, Run, Shared},
    since::Since,
    slots,
};

/// What a patrol looks after.
#[derive(Debug, Clone, Default)]
pub(crate) struct Charge {
    pub(crate) number: u64,
    pub(crate) watches: Vec<Slotted>,
    /// Slots that another patrol has now: to be let go, and not to be forgotten.
    pub(crate) elsewhere: BTreeSet<String>,
}

/// A watch under a name of its own: a trigger may have several file sources, and all have its key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slotted {
    pub(crate) slot: String,
    pub(crate) watch: Watch,
}

/// All patrols, and what is to be watched.
pub(crate) struct Patrols {
    options: Options,
    shared: Arc<Shared>,
    wanted: watch::Receiver<Option<Vec<Watch>>>,
    mounts: MountChanges,
    since: Since,
    watches: Vec<Slotted>,
    common: Patrol,
    /// By slot.
    apart: BTreeMap<String, Patrol>,
    /// Slots that nobody wants any more, and that are not forgotten yet.
    unwanted: BTreeSet<String>,
    /// After a failure.
    retry_at: Option<Instant>,
}

/// A running patrol.
struct Patrol {
    charge: watch::Sender<Charge>,
    /// The number of the last charge that is in force.
    in_force: watch::Receiver<u64>,
    /// Its thread has had no answer for too long.
    hangs: watch::Receiver<bool>,
    stop: CancellationToken,
    ended: JoinHandle<()>,
}

enum Wake {
    Stop,
    Wanted,
    Mounted,
    CommonHangs,
    Retry,
}

impl Patrols {
    /// Goes on with what an earlier life of this process was told to watch.
    pub(crate) async fn new(options: Options, shared: Arc<Shared>) -> Result<Self, WatchError> {
        let watches = shared.state.definitions().await?.into_iter();
        let watches = watches.map(|one| Slotted { slot: one.slot, watch: one.watch }).collect();
        let since = Since::open(&options.state);
        let common = Patrol::start(COMMON, &options, &shared, &since, Charge::default(), None);
        let mut patrols = Self {
            options,
            wanted: shared.wanted.subscribe(),
            mounts: MountChanges::new(),
            shared,
            since,
            watches: Vec::new(),
            common,
            apart: BTreeMap::new(),
            unwanted: BTreeSet::new(),
            retry_at: None,
        };
        patrols.assign(watches).await?;
        Ok(patrols)
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let _stopped = self.shared.stopped.clone().drop_guard();
        loop {
            let worked = match self.wait(&shutdown).await {
                Wake::Stop => break,
                Wake::Wanted => {
                    let wanted = self.wanted.borrow_and_update().clone().unwrap_or_default();
                    let list = slots::assign(wanted, self.watches.iter().chain(&self.since.slots()));
                    // Not at the start: there may be nothing but this that tells of a watch.
                    self.since.retain(&list.iter().map(|one| one.slot.clone()).collect());
                    self.assign(list).await
                }
                Wake::Mounted => {
                    self.shared.mounts.send_modify(|count| *count += 1);
                    Ok(())
                }
                Wake::CommonHangs => {
                    self.part().await;
                    Ok(())
                }
                Wake::Retry => self.forget().await,
            };
            self.retry_at = worked.is_err().then(|| Instant::now() + RETRY);
            if let Err(error) = worked {
                tracing::error!(error = &error as &dyn std::error::Error, "watches cannot be forgotten yet");
            }
        }
        let all = std::mem::take(&mut self.apart).into_values().chain([self.common]);
        let all: Vec<_> = all.inspect(|patrol| patrol.stop.cancel()).collect();
        for patrol in all {
            patrol.end().await;
        }
        self.shared.state.close().await;
    }

    async fn wait(&mut self, shutdown: &CancellationToken) -> Wake {
        let retry = async {
            match self.retry_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Wake::Stop,
            Ok(()) = self.wanted.changed() => Wake::Wanted,
            () = self.mounts.next() => Wake::Mounted,
            Ok(_) = self.common.hangs.wait_for(|hangs| *hangs) => Wake::CommonHangs,
            () = retry => Wake::Retry,
        }
    }

    /// Exactly these are watched from now on. A patrol that was of one watch, and is not any more, ends first: two never
    /// decide about the same files.
    async fn assign(&mut self, watches: Vec<Slotted>) -> Result<(), WatchError> {
        let mounts = Mounts::read();
        let before: BTreeSet<_> = self.watches.iter().map(|one| one.slot.clone()).collect();
        let mut alone = Vec::new();
        let mut together = Vec::new();
        for one in &watches {
            let known = self.apart.contains_key(&one.slot) && self.watches.contains(one);
            if known {
                continue;
            }
            if let Some(patrol) = self.apart.remove(&one.slot) {
                patrol.end().await;
            }
            let starts = rule::starts(&one.watch.source, &self.options.base);
            let may_hang = starts.iter().any(|start| mounts.may_hang(start));
            if may_hang { alone.push(one.clone()) } else { together.push(one.clone()) }
        }
        let slots: BTreeSet<_> = watches.iter().map(|one| one.slot.clone()).collect();
        for slot in before.difference(&slots) {
            if let Some(patrol) = self.apart.remove(slot) {
                patrol.end().await;
                self.unwanted.insert(slot.clone());
            }
        }
        self.unwanted.retain(|slot| !slots.contains(slot));
        self.watches = watches;
        self.charge(together, alone);
        self.forget().await
    }

    /// Hands the common patrol its watches, and starts those that are alone once it has let them go.
    fn charge(&mut self, together: Vec<Slotted>, alone: Vec<Slotted>) {
        let mut number = 0;
        let apart = self.apart.keys().chain(alone.iter().map(|one| &one.slot)).cloned();
        let elsewhere = apart.collect();
        self.common.charge.send_modify(|charge| {
            number = charge.number + 1;
            *charge = Charge { number, watches: together, elsewhere };
        });
        for one in alone {
            let after = (self.common.in_force.clone(), number);
            self.start_apart(one, Some(after));
        }
    }

    fn start_apart(&mut self, one: Slotted, after: Option<(watch::Receiver<u64>, u64)>) {
        let slot = one.slot.clone();
        let charge = Charge { number: 1, watches: vec![one], elsewhere: BTreeSet::new() };
        let patrol = Patrol::start(&slot, &self.options, &self.shared, &self.since, charge, after);
        self.apart.insert(slot, patrol);
    }

    /// The common patrol gets no answer: each of its watches goes on alone, and another takes its place. Its thread is
    /// left behind and decides nothing any more.
    async fn part(&mut self) {
        let charge = self.common.charge.borrow().watches.clone();
        tracing::warn!(
            watches = charge.len(),
            "a file system does not answer: every watch looks for itself from now on"
        );
        let (options, shared) = (&self.options, &self.shared);
        let fresh = Patrol::start(COMMON, options, shared, &self.since, Charge::default(), None);
        std::mem::replace(&mut self.common, fresh).end().await;
        for one in charge {
            self.start_apart(one, None);
        }
    }

    async fn forget(&mut self) -> Result<(), WatchError> {
        while let Some(slot) = self.unwanted.first() {
            self.shared.state.forget(slot).await?;
            self.unwanted.pop_first();
        }
        Ok(())
    }
}

impl Patrol {
    fn start(
        name: &str,
        options: &Options,
        shared: &Arc<Shared>,
        since: &Since,
        charge: Charge,
        after: Option<(watch::Receiver<u64>, u64)>,
    ) -> Self {
        let (charge, charges) = watch::channel(charge);
        let ((force, in_force), (hang, hangs)) = (watch::channel(0), watch::channel(false));
        let stop = CancellationToken::new();
        let run = Run::new(name, options.clone(), Arc::clone(shared), since.clone(), charges, (force, hang));
        let stopped = stop.clone();
        let ended = tokio::spawn(async move {
            if let Some((mut in_force, number)) = after {
                tokio::select! {
                    () = stopped.cancelled() => return,
                    // Where it has ended, it looks after nothing.
                    _ = in_force.wait_for(|now| *now >= number) => {}
                }
            }
            run.run(stopped).await;
        });
        Self { charge, in_force, hangs, stop, ended }
    }

    /// Waits for no answer of a file system.
    async fn end(self) {
        self.stop.cancel();
        let _ = self.ended.await;
    }
}
