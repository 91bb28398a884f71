//! The one that writes the journal. What comes while a commit is in flight shares the next one, so the number of
//! syncs follows the disk and not the number of attempts. Started by
//! [`super::Journal::open`], ended by [`super::Journal::close`].

use std::time::Duration;

use sqlx::{Connection, SqliteConnection};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use super::{
    Acceptance, JournalError, corrupt,
    group::{self, Entry},
};

/// Entries of one commit, at most.
const GROUP: usize = 256;

/// How long an entry that nobody waits for may wait for company.
const PATIENCE: Duration = Duration::from_millis(20);

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

/// What goes into one commit.
#[derive(Debug, Default)]
struct Batch {
    entries: Vec<Entry>,
    waiting: Vec<Option<Done<Acceptance>>>,
    last: Option<Last>,
}

pub(super) async fn run(mut connection: SqliteConnection, mut requests: mpsc::Receiver<Request>) {
    // What nobody waits for and could not be written; it goes along with the next commit.
    let mut left = Vec::new();
    while let Some(Batch { entries, waiting, last }) = next(&mut requests).await {
        left = write(&mut connection, left, entries, waiting).await;
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
async fn next(requests: &mut mpsc::Receiver<Request>) -> Option<Batch> {
    let mut batch = Batch::default();
    batch.add(requests.recv().await?);
    let latest = Instant::now() + PATIENCE;
    while !batch.is_full() && !batch.is_urgent() {
        match timeout_at(latest, requests.recv()).await {
            Ok(Some(request)) => batch.add(request),
            Ok(None) | Err(_) => break,
        }
    }
    while !batch.is_full()
        && let Ok(request) = requests.try_recv()
    {
        batch.add(request);
    }
    Some(batch)
}

/// Yields what is to be tried again.
async fn write(
    connection: &mut SqliteConnection,
    left: Vec<Entry>,
    entries: Vec<Entry>,
    waiting: Vec<Option<Done<Acceptance>>>,
) -> Vec<Entry> {
    let skipped = left.len();
    let entries: Vec<Entry> = left.into_iter().chain(entries).collect();
    match group::write(connection, &entries).await {
        Ok(acceptances) => {
            for (done, acceptance) in waiting.into_iter().zip(acceptances.into_iter().skip(skipped)) {
                answer(done, Ok(acceptance));
            }
            Vec::new()
        }
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the journal cannot be written");
            // Whoever waits decides what to do about it.
            let patient = (0..skipped).map(|_| true).chain(waiting.iter().map(Option::is_none));
            let again = entries.into_iter().zip(patient.collect::<Vec<_>>());
            let again = again.filter_map(|(entry, patient)| patient.then_some(entry)).take(GROUP).collect();
            for done in waiting {
                answer(done, Err(error.clone()));
            }
            again
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

impl Batch {
    fn add(&mut self, request: Request) {
        match request {
            Request::Write(entry, done) => {
                self.entries.push(entry);
                self.waiting.push(done);
            }
            Request::Last(last) => self.last = Some(last),
        }
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= GROUP || self.last.is_some()
    }

    fn is_urgent(&self) -> bool {
        self.waiting.last().is_some_and(Option::is_some)
    }
}
