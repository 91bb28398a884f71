//! How old what has ended may become: what `[retention]` says for all, and for single namespaces.

use std::time::Duration;

use hetuflow_core::id::Namespace;
use hetuflow_store::{Stock, Whose};
use jiff::Timestamp;

use crate::config::RetentionSection;

/// Fires are kept at least this long, should the clock be set back.
const FIRES_AT_LEAST: Duration = Duration::from_hours(7 * 24);

/// `None`: any age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ages {
    events: Option<Duration>,
    tasks: Option<Duration>,
    output: Option<Duration>,
}

impl Ages {
    /// Of everybody who says nothing of their own.
    fn of_all(section: &RetentionSection) -> Self {
        Self::new(section.events, section.tasks, section.output)
    }

    pub(super) fn of(section: &RetentionSection, namespace: &Namespace) -> Self {
        let Some(own) = section.namespaces.get(namespace) else { return Self::of_all(section) };
        Self::new(
            own.events.unwrap_or(section.events),
            own.tasks.unwrap_or(section.tasks),
            own.output.unwrap_or(section.output),
        )
    }

    /// What is older than this is nobody's any more, and goes as a whole.
    pub(super) fn longest(section: &RetentionSection) -> Self {
        let longer = |a: Option<Duration>, b: Option<Duration>| Some(a?.max(b?));
        section.namespaces.keys().map(|namespace| Self::of(section, namespace)).fold(
            Self::of_all(section),
            |a, b| Self {
                events: longer(a.events, b.events),
                tasks: longer(a.tasks, b.tasks),
                output: longer(a.output, b.output),
            },
        )
    }

    /// Those whose ages may be shorter than the longest: each namespace that says something, and all others.
    pub(super) fn by_share(section: &RetentionSection) -> Vec<(Whose, Self)> {
        let named: Vec<Namespace> = section.namespaces.keys().cloned().collect();
        let of_one = |name: &Namespace| (Whose::These(vec![name.clone()]), Self::of(section, name));
        let own: Vec<_> = named.iter().map(of_one).collect();
        own.into_iter().chain([(Whose::AllBut(named), Self::of_all(section))]).collect()
    }

    /// Output without its task would be out of reach.
    fn new(events: Duration, tasks: Duration, output: Duration) -> Self {
        let age = |age: Duration| (!age.is_zero()).then_some(age);
        let (events, tasks) = (age(events), age(tasks));
        Self { events, tasks, output: [age(output), tasks].into_iter().flatten().min() }
    }

    /// What was made before this is too old.
    pub(super) fn before(self, stock: Stock, now: Timestamp) -> Option<Timestamp> {
        let age = match stock {
            Stock::Events => self.events,
            Stock::Tasks => self.tasks,
            Stock::Output => self.output,
            Stock::Fires => self.events.map(|events| events.max(FIRES_AT_LEAST)),
        };
        now.checked_sub(age?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, config::NamespaceRetention};

    const DAY: Duration = Duration::from_hours(24);

    fn section(own: NamespaceRetention) -> RetentionSection {
        let mut section = Config::read(None, &[]).expect("the defaults").retention;
        section.namespaces.insert(Namespace::new("own").expect("a name"), own);
        section
    }

    #[test]
    fn the_longest_age_of_anybody_lets_partitions_go() {
        let own = NamespaceRetention { events: Some(DAY), tasks: Some(90 * DAY), ..Default::default() };
        let longest = Ages::longest(&section(own));
        assert_eq!(
            (longest.events, longest.tasks, longest.output),
            (Some(30 * DAY), Some(90 * DAY), Some(30 * DAY))
        );
        let for_ever = NamespaceRetention { events: Some(Duration::ZERO), ..Default::default() };
        assert_eq!(Ages::longest(&section(for_ever)).events, None);
    }

    #[test]
    fn output_is_kept_no_longer_than_its_task() {
        let own = NamespaceRetention { tasks: Some(DAY), ..Default::default() };
        let ages = Ages::of(&section(own), &Namespace::new("own").expect("a name"));
        assert_eq!((ages.events, ages.tasks, ages.output), (Some(30 * DAY), Some(DAY), Some(DAY)));
    }
}
