//! One commit of the ingest loop: places on agents for its tasks, the transaction, the answers, and the push of what
//! was leased.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use hetuflow_core::{
    id::{InstanceId, TaskId},
    labels::Lane,
    task::{Lease, NewTask},
};
use hetuflow_failpoint::failpoint;
use hetuflow_store::{Committed, Ingest, Ingested, Offer, StoreError};

use super::{IngestError, Waiter, chain};
use crate::{
    dispatch::{Briefing, Dispatcher, Leased, Unsent},
    hub::{Purpose, Reservation, SessionKey},
};

/// A transaction that takes longer is given up, so that one dead connection does not stop ingest for ever.
const COMMIT_WITHIN: Duration = Duration::from_secs(30);
/// Commits that run side by side, at most, where the database can do that: while one waits for the disk, the next
/// is computed. More would only make each smaller.
const AT_ONCE: usize = 2;

/// Events with who waits for each, in the same order.
#[derive(Debug, Default)]
pub(super) struct Batch {
    ingests: Vec<Ingest>,
    waiters: Vec<Waiter>,
}

impl Batch {
    pub(super) fn push(&mut self, ingest: Ingest, waiter: Waiter) {
        self.ingests.push(ingest);
        self.waiters.push(waiter);
    }

    pub(super) fn len(&self) -> usize {
        self.ingests.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ingests.is_empty()
    }

    fn split_off(&mut self, at: usize) -> Self {
        Self { ingests: self.ingests.split_off(at), waiters: self.waiters.split_off(at) }
    }

    fn refuse(self, reason: &str) {
        for waiter in self.waiters {
            let _ = waiter.answer.send(Err(IngestError::Store(reason.to_owned())));
        }
    }

    fn answer(self, answers: Vec<Ingested>) {
        for (waiter, answer) in self.waiters.into_iter().zip(answers) {
            // Whoever asked may be gone; the event is stored all the same.
            let _ = waiter.answer.send(Ok(answer));
        }
    }
}

/// Why a transaction failed.
enum Failure {
    /// The database is away.
    Away(String),
    /// It does not take one of the events.
    Refused(String),
}

impl Failure {
    fn reason(&self) -> &str {
        match self {
            Self::Away(reason) | Self::Refused(reason) => reason,
        }
    }
}

pub(super) struct Committer {
    dispatcher: Dispatcher,
}

impl Committer {
    pub(super) fn new(dispatcher: Dispatcher) -> Self {
        Self { dispatcher }
    }

    /// Commits that are worth running side by side.
    pub(super) fn at_once(&self) -> usize {
        self.dispatcher.store.writers().clamp(1, AT_ONCE)
    }

