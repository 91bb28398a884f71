//! The one that writes the journal. What comes while a commit is in flight shares the next one, so the number of
//! syncs follows the disk and not the number of attempts. Started by
//! [`super::Journal::open`], ended by [`super::Journal::close`].

use std::time::Duration;

use hetuflow_core::id::InstanceId;
use jiff::Timestamp;
use sqlx::{Connection, SqliteConnection};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use super::{
    Acceptance, JournalError, corrupt, file,
    group::{self, Entry},
};

/// Entries of one commit, at most.
const GROUP: usize = 256;

/// Fences that come between two looks at old ones.
const SWEEP: usize = 64;

/// How long an entry that nobody waits for may wait for company, or for what makes it needless.
const PATIENCE: Duration = Duration::from_millis(20);

/// The same after a commit that failed.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) type Done<T> = oneshot::Sender<Result<T, JournalError>>;

#[derive(Debug)]
pub(super) enum Request {
    /// With nobody to tell, there is no hurry.
    Write(Entry, Option<Done<Acceptance>>),
    Last(Last),
}

/// What is done after all that came before it.
#[derive(Debug)]
pub(super) enum Last {
    Epoch(Done<u64>),
    Close(Done<()>),
}

/// What goes into one commit, with who waits for it.
#[derive(Debug, Default)]
struct Batch {
    entries: Vec<(Entry, Option<Done<Acceptance>>)>,
    last: Option<Last>,
}

/// What nobody waits for.
#[derive(Debug, Default)]
struct Lazy {
    entries: Vec<Entry>,
    /// When the oldest has waited long enough.
    due: Option<Instant>,
}

/// Fences are forgotten while others are written: a few times as many are looked at, so that the outdated are never more
/// than a part of all.
#[derive(Debug, Default)]
struct Broom {
    /// Fences that came since it last swept.
    fresh: usize,
    now: Timestamp,
    /// Where it left off.
    last: String,
}

pub(super) async fn run(mut connection: SqliteConnection, mut requests: mpsc::Receiver<Request>) {
    let (mut lazy, mut broom) = (Lazy::default(), Broom::default());
    while let Some(Batch { entries, last }) = next(&mut requests, &mut lazy).await {
        broom.count(&entries);
        write(&mut connection, entries, &mut lazy).await;
        broom.sweep(&mut connection).await;
        match last {
            Some(Last::Epoch(done)) => drop(done.send(next_epoch(&mut connection).await)),
            Some(Last::Close(done)) => {
                // Ends this loop: who asks from now on hears that it is closed.
                drop(requests);
                drop(done.send(connection.close().await.map_err(JournalError::from)));
                return;
            }
            None => {}
        }
    }
}

/// Waits for something to write, and takes all that is there with it.
async fn next(requests: &mut mpsc::Receiver<Request>, lazy: &mut Lazy) -> Option<Batch> {
    let mut batch = Batch::default();
    while batch.is_empty() && !lazy.is_full() {
        let request = match lazy.due {
            None => Some(requests.recv().await?),
            // Nobody asks any more, or nobody has for long enough.
            Some(due) => timeout_at(due, requests.recv()).await.unwrap_or_default(),
        };
        let Some(request) = request else { break };
        batch.add(request, lazy);
    }
    while !batch.is_full()
        && !lazy.is_full()
        && let Ok(request) = requests.try_recv()
    {
        batch.add(request, lazy);
    }
    if batch.is_empty() || batch.last.is_some() || lazy.is_full() || lazy.due <= Some(Instant::now()) {
        batch.entries.extend(lazy.take().map(|entry| (entry, None)));
    }
    Some(batch)
}

/// What nobody waits for and cannot be written waits on.
async fn write(
    connection: &mut SqliteConnection,
    entries: Vec<(Entry, Option<Done<Acceptance>>)>,
    lazy: &mut Lazy,
) {
    let (entries, waiting): (Vec<Entry>, Vec<_>) = entries.into_iter().unzip();
    match group::write(connection, &entries).await {
        Ok(acceptances) => {
            for (done, acceptance) in waiting.into_iter().zip(acceptances) {
                answer(done, Ok(acceptance));
            }
        }
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the journal cannot be written");
            for (entry, done) in entries.into_iter().zip(waiting) {
                match done {
                    // Whoever waits decides what to do about it.
                    Some(_) => answer(done, Err(error.clone())),
                    None => lazy.again(entry),
                }
            }
        }
    }
}

