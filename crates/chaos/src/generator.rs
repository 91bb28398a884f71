//! The load: signed deliveries over many kept connections and files moved into the watched folder, at a bounded pace.
//! Every try is written down with what its sender knows afterwards. A delivery without an answer comes again with
//! the same id until it has one, as senders do; some come again although they have one.

mod files;
mod send;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    check::{DROPS, OPERATIONS},
    effect::EFFECTS,
    history::{Answer, Log, Operation, now},
    jobs::hook_of,
    random::Random,
    world::World,
};

use send::Sender;

/// Deliveries that may be on their way at once; each keeps its connection.
const SENDERS: u64 = 16;

/// Deliveries that were acknowledged and have not begun to run, at most: a run measures faults, not overload.
const BACKLOG: u64 = 150;

/// Between two tries of one delivery: short, because servers come back soon here.
const AGAIN: Duration = Duration::from_millis(150);

/// How long the last deliveries may take once everything is well again.
const LAST_ANSWERS: Duration = Duration::from_mins(2);

pub(crate) struct Generator {
    /// Nothing new from here on; what has no answer still comes again.
    stop: CancellationToken,
    senders: JoinSet<anyhow::Result<()>>,
}

/// What the senders share.
struct Shared {
    world: Arc<World>,
    operations: Mutex<Log>,
    next: AtomicU64,
    acknowledged: AtomicU64,
    pause: Duration,
    seed: u64,
}

impl Generator {
    pub(crate) fn start(world: &Arc<World>, rate: u32, seed: u64) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            world: Arc::clone(world),
            operations: Mutex::new(Log::open(&world.folder.join(OPERATIONS))?),
            next: AtomicU64::new(1),
            acknowledged: AtomicU64::new(0),
            pause: Duration::from_secs(SENDERS) / rate.max(1),
            seed,
        });
        let mut senders = JoinSet::new();
        for sender in 0..SENDERS {
            senders.spawn(run(Arc::clone(&shared), sender, stop.clone()));
        }
        let drops = Log::open(&world.folder.join(DROPS))?;
        // One file for ten deliveries.
        let pause = Duration::from_secs(10) / rate.max(1);
        senders.spawn(files::run(world.folder.clone(), drops, pause, stop.clone()));
        Ok(Self { stop, senders })
    }

    /// No new deliveries; returns when each has its answer.
    pub(crate) async fn finish(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.senders.join_next().await {
            ended??;
        }
        Ok(())
    }
}

async fn run(shared: Arc<Shared>, sender: u64, stop: CancellationToken) -> anyhow::Result<()> {
    let mut random = Random::new(shared.seed, &format!("sender {sender}"));
    let connection = Sender::new()?;
    let mut pace = interval(shared.pause.max(Duration::from_millis(1)));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = pace.tick() => {}
        }
        if shared.acknowledged.load(Ordering::Relaxed) > begun(&shared.world.folder) + BACKLOG {
            continue;
        }
        let n = shared.next.fetch_add(1, Ordering::Relaxed);
        deliver(&shared, &connection, n, &mut random, &stop).await?;
    }
}

/// Until there is an answer.
async fn deliver(
    shared: &Shared,
    connection: &Sender,
    n: u64,
    random: &mut Random,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    // A sender that was given one answer too few, and one that asks on two connections at once.
    let (again, twice) = (random.one_in(20), random.one_in(20));
    let mut patience = None;
    loop {
        let first = attempt(shared, connection, n, random.next());
        let answered = if twice {
            let second = attempt(shared, connection, n, random.next());
            let (first, second) = tokio::join!(first, second);
            first? | second?
        } else {
            first.await?
        };
        if answered {
            break;
        }
        sleep(AGAIN).await;
        if stop.is_cancelled() && patience.get_or_insert_with(Instant::now).elapsed() > LAST_ANSWERS {
            anyhow::bail!("delivery {n} gets no answer though everything is up");
        }
    }
    shared.acknowledged.fetch_add(1, Ordering::Relaxed);
    if again {
        attempt(shared, connection, n, random.next()).await?;
    }
    Ok(())
}

/// One try at a server that is up; true when it was answered.
async fn attempt(shared: &Shared, connection: &Sender, n: u64, turn: u64) -> anyhow::Result<bool> {
    let places: Vec<_> = shared.world.places.borrow().iter().flatten().copied().collect();
    let Ok(turn) = usize::try_from(turn >> 1) else { return Ok(false) };
    let Some(place) = (!places.is_empty()).then(|| places[turn % places.len()]) else { return Ok(false) };
    let at = now();
    let answer = connection.send(place.hooks, n).await;
    let answered = matches!(answer, Answer::Ok { .. });
    let operation = Operation { n, hook: hook_of(n).to_owned(), at, answer };
    shared.operations.lock().await.write(&operation)?;
    Ok(answered)
}

/// About how many have begun, by the size of what they wrote: two lines of some 300 bytes each.
fn begun(folder: &Path) -> u64 {
    std::fs::metadata(folder.join(EFFECTS)).map_or(0, |file| file.len() / 700)
}
