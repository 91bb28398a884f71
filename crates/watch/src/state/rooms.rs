//! How many more events of each trigger there may be, because the server has so many of them waiting. What is in the outbox
//! counts; what is not known has no end, so that a server that is away holds up nobody.

use std::sync::PoisonError;

use hetuflow_core::protocol::FileEvent;

use super::State;
use crate::{WatchError, turn::Rooms};

impl State {
    pub(crate) fn rooms(&self) -> Rooms {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// So many more may be told.
    pub(crate) async fn set_room(&self, key: &str, room: u64) -> Result<(), WatchError> {
        let sql = "select count(*) from outbox where key = ?";
        let told = async { sqlx::query_scalar::<_, i64>(sql).bind(key).fetch_one(&self.pool).await };
        let untold = if self.waiting() == 0 { 0 } else { told.await.map_err(|error| self.error(error))? };
        let room = room.saturating_sub(untold.cast_unsigned());
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.insert(key.to_owned(), room);
        Ok(())
    }

    /// Nobody says any more how much room there is.
    pub(crate) fn forget_rooms(&self) {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn take_rooms(&self, events: &[FileEvent]) {
        if events.is_empty() {
            return;
        }
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events.iter().filter(|event| !event.facts.is_notice()) {
            if let Some(room) = rooms.get_mut(&event.key) {
                *room = room.saturating_sub(1);
            }
        }
    }
}
