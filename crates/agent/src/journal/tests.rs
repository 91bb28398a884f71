//! What the journal promises, on a real file.

use hetuflow_core::{
    id::TaskId,
    task::{EndReason, Outcome},
};
use tempfile::TempDir;

use super::*;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    async fn open(&self) -> (Journal, Vec<Journalled>) {
        Journal::open(&self.0.path().join("journal.db"), "boot", now()).await.expect("opened")
    }

    /// A copy of what is on the disk, as a crash would leave it now.
    async fn after_a_crash(&self) -> Vec<Journalled> {
        let copy = Self::new();
        for name in ["journal.db", "journal.db-wal"] {
            // Without a commit since it was opened there is no second file.
            let _ = std::fs::copy(self.0.path().join(name), copy.0.path().join(name));
        }
        let (journal, left) = copy.open().await;
        journal.close().await;
        left
    }
}

fn now() -> Timestamp {
    hetuflow_core::Clock::system().now()
}

fn lease(fence: i64) -> Lease {
    Lease { task_id: TaskId::at(now()), instance_id: InstanceId::at(now()), fence }
}

fn end(lease: Lease, code: i32) -> RunResult {
    let outcome = Outcome { exit_code: Some(code), message: None, ..Outcome::because(EndReason::Exit, "") };
    RunResult { lease, outcome, started_at: None, finished_at: now(), output_dropped: 0 }
}

fn codes(left: &[Journalled]) -> Vec<(Lease, Option<i32>)> {
    let code = |left: &Journalled| left.result.as_ref().and_then(|result| result.outcome.exit_code);
    left.iter().map(|left| (left.lease, code(left))).collect()
}

#[tokio::test]
async fn an_answer_means_that_it_is_on_the_disk() {
    let folder = Folder::new();
    let (journal, left) = folder.open().await;
    assert!(left.is_empty());
    let run = lease(1);
    let cgroup = Path::new("/sys/fs/cgroup/x");
    assert_eq!(journal.accept(run, Some(cgroup), now()).await.expect("answered"), Acceptance::Accepted);
    let left = folder.after_a_crash().await;
    assert_eq!(codes(&left), [(run, None)]);
    assert_eq!((left[0].boot_id.as_str(), left[0].cgroup.as_deref()), ("boot", Some(cgroup)));
    for (epoch, code) in [(1, 3), (2, 4)] {
        journal.ended(&end(run, code)).await;
        assert_eq!(journal.next_epoch().await.expect("answered"), epoch);
        assert_eq!(codes(&folder.after_a_crash().await), [(run, Some(3))], "the first end counts");
    }
}

#[tokio::test]
async fn what_nobody_waits_for_is_there_before_the_next_hello() {
    let folder = Folder::new();
    let (journal, _) = folder.open().await;
    let (first, second) = (lease(1), lease(1));
    for run in [first, second] {
        journal.accept(run, None, now()).await.expect("answered");
    }
    let (process, at) = (ProcessId { pid: 7, start_time: 9 }, now());
    journal.started(first.instance_id, Some(process), at).await;
    journal.forget(second.instance_id).await;
    journal.next_epoch().await.expect("answered");
    let left = folder.after_a_crash().await;
    assert_eq!(codes(&left), [(first, None)]);
    assert_eq!((left[0].process, left[0].started_at), (Some(process), Some(at)));
}

#[tokio::test]
async fn closing_writes_what_still_waits() {
    let folder = Folder::new();
    let (journal, _) = folder.open().await;
    let run = lease(1);
    journal.accept(run, None, now()).await.expect("answered");
    journal.forget(run.instance_id).await;
    journal.close().await;
    assert!(matches!(journal.next_epoch().await, Err(JournalError::Closed)));
    assert_eq!(codes(&folder.open().await.1), []);
}

#[tokio::test]
async fn a_fence_counts_once_and_only_upwards() {
    let folder = Folder::new();
    let (journal, _) = folder.open().await;
    let first = lease(2);
    let of_fence = |fence| Lease { instance_id: InstanceId::at(now()), fence, ..first };
    let check = async |lease: Lease, expected: Acceptance| {
        assert_eq!(journal.accept(lease, None, now()).await.expect("answered"), expected, "{lease:?}");
    };
    check(first, Acceptance::Accepted).await;
    check(first, Acceptance::Stale).await;
    check(of_fence(1), Acceptance::Stale).await;
    check(of_fence(3), Acceptance::Accepted).await;
    journal.refuse(of_fence(5), now()).await.expect("answered");
    check(of_fence(5), Acceptance::Stale).await;
    check(of_fence(4), Acceptance::Stale).await;
    journal.forget(first.instance_id).await;
    check(first, Acceptance::Stale).await;
}

#[tokio::test]
async fn fences_that_come_together_in_another_order_count_as_if_one_by_one() {
    let folder = Folder::new();
    let (journal, _) = folder.open().await;
    let first = lease(1);
    let of_fence = |fence| Lease { instance_id: InstanceId::at(now()), fence, ..first };
    let runs = [of_fence(2), of_fence(1), of_fence(4)];
    let asked = runs.iter().map(|run| journal.accept(*run, None, now()));
    let answers = futures_util::future::join_all(asked).await;
    let answers: Vec<Acceptance> = answers.into_iter().map(|answer| answer.expect("answered")).collect();
    assert_eq!(answers, [Acceptance::Accepted, Acceptance::Stale, Acceptance::Accepted]);
    let mut left: Vec<i64> = folder.after_a_crash().await.iter().map(|left| left.lease.fence).collect();
    left.sort_unstable();
    assert_eq!(left, [2, 4], "what is stale leaves nothing");
}

/// All of them are asked before the first is answered, so they share commits.
#[tokio::test]
async fn of_copies_that_come_together_one_is_accepted() {
    let folder = Folder::new();
    let (journal, _) = folder.open().await;
    let runs: Vec<Lease> = (0..40).map(|_| lease(1)).collect();
    let asked = runs.iter().chain(&runs).chain(&runs).map(|run| journal.accept(*run, None, now()));
    let answers = futures_util::future::join_all(asked).await;
    let accepted = answers.iter().filter(|answer| matches!(answer, Ok(Acceptance::Accepted))).count();
    assert_eq!((accepted, answers.len()), (40, 120));
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(folder.after_a_crash().await.len(), 40);
}

/// While it is open, in between others.
#[tokio::test]
async fn a_fence_is_forgotten_once_it_is_old() {
    let folder = Folder::new();
    let (journal, _) = folder.open().await;
    let accept = async |lease, days: i64| {
        let at = now() - jiff::SignedDuration::from_hours(days * 24);
        journal.accept(lease, None, at).await.expect("answered")
    };
    let (old, young, running) = (lease(1), lease(1), lease(1));
    assert_eq!(accept(running, 31).await, Acceptance::Accepted);
    assert_eq!(accept(old, 31).await, Acceptance::Accepted);
    assert_eq!(accept(young, 29).await, Acceptance::Accepted);
    assert_eq!(accept(old, 31).await, Acceptance::Stale);
    journal.forget(old.instance_id).await;
    journal.forget(young.instance_id).await;
    // More than are looked at together, so that there is more than one look.
    for _ in 0..600 {
        accept(lease(1), 0).await;
    }
    assert_eq!(accept(young, 0).await, Acceptance::Stale);
    assert_eq!(accept(running, 0).await, Acceptance::Stale);
    assert_eq!(accept(old, 0).await, Acceptance::Accepted);
}
