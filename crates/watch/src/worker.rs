//! The thread on which a patrol looks at files. One of its own and none of the runtime's: a question to a file system that
//! does not answer has no end, and neither another patrol nor a stop of the agent may wait for it. Also the pulse by which
//! the patrol knows that its thread still gets answers.

use std::{
    io,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// A thread that does one piece of work after another, and ends with the last of them once this is dropped.
#[derive(Debug)]
pub(crate) struct Worker(SyncSender<Job>);

impl Worker {
    pub(crate) fn start() -> io::Result<Self> {
        // One piece at a time is given, so that nobody ever waits for room.
        let (jobs, given) = sync_channel::<Job>(1);
        let run = move || given.into_iter().for_each(|job| job());
        std::thread::Builder::new().name("watch".to_owned()).spawn(run)?;
        Ok(Self(jobs))
    }

    /// Without an answer the thread died of it.
    pub(crate) fn give<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (answer, answered) = oneshot::channel();
        // Who does not wait for the answer any more does not want it.
        let job: Job = Box::new(move || drop(answer.send(work())));
        // Where the thread is gone the piece is dropped, and its answer with it.
        let _ = self.0.send(job);
        answered
    }
}

/// When the thread last got an answer from a file system.
#[derive(Debug)]
pub(crate) struct Pulse {
    start: Instant,
    /// Milliseconds since the start.
    last: AtomicU64,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), last: AtomicU64::new(0) }
    }

    pub(crate) fn beat(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// For how long there was none.
    pub(crate) fn quiet(&self) -> Duration {
        self.quiet_at(Instant::now())
    }

    fn quiet_at(&self, now: Instant) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        now.saturating_duration_since(self.start).saturating_sub(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_in_turn_until_the_thread_dies_of_it() {
        let worker = Worker::start().expect("a thread");
        assert_eq!(worker.give(|| 1).await, Ok(1));
        assert_eq!(worker.give(|| 2).await, Ok(2));
        worker.give(|| panic!("as asked")).await.expect_err("it died");
        worker.give(|| 3).await.expect_err("it is dead");
    }

    #[test]
    fn a_pulse_is_quiet_since_its_last_beat() {
        let pulse = Pulse::new();
        let later = pulse.start + Duration::from_mins(1);
        assert_eq!(pulse.quiet_at(later), Duration::from_mins(1));
        pulse.last.store(59_000, Ordering::Relaxed);
        assert_eq!(pulse.quiet_at(later), Duration::from_secs(1));
        pulse.beat();
        assert!(pulse.last.load(Ordering::Relaxed) < 59_000);
    }
}
