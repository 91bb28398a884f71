//! What single namespaces keep for another time than the rest, or up to a size of their own. No index knows namespaces,
//! so the leader walks through what there is, the oldest first, remembers how far it came, and looks at each row once
//! a day; nothing of that is stored. `housekeeping/retention.rs` calls this after whole partitions have gone.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use hetuflow_core::id::Namespace;
use hetuflow_store::{Piece, Stock, StoreError, Weight, Whose};
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    ages::Ages,
    retention::{next_rows, pause},
};
use crate::{AppState, config::RetentionSection, leader::Leader};

/// In the order in which they are dropped.
const STOCKS: [Stock; 3] = [Stock::Output, Stock::Tasks, Stock::Events];
/// Pieces of one turn; the next turn goes on where they end.
const PIECES: u32 = 300;
/// What was passed over because it had not ended is looked at again, and all is weighed anew.
const AGAIN: Duration = Duration::from_hours(24);
const HOUR: Duration = Duration::from_hours(1);
/// A commit may take as long until it shows.
const LATE: Duration = Duration::from_mins(1);

/// How far it came, and what it found.
#[derive(Debug, Default)]
pub(super) struct Shares {
    began_at: Option<Timestamp>,
    /// Where each walk goes on.
    trimmed: HashMap<(Stock, Whose), Uuid>,
    weighed: HashMap<Stock, Uuid>,
    /// All has been weighed once.
    is_whole: bool,
    bytes: BTreeMap<Namespace, BTreeMap<(Timestamp, Stock), u64>>,
    /// What a namespace made before goes, because it has too much.
    cuts: HashMap<Namespace, Timestamp>,
}

/// What is left of a turn.
struct Turn<'a> {
    state: &'a AppState,
    leader: &'a Leader,
    pieces: u32,
    rows: u32,
}

impl Shares {
    pub(super) async fn sweep(&mut self, state: &AppState, leader: &Leader) -> Result<(), StoreError> {
        let section = &state.config.retention;
        if section.namespaces.is_empty() {
            return Ok(());
        }
        let now = state.clock.now();
        if self.began_at.is_none_or(|began_at| now.duration_since(began_at).unsigned_abs() > AGAIN) {
            *self = Self { began_at: Some(now), ..Self::default() };
        }
        let mut turn = Turn { state, leader, pieces: PIECES, rows: 50 };
        if section.namespaces.values().any(|own| own.max_size > 0) {
            self.weigh(&mut turn, now).await?;
            self.cut(section, now);
        }
        for (whose, ages) in Ages::by_share(section) {
            self.trim(&mut turn, &whose, ages, now).await?;
        }
        Ok(())
    }

    /// What each namespace takes, once all has been weighed.
    pub(super) fn weights(&self) -> Vec<(Namespace, u64)> {
        if !self.is_whole {
            return Vec::new();
        }
        self.bytes.iter().map(|(namespace, hours)| (namespace.clone(), hours.values().sum())).collect()
    }

    async fn weigh(&mut self, turn: &mut Turn<'_>, now: Timestamp) -> Result<(), StoreError> {
        let Ok(before) = now.checked_sub(LATE) else { return Ok(()) };
        for stock in STOCKS {
            let mut from = self.weighed.get(&stock).copied().unwrap_or_default();
            loop {
                let Some(limit) = turn.take_piece() else { return Ok(()) };
                let begun = Instant::now();
                let weighed = turn.state.store.weigh(stock, Piece { from, before, limit }).await?;
                turn.rows = next_rows(turn.rows, begun.elapsed());
                weighed.weights.into_iter().for_each(|weight| self.add(stock, weight));
                from = weighed.next;
                self.weighed.insert(stock, from);
                if !weighed.more {
                    break;
                }
                pause(begun).await;
            }
        }
        self.is_whole = true;
        Ok(())
    }

    fn add(&mut self, stock: Stock, weight: Weight) {
        let hours = self.bytes.entry(weight.namespace).or_default();
        *hours.entry((weight.hour, stock)).or_default() += weight.bytes;
    }

    /// Cuts the oldest hours of a namespace that has too much.
    fn cut(&mut self, section: &RetentionSection, now: Timestamp) {
        if !self.is_whole {
            return;
        }
        for (namespace, own) in &section.namespaces {
            let Some(hours) = self.bytes.get_mut(namespace) else { continue };
            let mut bytes: u64 = hours.values().sum();
            while own.max_size > 0
                && bytes > own.max_size
                && let Some(((hour, _), gone)) = hours.pop_first()
            {
                bytes -= gone;
                let end = hour.checked_add(HOUR).unwrap_or(now).min(now);
                let cut = self.cuts.entry(namespace.clone()).or_insert(end);
                *cut = end.max(*cut);
                tracing::info!(%namespace, before = %cut, limit = own.max_size, "a namespace has too much: its oldest goes");
            }
        }
    }

