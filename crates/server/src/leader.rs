//! Holds the lead of the database for this server while it can. Whoever has it looks after the whole database: the
//! reaper ([`crate::gateway`]) and `housekeeping` ask [`Leader::leadership`] and show it to the store.
//! Nothing that events or tasks wait for needs it.
//!
//! `run` starts the loop. What is believed here is only a saving: the store judges every leader's statement anew.

use std::time::Duration;

use hetuflow_failpoint::failpoint;
use hetuflow_store::{Leadership, StoreError};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{AppState, ingest::chain};

/// How long the lead is taken for, by the database's clock.
const TTL: Duration = Duration::from_secs(12);
/// Three chances before it runs out.
const RENEW_EVERY: Duration = Duration::from_secs(4);
/// Less than that, whatever clocks and answers take.
const TRUST: Duration = Duration::from_secs(10);

/// What a loop knows about the lead. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Leader(watch::Receiver<Option<Term>>);

#[derive(Debug, Clone, Copy)]
struct Term {
    leadership: Leadership,
    trusted_until: Instant,
}

/// The loop's own end.
#[derive(Debug)]
pub(crate) struct Election {
    terms: watch::Sender<Option<Term>>,
    /// How long an answer is believed, by our own monotonic clock, from before the question.
    trust: Duration,
}

/// All that can wake this loop.
enum Wake {
    Renew,
    Shutdown,
}

impl Leader {
    /// The right to act for the whole database, as far as this server knows.
    pub(crate) fn leadership(&self) -> Option<Leadership> {
        let term = (*self.0.borrow())?;
        (Instant::now() < term.trusted_until).then_some(term.leadership)
    }

    #[cfg(test)]
    /// Wakes when this server has taken, renewed or lost the lead.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // The loop is gone, and so will be whoever waits here.
            std::future::pending::<()>().await;
        }
    }
}

impl Election {
    pub(crate) fn new() -> (Self, Leader) {
        let (terms, receiver) = watch::channel(None);
        (Self { terms, trust: TRUST }, Leader(receiver))
    }

    /// Runs until `shutdown`, then resigns, so that another server takes over at once.
    pub(crate) async fn run(self, state: AppState, shutdown: CancellationToken) {
        let mut resignations = state.store.resignations();
        loop {
            resignations.mark_unchanged();
            self.turn(&state).await;
            let wake = tokio::select! {
                () = shutdown.cancelled() => Wake::Shutdown,
                Ok(()) = resignations.changed(), if !self.leads() => Wake::Renew,
                () = sleep(RENEW_EVERY.mul_f64(rand::random_range(0.8..1.0))) => Wake::Renew,
            };
            if let Wake::Shutdown = wake {
                return self.resign(&state).await;
            }
        }
    }

    fn leads(&self) -> bool {
        self.terms.borrow().is_some()
    }

    async fn turn(&self, state: &AppState) {
        match timeout(TRUST, self.tick(state)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.doubt(&chain(&error)),
            Err(_) => self.doubt("the database does not answer"),
        }
    }

    /// Asks once.
    pub(crate) async fn tick(&self, state: &AppState) -> Result<(), StoreError> {
        let trusted_until = Instant::now() + self.trust;
        failpoint!("lead.before");
        let epoch = state.store.lead(state.server_id, TTL).await?;
        failpoint!("lead.after");
        let held = self.terms.borrow().map(|term| term.leadership.epoch);
        if epoch != held {
            if let Some(epoch) = epoch {
                tracing::info!(epoch, "this server leads");
            } else {
                tracing::info!("another server leads");
            }
        }
        let leadership = |epoch| Leadership { holder: state.server_id, epoch };
        self.terms.send_replace(epoch.map(|epoch| Term { leadership: leadership(epoch), trusted_until }));
        Ok(())
    }

    /// What was believed holds until it runs out; said once.
    fn doubt(&self, error: &str) {
        let expired = |term: &mut Option<Term>| {
            let over = term.is_some_and(|term| Instant::now() >= term.trusted_until);
            if over {
                *term = None;
            }
            over
        };
        if self.terms.send_if_modified(expired) {
            tracing::warn!(error, "the lead could not be renewed; this server gives it up");
        } else {
            tracing::debug!(error, "nobody could be asked who leads");
        }
    }

    async fn resign(&self, state: &AppState) {
        let Some(term) = self.terms.send_replace(None) else { return };
        if let Ok(Err(error)) = timeout(RENEW_EVERY, state.store.resign(term.leadership)).await {
            tracing::warn!(error = chain(&error), "the lead could not be given up; it runs out by itself");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    fn started(world: &World) -> (Leader, CancellationToken, tokio::task::JoinHandle<()>) {
        let (election, leader) = Election::new();
        let stop = CancellationToken::new();
        let running = tokio::spawn(election.run(world.state.clone(), stop.clone()));
        (leader, stop, running)
    }

    async fn until_it_leads(leader: &mut Leader) -> Leadership {
        let wait = async {
            loop {
                if let Some(leadership) = leader.leadership() {
                    return leadership;
                }
                leader.changed().await;
            }
        };
        timeout(Duration::from_secs(20), wait).await.expect("it leads at last")
    }

    #[tokio::test]
    async fn a_single_server_leads_at_once_and_resigns_at_its_stop() {
        let world = World::start().await;
        let (mut leader, stop, running) = started(&world);
        let leadership = until_it_leads(&mut leader).await;
        assert_eq!(leadership, Leadership { holder: world.state.server_id, epoch: 1 });
        assert_eq!(world.state.store.leader().await.expect("an answer"), Some(leadership));
        stop.cancel();
        running.await.expect("it ends");
        assert_eq!(leader.leadership(), None);
        assert_eq!(world.state.store.leader().await.expect("an answer"), None);
    }

    /// Much sooner than its next look.
    #[tokio::test]
    async fn another_server_takes_over_when_the_leader_resigns() {
        let world = World::start().await;
        let (mut first, stop, _running) = started(&world);
        until_it_leads(&mut first).await;
        let mut other = world.state.clone();
        other.server_id = hetuflow_core::id::ServerId::at(world.now());
        let (election, mut second) = Election::new();
        tokio::spawn(election.run(other.clone(), CancellationToken::new()));
        second.changed().await;
        assert_eq!(second.leadership(), None, "somebody leads");
        stop.cancel();
        let leadership = timeout(RENEW_EVERY / 2, until_it_leads(&mut second)).await.expect("at once");
        assert_eq!(leadership, Leadership { holder: other.server_id, epoch: 2 });
    }

    #[tokio::test]
    async fn what_is_not_renewed_is_not_believed() {
        let world = World::start().await;
        let (mut election, leader) = Election::new();
        election.tick(&world.state).await.expect("an answer");
        assert!(leader.leadership().is_some());
        election.doubt("the database is away");
        assert!(leader.leadership().is_some(), "its time has not run out");
        election.trust = Duration::ZERO;
        election.tick(&world.state).await.expect("an answer");
        assert_eq!(leader.leadership(), None);
        election.doubt("the database is away");
        assert!(!election.leads());
    }
}
