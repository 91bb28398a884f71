//! What to send next. Nothing is queued for the server: each time that there is room for one
//! message, the outbox compares the table of attempts with what this connection has said already and picks
//! the most urgent difference: answers, starts, ends and credit first, then files, and output last,
//! one piece of one attempt at a time. The end of an attempt follows its last piece of output.

use std::collections::{BTreeMap, VecDeque};

use hetuflow_core::{
    id::InstanceId,
    protocol::{FromAgent, Kept, RunResult, frame::Frame},
    task::OutputChunk,
};
use hetuflow_failpoint::failpoint;
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
    /// Whose output was sent last.
    turn: Option<InstanceId>,
}

/// What this connection has told about one attempt.
#[derive(Debug, Default)]
struct Told {
    started: bool,
    ended: bool,
    next_seq: u64,
    reader: Option<SpoolReader>,
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
        Self { attempts, answers: VecDeque::new(), credit: None, said_bye: false, told, turn: None }
    }

    pub(super) fn has_room(&self) -> bool {
        self.answers.len() < MAX_ANSWERS
    }

    pub(super) fn answer(&mut self, message: FromAgent) {
        if let FromAgent::Accepted { lease } = &message
            && let Some(told) = self.told.get_mut(&lease.instance_id)
        {
            // A repeated assignment is answered with everything there is to say.
            (told.started, told.ended) = (false, false);
        }
        if matches!(message, FromAgent::Accepted { .. }) {
            // The server takes this place off what it was granted; a process that has ended before the
            // next look leaves the number as it was, and must be told all the same.
            self.credit = None;
        }
        self.answers.push_back(message);
    }

    /// One sign of life at a time is enough.
    pub(super) fn ping(&mut self) {
        if !self.answers.contains(&FromAgent::Ping) {
            self.answers.push_back(FromAgent::Ping);
        }
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
        let attempts = self.attempts.all();
        self.told
            .retain(|id, _| attempts.binary_search_by_key(id, |attempt| attempt.lease.instance_id).is_ok());
        if let Some(news) = attempts.iter().find_map(|attempt| self.news(attempt)) {
            return Some(news);
        }
        let free = self.attempts.free();
        (self.credit != Some(free)).then(|| {
            self.credit = Some(free);
            FromAgent::Credit { free }
        })
    }

    /// The attempt whose output is next, in turn.
    pub(super) fn output(&mut self) -> Option<Item> {
        let waiting: Vec<InstanceId> = self
            .attempts
            .all()
            .iter()
            .filter(|attempt| self.told(attempt).next_seq < attempt.pieces)
            .map(|attempt| attempt.lease.instance_id)
            .collect();
        let after = waiting.iter().find(|id| Some(**id) > self.turn).or(waiting.first()).copied();
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

    fn news(&mut self, attempt: &Attempt) -> Option<FromAgent> {
        let pieces = attempt.pieces;
        let told = self.told(attempt);
        match &attempt.phase {
            Phase::Running { started_at } if !told.started => {
                told.started = true;
                Some(FromAgent::Started { lease: attempt.lease, at: *started_at })
            }
            Phase::Ended(result) if !told.ended && told.next_seq >= pieces => {
                failpoint!("result.before_send");
                told.ended = true;
                Some(FromAgent::Result(RunResult::clone(result)))
            }
            Phase::Waiting | Phase::Running { .. } | Phase::Ended(_) => None,
        }
    }
}

impl Told {
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
