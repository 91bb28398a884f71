//! One look at what waits after the other, and what is remembered between them: how far the claims of each lane have
//! come. Entries of claimed tasks stay in the index as long as some old snapshot of the database is in use; a look
//! that began at the beginning every time would walk over all of them (measured: 20 ms instead of 0.4 ms after
//! 100,000 tasks).

use std::{collections::HashMap, time::Duration};

use hetuflow_core::labels::Lane;
use hetuflow_store::{Claimed, LaneId, LowWater, StoreError, WaitingLane};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{Dispatcher, jittered};
use crate::{
    AppState,
    hub::{Backlog, Purpose, Reservation},
};

/// What one statement leases, at most.
const MAX_SLOTS: usize = 500;
/// Commits of other servers may be this late, and their clocks this far behind, before a task of theirs waits for the
/// next look from the beginning.
const OVERLAP: SignedDuration = SignedDuration::from_millis(250);
/// Between two looks from the beginning; more when they are slow, so that they take a twentieth of the time at most.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Lanes that are remembered.
const MAX_LANES: usize = 10_000;

pub(crate) struct Rounds {
    dispatcher: Dispatcher,
    reached: HashMap<LaneId, LowWater>,
    look_from_start: Instant,
    /// Lanes in which something due was left, as far as is known: room for it is filled without another look.
    open: Vec<WaitingLane>,
    /// When the next task becomes due that was not at the last look.
    due: Option<Timestamp>,
    turn: usize,
}

impl Rounds {
    pub(crate) fn new(state: &AppState) -> Self {
        Self {
            dispatcher: state.dispatcher.clone(),
            reached: HashMap::new(),
            look_from_start: Instant::now(),
            open: Vec::new(),
            due: None,
            turn: 0,
        }
    }

    /// Tasks may have changed: asks for the ends that were asked for, looks, and gives away all that can be. Yields
    /// when the next task becomes due.
    pub(crate) async fn tick(&mut self, state: &AppState) -> Result<Option<Timestamp>, StoreError> {
        if state.hub.is_empty() {
            return Ok(None);
        }
        pass_on_cancellations(state).await?;
        self.open.clear();
        self.fill(state).await
    }

    /// There may be more room: fills it.
    pub(super) async fn fill(&mut self, state: &AppState) -> Result<Option<Timestamp>, StoreError> {
        let mut taken = None;
        let filled = self.claim_all(state, &mut taken).await;
        let sent = send(&self.dispatcher, taken).await;
        filled.and_then(|due| sent.map(|()| due))
    }

    /// What was taken last is left in `taken`, to be sent; what was taken before is sent while the next is claimed.
    async fn claim_all(
        &mut self,
        state: &AppState,
        taken: &mut Option<Taken>,
    ) -> Result<Option<Timestamp>, StoreError> {
        loop {
            if !state.hub.has_room() {
                // The first room is for what waits, not for what comes next.
                state.hub.set_backlog(Backlog::Unknown);
                return Ok(None);
            }
            let from_start = state.hub.take_put_back() || Instant::now() >= self.look_from_start;
            if from_start || self.open.is_empty() {
                let dispatcher = self.dispatcher.clone();
                let (sent, looked) =
                    tokio::join!(send(&dispatcher, taken.take()), self.look(state, from_start));
                looked.and(sent)?;
            }
            let due = self.open.clone();
            if !self.serve(state, &due, taken).await? {
                state.hub.set_backlog(Backlog::Lanes(distinct(&due)));
                return Ok(self.due);
            }
        }
    }

    async fn look(&mut self, state: &AppState, from_start: bool) -> Result<(), StoreError> {
        let (began, now) = (Instant::now(), state.clock.now());
        if from_start || self.reached.len() > MAX_LANES {
            self.reached.clear();
        }
        let reached: Vec<(LaneId, LowWater)> = self.reached.iter().map(|(id, from)| (*id, *from)).collect();
        let lanes = state.store.waiting_lanes(&reached).await?;
        if from_start {
            self.look_from_start = Instant::now() + jittered(LOOK_AGAIN).max(began.elapsed() * 20);
        }
        self.due = lanes.iter().map(|lane| lane.next_at).filter(|next| *next > now).min();
        self.open = lanes.into_iter().filter(|lane| lane.next_at <= now).collect();
        Ok(())
    }

    /// Gives tasks of the lanes away, those of the highest priority first; lanes of equal priority come first in turn.
    /// Whether there is something new to see.
    async fn serve(
        &mut self,
        state: &AppState,
        lanes: &[WaitingLane],
        taken: &mut Option<Taken>,
    ) -> Result<bool, StoreError> {
        self.turn = self.turn.wrapping_add(1);
        let first = self.turn % lanes.len().max(1);
        let mut lanes: Vec<&WaitingLane> = lanes.iter().collect();
        lanes.rotate_left(first);
        lanes.sort_by_key(|lane| std::cmp::Reverse(lane.priority));
        let mut claimed = 0;
        for lane in lanes {
            let dispatcher = self.dispatcher.clone();
            let (sent, next) = tokio::join!(send(&dispatcher, taken.take()), self.claim(state, lane));
            *taken = next?;
            claimed += taken.as_ref().map_or(0, |taken| taken.claimed.len());
            sent?;
        }
        Ok(claimed > 0)
    }

    /// One claim of the lane, as far as there is room for it.
    async fn claim(&mut self, state: &AppState, lane: &WaitingLane) -> Result<Option<Taken>, StoreError> {
        let mut reservation = Reservation::new(&state.hub);
        let slots = reservation.take(&lane.lane, MAX_SLOTS, Purpose::Waiting);
        if slots.is_empty() {
            return Ok(None);
        }
        let from = self.reached.get(&lane.id).copied().unwrap_or(LowWater::START);
        let claimed = match state.store.claim(lane.id, from, &slots, state.clock.now()).await {
            Ok(claimed) => claimed,
            Err(error) => {
                reservation.doubt();
                return Err(error);
            }
        };
        if let Some(last) = claimed.last() {
            let reached = last.task.run_at.checked_sub(OVERLAP).unwrap_or(Timestamp::UNIX_EPOCH);
            self.reached.insert(lane.id, LowWater::at(reached.max(Timestamp::UNIX_EPOCH)));
        }
        if claimed.len() < slots.len() {
            self.open.retain(|open| open.id != lane.id);
        }
        Ok(Some(Taken { reservation, claimed }))
    }
}

/// What a claim took, in the places that were set aside for it.
struct Taken {
    reservation: Reservation,
    claimed: Vec<Claimed>,
}

async fn send(dispatcher: &Dispatcher, taken: Option<Taken>) -> Result<(), StoreError> {
    let Some(Taken { mut reservation, claimed }) = taken else { return Ok(()) };
    dispatcher.push_all(&mut reservation, claimed).await
}

async fn pass_on_cancellations(state: &AppState) -> Result<(), StoreError> {
    for (agent_id, lease) in state.store.cancel_requests().await? {
        // Agents of other servers hear it there.
        state.hub.cancel(&agent_id, lease);
    }
    Ok(())
}

/// Lanes that differ in their priority only want the same agents.
fn distinct(lanes: &[WaitingLane]) -> Vec<Lane> {
    let mut distinct: Vec<Lane> = lanes.iter().map(|lane| lane.lane.clone()).collect();
    distinct.sort_unstable();
    distinct.dedup();
    distinct
}
