//! The output of one attempt, in three forms by `Accept`:
//! - `text/plain` (also when nothing is asked for): the bytes of both streams in their order
//! - `application/x-ndjson`: one object per piece, `{"seq", "stream", "text"}`, or `base64` instead of
//!   `text` where a piece is not UTF-8 by itself
//! - `text/event-stream`: the same objects as events `output` with `id: seq`; goes on until the attempt
//!   has ended, which an event `end` with its status says. `Last-Event-ID` continues after that piece.
//!
//! `?follow=true` makes the first two go on until the end too.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Path, State},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use hetuflow_core::{id::InstanceId, status::Status, task::OutputChunk};
use hetuflow_store::{Store, StoreError};
use http::{HeaderMap, HeaderValue, header};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    Api, ApiError,
    input::{Params, id},
};

/// Pieces that are read from the store at once.
const READ: u32 = 64;
/// How often a reader that has everything looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    #[serde(default)]
    follow: bool,
}

pub(super) async fn logs(
    State(api): State<Api>,
    Path(instance): Path<String>,
    Params(options): Params<Options>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let instance = id(&instance)?;
    // A missing attempt is 404, not an empty log.
    api.app.store.instance(instance).await?;
    let (store, shutdown) = (api.app.store, api.shutdown);
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("text/event-stream") {
        let reader = Reader::new(store, shutdown, instance, next_seq(&headers)?, Until::Ended);
        return Ok(Sse::new(reader.items().map(sse_event)).keep_alive(KeepAlive::default()).into_response());
    }
    let until = if options.follow { Until::Ended } else { Until::Read };
    let items = Reader::new(store, shutdown, instance, 0, until).items();
    if accept.contains("application/x-ndjson") {
        return Ok(streamed("application/x-ndjson", items.map(json_line)));
    }
    Ok(streamed("text/plain; charset=utf-8", items.map(plain)))
}

fn next_seq(headers: &HeaderMap) -> Result<u64, ApiError> {
    let Some(last) = headers.get("last-event-id") else { return Ok(0) };
    let seq: Option<u64> = last.to_str().ok().and_then(|text| text.parse().ok());
    seq.and_then(|seq| seq.checked_add(1))
        .ok_or_else(|| ApiError::BadRequest("Last-Event-ID must be the id of an event: a number".to_owned()))
}

fn streamed(
    content_type: &'static str,
    bytes: impl Stream<Item = Result<Bytes, Broken>> + Send + 'static,
) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, Body::from_stream(bytes)).into_response()
}

/// How far a reader goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// To the last piece that is there.
    Read,
    /// Until the attempt has ended.
    Ended,
}

pub(crate) enum Item {
    Piece(OutputChunk),
    End(Status),
    /// The rest cannot be read; the connection breaks off, so that nobody takes it for the end.
    Broken,
}

/// The log could not be read to its end.
#[derive(Debug, thiserror::Error)]
#[error("the log breaks off here")]
struct Broken;

pub(crate) struct Reader {
    store: Arc<dyn Store>,
    /// Ends what would otherwise go on for as long as its reader likes.
    shutdown: CancellationToken,
    instance: InstanceId,
    next_seq: u64,
    until: Until,
    read: VecDeque<OutputChunk>,
    done: bool,
}

impl Reader {
    pub(crate) const fn new(
        store: Arc<dyn Store>,
        shutdown: CancellationToken,
        instance: InstanceId,
        next_seq: u64,
        until: Until,
    ) -> Self {
        Self { store, shutdown, instance, next_seq, until, read: VecDeque::new(), done: false }
    }

    fn items(self) -> impl Stream<Item = Item> + Send {
        stream::unfold(self, |mut reader| async move {
            let item = reader.next().await?;
            Some((item, reader))
        })
    }

    pub(crate) async fn next(&mut self) -> Option<Item> {
        while !self.done {
            if let Some(piece) = self.read.pop_front() {
                return Some(Item::Piece(piece));
            }
            let item = match self.fill().await {
                Ok(None) => continue,
                Ok(Some(status)) => Item::End(status),
                Err(error) => {
                    tracing::warn!(%error, "a log could not be read to its end");
                    Item::Broken
                }
            };
            self.done = true;
            return Some(item);
        }
        None
    }

    /// Reads on, or says with which status the reading ends.
    async fn fill(&mut self) -> Result<Option<Status>, StoreError> {
        // The status first: what an attempt wrote is stored before its end is.
        let status = self.store.instance(self.instance).await?.status;
        let pieces = self.store.output(self.instance, self.next_seq, READ).await?;
        if let Some(last) = pieces.last() {
            self.next_seq = last.seq + 1;
            self.read.extend(pieces);
            return Ok(None);
        }
        if self.until == Until::Read || status.is_final() {
            return Ok(Some(status));
        }
        tokio::select! {
            () = self.shutdown.cancelled() => Ok(Some(status)),
            () = tokio::time::sleep(LOOK_EVERY) => Ok(None),
        }
    }
}

/// A piece for a program.
#[derive(Serialize)]
pub(crate) struct Piece<'a> {
    seq: u64,
    stream: hetuflow_core::task::Stream,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl<'a> Piece<'a> {
    pub(crate) fn of(chunk: &'a OutputChunk) -> Self {
        let text = std::str::from_utf8(&chunk.data).ok();
        let base64 = if text.is_none() { Some(STANDARD.encode(&chunk.data)) } else { None };
        Self { seq: chunk.seq, stream: chunk.stream, text, base64 }
    }
}

fn json(chunk: &OutputChunk) -> String {
    // Strings and numbers always serialize.
    serde_json::to_string(&Piece::of(chunk)).unwrap_or_default()
}

/// A reader of events comes back with `Last-Event-ID` when the connection breaks off.
fn sse_event(item: Item) -> Result<Event, Broken> {
    match item {
        Item::Piece(chunk) => {
            Ok(Event::default().event("output").id(chunk.seq.to_string()).data(json(&chunk)))
        }
        Item::End(status) => Ok(Event::default().event("end").data(format!("{{\"status\":\"{status}\"}}"))),
        Item::Broken => Err(Broken),
    }
}

fn json_line(item: Item) -> Result<Bytes, Broken> {
    match item {
        Item::Piece(chunk) => Ok(Bytes::from(json(&chunk) + "\n")),
        Item::End(_) => Ok(Bytes::new()),
        Item::Broken => Err(Broken),
    }
}

fn plain(item: Item) -> Result<Bytes, Broken> {
    match item {
        Item::Piece(chunk) => Ok(chunk.data),
        Item::End(_) => Ok(Bytes::new()),
        Item::Broken => Err(Broken),
    }
}
