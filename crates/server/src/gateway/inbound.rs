//! What an agent says, and what each message leads to. Neighbours of one kind share a statement.

use axum::extract::ws::Message;
use bytes::Bytes;
use hetuflow_core::{
    protocol::{
        FileEvent, FromAgent, MAX_CHUNK, ResultVerdict, RunResult, ToAgent, WatchState,
        frame::{Frame, FrameError},
    },
    task::{Lease, OutputChunk},
};
use hetuflow_failpoint::failpoint;
use hetuflow_store::{Progress, StoreError};

use super::session::Session;
use crate::{
    file_events,
    hub::{Answer, Refusal, SessionKey},
    ingest::chain,
    results::{self, NotRecorded, RETRIES, insist},
};

/// Why a session ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    #[error("the agent closed the connection")]
    Left,
    #[error("the connection broke: {0}")]
    Broken(axum::Error),
    #[error("nothing was heard for too long")]
    Silent,
    #[error("closed from this side: replaced, moved to another server, or stuck")]
    Closed,
    #[error("an assignment was not answered")]
    Unanswered,
    #[error("a repeated assignment was refused: its hello will tell which copy it took")]
    InDoubt,
    #[error("not understood: {0}")]
    Garbled(String),
    #[error("the database keeps failing: {0}")]
    Store(String),
}

/// One message that means something here.
#[derive(Debug)]
pub(super) enum Inbound {
    Said(FromAgent),
    Output(OutputChunk),
}

/// Neighbouring messages that are handled as one.
#[derive(Debug)]
pub(super) enum Run {
    Output(Vec<OutputChunk>),
    Results(Vec<RunResult>),
    Accepted(Vec<Lease>),
    Started(Vec<Progress>),
    Files(Vec<FileEvent>),
    Other(FromAgent),
}

pub(super) fn decode(message: &Message) -> Result<Option<Inbound>, Stop> {
    match message {
        Message::Text(text) => serde_json::from_str(text.as_str())
            .map(|said| Some(Inbound::Said(said)))
            .map_err(|error| Stop::Garbled(error.to_string())),
        Message::Binary(bytes) => decode_frame(bytes),
        Message::Ping(_) | Message::Pong(_) => Ok(None),
        Message::Close(_) => Err(Stop::Left),
    }
}

fn decode_frame(bytes: &Bytes) -> Result<Option<Inbound>, Stop> {
    match Frame::decode(bytes) {
        Ok(Frame::Output(chunk)) if chunk.data.len() <= MAX_CHUNK => Ok(Some(Inbound::Output(chunk))),
        Ok(Frame::Output(chunk)) => Err(Stop::Garbled(format!(
            "{} bytes in one piece of output, at most {MAX_CHUNK}",
            chunk.data.len()
        ))),
        // A newer agent's kind of frame, or one that only agents receive.
        Ok(Frame::Body { .. }) | Err(FrameError::Kind(_)) => Ok(None),
        Err(error @ (FrameError::Short(_) | FrameError::Stream(_))) => Err(Stop::Garbled(error.to_string())),
    }
}

/// Joins neighbours of the same kind; the order stays.
pub(super) fn runs(batch: Vec<Inbound>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for message in batch {
        match (runs.last_mut(), message) {
            (Some(Run::Output(run)), Inbound::Output(chunk)) => run.push(chunk),
            (Some(Run::Results(run)), Inbound::Said(FromAgent::Result(result))) => run.push(result),
            (Some(Run::Accepted(run)), Inbound::Said(FromAgent::Accepted { lease })) => run.push(lease),
            (Some(Run::Files(run)), Inbound::Said(FromAgent::Files { batch })) => run.extend(batch),
            (Some(Run::Started(run)), Inbound::Said(FromAgent::Started { lease, at })) => {
                run.push(Progress { lease, started_at: Some(at) });
            }
            (_, Inbound::Output(chunk)) => runs.push(Run::Output(vec![chunk])),
            (_, Inbound::Said(FromAgent::Result(result))) => runs.push(Run::Results(vec![result])),
            (_, Inbound::Said(FromAgent::Accepted { lease })) => runs.push(Run::Accepted(vec![lease])),
            (_, Inbound::Said(FromAgent::Started { lease, at })) => {
                runs.push(Run::Started(vec![Progress { lease, started_at: Some(at) }]));
            }
            (_, Inbound::Said(FromAgent::Files { batch })) => runs.push(Run::Files(batch)),
            (_, Inbound::Said(other)) => runs.push(Run::Other(other)),
        }
    }
    runs
}

