//! The start of one process, prepared while the journal writes its assignment: on a thread that blocks, up to the moment
//! when it may start. That thread may hang, where a directory or a file is on a file system that does not answer; then
//! the start is given up, and the thread left behind. Either it starts the process or the start is given up, never both.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hetuflow_core::protocol::Assignment;
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

use super::Runner;
use crate::{
    process::{Leaf, Running, SpawnError},
    workplace::Workplace,
};

/// Threads that hang, at most. Beyond that an attempt that cannot start keeps its place.
pub(crate) const MOST_HANGING: usize = 32;

/// For so long a thread that is not to start anything may take to notice.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Start {
    pub(super) assignment: Arc<Assignment>,
    pub(super) place: Workplace,
    /// Dropped: it must not start.
    go: Option<oneshot::Sender<()>>,
    /// Set by who is first: the thread, which starts the process, or who gives the start up.
    decided: Arc<AtomicBool>,
    running: JoinHandle<Result<Running, SpawnError>>,
}

impl Start {
    pub(super) fn prepare(runner: &Runner, assignment: Assignment, body: Bytes, leaf: Option<Leaf>) -> Self {
        let (go, told) = oneshot::channel();
        let place = runner.workplaces.of(assignment.lease.instance_id);
        let (assignment, decided) = (Arc::new(assignment), Arc::<AtomicBool>::default());
        let (spawner, about, at) = (Arc::clone(&runner.spawner), Arc::clone(&assignment), place.clone());
        let is_first = {
            let decided = Arc::clone(&decided);
            move || !decided.swap(true, Ordering::AcqRel)
        };
        let may_start = move || told.blocking_recv().is_ok() && is_first();
        let running = spawn_blocking(move || spawner.spawn(&about, &body, &at, leaf, may_start));
        Self { assignment, place, go: Some(go), decided, running }
    }

    /// Only what the journal has may start.
    pub(super) fn go(&mut self) {
        // Nobody listens where it has failed before.
        let _ = self.go.take().map(|go| go.send(()));
    }

    /// May be asked again where it was dropped.
    pub(super) async fn running(&mut self) -> Result<Running, SpawnError> {
        // A panic there is a defect; the attempt must end all the same.
        (&mut self.running).await.unwrap_or_else(|_| Err(SpawnError::Defect))
    }

    /// Whether it will never start. Else it does.
    pub(super) fn give_up(&self) -> bool {
        !self.decided.swap(true, Ordering::AcqRel)
    }

    /// Resolves when nothing of it goes on, or when that is another's care. Only of what was given up, or never told to go.
    pub(super) async fn drop_it(mut self, runner: &Runner, hanging: Option<OwnedSemaphorePermit>) {
        self.go = None;
        if timeout(PATIENCE, &mut self.running).await.is_ok() {
            return;
        }
        let lease = self.assignment.lease;
        tracing::error!(
            task.id = %lease.task_id, instance.id = %lease.instance_id, cmd = self.assignment.command.cmd,
            "the start of a process hangs, and was given up: is a file system gone?"
        );
        // What it may yet write to is nobody else's.
        let leaving = runner.workplaces.abandon(lease.instance_id);
        tokio::spawn(async move {
            let _ = self.running.await;
            drop(hanging);
            if let Some(leaving) = leaving {
                let _ = spawn_blocking(|| leaving.remove()).await;
            }
        });
    }
}
