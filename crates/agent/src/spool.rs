//! The output of one attempt, on disk until the server has acknowledged the result: pieces in the
//! order in which they came, each with a head of five bytes (stream, length). The n-th piece has the sequence
//! number n, so a new connection goes on from any number that the server names. The process never
//! waits for the server: it writes here, and what comes after the cap is counted and dropped.

use std::{
    io::SeekFrom,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use hetuflow_core::{
    id::InstanceId,
    protocol::MAX_CHUNK,
    task::{OutputChunk, Stream},
};
use tokio::{
    fs::{self, File, OpenOptions},
    io::{self, AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufReader},
};

const HEAD: usize = 5;

/// Where all spools are.
#[derive(Debug, Clone)]
pub(crate) struct Spools {
    base: PathBuf,
}

/// Writes one spool.
#[derive(Debug)]
pub(crate) struct Spool {
    path: PathBuf,
    /// Made by the first piece: most attempts say nothing.
    file: Option<File>,
    /// Bytes of file, all of them whole pieces.
    length: u64,
    pieces: u64,
    /// Bytes of output that may still come.
    room: u64,
    dropped: u64,
}

/// Reads one spool from some piece on.
#[derive(Debug)]
pub(crate) struct SpoolReader {
    instance_id: InstanceId,
    file: BufReader<File>,
    next_seq: u64,
}

impl Spools {
    pub(crate) async fn open(base: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&base).await?;
        Ok(Self { base })
    }

    pub(crate) fn create(&self, instance_id: InstanceId, cap: u64) -> Spool {
        Spool { path: self.path(instance_id), file: None, length: 0, pieces: 0, room: cap, dropped: 0 }
    }

    pub(crate) async fn read(&self, instance_id: InstanceId, from: u64) -> io::Result<SpoolReader> {
        let file = BufReader::new(File::open(self.path(instance_id)).await?);
        let mut reader = SpoolReader { instance_id, file, next_seq: 0 };
        while reader.next_seq < from && reader.skip().await? {}
        Ok(reader)
    }

    /// Whole pieces in a spool that an earlier life of the agent left.
    pub(crate) async fn count(&self, instance_id: InstanceId) -> u64 {
        let Ok(mut reader) = self.read(instance_id, 0).await else { return 0 };
        while reader.next().await.is_ok_and(|piece| piece.is_some()) {}
        reader.next_seq
    }

    pub(crate) async fn remove(&self, instance_id: InstanceId) {
        let _ = fs::remove_file(self.path(instance_id)).await;
    }

    /// Spools that no attempt needs: what a crash between two steps has left.
    pub(crate) async fn sweep(&self, is_held: impl Fn(InstanceId) -> bool) -> io::Result<()> {
        let mut entries = fs::read_dir(&self.base).await?;
        while let Some(entry) = entries.next_entry().await? {
            let id: Option<InstanceId> =
                Path::new(&entry.file_name()).file_stem().and_then(|name| name.to_str()?.parse().ok());
            if id.is_some_and(|id| !is_held(id)) {
                fs::remove_file(entry.path()).await?;
            }
        }
        Ok(())
    }

    fn path(&self, instance_id: InstanceId) -> PathBuf {
        self.base.join(format!("{instance_id}.out"))
    }
}

impl Spool {
    /// Adds a piece of at most [`MAX_CHUNK`] bytes and yields how many pieces there are. An error of
    /// the disk drops the piece, as the cap does: output never breaks the run.
    pub(crate) async fn push(&mut self, stream: Stream, data: &[u8]) -> u64 {
        let fits = usize::try_from(self.room).unwrap_or(usize::MAX).min(data.len()).min(MAX_CHUNK);
        let (kept, over) = data.split_at(fits);
        self.dropped += over.len() as u64;
        self.room -= fits as u64;
        if kept.is_empty() {
            return self.pieces;
        }
        match self.write(stream, kept).await {
            Ok(()) => {
                self.pieces += 1;
                self.length += (HEAD + fits) as u64;
            }
            Err(error) => {
                tracing::warn!(%error, "output cannot be spooled and is dropped");
                self.dropped += fits as u64;
                if self.cut().await.is_err() {
                    self.room = 0;
                }
            }
        }
        self.pieces
    }

    /// Makes it durable, before the end of the attempt is; yields the bytes that were dropped.
    pub(crate) async fn finish(self) -> u64 {
        if let Some(file) = &self.file
            && let Err(error) = file.sync_data().await
        {
            tracing::warn!(%error, "the spooled output is not on disk");
        }
        self.dropped
    }