impl Session {
    pub(super) async fn take(&mut self, run: Run) -> Result<(), Stop> {
        match run {
            Run::Output(chunks) => self.output(chunks).await,
            Run::Results(results) => self.results(results).await,
            Run::Accepted(leases) => self.accepted(&leases).await,
            Run::Started(started) => self.started(started).await,
            Run::Files(batch) => self.files(&batch).await,
            Run::Other(message) => self.one(message).await,
        }
    }

    async fn one(&mut self, message: FromAgent) -> Result<(), Stop> {
        match message {
            FromAgent::Credit { free } => self.state.hub.credit(&self.key, free),
            FromAgent::Refused { lease, reason } => self.refused(lease, &reason).await?,
            FromAgent::Stale { lease } => self.stale(lease).await?,
            FromAgent::Watch(state) => self.watch(state).await?,
            FromAgent::Ping => self.say(ToAgent::Pong).await?,
            FromAgent::Bye => self.state.hub.leave(&self.key),
            FromAgent::Hello(_) | FromAgent::Join(_) => {
                return Err(Stop::Garbled("a second hello".to_owned()));
            }
            FromAgent::Unknown => {}
            // Runs of their own; here only for completeness.
            FromAgent::Accepted { lease } => self.accepted(&[lease]).await?,
            FromAgent::Started { lease, at } => {
                self.started(vec![Progress { lease, started_at: Some(at) }]).await?;
            }
            FromAgent::Result(result) => self.results(vec![result]).await?,
            FromAgent::Files { batch } => self.files(&batch).await?,
            FromAgent::FileRooms { keys } => self.rooms(keys).await?,
            FromAgent::FileOutcomes { events, follow } => self.outcomes(&events, follow).await?,
        }
        Ok(())
    }

    async fn watch(&mut self, watch: WatchState) -> Result<(), Stop> {
        if let Some(at) = watch.watermark {
            let SessionKey { agent_id, epoch } = &self.key;
            let store = &self.state.store;
            insist(|| store.set_watermark(agent_id, *epoch, &watch.key, at)).await.map_err(away)?;
        }
        self.state.hub.watch_state(&self.key, watch);
        Ok(())
    }

    async fn accepted(&mut self, leases: &[Lease]) -> Result<(), Stop> {
        let mut first = Vec::with_capacity(leases.len());
        for (lease, answer) in leases.iter().zip(self.state.hub.accepted(&self.key, leases)) {
            match answer {
                Answer::First => first.push(Progress { lease: *lease, started_at: None }),
                Answer::Again => {}
                Answer::Unknown => self.end_stale(*lease).await?,
            }
        }
        self.note(first).await
    }

    async fn started(&mut self, started: Vec<Progress>) -> Result<(), Stop> {
        let (own, others) = self.state.hub.held(&self.key, started, |one| one.lease);
        for stale in others {
            self.end_stale(stale.lease).await?;
        }
        self.note(own).await
    }

    async fn note(&mut self, progress: Vec<Progress>) -> Result<(), Stop> {
        if progress.is_empty() {
            return Ok(());
        }
        self.state.reporter.progress(&self.key, progress).await.map_err(unrecorded)
    }

    async fn refused(&mut self, lease: Lease, reason: &str) -> Result<(), Stop> {
        let refusal = self.state.hub.refused(&self.key, lease);
        tracing::info!(task.id = %lease.task_id, reason, ?refusal, "assignment refused");
        match refusal {
            Refusal::Unknown => Ok(()),
            Refusal::InDoubt => Err(Stop::InDoubt),
            Refusal::NeverBegan => {
                let state = &self.state;
                let given_back = insist(|| state.store.give_back(lease, state.clock.now())).await;
                state.hub.put_back();
                given_back.map(|_| ()).map_err(away)
            }
        }
    }

