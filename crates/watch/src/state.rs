//! The state file: snapshot and outbox in one SQLite file, changed in one transaction. The only SQL of
//! this crate.
//!
//! `synchronous=NORMAL` is enough here, unlike at the server: a power cut may undo the last commits,
//! and then the files are found new again, their events get the same ids again, and the server answers
//! "duplicate". Nothing is lost, because the directory is the queue.

mod fates;
mod lines;
mod open;
mod overlap;
mod read;
mod rooms;
mod text;
mod told;
mod write;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::TryStreamExt;
use hetuflow_core::{
    id::EventId,
    protocol::{FileBatchAck, FileEvent, FileOutcome, FileVerdict, Watch},
};
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;
use sqlx::{Connection, Row, SqlitePool, sqlite::SqliteRow};

pub(crate) use self::{fates::StoredFate, text::text, told::Telling};
use self::{
    open::Opened,
    read::{definition, file, member, root},
    told::Answer,
    write::{
        keep_sequences, put_definition, put_events, put_files, put_members, put_root, put_sequences,
        remove_members,
    },
};

use crate::{
    WatchError,
    live::{Batches, Sequences},
    probe::DirIdentity,
    snapshot::Snapshot,
    turn::{Remember, Rooms, Turn},
};

/// A handle to the state file.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pool: SqlitePool,
    path: Arc<PathBuf>,
    /// Rows in the outbox, so that its bound costs no query.
    waiting: Arc<AtomicU64>,
    /// Counts fates that became known.
    decided: Arc<AtomicU64>,
    /// Counts changes of who is ahead in lines.
    lined: Arc<AtomicU64>,
    /// How many more events of each key there may be.
    rooms: Arc<Mutex<Rooms>>,
    /// There may be events that were told once more and have no answer.
    asked: Arc<AtomicBool>,
    /// What became of an earlier file that could not be used.
    damage: Option<String>,
}

