//! What to send next. Nothing is queued for the server: each time that there is room for one
//! message, the outbox compares the table of attempts with what this connection has said already and picks
//! the most urgent difference: answers, starts, ends and credit first, then files, and output last,
//! one piece of one attempt at a time. The end of an attempt follows its last piece of output.
//!
//! That an attempt was taken, and that it has started, is said a moment later: of most nothing but the result is sent.

use std::collections::{BTreeMap, VecDeque};

use hetuflow_core::{
    id::InstanceId,
    protocol::{FromAgent, Kept, RunResult, frame::Frame},
    task::OutputChunk,
};
use hetuflow_failpoint::failpoint;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    attempts::{Attempt, Attempts, Phase},
    spool::{SpoolReader, Spools},
};

/// Answers that wait. The session stops reading while there is no room for another.
const MAX_ANSWERS: usize = 64;

#[derive(Debug)]
pub(super) struct Outbox {
    attempts: Attempts,
    answers: VecDeque<FromAgent>,
    credit: Option<u32>,
    said_bye: bool,
    told: BTreeMap<InstanceId, Told>,
    /// When something is to be said that waits for now.
    due: Option<Instant>,
    /// Whose output was sent last.
    turn: Option<InstanceId>,
}

/// What this connection has told about one attempt.
#[derive(Debug, Default)]
struct Told {
    accepted: Accepted,
    started: bool,
    ended: bool,
    next_seq: u64,
    reader: Option<SpoolReader>,
}

/// Whether the connection waits for the word that an attempt was taken.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Accepted {
    /// It was taken on an earlier connection, or has been told.
    #[default]
    Known,
    ToBeTold,
}

#[derive(Debug)]
pub(super) enum Item {
    Message(Box<FromAgent>),
    /// The next piece of output of an attempt.
    Output(InstanceId),
}

impl Outbox {
    pub(super) fn new(attempts: Attempts, kept: &[Kept]) -> Self {
        let told = |kept: &Kept| Told { next_seq: kept.next_seq, ..Told::default() };
        let told = kept.iter().map(|kept| (kept.lease.instance_id, told(kept))).collect();
        let answers = VecDeque::new();
        Self { attempts, answers, credit: None, said_bye: false, told, due: None, turn: None }
    }

    pub(super) fn has_room(&self) -> bool {
        self.answers.len() < MAX_ANSWERS
    }

    /// An assignment came on this connection; it is answered when the table shows it as taken.
    pub(super) fn expect(&mut self, instance_id: InstanceId) {
        let told = self.told.entry(instance_id).or_default();
        // A repeated assignment is answered with everything there is to say.
        (told.accepted, told.started, told.ended) = (Accepted::ToBeTold, false, false);
    }

    /// That an assignment was not taken.
    pub(super) fn answer(&mut self, message: FromAgent) {
        self.answers.push_back(message);
    }

    /// One sign of life at a time is enough.
    pub(super) fn ping(&mut self) {
        if !self.answers.contains(&FromAgent::Ping) {
            self.answers.push_back(FromAgent::Ping);
        }
    }

    /// When to look again although nothing has happened.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The most urgent thing that is not said yet; it counts as said.
    pub(super) fn control(&mut self) -> Option<FromAgent> {
        if let Some(answer) = self.answers.pop_front() {
            return Some(answer);
        }
        if self.attempts.is_draining() && !self.said_bye {
            self.said_bye = true;
            return Some(FromAgent::Bye);
        }
        let now = Instant::now();
        self.due = None;
        let news = self.attempts.clone().read(|attempts| {
            if self.told.len() > attempts.len() {
                self.told.retain(|id, _| attempts.contains_key(id));
            }
            attempts.values().find_map(|attempt| self.news(attempt, now))
        });
        if news.is_some() {
            return news;
        }
        let free = self.attempts.credit(|id| self.told.get(&id).is_none_or(Told::is_known));
        (self.credit != Some(free)).then(|| {
            self.credit = Some(free);
            FromAgent::Credit { free }
        })
    }

    /// The attempt whose output is next, in turn.
    pub(super) fn output(&mut self) -> Option<Item> {
        let turn = self.turn;
        let after = self.attempts.clone().read(|attempts| {
            let mut waiting =
                attempts.values().filter(|attempt| self.told(attempt).next_seq < attempt.pieces).peekable();
            let first = waiting.peek().map(|attempt| attempt.lease.instance_id);
            let mut ids = waiting.map(|attempt| attempt.lease.instance_id);
            ids.find(|id| Some(*id) > turn).or(first)
        });
        self.turn = after.or(self.turn);
        after.map(Item::Output)
    }

    /// Reads one piece. `None` when the spool does not have it: then the attempt ends without.
    pub(super) async fn piece(&mut self, spools: &Spools, instance_id: InstanceId) -> Option<Message> {
        let attempt = self.attempts.get(instance_id)?;
        let told = self.told.entry(instance_id).or_default();
        match told.read(spools, instance_id).await {
            Ok(Some(piece)) => {
                told.next_seq = piece.seq + 1;
                Some(Message::Binary(Frame::Output(piece).encode()))
            }
            other => {
                let problem =
                    other.err().map_or_else(|| "it is too short".to_owned(), |error| error.to_string());
                tracing::warn!(instance.id = %instance_id, problem, "spooled output is missing");
                told.next_seq = attempt.pieces;
                None
            }
        }
    }

    fn told(&mut self, attempt: &Attempt) -> &mut Told {
        self.told.entry(attempt.lease.instance_id).or_default()
    }

    fn news(&mut self, attempt: &Attempt, now: Instant) -> Option<FromAgent> {
        let is_quiet = attempt.is_quiet(now);
        let told = self.told(attempt);
        if let Phase::Ended(result) = &attempt.phase
            && told.next_seq >= attempt.pieces
        {
            // It says as well that the attempt was taken.
            told.accepted = Accepted::Known;
            if told.ended {
                return None;
            }
            failpoint!("result.before_send");
            told.ended = true;
            return Some(FromAgent::Result(RunResult::clone(result)));
        }
        if is_quiet && !(told.is_known() && told.started) {
            let loud_at = attempt.loud_at();
            self.due = Some(self.due.map_or(loud_at, |due| due.min(loud_at)));
            return None;
        }
        if !told.is_known() && attempt.phase != Phase::Arriving {
            told.accepted = Accepted::Known;
            // The server takes this place off what it was granted; a process that has ended before the
            // next look leaves the number as it was, and must be told all the same.
            self.credit = None;
            return Some(FromAgent::Accepted { lease: attempt.lease });
        }
        match &attempt.phase {
            Phase::Running { started_at } if !told.started => {
                told.started = true;
                Some(FromAgent::Started { lease: attempt.lease, at: *started_at })
            }
            Phase::Arriving | Phase::Waiting | Phase::Running { .. } | Phase::Ended(_) => None,
        }
    }
}

impl Told {
    fn is_known(&self) -> bool {
        self.accepted == Accepted::Known
    }

    async fn read(&mut self, spools: &Spools, id: InstanceId) -> std::io::Result<Option<OutputChunk>> {
        if let Some(reader) = &mut self.reader
            && reader.next_seq() == self.next_seq
        {
            return reader.next().await;
        }
        let mut reader = spools.read(id, self.next_seq).await?;
        let piece = if reader.next_seq() == self.next_seq { reader.next().await? } else { None };
        self.reader = Some(reader);
        Ok(piece)
    }
}
