//! The load: signed deliveries over many kept connections and files moved into the watched folder, at a bounded pace.
//! Every try is written down with what its sender knows afterwards. A delivery without an answer comes again with
//! the same id until it has one, as senders do; some come again although they have one.

mod files;
mod send;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
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
    history::{Answer, Log, Operation, now},
    jobs::hook_of,
    random::Random,
    world::World,
};

use send::Sender;
pub(crate) use send::signature;

/// Deliveries that may be on their way at once; each keeps its connection.
const SENDERS: u64 = 16;

/// Tasks that have not ended, at most: a run measures faults, not overload.
const BACKLOG: usize = 150;

/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(300);

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
    /// The tasks that had not ended when it was last asked.
    backlog: AtomicUsize,
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
            backlog: AtomicUsize::new(0),
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
        senders.spawn(files::run(Arc::clone(&shared), drops, pause, stop.clone()));
        senders.spawn(watch_backlog(shared, stop.clone()));
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
        if shared.is_behind() {
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

impl Shared {
    fn is_behind(&self) -> bool {
        self.backlog.load(Ordering::Relaxed) > BACKLOG
    }
}

async fn watch_backlog(shared: Arc<Shared>, stop: CancellationToken) -> anyhow::Result<()> {
    while !stop.is_cancelled() {
        // While no server answers, the last number holds.
        if let Ok(api) = shared.world.api()
            && let Ok(unsettled) = api.count_unsettled().await
        {
            shared.backlog.store(unsettled, Ordering::Relaxed);
        }
        sleep(LOOK).await;
    }
    Ok(())
}