/// A watch as it was stored.
#[derive(Debug)]
pub(crate) struct StoredWatch {
    pub(crate) definition: Definition,
    pub(crate) roots: Vec<RootRecord>,
    pub(crate) snapshot: Snapshot,
    pub(crate) batches: Batches,
    pub(crate) sequences: Sequences,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Definition {
    /// The watch's key, made unique where one trigger has several file sources.
    pub(crate) slot: String,
    pub(crate) watch: Watch,
    /// What the revision before covered, until the baseline of this one is done.
    pub(crate) prior: Option<hetuflow_core::trigger::FileSource>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RootRecord {
    pub(crate) dir: PathBuf,
    /// Nanoseconds since 1970; what was last touched after it is new, whatever happened since.
    pub(crate) since: i64,
    /// What was there before is recorded.
    pub(crate) done: bool,
    pub(crate) identity: Option<DirIdentity>,
    pub(crate) absent_device: Option<u64>,
}

impl State {
    pub(crate) async fn open(path: &Path) -> Result<Self, WatchError> {
        let Opened { pool, damage } = open::open(path).await?;
        let path = Arc::new(path.to_owned());
        let error = |source| WatchError::State { path: path.to_path_buf(), source };
        let state = Self {
            pool,
            path: Arc::clone(&path),
            waiting: Arc::default(),
            decided: Arc::default(),
            lined: Arc::default(),
            rooms: Arc::default(),
            asked: Arc::new(AtomicBool::new(true)),
            damage,
        };
        state.count_outbox().await.map_err(error)?;
        Ok(state)
    }

    async fn count_outbox(&self) -> sqlx::Result<()> {
        let rows: i64 = sqlx::query_scalar("select count(*) from outbox").fetch_one(&self.pool).await?;
        self.waiting.store(rows.cast_unsigned(), Ordering::Relaxed);
        Ok(())
    }

    fn error(&self, source: sqlx::Error) -> WatchError {
        WatchError::State { path: self.path.to_path_buf(), source }
    }

    /// The memory of files was lost at this start, in words for the user.
    pub(crate) fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// Events that wait for an acknowledgement.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    /// What was watched when this process last ran.
    pub(crate) async fn definitions(&self) -> Result<Vec<Definition>, WatchError> {
        let sql = "select slot, key, revision, source, prior from watch order by slot";
        let rows = sqlx::query(sql).try_map(|row| definition(&row)).fetch_all(&self.pool).await;
        rows.map_err(|error| self.error(error))
    }

    /// A watch with all that is remembered of it.
    pub(crate) async fn load(&self, slot: &str, wall: Timestamp) -> Result<Option<StoredWatch>, WatchError> {
        let run = async {
            let sql = "select slot, key, revision, source, prior from watch where slot = ?";
            let found = sqlx::query(sql).bind(slot).try_map(|row| definition(&row));
            let Some(definition) = found.fetch_optional(&self.pool).await? else { return Ok(None) };
            let (roots, snapshot) = (self.load_roots(slot).await?, self.load_files(slot).await?);
            let batches = self.load_members(slot, wall).await?;
            let sequences = self.load_sequences(slot).await?;
            Ok(Some(StoredWatch { definition, roots, snapshot, batches, sequences }))
        };
        run.await.map_err(|error| self.error(error))
    }

    async fn load_roots(&self, slot: &str) -> sqlx::Result<Vec<RootRecord>> {
        let sql = "select dir, since, done, ino, btime, absent_device from root where slot = ? order by dir";
        sqlx::query(sql).bind(slot).try_map(|row| root(&row)).fetch_all(&self.pool).await
    }

    async fn load_files(&self, slot: &str) -> sqlx::Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        let sql = "select dir, name, ino, btime, size, mtime from file where slot = ?";
        // One row at a time: there may be a million.
        let mut rows = sqlx::query(sql).bind(slot).try_map(|row| file(&row)).fetch(&self.pool);
        while let Some((path, version)) = rows.try_next().await? {
            snapshot.insert(&path, version);
        }
        Ok(snapshot)
    }

    async fn load_sequences(&self, slot: &str) -> sqlx::Result<Sequences> {
        let row = |row: SqliteRow| {
            let next: &str = row.try_get("next")?;
            let next = next.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            Ok((row.try_get("grp")?, next))
        };
        let rows = sqlx::query("select grp, next from sequence where slot = ?").bind(slot).try_map(row);
        let rows: Vec<(String, u64)> = rows.fetch_all(&self.pool).await?;
        Ok(Sequences::new(rows))
    }

    /// How long they have waited already is told by the wall clock, the one that goes on.
    async fn load_members(&self, slot: &str, wall: Timestamp) -> sqlx::Result<Batches> {
        let mut batches = Batches::default();
        let sql = "select grp, body from member where slot = ? order by seq";
        let rows = sqlx::query(sql).bind(slot).try_map(|row| member(&row)).fetch_all(&self.pool).await?;
        let now = Instant::now();
        for member in rows {
            let waited = Duration::try_from(wall.duration_since(member.event.seen_at)).unwrap_or_default();
            batches.add(member, now.checked_sub(waited).unwrap_or(now));
        }
        Ok(batches)
    }

    /// Stores a watch with its roots; files that it does not cover any more are forgotten.
    pub(crate) async fn admit(
        &self,
        definition: &Definition,
        roots: &[RootRecord],
        uncovered: &[Remember],
    ) -> Result<(), WatchError> {
        let run = async {
            let mut tx = self.pool.begin().await?;
            keep_sequences(&mut tx, definition).await?;
            put_definition(&mut tx, definition).await?;
            sqlx::query("delete from root where slot = ?").bind(&definition.slot).execute(&mut *tx).await?;
            for record in roots {
                put_root(&mut tx, &definition.slot, record).await?;
            }
            put_files(&mut tx, &definition.slot, uncovered).await?;
            if definition.watch.source.strict.is_none() {
                lines::dissolve(&mut tx, &definition.slot).await?;
            }
            tx.commit().await
        };
        self.written(run.await).await
    }

    /// Forgets a watch and everything remembered of it. Its events stay: the server decides on them.
    pub(crate) async fn forget(&self, slot: &str) -> Result<(), WatchError> {
        let run = async {
            let mut tx = self.pool.begin().await?;
            for sql in [
                "delete from watch where slot = ?",
                "delete from root where slot = ?",
                "delete from file where slot = ?",
                "delete from member where slot = ?",
                "delete from sequence where slot = ?",
                "delete from fate where slot = ?",
            ] {
                sqlx::query(sql).bind(slot).execute(&mut *tx).await?;
            }
            lines::dissolve(&mut tx, slot).await?;
            tx.commit().await
        };
        self.written(run.await).await
    }

    /// Snapshot and outbox change together or not at all. The number of events that are new.
    pub(crate) async fn commit(&self, turn: &Turn) -> Result<u64, WatchError> {
        let run = async {
            // A batch that a power cut undid would come again with other members, and one that is ahead of others would be
            // unknown while its task runs: these go to the disk itself.
            let lasting = turn.parts.iter().any(|part| !part.closed.is_empty() || !part.lines.is_empty());
            let mut connection = self.pool.acquire().await?;
            if lasting {
                sqlx::raw_sql("pragma synchronous = full").execute(&mut *connection).await?;
            }
            let mut tx = connection.begin().await?;
            for part in &turn.parts {
                put_files(&mut tx, &part.slot, &part.files).await?;
                put_members(&mut tx, &part.slot, &part.members).await?;
                fates::put(&mut tx, &part.slot, &part.fates).await?;
                put_sequences(&mut tx, &part.slot, &part.sequences).await?;
                for closed in &part.closed {
                    remove_members(&mut tx, &part.slot, closed).await?;
                    fates::join(&mut tx, &closed.event, closed).await?;
                }
                for record in &part.roots {
                    put_root(&mut tx, &part.slot, record).await?;
                }
                if part.baseline_done {
                    let sql = "update watch set prior = null where slot = ?";
                    sqlx::query(sql).bind(&part.slot).execute(&mut *tx).await?;
                }
            }
            let added = put_events(&mut tx, &turn.events).await?;
            for part in &turn.parts {
                lines::put(&mut tx, &part.slot, &part.lines).await?;
            }
            failpoint!("found.before_commit");
            tx.commit().await?;
            if lasting {
                sqlx::raw_sql("pragma synchronous = normal").execute(&mut *connection).await?;
            }
            failpoint!("found.after_commit");
            Ok(added)
        };
        let added = self.written(run.await).await?;
        self.waiting.fetch_add(added, Ordering::Relaxed);
        self.take_rooms(&turn.events);
        Ok(added)
    }

    pub(crate) async fn pending(&self, except: &[String], limit: u32) -> Result<Vec<FileEvent>, WatchError> {
        lines::pending(&self.pool, except, limit).await.map_err(|error| self.error(error))
    }

    /// By key, when the first event was seen that is not acknowledged.
    pub(crate) async fn told_since(&self) -> Result<BTreeMap<String, Timestamp>, WatchError> {
        if self.waiting() == 0 {
            return Ok(BTreeMap::new());
        }
        let sql = "select body ->> 'key' as key, min(body ->> 'seen_at') as seen from outbox group by 1";
        let row = |row: SqliteRow| {
            let seen: &str = row.try_get("seen")?;
            let seen = seen.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            Ok((row.try_get("key")?, seen))
        };
        let rows: Result<Vec<_>, _> = sqlx::query(sql).try_map(row).fetch_all(&self.pool).await;
        rows.map(BTreeMap::from_iter).map_err(|error| self.error(error))
    }

    pub(crate) async fn acknowledge(
        &self,
        acks: &[FileBatchAck],
        telling: Telling<'_>,
    ) -> Result<(), WatchError> {
        let run = async {
            let mut tx = self.pool.begin().await?;
            let (mut removed, mut concerned) = (0, 0);
            let (overlapping, settled): (Vec<&FileBatchAck>, Vec<&FileBatchAck>) =
                acks.iter().partition(|ack| ack.verdict == FileVerdict::Overlaps);
            for ack in overlapping {
                let resolved = overlap::resolve(&mut tx, ack).await?;
                removed += resolved.removed;
                concerned += resolved.concerned;
            }
            concerned += fates::acknowledge(&mut tx, &settled).await?;
            let ahead = lines::acknowledge(&mut tx, &settled).await?;
            removed += told::keep(&mut tx, &settled, telling).await?;
            // Most of the time nothing is asked, and nothing needs to be looked for.
            let asked = self.asked.load(Ordering::Acquire);
            let answer = if asked { told::judge(&mut tx, acks, telling).await? } else { Answer::Nothing };
            // Before the commit, so that who asks after it has the last word.
            if answer == Answer::Nothing {
                self.asked.store(false, Ordering::Release);
            }
            failpoint!("told.before_commit");
            tx.commit().await?;
            failpoint!("told.after_commit");
            self.waiting.fetch_sub(removed, Ordering::Relaxed);
            self.decided.fetch_add(concerned, Ordering::Relaxed);
            // What is not known any more may be in a line too.
            let gone = acks.iter().any(|ack| ack.event_id.is_none());
            if ahead > 0 || gone || answer == Answer::Again {
                self.lined.fetch_add(1, Ordering::Relaxed);
            }
            if answer == Answer::Again { self.count_outbox().await } else { Ok(()) }
        };
        let done = run.await.inspect_err(|_| self.asked.store(true, Ordering::Release));
        self.written(done).await
    }

    /// After a failure (a full disk) SQLite may have ended a transaction that the connection takes for open, or the other
    /// way round, and what follows would not be committed: the next one is another.
    async fn written<T>(&self, result: sqlx::Result<T>) -> Result<T, WatchError> {
        if result.is_err()
            && let Ok(connection) = self.pool.acquire().await
            && let Err(error) = connection.close().await
        {
            tracing::debug!(%error, "the connection to the state file was not closed cleanly");
        }
        result.map_err(|error| self.error(error))
    }

    /// Events to be told once more at the start of a connection, to see whether the server still knows them.
    pub(crate) async fn ask(&self, room: usize, telling: Telling<'_>) -> Result<Vec<FileEvent>, WatchError> {
        let run = async {
            let mut tx = self.pool.begin().await?;
            let asked = told::ask(&mut tx, room, telling).await?;
            tx.commit().await?;
            self.asked.store(true, Ordering::Release);
            self.count_outbox().await?;
            Ok(asked)
        };
        self.written(run.await).await
    }

    /// It was told to another server.
    pub(crate) async fn forget_told(&self) -> Result<(), WatchError> {
        let forgotten = sqlx::query("delete from told").execute(&self.pool).await;
        forgotten.map(|_| ()).map_err(|error| self.error(error))
    }

    /// Events whose end files wait for, after `last`.
    pub(crate) async fn open_fates(&self, last: i64, limit: u32) -> Result<Vec<(i64, EventId)>, WatchError> {
        fates::open(&self.pool, last, limit).await.map_err(|error| self.error(error))
    }

    pub(crate) async fn decide_fates(&self, outcomes: &[(EventId, FileOutcome)]) -> Result<(), WatchError> {
        for (event_id, outcome) in outcomes {
            let decided =
                fates::decide(&self.pool, *event_id, *outcome).await.map_err(|error| self.error(error))?;
            self.decided.fetch_add(decided, Ordering::Relaxed);
            let lines =
                lines::decide(&self.pool, *event_id, *outcome).await.map_err(|error| self.error(error))?;
            self.lined.fetch_add(lines, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Fates of these watches that are known. Asks the file only when there may be some: `seen` is for the next time, and
    /// the first time there may.
    pub(crate) async fn decided_fates(
        &self,
        slots: &[String],
        seen: &mut Option<u64>,
        limit: u32,
    ) -> Result<Vec<StoredFate>, WatchError> {
        let decided = self.decided.load(Ordering::Relaxed);
        if seen.replace(decided) == Some(decided) {
            return Ok(Vec::new());
        }
        let found = fates::decided(&self.pool, slots, limit).await.inspect_err(|_| *seen = None);
        let found = found.map_err(|error| self.error(error))?;
        if found.len() >= limit as usize {
            *seen = None;
        }
        Ok(found)
    }

    pub(crate) async fn finish_fates(&self, done: &[i64], gone: &[StoredFate]) -> Result<(), WatchError> {
        self.written(fates::finish(&self.pool, done, gone).await).await
    }
}