    async fn write(&mut self, stream: Stream, data: &[u8]) -> io::Result<()> {
        let mut head = [0; HEAD];
        head[0] = match stream {
            Stream::Stdout => 0,
            Stream::Stderr => 1,
        };
        let length = u32::try_from(data.len()).map_err(io::Error::other)?;
        head[1..].copy_from_slice(&length.to_be_bytes());
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(make(&self.path).await?),
        };
        file.write_all(&[&head, data].concat()).await?;
        file.flush().await
    }

    /// Half a piece must not stay in front of the next one.
    async fn cut(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.set_len(self.length).await?;
        file.seek(SeekFrom::Start(self.length)).await.map(|_| ())
    }
}

impl SpoolReader {
    pub(crate) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// `None` at the end, and where a crash has left half a piece.
    pub(crate) async fn next(&mut self) -> io::Result<Option<OutputChunk>> {
        let Some((stream, length)) = self.head().await? else { return Ok(None) };
        let mut data = vec![0; length];
        if !whole(self.file.read_exact(&mut data).await)? {
            return Ok(None);
        }
        let piece = OutputChunk {
            instance_id: self.instance_id,
            seq: self.next_seq,
            stream,
            data: Bytes::from(data),
        };
        self.next_seq += 1;
        Ok(Some(piece))
    }

    async fn skip(&mut self) -> io::Result<bool> {
        Ok(self.next().await?.is_some())
    }

    async fn head(&mut self) -> io::Result<Option<(Stream, usize)>> {
        let mut head = [0; HEAD];
        if !whole(self.file.read_exact(&mut head).await)? {
            return Ok(None);
        }
        let stream = match head[0] {
            0 => Stream::Stdout,
            1 => Stream::Stderr,
            other => return Err(io::Error::other(format!("a piece of the spool is of stream {other}"))),
        };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > MAX_CHUNK {
            return Err(io::Error::other(format!("a piece of the spool claims {length} bytes")));
        }
        Ok(Some((stream, length)))
    }
}

async fn make(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).await
}

fn whole(read: io::Result<usize>) -> io::Result<bool> {
    match read {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn spools(dir: &tempfile::TempDir) -> (Spools, InstanceId) {
        let spools = Spools::open(dir.path().join("spool")).await.expect("opened");
        (spools, InstanceId::at(jiff::Timestamp::UNIX_EPOCH))
    }

    async fn texts(spools: &Spools, id: InstanceId, from: u64) -> Vec<(u64, String)> {
        let mut reader = spools.read(id, from).await.expect("opened");
        let mut texts = Vec::new();
        while let Some(piece) = reader.next().await.expect("read") {
            texts.push((piece.seq, String::from_utf8_lossy(&piece.data).into_owned()));
        }
        texts
    }

    #[tokio::test]
    async fn it_goes_on_from_any_piece() {
        let dir = tempfile::tempdir().expect("a directory");
        let (spools, id) = spools(&dir).await;
        let mut spool = spools.create(id, 100);
        spool.push(Stream::Stdout, b"one").await;
        assert_eq!(spool.push(Stream::Stderr, b"two").await, 2);
        assert_eq!(spool.finish().await, 0);
        assert_eq!(texts(&spools, id, 1).await, [(1, "two".to_owned())]);
        assert_eq!(texts(&spools, id, 7).await, []);
        assert_eq!(spools.count(id).await, 2);
    }

    #[tokio::test]
    async fn what_comes_after_the_cap_is_counted() {
        let dir = tempfile::tempdir().expect("a directory");
        let (spools, id) = spools(&dir).await;
        let mut spool = spools.create(id, 4);
        for text in [b"abc", b"def", b"ghi"] {
            spool.push(Stream::Stdout, text).await;
        }
        assert_eq!(spool.finish().await, 5);
        assert_eq!(texts(&spools, id, 0).await, [(0, "abc".to_owned()), (1, "d".to_owned())]);
    }

    #[tokio::test]
    async fn half_a_piece_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let (spools, id) = spools(&dir).await;
        let mut spool = spools.create(id, 100);
        spool.push(Stream::Stdout, b"whole").await;
        spool.push(Stream::Stdout, b"torn").await;
        let torn = spool.file.expect("made").set_len(spool.length - 1).await;
        torn.expect("cut");
        assert_eq!(spools.count(id).await, 1);
    }
}