fn answer(done: Option<Done<Acceptance>>, answer: Result<Acceptance, JournalError>) {
    if let Some(done) = done {
        // Nobody left to hear it: the entry is in the journal all the same.
        let _ = done.send(answer);
    }
}

async fn next_epoch(connection: &mut SqliteConnection) -> Result<u64, JournalError> {
    let epoch: i64 = sqlx::query_scalar("update journal set epoch = epoch + 1 returning epoch")
        .fetch_one(connection)
        .await?;
    u64::try_from(epoch).map_err(|error| corrupt("journal", error))
}

impl Broom {
    fn count(&mut self, entries: &[(Entry, Option<Done<Acceptance>>)]) {
        for (_, at) in entries.iter().filter_map(|(entry, _)| entry.fence()) {
            self.fresh += 1;
            self.now = self.now.max(at);
        }
    }

    async fn sweep(&mut self, connection: &mut SqliteConnection) {
        if self.fresh < SWEEP {
            return;
        }
        self.fresh = 0;
        if let Err(error) = file::sweep(connection, self.now, &mut self.last).await {
            tracing::warn!(%error, "old fences stay in the journal for now");
        }
    }
}

impl Batch {
    fn add(&mut self, request: Request, lazy: &mut Lazy) {
        match request {
            Request::Write(entry, None) => lazy.add(entry),
            Request::Write(entry, done) => self.entries.push((entry, done)),
            Request::Last(last) => self.last = Some(last),
        }
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.last.is_none()
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= GROUP || self.last.is_some()
    }
}

impl Lazy {
    fn add(&mut self, entry: Entry) {
        match &entry {
            // The end says when it started.
            Entry::Ended(result) => self.drop_those_of(result.lease.instance_id),
            Entry::Forget(instance_id) => self.drop_those_of(*instance_id),
            Entry::Accept { .. } | Entry::Refuse { .. } | Entry::Started { .. } => {}
        }
        self.entries.push(entry);
        self.due.get_or_insert_with(|| Instant::now() + PATIENCE);
    }

    /// It could not be written. Of these there is only so much room: without them no more is lost than by a crash.
    fn again(&mut self, entry: Entry) {
        if self.entries.len() < GROUP / 2 {
            self.entries.push(entry);
            self.due = Some(Instant::now() + AGAIN);
        }
    }

    fn drop_those_of(&mut self, of: InstanceId) {
        self.entries.retain(|entry| match entry {
            Entry::Started { instance_id, .. } | Entry::Forget(instance_id) => *instance_id != of,
            Entry::Ended(result) => result.lease.instance_id != of,
            Entry::Accept { .. } | Entry::Refuse { .. } => true,
        });
    }

    fn take(&mut self) -> impl Iterator<Item = Entry> {
        self.due = None;
        std::mem::take(&mut self.entries).into_iter()
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= GROUP
    }
}

#[cfg(test)]
mod tests {
    use hetuflow_core::{
        id::TaskId,
        protocol::RunResult,
        task::{EndReason, Lease, Outcome},
    };
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn what_comes_later_makes_needless_what_waits() {
        let (at, mut lazy, mut batch) = (Timestamp::UNIX_EPOCH, Lazy::default(), Batch::default());
        let lease = || Lease { task_id: TaskId::at(at), instance_id: InstanceId::at(at), fence: 1 };
        let leases @ [_, over, known] = [lease(), lease(), lease()];
        for Lease { instance_id, .. } in leases {
            batch.add(Request::Write(Entry::Started { instance_id, process: None, at }, None), &mut lazy);
        }
        for lease in [over, known] {
            let outcome = Outcome::because(EndReason::Exit, "");
            let result = RunResult { lease, outcome, started_at: None, finished_at: at, output_dropped: 0 };
            batch.add(Request::Write(Entry::Ended(Box::new(result)), None), &mut lazy);
        }
        batch.add(Request::Write(Entry::Forget(known.instance_id), None), &mut lazy);
        assert!(batch.is_empty() && lazy.due.is_some());
        let left: Vec<Entry> = lazy.take().collect();
        let [Entry::Started { instance_id: first, .. }, Entry::Ended(second), Entry::Forget(third)] =
            &left[..]
        else {
            panic!("{left:?}");
        };
        assert_eq!([*first, second.lease.instance_id, *third], leases.map(|lease| lease.instance_id));
    }
}
