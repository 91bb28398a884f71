//! The store's own claim, as dispatch calls it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use async_trait::async_trait;
use hetuflow_core::{
    Clock,
    id::{AgentId, JournalId, ServerId},
    labels::Labels,
    protocol::{self, Hello},
    task::{Lease, Outcome},
};
use hetuflow_store::{Finish, Ingest, LaneId, LowWater, Options, Slot, Store};
use jiff::SignedDuration;

use super::Queue;
use crate::{life::Life, payload};

/// Longer than any run.
const LEASE: Duration = Duration::from_hours(24);

/// As far as dispatch steps back from where the last claim ended.
const OVERLAP: SignedDuration = SignedDuration::from_millis(250);

pub(super) struct Ours {
    store: Arc<dyn Store>,
    clock: Clock,
    life: Life,
    slot: Slot,
    reached: LowWater,
    lane: Option<LaneId>,
    taken: Vec<Lease>,
}

impl Ours {
    pub(super) async fn open(url: &str) -> anyhow::Result<Self> {
        let store = hetuflow_store::open(&Options { url: url.to_owned(), pool_size: 2 }).await?;
        let clock = Clock::system();
        let agent_id = AgentId::new("bench")?;
        let hello = Hello {
            protocol: protocol::VERSION,
            agent_id: agent_id.clone(),
            journal_id: JournalId::at(clock.now()),
            journal_epoch: 1,
            hostname: "bench.example".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            labels: Labels::new(),
            slots: super::BATCH,
            held: Vec::new(),
        };
        let server_id = ServerId::at(clock.now());
        let session = store.open_session((&hello).into(), server_id, LEASE, clock.now(), 0.5).await?;
        let slot = Slot { agent_id, session_epoch: session.epoch };
        let life = Life::new(clock.clone());
        Ok(Self { store, clock, life, slot, lane: None, reached: LowWater::START, taken: Vec::new() })
    }
}

#[async_trait]
impl Queue for Ours {
    async fn add(&mut self, count: u32) -> anyhow::Result<()> {
        let body = payload::body(0);
        let batch: Vec<Ingest> = (0..count).map(|_| self.life.ingest(body.clone().into())).collect();
        self.store.ingest(&batch, &[]).await?;
        Ok(())
    }

    async fn claim(&mut self, count: u32) -> anyhow::Result<usize> {
        let lane = if let Some(lane) = self.lane {
            lane
        } else {
            let lanes = self.store.waiting_lanes(&[]).await?;
            *self.lane.insert(lanes.first().context("no lane waits")?.id)
        };
        let slots = vec![self.slot.clone(); count as usize];
        let claimed = self.store.claim(lane, self.reached, &slots, self.clock.now()).await?;
        if let Some(last) = claimed.last() {
            // As dispatch does, which also looks from the beginning now and then.
            self.reached = LowWater::at(last.task.run_at - OVERLAP);
        }
        self.taken = claimed.iter().map(|claimed| claimed.lease).collect();
        Ok(self.taken.len())
    }

    async fn end(&mut self) -> anyhow::Result<()> {
        let now = self.clock.now();
        let ends: Vec<Finish> = self
            .taken
            .drain(..)
            .map(|lease| Finish {
                lease,
                outcome: Outcome::exit(0),
                started_at: Some(now),
                finished_at: now,
                output_dropped: 0,
            })
            .collect();
        let reports = self.store.finish(&ends, now, 0.5).await?;
        ensure!(reports.len() == ends.len(), "every end is answered");
        Ok(())
    }
}
