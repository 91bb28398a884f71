//! Drops what is older than it is kept, and then the oldest until the database is as small as it shall be. It goes in
//! small steps with pauses in between that are longer than the steps, so that nobody who wants to commit waits.

use std::time::{Duration, Instant};

use hetuflow_core::{id::Namespace, size};
use hetuflow_store::{Size, Stock, StoreError};
use jiff::Timestamp;
use tokio::time::sleep;

use super::{ages::Ages, shares::Shares};
use crate::{AppState, leader::Leader};

/// What one turn found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) size: Size,
    /// Partitions that are old enough to go but hold something that still runs.
    pub(crate) held: u64,
    /// The limit that the database is over, although everything that may go has gone.
    pub(crate) over: Option<u64>,
    /// What namespaces take, where one has a limit of its own and all has been weighed.
    pub(crate) shares: Vec<(Namespace, u64)>,
}

/// Free pages that one step gives back: 1 MiB.
const PAGES: u32 = 256;
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
/// To get below the size, history is cut off in so many slices at most.
const SLICES: i32 = 24;

/// What one step should take: nobody else commits meanwhile on SQLite. Rows may be large, and disks slow, so the number
/// of rows follows the time that the step before took.
const STEP: Duration = Duration::from_millis(10);
const FEWEST_ROWS: u32 = 10;
const MOST_ROWS: u32 = 500;

struct Sweep<'a> {
    state: &'a AppState,
    leader: &'a Leader,
    rows: u32,
    held: u64,
}

pub(super) async fn sweep(
    state: &AppState,
    leader: &Leader,
    shares: &mut Shares,
) -> Result<Report, StoreError> {
    let mut sweep = Sweep { state, leader, rows: 50, held: 0 };
    sweep.by_age().await?;
    shares.sweep(state, leader).await?;
    let over = sweep.by_size().await?;
    sweep.shrink().await?;
    Ok(Report { size: state.store.size().await?, held: sweep.held, over, shares: shares.weights() })
}

impl Report {
    /// Says what has changed since the turn before.
    pub(super) fn log(&self, before: Option<&Self>) {
        let held = before.map_or(0, |before| before.held);
        if self.held > held {
            tracing::info!(
                partitions = self.held,
                "old partitions stay: they hold tasks that have not ended"
            );
        }
        if let (Some(limit), None) = (self.over, before.and_then(|before| before.over)) {
            tracing::warn!(bytes = self.size.bytes, limit, "{}", self.problem().unwrap_or_default());
        }
    }

    /// What health says about it.
    pub(crate) fn problem(&self) -> Option<String> {
        let limit = self.over?;
        Some(format!(
            "the database takes {} MiB of at most {} ([retention] max_size), and nothing more can be dropped",
            self.size.bytes >> 20,
            size::format(limit)
        ))
    }
}

impl Sweep<'_> {
    async fn by_age(&mut self) -> Result<(), StoreError> {
        let ages = Ages::longest(&self.state.config.retention);
        let now = self.state.clock.now();
        for stock in [Stock::Output, Stock::Tasks, Stock::Events, Stock::Fires] {
            if let Some(before) = ages.before(stock, now) {
                while self.step(stock, before).await? {}
            }
        }
        Ok(())
    }

    /// Cuts off the oldest slice of history, and the next, until the size is right. Yields the limit when all of it
    /// was not enough.
    async fn by_size(&mut self) -> Result<Option<u64>, StoreError> {
        let limit = self.state.config.retention.max_size;
        let Size { bytes, oldest: Some(oldest) } = self.state.store.size().await? else { return Ok(None) };
        if limit == 0 || bytes <= limit {
            return Ok(None);
        }
        let now = self.state.clock.now();
        let slice = now.duration_since(oldest) / SLICES;
        for n in 1..=SLICES {
            let before = if n == SLICES { now } else { oldest + slice * n };
            for stock in [Stock::Output, Stock::Tasks, Stock::Events] {
                loop {
                    let more = self.step(stock, before).await?;
                    if self.state.store.size().await?.bytes <= limit {
                        tracing::info!(%before, limit, "dropped the oldest, because the database was too large");
                        return Ok(None);
                    }
                    if !more {
                        break;
                    }
                }
            }
        }
        Ok(Some(limit))
    }

    async fn shrink(&self) -> Result<(), StoreError> {
        loop {
            let leadership = self.leader.leadership().ok_or(StoreError::NotLeader)?;
            let begun = Instant::now();
            if !self.state.store.shrink(leadership, PAGES).await? {
                return Ok(());
            }
            pause(begun).await;
        }
    }

    /// Yields whether there may be more.
    async fn step(&mut self, stock: Stock, before: Timestamp) -> Result<bool, StoreError> {
        let leadership = self.leader.leadership().ok_or(StoreError::NotLeader)?;
        let begun = Instant::now();
        let dropped = self.state.store.drop_before(leadership, stock, before, self.rows).await?;
        self.rows = next_rows(self.rows, begun.elapsed());
        self.state.metrics.retention_rows.add(dropped.rows);
        self.state.metrics.retention_partitions.add(dropped.partitions);
        if dropped.more {
            pause(begun).await;
        } else {
            self.held += dropped.held;
        }
        Ok(dropped.more)
    }
}

