//! The threads that a server's tasks share.

use std::{env, io, num::NonZero, thread};

use tokio::runtime::{Builder, Runtime};

/// One thread fewer than there are processors, and at least one. SQLite's writer, the readers and the agent have threads of
/// their own, and of threads that sleep one is woken for nothing again and again: on two processors a run took a seventh more
/// of them with two threads. `TOKIO_WORKER_THREADS` says otherwise.
pub fn runtime() -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if env::var_os("TOKIO_WORKER_THREADS").is_none() {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        builder.worker_threads(processors.saturating_sub(1).max(1));
    }
    builder.enable_all().build()
}
