//! What the leader does for the whole database, now and then: makes partitions ahead, forgets expired dedupe keys, and
//! drops what is old or too much (`housekeeping/retention.rs`; what single namespaces keep differently is
//! `housekeeping/shares.rs`). `run` starts the loop on every server; without the
//! lead a turn does nothing. What fails is said once and tried again at the next turn.

mod ages;
mod retention;
mod shares;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use hetuflow_store::{Leadership, StoreError};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

pub(crate) use retention::Report;
use shares::Shares;

use crate::{AppState, ingest::chain, leader::Leader};

const EVERY: Duration = Duration::from_secs(30);
/// Expired keys that one statement forgets.
const FORGET_AT_ONCE: u32 = 1000;

/// What the last turn found, for health and metrics; `None` on a server that does not lead.
pub(crate) type Reports = watch::Receiver<Option<Arc<Report>>>;

/// The loop's own end, with what it remembers.
#[derive(Debug)]
pub(crate) struct Housekeeping {
    state: AppState,
    leader: Leader,
    reports: watch::Sender<Option<Arc<Report>>>,
    shares: Shares,
    /// What failed at the last turn, and has been said.
    failing: BTreeSet<&'static str>,
}

/// Why a piece of work is not done.
#[derive(Debug, thiserror::Error)]
enum Undone {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0} are missing: their tables are busy, or the default partition holds too much of them")]
    Partitions(u64),
}

impl Housekeeping {
    pub(crate) fn new(state: AppState, leader: Leader) -> (Self, Reports) {
        let (reports, receiver) = watch::channel(None);
        let (shares, failing) = (Shares::default(), BTreeSet::new());
        (Self { state, leader, reports, shares, failing }, receiver)
    }

    /// Runs until `shutdown`. A turn that is under way then ends with the lead, which is given up at the same time.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(EVERY.mul_f64(rand::random_range(0.8..1.0))) => {}
            }
            self.turn().await;
        }
    }

    async fn turn(&mut self) {
        let Some(leadership) = self.leader.leadership() else {
            self.reports.send_replace(None);
            self.failing.clear();
            self.shares = Shares::default();
            return;
        };
        let prepared = self.prepare_partitions(leadership).await;
        self.note("partitions", prepared);
        let forgotten = self.forget_keys(leadership).await;
        self.note("expired dedupe keys", forgotten);
        let forgotten = self.state.store.forget_turns(FORGET_AT_ONCE).await;
        self.note("runs that have ended", forgotten.map(drop).map_err(Undone::from));
        let swept = retention::sweep(&self.state, &self.leader, &mut self.shares).await.map(|report| {
            report.log(self.reports.borrow().as_deref());
            self.reports.send_replace(Some(Arc::new(report)));
        });
        self.note("retention", swept.map_err(Undone::from));
    }

    async fn prepare_partitions(&self, leadership: Leadership) -> Result<(), Undone> {
        match self.state.store.prepare_partitions(leadership).await? {
            0 => Ok(()),
            missing => Err(Undone::Partitions(missing)),
        }
    }

    async fn forget_keys(&self, leadership: Leadership) -> Result<(), Undone> {
        let now = self.state.clock.now();
        while self.state.store.forget_expired_keys(leadership, now, FORGET_AT_ONCE).await?
            == u64::from(FORGET_AT_ONCE)
        {}
        Ok(())
    }

    /// Says a failure once, and its end.
    fn note(&mut self, what: &'static str, done: Result<(), Undone>) {
        match done {
            Ok(()) => {
                if self.failing.remove(what) {
                    tracing::info!(what, "housekeeping works again");
                }
            }
            // Another server has taken over.
            Err(Undone::Store(StoreError::NotLeader)) => {}
            Err(error) => {
                self.state.metrics.housekeeping_failures.inc();
                if self.failing.insert(what) {
                    tracing::warn!(what, error = chain(&error), "housekeeping failed; it is tried again");
                }
            }
        }
    }
}