pub(super) const fn next_rows(rows: u32, took: Duration) -> u32 {
    if took.as_millis() > STEP.as_millis() {
        return if rows / 2 > FEWEST_ROWS { rows / 2 } else { FEWEST_ROWS };
    }
    let more = rows + rows / 4 + 1;
    if took.as_millis() >= STEP.as_millis() / 2 {
        rows
    } else if more < MOST_ROWS {
        more
    } else {
        MOST_ROWS
    }
}

/// Two thirds of the time belong to everybody else.
pub(super) async fn pause(begun: Instant) {
    sleep((begun.elapsed() * 2).max(SHORTEST_PAUSE)).await;
}

#[cfg(test)]
mod tests {
    use hetuflow_store::{EventFilter, Page};

    use super::*;
    use crate::{
        config::RetentionSection, gateway::Timing, housekeeping::Housekeeping, leader::Election, world::World,
    };

    async fn leading(configure: impl FnOnce(&mut RetentionSection)) -> (World, Leader) {
        let world = World::with(Timing::default(), |config| configure(&mut config.retention)).await;
        let (election, leader) = Election::new();
        election.tick(&world.state).await.expect("an answer");
        (world, leader)
    }

    /// What takes as much room as it has bytes.
    fn noise(bytes: usize) -> Vec<u8> {
        let mut noise = vec![0; bytes];
        rand::Rng::fill(&mut rand::rng(), noise.as_mut_slice());
        noise
    }

    /// Events whose tasks have ended.
    async fn ended(world: &World, count: usize, body: &[u8]) {
        for _ in 0..count {
            let id = world.task(&[("role", "nobody")], body).await;
            world.state.store.cancel(id, world.now()).await.expect("cancelled");
        }
    }

    async fn events(world: &World) -> usize {
        world.state.store.events(&EventFilter::default(), Page::default()).await.expect("events").len()
    }

    #[test]
    fn a_step_takes_fewer_rows_after_a_long_one() {
        let check = |rows, millis, next| assert_eq!(next_rows(rows, Duration::from_millis(millis)), next);
        check(50, 0, 63);
        check(50, 7, 50);
        check(50, 11, 25);
        check(15, 500, FEWEST_ROWS);
        check(FEWEST_ROWS, 500, FEWEST_ROWS);
        check(MOST_ROWS, 0, MOST_ROWS);
    }

    #[tokio::test]
    async fn what_is_too_old_goes_and_what_waits_stays() {
        let day = Duration::from_hours(24);
        let (world, leader) = leading(|retention| retention.events = day).await;
        ended(&world, 2, b"").await;
        let waits = world.task(&[("role", "nobody")], b"").await;
        sweep(&world.state, &leader, &mut Shares::default()).await.expect("swept");
        assert_eq!(events(&world).await, 3);
        world.advance(25 * 3600);
        let report = sweep(&world.state, &leader, &mut Shares::default()).await.expect("swept");
        assert_eq!(events(&world).await, 1);
        let event = world.stored(waits).await.event_id;
        world.state.store.event(event).await.expect("its task waits");
        assert_eq!((report.held, report.over, report.problem()), (0, None, None));
        assert_eq!(world.state.metrics.retention_rows.get(), 2, "tasks are kept longer");
    }

    #[tokio::test]
    async fn the_oldest_go_until_the_size_is_right() {
        let limit = 1 << 20;
        let (world, leader) = leading(|retention| retention.max_size = limit).await;
        let body = noise(100_000);
        ended(&world, 6, &body).await;
        world.advance(3600);
        ended(&world, 6, &body).await;
        world.advance(60);
        assert!(world.state.store.size().await.expect("a size").bytes > limit);
        let report = sweep(&world.state, &leader, &mut Shares::default()).await.expect("swept");
        assert!(report.size.bytes <= limit, "{report:?}");
        assert_eq!(report.over, None);
        let left = events(&world).await;
        assert!((1..12).contains(&left), "{left} events are left");
        assert!(report.size.oldest.is_some());
    }

    #[tokio::test]
    async fn too_much_that_still_waits_is_said_and_stays() {
        let (world, leader) = leading(|retention| retention.max_size = 1 << 20).await;
        for _ in 0..4 {
            world.task(&[("role", "nobody")], &noise(400_000)).await;
        }
        world.advance(60);
        let report = sweep(&world.state, &leader, &mut Shares::default()).await.expect("swept");
        assert_eq!((report.over, events(&world).await), (Some(1 << 20), 4));
        let problem = report.problem().expect("a problem");
        assert!(problem.contains("of at most 1MiB"), "{problem}");
    }

    #[tokio::test]
    async fn a_server_that_does_not_lead_reports_nothing() {
        let (world, leader) = leading(|_| ()).await;
        let (mut housekeeping, reports) = Housekeeping::new(world.state.clone(), leader);
        housekeeping.turn().await;
        assert!(reports.borrow().is_some());
        housekeeping.leader = Election::new().1;
        housekeeping.turn().await;
        assert!(reports.borrow().is_none());
    }
}
