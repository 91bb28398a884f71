//! An event once more, because somebody asked for it: its bytes as they were received, decided anew by the triggers as
//! they are now or as they were then. It becomes an event of its own that names the one it repeats. Whether it is
//! authentic was judged when it was received and is not judged again: signatures are not kept, and timestamps are old.

use std::{collections::BTreeMap, sync::Arc};

use hetuflow_core::{
    event::{DedupeKey, Event, FileFacts, SourceKind, Verdict},
    id::{AgentId, EventId, Namespace, TaskId},
    protocol::FileEvent,
};
use hetuflow_store::{Ingest, Ingested, StoreError, StoredTrigger};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    AppState, file_events,
    ingest::IngestError,
    intake::{Candidates, Judge},
    triggers::{self, Live, TriggerSet, route_of},
};

/// Which text of a trigger decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Definition {
    /// The one in force.
    #[default]
    Current,
    /// The one that decided when the event was received.
    Original,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Replayed {
    pub(crate) event_id: EventId,
    pub(crate) task_ids: Vec<TaskId>,
    /// It was repeated before under the same key: these are the ids of that.
    pub(crate) duplicate: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    /// For a person: why this event cannot be repeated.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Ingest(#[from] IngestError),
}

/// Repeats `original`, which has its body. Under a key that is known nothing is stored.
pub(crate) async fn replay(
    app: &AppState,
    original: Event,
    definition: Definition,
    key: Option<&str>,
) -> Result<Replayed, ReplayError> {
    if let Verdict::Rejected { reason } = &original.verdict {
        return Err(refused(format!("it was not authentic: {reason}")));
    }
    if let Verdict::Ping { reason } = &original.verdict {
        return Err(refused(format!("it starts nothing: {reason}")));
    }
    let now = app.clock.now();
    let set = match definition {
        Definition::Current => app.triggers.current(),
        Definition::Original => Arc::new(of_then(app, &original).await?),
    };
    let id = original.id;
    let mut ingest = match place(&original)? {
        Place::File { agent, trigger } => file(app, &set, &agent, &trigger, &original, now).await?,
        Place::Hook(key) if definition == Definition::Current && !set.routes.contains_key(&key) => {
            return Err(refused(format!("no trigger listens at {} any more", original.source)));
        }
        Place::Hook(key) => judged(&app.judge, set, Candidates::Route(key), original, now).await,
        Place::Any => judged(&app.judge, set, Candidates::Events, original, now).await,
    };
    ingest.event.replay_of = Some(id);
    ingest.dedupe = key.map(|key| {
        let expires_at = now.checked_add(app.config.hooks.dedupe_for).unwrap_or(Timestamp::MAX);
        DedupeKey::new("/api/replays".to_owned(), format!("{id} {key}"), expires_at)
    });
    let (event_id, task_ids) = (ingest.event.id, ingest.tasks.iter().map(|task| task.id).collect());
    match app.ingester.submit(ingest).await? {
        Ingested::Stored => Ok(Replayed { event_id, task_ids, duplicate: false }),
        Ingested::Duplicate { event_id, task_ids, .. } => {
            Ok(Replayed { event_id, task_ids, duplicate: true })
        }
    }
}

fn refused(reason: String) -> ReplayError {
    ReplayError::Refused(reason)
}

/// Who is asked about an event, by its source.
enum Place {
    /// By the key of its route.
    Hook(String),
    /// The triggers with `[on.event]`.
    Any,
    File {
        agent: AgentId,
        trigger: String,
    },
}

fn place(event: &Event) -> Result<Place, ReplayError> {
    let strange = || refused(format!("nothing listens at {}", event.source));
    match event.kind {
        SourceKind::Webhook => Ok(Place::Hook(route_of(event).ok_or_else(strange)?)),
        SourceKind::Api | SourceKind::Internal => Ok(Place::Any),
        SourceKind::File if event.is_notice() => Ok(Place::Any),
        SourceKind::File => {
            let path = event.source.strip_prefix("/agents/").ok_or_else(strange)?;
            let (agent, trigger) = path.split_once("/files/").ok_or_else(strange)?;
            let agent = AgentId::new(agent).map_err(|_| strange())?;
            Ok(Place::File { agent, trigger: trigger.to_owned() })
        }
        SourceKind::Schedule => {
            Err(refused("it is a time that came due: `hetuflow task retry` runs its task again".to_owned()))
        }
    }
}