    /// One transaction for the whole batch. When the store refuses it for a reason that lies in one of
    /// its events, halves are tried, down to that event, so that one bad row never blocks another.
    pub(super) async fn commit(&self, batch: Batch) {
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            let mut places = Reservation::new(&self.dispatcher.hub);
            failpoint!("offer.before");
            let offers = self.offers(&part.ingests, &mut places);
            failpoint!("offer.after");
            match self.store(&part.ingests, &offers).await {
                Ok(Committed { answers, leased }) => {
                    // First what takes longer: to start a process.
                    let unsent = self.push(&part.ingests, &offers, &leased, &mut places);
                    self.keep(&part.ingests, &answers, &leased);
                    failpoint!("ingest.before_answers");
                    part.answer(answers);
                    failpoint!("ingest.after_answers");
                    self.settle(unsent).await;
                }
                Err(Failure::Away(reason)) => {
                    places.doubt();
                    // Halves would fare no better, and whoever waits shall hear it now.
                    parts.push(part);
                    parts.drain(..).for_each(|part| part.refuse(&reason));
                }
                Err(Failure::Refused(_)) if part.len() > 1 => {
                    let second = part.split_off(part.len() / 2);
                    parts.extend([second, part]);
                }
                Err(Failure::Refused(reason)) => part.refuse(&reason),
            }
        }
    }

    /// A place for every task that could run now, as far as agents of this server have room that nobody waits for.
    fn offers(&self, ingests: &[Ingest], places: &mut Reservation) -> Vec<Offer> {
        let now = self.dispatcher.clock.now();
        let mut lanes: BTreeMap<&Lane, Vec<&NewTask>> = BTreeMap::new();
        let tasks = ingests.iter().flat_map(|ingest| &ingest.tasks);
        for task in tasks.filter(|task| task.command.is_ok() && task.run_at <= now) {
            lanes.entry(&task.lane).or_default().push(task);
        }
        let mut offers = Vec::new();
        for (lane, mut tasks) in lanes {
            tasks.sort_by_key(|task| std::cmp::Reverse(task.priority));
            let slots = places.take(lane, tasks.len(), Purpose::New);
            offers.extend(tasks.into_iter().zip(slots).map(|(task, slot)| {
                let lease = Lease { task_id: task.id, instance_id: InstanceId::at(now), fence: 1 };
                Offer { lease, slot }
            }));
        }
        offers
    }

    #[tracing::instrument(name = "event.ingest", skip_all, fields(events = ingests.len()))]
    async fn store(&self, ingests: &[Ingest], offers: &[Offer]) -> Result<Committed, Failure> {
        let metrics = &self.dispatcher.metrics;
        metrics.ingest_commits.inc();
        let stored = self.dispatcher.store.ingest(ingests, offers);
        let failure = match tokio::time::timeout(COMMIT_WITHIN, stored).await {
            Ok(Ok(committed)) => {
                metrics.ingest_events.add(ingests.len() as u64);
                metrics.tasks_born_leased.add(committed.leased.len() as u64);
                return Ok(committed);
            }
            Ok(Err(error @ StoreError::Unavailable(_))) => Failure::Away(chain(&error)),
            Ok(Err(error)) => Failure::Refused(chain(&error)),
            Err(_) => Failure::Away(format!("no commit within {} s", COMMIT_WITHIN.as_secs())),
        };
        metrics.ingest_failures.inc();
        tracing::warn!(events = ingests.len(), reason = failure.reason(), "events could not be committed");
        Err(failure)
    }

    /// Sends what was leased, and yields what could not be sent.
    fn push(
        &self,
        ingests: &[Ingest],
        offers: &[Offer],
        leased: &[Lease],
        places: &mut Reservation,
    ) -> Vec<(SessionKey, Lease, Unsent)> {
        if leased.is_empty() {
            return Vec::new();
        }
        let slots: HashMap<TaskId, &Offer> =
            offers.iter().map(|offer| (offer.lease.task_id, offer)).collect();
        let planned: HashMap<TaskId, (&Ingest, &NewTask)> = ingests
            .iter()
            .flat_map(|ingest| ingest.tasks.iter().map(move |task| (task.id, (ingest, task))))
            .collect();
        let unsent = leased.iter().filter_map(|lease| {
            let (offer, (ingest, task)) = slots.get(&lease.task_id).zip(planned.get(&lease.task_id))?;
            let key = SessionKey { agent_id: offer.slot.agent_id.clone(), epoch: offer.slot.session_epoch };
            let command = task.command.as_ref().ok();
            let event = Briefing::of(&ingest.event);
            let leased = Leased { key, lease: *lease, attempt: 1, command, event: &event };
            let unsent = self.dispatcher.try_push(places, &leased).err()?;
            Some((leased.key, leased.lease, unsent))
        });
        unsent.collect()
    }

    /// Of what was stored, that of which tasks wait for room.
    fn keep(&self, ingests: &[Ingest], answers: &[Ingested], leased: &[Lease]) {
        if self.dispatcher.hub.is_empty() {
            return;
        }
        let leased: HashSet<TaskId> = leased.iter().map(|lease| lease.task_id).collect();
        let now = self.dispatcher.clock.now();
        for (ingest, _) in ingests.iter().zip(answers).filter(|(_, answer)| **answer == Ingested::Stored) {
            let waits =
                |task: &&NewTask| task.command.is_ok() && task.run_at <= now && !leased.contains(&task.id);
            let waiting = ingest.tasks.iter().filter(waits).count();
            if waiting > 0 {
                self.dispatcher.recent.keep(&ingest.event, waiting);
            }
        }
    }

    /// Gives back or ends what was not sent; a failure is the database's, which dispatch speaks of, and the agent's next
    /// hello settles the rest.
    async fn settle(&self, unsent: Vec<(SessionKey, Lease, Unsent)>) {
        for (key, lease, unsent) in unsent {
            if let Err(error) = self.dispatcher.settle(&key, lease, unsent).await {
                tracing::warn!(error = chain(&error), "an attempt that cannot be sent could not be ended");
                self.dispatcher.hub.close(&key);
            }
        }
    }
}
