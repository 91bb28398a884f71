//! The pump from a process's pipes to its spool. A piece is as large as what comes in one go: it
//! is cut when 64 KiB are full, when a line has ended and nothing follows at once, and at the
//! latest 100 ms after its first byte.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use hetuflow_core::{protocol::MAX_CHUNK, task::Stream};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::unix::pipe::Receiver,
    sync::Mutex,
    time::{Instant, timeout, timeout_at},
};

use crate::spool::Spool;

const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// After the end of a line, the time in which the next one still joins the same piece.
const LINE_WAIT: Duration = Duration::from_millis(5);

/// After the whole tree is dead, what is left in the pipes comes at once. Only a process that got
/// out of the tree can still hold one open; it does not hold up the end.
const PIPES: Duration = Duration::from_secs(1);

/// Most attempts say nothing, or a line.
const FIRST_ROOM: usize = 4 * 1024;

/// Both streams write to one spool, so that its order is the order in which their pieces came.
type SharedSpool = Arc<Mutex<Spool>>;

/// What one attempt says, pumped by the attempt's own task while it waits for the end.
pub(crate) struct Capture {
    pumps: BoxFuture<'static, ()>,
    /// Both pipes are closed.
    closed: bool,
    spool: SharedSpool,
}

impl Capture {
    /// `spooled` is told how many pieces there are.
    pub(crate) fn new(
        [stdout, stderr]: [Option<Receiver>; 2],
        spool: Spool,
        spooled: impl Fn(u64) + Clone + Send + Sync + 'static,
    ) -> Self {
        let spool = Arc::new(Mutex::new(spool));
        let one = |pipe: Option<Receiver>, stream| {
            let (spool, spooled) = (Arc::clone(&spool), spooled.clone());
            async move {
                if let Some(pipe) = pipe {
                    pump(pipe, stream, spool, spooled).await;
                }
            }
        };
        let (stdout, stderr) = (one(stdout, Stream::Stdout), one(stderr, Stream::Stderr));
        let pumps = Box::pin(async move {
            tokio::join!(stdout, stderr);
        });
        Self { pumps, closed: false, spool }
    }

    /// Pumps until `end` comes, which goes first: a process that never stops talking must not keep it from its limits.
    pub(crate) async fn beside<T>(&mut self, end: impl Future<Output = T>) -> T {
        let mut end = pin!(end);
        loop {
            tokio::select! {
                biased;
                ended = &mut end => return ended,
                () = &mut self.pumps, if !self.closed => self.closed = true,
            }
        }
    }

    /// No process is left: takes what is still in the pipes, makes the spool durable, and yields the bytes that were
    /// dropped.
    pub(crate) async fn close(self) -> u64 {
        let Self { pumps, closed, spool } = self;
        if !closed && timeout(PIPES, pumps).await.is_err() {
            tracing::warn!(
                "a process outside the attempt's tree holds its output open; what it writes is not kept"
            );
        }
        // The pumps are gone, so this is the last holder.
        match Arc::into_inner(spool) {
            Some(spool) => spool.into_inner().finish().await,
            None => 0,
        }
    }
}

/// Runs until the last holder of the pipe has closed it. `spooled` is told how many pieces there are.
async fn pump(mut pipe: impl AsyncRead + Unpin, stream: Stream, spool: SharedSpool, spooled: impl Fn(u64)) {
    let mut piece = Vec::with_capacity(FIRST_ROOM);
    // An error is the end, too: nothing more will come out of this pipe.
    while pipe.read_buf(&mut piece).await.is_ok_and(|read| read > 0) {
        piece.reserve(MAX_CHUNK - piece.len());
        fill(&mut pipe, &mut piece).await;
        // Under the lock, so that the number told never goes back.
        let mut spool = spool.lock().await;
        spooled(spool.push(stream, &piece).await);
        piece.clear();
    }
}

/// Reads on until the piece is due.
async fn fill(pipe: &mut (impl AsyncRead + Unpin), piece: &mut Vec<u8>) {
    let latest = Instant::now() + LONGEST_WAIT;
    while piece.len() < MAX_CHUNK {
        let deadline = if piece.ends_with(b"\n") { latest.min(Instant::now() + LINE_WAIT) } else { latest };
        let room = MAX_CHUNK - piece.len();
        let read = timeout_at(deadline, (&mut *pipe).take(room as u64).read_buf(piece)).await;
        if !matches!(read, Ok(Ok(1..))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use hetuflow_core::id::InstanceId;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::spool::Spools;

    async fn pieces(write: &[&[u8]]) -> Vec<Vec<u8>> {
        let dir = tempfile::tempdir().expect("a directory");
        let spools = Spools::open(dir.path().to_owned()).await.expect("opened");
        let id = InstanceId::at(jiff::Timestamp::UNIX_EPOCH);
        let spool = Arc::new(Mutex::new(spools.create(id, 10 * MAX_CHUNK as u64)));
        let (mut writer, reader) = tokio::io::duplex(MAX_CHUNK * 4);
        for bytes in write {
            writer.write_all(bytes).await.expect("written");
        }
        drop(writer);
        let count = AtomicU64::new(0);
        pump(reader, Stream::Stdout, spool, |n| count.store(n, Ordering::SeqCst)).await;
        let mut reader = spools.read(id, 0).await.expect("opened");
        let mut pieces = Vec::new();
        while let Some(piece) = reader.next().await.expect("read") {
            pieces.push(piece.data.to_vec());
        }
        assert_eq!(pieces.len() as u64, count.load(Ordering::SeqCst));
        pieces
    }

    #[tokio::test]
    async fn lines_that_come_together_stay_together() {
        assert_eq!(pieces(&[b"one\n", b"two\n", b"thr"]).await, [b"one\ntwo\nthr".to_vec()]);
    }

    #[tokio::test]
    async fn a_piece_is_never_too_large() {
        let lengths: Vec<usize> =
            pieces(&[&vec![b'x'; MAX_CHUNK * 2 + 1]]).await.iter().map(Vec::len).collect();
        assert_eq!(lengths, [MAX_CHUNK, MAX_CHUNK, 1]);
    }
}