async fn judged(
    judge: &Judge,
    set: Arc<TriggerSet>,
    candidates: Candidates,
    original: Event,
    now: Timestamp,
) -> Ingest {
    let event = Event {
        id: EventId::at(now),
        received_at: now,
        verdict: Verdict::Accepted,
        // That of the original is its sender's, who sees nothing of this.
        status_token: None,
        decisions: Vec::new(),
        ..original
    };
    let judged = judge.judge(event, set, candidates).await;
    Ingest { event: judged.event, dedupe: None, tasks: judged.tasks }
}

/// The agent decides by its labels, as it did when it saw the file; the file itself may have gone since.
async fn file(
    app: &AppState,
    set: &TriggerSet,
    agent: &AgentId,
    trigger: &str,
    original: &Event,
    now: Timestamp,
) -> Result<Ingest, ReplayError> {
    let live = set.live.get(trigger).filter(|live| !live.trigger.files.is_empty());
    let live = live.ok_or_else(|| refused(format!("the trigger {trigger} watches no files any more")))?;
    let facts: FileFacts = serde_json::from_slice(&original.body)
        .map_err(|error| refused(format!("its body is not what is known of a file: {error}")))?;
    let labels = match app.store.agent(agent).await {
        Err(StoreError::NotFound) => return Err(refused(format!("the agent {agent} is not known any more"))),
        agent => agent?.labels,
    };
    let (key, dedupe, members) = (trigger.to_owned(), String::new(), Vec::new());
    let seen = FileEvent { key, dedupe, facts, members, seen_at: original.time };
    Ok(file_events::ingest(live, agent, &labels, &seen, now))
}

/// The triggers that decided about an event, as they were then.
async fn of_then(app: &AppState, original: &Event) -> Result<TriggerSet, ReplayError> {
    let mut live = BTreeMap::new();
    for decision in &original.decisions {
        let name = &decision.trigger;
        let unknown = || refused(format!("which revision of the trigger {name} decided is not known"));
        let revision = decision.revision.ok_or_else(unknown)?;
        let then = then(app, &original.namespace, name, revision).await?;
        let found = triggers::live(app.store.as_ref(), &then).await?;
        let found = found.map_err(|problem| refused(format!("revision {revision} of {name}: {problem}")))?;
        // Who is told of its end is a matter of now.
        let telling = app.triggers.current().telling(&original.namespace);
        live.insert(format!("{}/{name}", original.namespace), Live { telling, ..found });
    }
    Ok(TriggerSet { routes: triggers::routes(&live).0, live, ..TriggerSet::default() })
}

/// A trigger with the text of then, and what is known of its job and schedules now.
async fn then(
    app: &AppState,
    namespace: &Namespace,
    name: &str,
    revision: i64,
) -> Result<StoredTrigger, ReplayError> {
    let text = match app.store.trigger_revision(namespace, name, revision).await {
        Err(StoreError::NotFound) => {
            return Err(refused(format!("revision {revision} of the trigger {name} is not kept any more")));
        }
        text => text?,
    };
    let job_id = match app.store.job_named(namespace, name).await {
        Err(StoreError::NotFound) => None,
        job => Some(job?.id),
    };
    let set = app.triggers.current();
    let now = set.stored_as(namespace, name);
    Ok(StoredTrigger {
        namespace: namespace.clone(),
        name: name.to_owned(),
        owner: String::new(),
        origin: text.origin,
        revision,
        text: text.text,
        description: String::new(),
        problem: None,
        job_id,
        schedules: now.map_or_else(Vec::new, |now| now.schedules.clone()),
        updated_at: text.created_at,
    })
}
