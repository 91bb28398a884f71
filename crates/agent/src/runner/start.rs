//! The start of one process, prepared while the journal writes its assignment: on a thread that blocks, up to the moment
//! when it may start.

use std::sync::Arc;

use bytes::Bytes;
use hetuflow_core::protocol::Assignment;
use tokio::{
    sync::oneshot,
    task::{JoinHandle, spawn_blocking},
};

use super::Runner;
use crate::{
    process::{Leaf, Running, SpawnError},
    workplace::Workplace,
};

pub(super) struct Start {
    pub(super) assignment: Arc<Assignment>,
    pub(super) place: Workplace,
    /// Dropped: it must not start.
    go: oneshot::Sender<()>,
    running: JoinHandle<Result<Running, SpawnError>>,
}

impl Start {
    pub(super) fn prepare(runner: &Runner, assignment: Assignment, body: Bytes, leaf: Option<Leaf>) -> Self {
        let (go, told) = oneshot::channel();
        let place = runner.workplaces.of(assignment.lease.instance_id);
        let assignment = Arc::new(assignment);
        let (spawner, about, at) = (Arc::clone(&runner.spawner), Arc::clone(&assignment), place.clone());
        let may_start = || told.blocking_recv().is_ok();
        let running = spawn_blocking(move || spawner.spawn(&about, &body, &at, leaf, may_start));
        Self { assignment, place, go, running }
    }

    /// Only what the journal has may start.
    pub(super) async fn go(self) -> Result<Running, SpawnError> {
        // Nobody listens where it has failed before, which is what it yields.
        let _ = self.go.send(());
        // A panic there is a defect; the attempt must end all the same.
        self.running.await.unwrap_or_else(|_| Err(SpawnError::Defect))
    }

    /// Resolves when nothing of it goes on.
    pub(super) async fn drop_it(self) {
        drop(self.go);
        let _ = self.running.await;
    }
}
