//! Tasks that somebody waits for: an agent that keeps a strict order of files asked to be told of their ends. A hint, as
//! every wake-up: whoever misses one asks again after a while, as for tasks that end elsewhere.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use hetuflow_core::id::{EventId, TaskId};
use tokio::sync::mpsc;

/// Tasks that are followed, at most; of the ends of others the agents hear when they ask.
const MAX_FOLLOWED: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Followed(Mutex<HashMap<TaskId, Follower>>);

#[derive(Debug)]
struct Follower {
    event: EventId,
    /// Of one session. When it is full, or the session is over, the hint is dropped.
    told: mpsc::Sender<EventId>,
}

/// Whether something may have ended before it was followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Following {
    Already,
    FromNowOn,
    /// There are too many.
    NoRoom,
}

impl Followed {
    pub(super) fn follow(&self, tasks: &[TaskId], event: EventId, told: &mpsc::Sender<EventId>) -> Following {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() + tasks.len() > MAX_FOLLOWED {
            all.retain(|_, follower| !follower.told.is_closed());
            if all.len() + tasks.len() > MAX_FOLLOWED {
                return Following::NoRoom;
            }
        }
        let mut following = Following::Already;
        for task in tasks {
            let before = all.insert(*task, Follower { event, told: told.clone() });
            if before.is_none_or(|before| !before.told.same_channel(told)) {
                following = Following::FromNowOn;
            }
        }
        following
    }

    pub(super) fn ended(&self, tasks: impl Iterator<Item = TaskId>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.is_empty() {
            return;
        }
        for follower in tasks.filter_map(|task| all.remove(&task)) {
            let _ = follower.told.try_send(follower.event);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
