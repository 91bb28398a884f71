//! Answers how the tasks of events about files stand, and follows those that others wait for: their ends are told as soon
//! as this server records them. Also says how many more files it takes.

use hetuflow_core::{id::EventId, protocol::ToAgent};

use super::{inbound::Stop, session::Session};
use crate::{file_events, hub::Following};

/// Events whose end is to be told and is not yet; one more is dropped, and its agent asks again.
pub(super) const MAX_ENDED: usize = 256;

impl Session {
    /// What an agent asks.
    pub(super) async fn outcomes(&mut self, events: &[EventId], follow: bool) -> Result<(), Stop> {
        let mut outcomes = Vec::with_capacity(events.len());
        for event in events.iter().take(file_events::MOST_ASKED) {
            let mut standing = file_events::standing(&self.state, *event).await.map_err(away)?;
            // What ended before it was followed shows in a second look.
            if follow && self.follow(*event, &standing.awaited) == Following::FromNowOn {
                standing = file_events::standing(&self.state, *event).await.map_err(away)?;
            }
            outcomes.push((*event, standing.outcome));
        }
        self.say(ToAgent::FileOutcomes { outcomes }).await
    }

    /// How many more files of these triggers are taken.
    pub(super) async fn rooms(&mut self, keys: Vec<String>) -> Result<(), Stop> {
        let mut rooms = Vec::with_capacity(keys.len());
        let labels = self.labels.borrow().clone();
        for key in keys.into_iter().take(file_events::MOST_ASKED) {
            let room =
                file_events::room(&self.state, &self.key.agent_id, &labels, &key).await.map_err(away)?;
            rooms.push((key, room));
        }
        self.say(ToAgent::FileRooms { rooms }).await
    }

    fn follow(&self, event: EventId, tasks: &[hetuflow_core::id::TaskId]) -> Following {
        self.state.hub.follow(tasks, event, &self.ended.0)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err asks for")]
fn away(error: hetuflow_store::StoreError) -> Stop {
    Stop::Store(error.to_string())
}