    async fn trim(
        &mut self,
        turn: &mut Turn<'_>,
        whose: &Whose,
        ages: Ages,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let longest = Ages::longest(&turn.state.config.retention);
        let cut = match whose {
            Whose::These(names) => names.first().and_then(|name| self.cuts.get(name)).copied(),
            Whose::AllBut(_) => None,
        };
        for stock in STOCKS {
            let Some(before) = ages.before(stock, now).max(cut) else { continue };
            if longest.before(stock, now).is_some_and(|gone| gone >= before) {
                continue;
            }
            self.forget(stock, whose, before);
            if !self.trim_stock(turn, stock, whose, before).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// False: the turn is over.
    async fn trim_stock(
        &mut self,
        turn: &mut Turn<'_>,
        stock: Stock,
        whose: &Whose,
        before: Timestamp,
    ) -> Result<bool, StoreError> {
        let place = self.trimmed.entry((stock, whose.clone())).or_default();
        loop {
            let Some(limit) = turn.take_piece() else { return Ok(false) };
            let leadership = turn.leader.leadership().ok_or(StoreError::NotLeader)?;
            let begun = Instant::now();
            let piece = Piece { from: *place, before, limit };
            let trimmed = turn.state.store.trim(leadership, stock, whose, piece).await?;
            turn.rows = next_rows(turn.rows, begun.elapsed());
            turn.state.metrics.retention_rows.add(trimmed.rows);
            *place = trimmed.next;
            if !trimmed.more {
                return Ok(true);
            }
            pause(begun).await;
        }
    }

    /// What goes by its age weighs nothing any more.
    fn forget(&mut self, stock: Stock, whose: &Whose, before: Timestamp) {
        let (names, these) = match whose {
            Whose::These(names) => (names, true),
            Whose::AllBut(names) => (names, false),
        };
        let of_whose = self.bytes.iter_mut().filter(|(namespace, _)| names.contains(namespace) == these);
        for (_, hours) in of_whose {
            hours
                .retain(|(hour, of), _| *of != stock || hour.checked_add(HOUR).is_ok_and(|end| end > before));
        }
    }
}

impl Turn<'_> {
    /// The rows of the next piece.
    fn take_piece(&mut self) -> Option<u32> {
        self.pieces = self.pieces.checked_sub(1)?;
        Some(self.rows)
    }
}

#[cfg(test)]
mod tests {
    use hetuflow_store::{EventFilter, Ingest, Page};

    use super::*;
    use crate::{config::NamespaceRetention, gateway::Timing, leader::Election, world};

    const DAY: Duration = Duration::from_hours(24);

    async fn leading(own: NamespaceRetention) -> (world::World, Leader) {
        let name = Namespace::new("builds").expect("a name");
        let configure = |config: &mut crate::Config| {
            config.retention.namespaces.insert(name, own);
        };
        let world = world::World::with(Timing::default(), configure).await;
        let (election, leader) = Election::new();
        election.tick(&world.state).await.expect("an answer");
        (world, leader)
    }

    /// An event that started nothing, with a body that cannot be packed.
    async fn event(world: &world::World, namespace: &str, bytes: usize) {
        let mut body = vec![0; bytes];
        rand::Rng::fill(&mut rand::rng(), body.as_mut_slice());
        let mut event = world::event(world.now(), &body);
        event.namespace = Namespace::new(namespace).expect("a name");
        let ingest = Ingest { event, dedupe: None, tasks: Vec::new() };
        world.state.ingester.submit(ingest).await.expect("stored");
    }

    async fn left(world: &world::World, namespace: &str) -> usize {
        let namespace = Namespace::new(namespace).ok();
        let filter = EventFilter { namespace, ..EventFilter::default() };
        world.state.store.events(&filter, Page::default()).await.expect("events").len()
    }

    #[tokio::test]
    async fn a_namespace_keeps_its_own_for_its_own_time() {
        let (world, leader) = leading(NamespaceRetention { events: Some(DAY), ..Default::default() }).await;
        let mut shares = Shares::default();
        for namespace in ["builds", "default"] {
            event(&world, namespace, 10).await;
        }
        world.advance(23 * 3600);
        event(&world, "builds", 10).await;
        shares.sweep(&world.state, &leader).await.expect("swept");
        assert_eq!((left(&world, "builds").await, left(&world, "default").await), (2, 1));
        world.advance(2 * 3600);
        shares.sweep(&world.state, &leader).await.expect("swept");
        assert_eq!((left(&world, "builds").await, left(&world, "default").await), (1, 1));
        assert_eq!(world.state.metrics.retention_rows.get(), 1);
    }

    #[tokio::test]
    async fn a_namespace_that_keeps_longer_outlives_the_rest() {
        let (world, leader) =
            leading(NamespaceRetention { events: Some(90 * DAY), ..Default::default() }).await;
        for namespace in ["builds", "default"] {
            event(&world, namespace, 10).await;
        }
        world.advance(31 * 24 * 3600);
        let report = super::super::retention::sweep(&world.state, &leader, &mut Shares::default()).await;
        assert_eq!(report.expect("swept").shares, [], "nobody has a size of their own");
        assert_eq!((left(&world, "builds").await, left(&world, "default").await), (1, 0));
    }

    #[tokio::test]
    async fn the_oldest_of_a_namespace_goes_until_its_size_is_right() {
        let own = NamespaceRetention { max_size: 100_000, ..Default::default() };
        let (world, leader) = leading(own).await;
        let mut shares = Shares::default();
        event(&world, "default", 200_000).await;
        for _ in 0..4 {
            event(&world, "builds", 40_000).await;
            world.advance(3600);
        }
        shares.sweep(&world.state, &leader).await.expect("swept");
        assert_eq!((left(&world, "builds").await, left(&world, "default").await), (2, 1));
        let weights = shares.weights();
        assert_eq!(weights.len(), 2, "{weights:?}");
        assert!(
            weights.iter().any(|(name, bytes)| name.as_str() == "builds" && (80_000..90_000).contains(bytes))
        );
        // What comes later is weighed too, without looking at the rest again.
        for _ in 0..2 {
            event(&world, "builds", 40_000).await;
            world.advance(3600);
        }
        shares.sweep(&world.state, &leader).await.expect("swept");
        assert_eq!(left(&world, "builds").await, 2);
        // And so it is when all is weighed anew.
        world.advance(25 * 3600);
        shares.sweep(&world.state, &leader).await.expect("swept");
        assert_eq!(left(&world, "builds").await, 2);
        assert!(shares.weights().iter().any(|(_, bytes)| (80_000..90_000).contains(bytes)));
    }
}
