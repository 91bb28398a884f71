//! What an earlier life of the agent has left in the journal. An end that was not acknowledged is
//! reported again. An attempt without an end was running when the agent died: nobody can say how it
//! went, so its processes are killed, and only when they are gone is it lost. A lost attempt may be
//! followed by another one at once, and the two must never run side by side.

use std::time::Duration;

use hetuflow_core::{
    protocol::RunResult,
    task::{EndReason, Outcome},
};
use hetuflow_failpoint::failpoint;
use tokio::time::sleep;

use super::{Runner, Stopped};
use crate::{
    attempts::Phase,
    journal::Journalled,
    process::{Leaf, Tree},
};

/// Between two tries to kill what SIGKILL did not end.
const TRY_AGAIN: Duration = Duration::from_secs(5);

impl Runner {
    /// Takes over what the journal holds; called once, before the first hello.
    pub(crate) async fn adopt(&self, left: Vec<Journalled>) {
        for left in left {
            let pieces = self.spools.count(left.lease.instance_id).await;
            if let Some(result) = left.result {
                self.attempts.add(left.lease, Phase::Ended(Box::new(result)), pieces);
                continue;
            }
            let phase = left.started_at.map_or(Phase::Waiting, |started_at| Phase::Running { started_at });
            let stopped = self.attempts.add(left.lease, phase, pieces);
            self.actors.spawn(end(self.clone(), left, stopped));
        }
    }
}

async fn end(runner: Runner, left: Journalled, stopped: Stopped) {
    failpoint!("adopt.before_kill");
    let lease = left.lease;
    let message = if left.boot_id == runner.journal.boot_id() {
        // Without a pid the agent died around the fork; the marker and the cgroup find what started.
        let leaf = left.cgroup.map(Leaf::found);
        let tree = Tree { instance_id: lease.instance_id, leader: left.process, leaf };
        while let Err(survivors) = tree.kill().await {
            tracing::error!(instance.id = %lease.instance_id, %survivors, "an orphan does not end; trying on");
            sleep(TRY_AGAIN).await;
        }
        failpoint!("adopt.after_kill");
        "the agent was restarted while it ran; its process was killed"
    } else {
        "the host was restarted while it ran"
    };
    let result = runner.result(lease, Outcome::because(EndReason::Lost, message));
    runner.end(RunResult { started_at: left.started_at, ..result }, &stopped).await;
}