    /// Sent once and yet known: the database has forgotten an attempt, so that nobody can say what this task has done.
    async fn stale(&mut self, lease: Lease) -> Result<(), Stop> {
        match self.state.hub.refused(&self.key, lease) {
            Refusal::Unknown => Ok(()),
            Refusal::InDoubt => Err(Stop::InDoubt),
            Refusal::NeverBegan => {
                let state = &self.state;
                insist(|| results::forgotten(state, lease)).await.map_err(away)
            }
        }
    }

    async fn output(&mut self, chunks: Vec<OutputChunk>) -> Result<(), Stop> {
        let known = |chunk: &OutputChunk| self.state.hub.lease_of(&self.key, chunk.instance_id);
        // Output of an attempt that is not this agent's is dropped: its result will be fenced.
        let (leases, chunks): (Vec<Lease>, Vec<OutputChunk>) =
            chunks.into_iter().filter_map(|chunk| Some((known(&chunk)?, chunk))).unzip();
        if chunks.is_empty() {
            return Ok(());
        }
        let store = &self.state.store;
        insist(|| store.append_output(&chunks)).await.map_err(away)?;
        for (index, (lease, chunk)) in leases.iter().zip(&chunks).enumerate() {
            // One acknowledgement stands for all before it.
            if !leases[index + 1..].contains(lease) {
                self.say(ToAgent::OutputAck { lease: *lease, seq: chunk.seq }).await?;
            }
        }
        Ok(())
    }

    async fn results(&mut self, results: Vec<RunResult>) -> Result<(), Stop> {
        let (own, others) = self.state.hub.held(&self.key, results, |result| result.lease);
        for result in others {
            results::count_fenced(&self.state.metrics, result.lease);
            self.say(results::fenced(result.lease)).await?;
        }
        if own.is_empty() {
            return Ok(());
        }
        self.state.hub.reported(&self.key, own.iter().map(|result| result.lease));
        self.settling.push_back(results::settle(&self.state, own).await.map_err(unrecorded)?);
        Ok(())
    }

    /// The oldest results that were on their way are in the database.
    pub(super) async fn acknowledge(
        &mut self,
        settled: Result<Vec<(Lease, ResultVerdict)>, NotRecorded>,
    ) -> Result<(), Stop> {
        let settled = settled.map_err(unrecorded)?;
        failpoint!("acknowledge.before");
        let leases: Vec<Lease> = settled.iter().map(|(lease, _)| *lease).collect();
        self.state.hub.ended(&self.key, &leases);
        for (lease, verdict) in settled {
            if verdict == ResultVerdict::Fenced {
                results::count_fenced(&self.state.metrics, lease);
            }
            self.say(ToAgent::ResultAck { lease, verdict }).await?;
            failpoint!("acknowledge.after");
        }
        Ok(())
    }

    async fn files(&mut self, batch: &[FileEvent]) -> Result<(), Stop> {
        let mut rest = batch.to_vec();
        let labels = self.labels.borrow().clone();
        for wait in RETRIES.into_iter().map(Some).chain([None]) {
            let accepted = file_events::accept(&self.state, &self.key.agent_id, &labels, rest).await;
            failpoint!("files.before_ack");
            if !accepted.acks.is_empty() {
                self.say(ToAgent::FileAck { batch: accepted.acks }).await?;
            }
            let Some(error) = accepted.error else { return Ok(()) };
            rest = accepted.rest;
            let Some(wait) = wait else { return Err(Stop::Store(error.to_string())) };
            tracing::warn!(%error, count = rest.len(), "file events not stored, trying again");
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// The agent runs what is not its any more: it is told to end it.
    async fn end_stale(&mut self, lease: Lease) -> Result<(), Stop> {
        results::count_fenced(&self.state.metrics, lease);
        self.say(ToAgent::Cancel { lease }).await
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err asks for")]
fn unrecorded(error: NotRecorded) -> Stop {
    Stop::Store(error.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err asks for")]
fn away(error: StoreError) -> Stop {
    Stop::Store(chain(&error))
}
