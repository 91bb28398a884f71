//! Tells other servers that tasks have changed, and hears it from them: `NOTIFY task_change`. A leader that resigns
//! is told of by `NOTIFY leader_change`, which is rare.
//!
//! A notification inside a writing transaction serialises all commits of the database, so it is sent after
//! the commit, on a connection of its own, and coalesced: the first at once, then one per [`GAP`] at most. It is
//! a hint. A lost one, or a lost connection, costs latency, because every listener also polls.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sqlx::{
    ConnectOptions, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::sleep,
};

const TASKS: &str = "task_change";
const LEADER: &str = "leader_change";

/// Between two notifications of one server.
const GAP: Duration = Duration::from_millis(5);

/// Before the next try at a connection that could not be had.
const RECONNECT: Duration = Duration::from_millis(500);

/// Both directions; dropping it ends them.
#[derive(Debug)]
pub(super) struct TaskChanges {
    heard: watch::Sender<u64>,
    resigned: watch::Sender<u64>,
    /// Holds one permit at most, which is what coalesces.
    told: Arc<Notify>,
    tasks: [AbortHandle; 2],
}

impl TaskChanges {
    pub(super) fn start(options: &PgConnectOptions) -> Self {
        let (heard, resigned) = (watch::Sender::new(0), watch::Sender::new(0));
        let told = Arc::new(Notify::new());
        let own = Arc::new(AtomicU32::new(0));
        let tell = tokio::spawn(tell(options.clone(), Arc::clone(&told), Arc::clone(&own)));
        let hear = tokio::spawn(hear(options.clone(), heard.clone(), resigned.clone(), own));
        Self { heard, resigned, told, tasks: [tell.abort_handle(), hear.abort_handle()] }
    }

    /// After a commit: wakes this server at once and the others soon.
    pub(super) fn tell(&self) {
        bump(&self.heard);
        self.told.notify_one();
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.heard.subscribe()
    }

    /// After the resignation is committed. Whoever is not told finds out when it asks.
    pub(super) async fn tell_of_resignation(&self, pool: &PgPool) {
        bump(&self.resigned);
        if let Err(error) = sqlx::query("select pg_notify('leader_change', '')").execute(pool).await {
            tracing::warn!(error = %error, "cannot tell other servers that the lead is free");
        }
    }

    pub(super) fn resignations(&self) -> watch::Receiver<u64> {
        self.resigned.subscribe()
    }

    pub(super) fn stop(&self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Drop for TaskChanges {
    fn drop(&mut self) {
        self.stop();
    }
}

fn bump(heard: &watch::Sender<u64>) {
    heard.send_modify(|count| *count = count.wrapping_add(1));
}

/// Sends until it is aborted. What could not be sent is sent on the next connection.
async fn tell(options: PgConnectOptions, told: Arc<Notify>, own: Arc<AtomicU32>) {
    let mut connection = None;
    loop {
        told.notified().await;
        while let Err(error) = send(&options, &mut connection, &own).await {
            tracing::warn!(error = %error, "cannot notify other servers; they will notice by polling");
            connection = None;
            sleep(RECONNECT).await;
        }
        sleep(GAP).await;
    }
}

async fn send(
    options: &PgConnectOptions,
    connection: &mut Option<PgConnection>,
    own: &AtomicU32,
) -> Result<(), sqlx::Error> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(open(options, own).await?),
    };
    sqlx::query("select pg_notify('task_change', '')").execute(connection).await?;
    Ok(())
}

async fn open(options: &PgConnectOptions, own: &AtomicU32) -> Result<PgConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    let process: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut connection).await?;
    own.store(process.unsigned_abs(), Ordering::Relaxed);
    Ok(connection)
}

/// Listens until it is aborted.
async fn hear(
    options: PgConnectOptions,
    heard: watch::Sender<u64>,
    resigned: watch::Sender<u64>,
    own: Arc<AtomicU32>,
) {
    // A listener wants a pool; this one has its single connection and nothing else.
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    loop {
        if let Err(error) = listen(&pool, &heard, &resigned, &own).await {
            tracing::warn!(error = %error, "cannot listen for other servers' notifications; polling goes on");
            sleep(RECONNECT).await;
        }
    }
}

/// One connection's life. It listens first and then says that something changed, because anything may have
/// while nobody listened; only after that are notifications enough.
async fn listen(
    pool: &PgPool,
    heard: &watch::Sender<u64>,
    resigned: &watch::Sender<u64>,
    own: &AtomicU32,
) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.eager_reconnect(false);
    listener.listen_all([TASKS, LEADER]).await?;
    bump(heard);
    bump(resigned);
    while let Some(notification) = listener.try_recv().await? {
        // Our own were counted when they were told.
        if notification.channel() == LEADER {
            bump(resigned);
        } else if notification.process_id() != own.load(Ordering::Relaxed) {
            bump(heard);
        }
    }
    Ok(())
}
