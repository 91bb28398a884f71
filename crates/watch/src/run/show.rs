//! How the watches of a patrol do, told to those who listen.

use hetuflow_core::protocol::{WatchHealth, WatchState};

use super::Run;
use crate::patrol::Slotted;

impl Run {
    /// Tells of states that changed.
    pub(super) fn publish(&self) {
        let Some(engine) = &self.thread.engine else { return };
        let mut states = engine.states();
        if let Some(damage) = self.shared.state.damage() {
            for state in &mut states {
                state.problem =
                    Some(state.problem.take().map_or(damage.into(), |one| format!("{one}; {damage}")));
            }
        }
        if let Some(trouble) = &self.trouble {
            for state in &mut states {
                state.problem = Some(trouble.clone());
            }
        }
        self.tell(states);
    }

    /// Where there was no answer for too long, says so once, with what was known before.
    pub(super) fn tell_hanging(&self) {
        let quiet = self.thread.pulse.quiet();
        if quiet < self.options.patience || *self.thread.hangs.borrow() {
            return;
        }
        let since = self.options.clock.now() - jiff::SignedDuration::try_from(quiet).unwrap_or_default();
        let mut states = self.shared.states.borrow().get(&self.name).cloned().unwrap_or_default();
        for Slotted { watch, .. } in &self.orders.charges.borrow().watches {
            if states.iter().all(|state| state.key != watch.key) {
                let (key, revision) = (watch.key.clone(), watch.revision);
                states.push(WatchState { key, revision, ..WatchState::default() });
            }
        }
        for state in &mut states {
            state.health = WatchHealth::Hanging;
            state.problem = Some(format!(
                "its file system has not answered since {since:.0}: nothing is concluded from that, and other watches go on"
            ));
        }
        tracing::warn!(patrol = self.name, %since, "a file system does not answer");
        self.tell(states);
        self.thread.hangs.send_replace(true);
    }

    fn tell(&self, states: Vec<WatchState>) {
        let differs = self.shared.states.send_if_modified(|shown| {
            let differs = shown.get(&self.name) != Some(&states);
            shown.insert(self.name.clone(), states);
            differs
        });
        if differs {
            self.shared.changes.send_modify(|count| *count += 1);
        }
    }
}

/// An error with what is behind it, on one line.
pub(super) fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
