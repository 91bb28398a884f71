//! Counters of one server, kept by hand and shown as Prometheus text at `/api/v1/system/metrics`.
//! A struct that is passed around, so that two servers in one process do not share numbers.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $field:ident $name:literal)*) => {
        #[derive(Debug, Default)]
        pub struct Metrics {
            $($(#[doc = $doc])+ pub $field: Counter,)*
        }

        impl Metrics {
            /// In the text form of Prometheus.
            pub fn render(&self) -> String {
                let mut text = String::new();
                $(write_counter(&mut text, $name, concat!($($doc),+), self.$field.get());)*
                text
            }
        }
    };
}

metrics! {
    /// Connections that were accepted on any listener.
    connections_accepted "hetuflow_connections_accepted_total"
    /// Connections that were closed at once because of a limit.
    connections_refused "hetuflow_connections_refused_total"
    /// TLS handshakes that failed, or took too long.
    handshakes_failed "hetuflow_handshakes_failed_total"
    /// Agents that were turned away: no key that has joined, no good token, labels that are not theirs.
    agents_refused "hetuflow_agents_refused_total"
    /// Deliveries that were committed.
    hooks_accepted "hetuflow_hooks_accepted_total"
    /// Deliveries that had been committed before.
    hooks_duplicate "hetuflow_hooks_duplicate_total"
    /// Deliveries that were authentic but not what their content type says.
    hooks_malformed "hetuflow_hooks_malformed_total"
    /// Deliveries that were not authentic.
    hooks_rejected "hetuflow_hooks_rejected_total"
    /// Deliveries that were not authentic and were taken all the same, by hooks that only observe.
    hooks_unverified "hetuflow_hooks_unverified_total"
    /// Handshakes of providers that were answered, and pings.
    hooks_handshakes "hetuflow_hooks_handshakes_total"
    /// Deliveries that a limit refused (rate, size, time, bytes in flight).
    hooks_limited "hetuflow_hooks_limited_total"
    /// Deliveries that could not be committed.
    hooks_unavailable "hetuflow_hooks_unavailable_total"
    /// Times that public keys of a sender were fetched.
    keys_fetched "hetuflow_keys_fetched_total"
    /// Times that they could not be.
    keys_failed "hetuflow_keys_failed_total"
    /// Transactions of the ingest loop.
    ingest_commits "hetuflow_ingest_commits_total"
    /// Events that went through the ingest loop.
    ingest_events "hetuflow_ingest_events_total"
    /// Transactions of the ingest loop that failed.
    ingest_failures "hetuflow_ingest_failures_total"
    /// Times that the set of triggers was replaced.
    trigger_reloads "hetuflow_trigger_reloads_total"
    /// Tasks that were leased in the commit that stored them.
    tasks_born_leased "hetuflow_tasks_born_leased_total"
    /// Events that were read from the database for the agents of their tasks.
    events_read_again "hetuflow_events_read_again_total"
    /// Attempts that were pushed to agents.
    tasks_dispatched "hetuflow_tasks_dispatched_total"
    /// Attempts whose end was recorded.
    tasks_finished "hetuflow_tasks_finished_total"
    /// Ends of tasks that became events, for triggers that ask for them.
    ends_told "hetuflow_ends_told_total"
    /// Reports on attempts that were not the agent's any more, each refused.
    reports_fenced "hetuflow_reports_fenced_total"
    /// Times that an agent was told to hold files back, because as many tasks of their trigger wait as may.
    files_withheld "hetuflow_files_withheld_total"
    /// Runs of daemons that were started.
    daemons_started "hetuflow_daemons_started_total"
    /// Schedules that fired.
    schedules_fired "hetuflow_schedules_fired_total"
    /// Rows that retention dropped one by one.
    retention_rows "hetuflow_retention_rows_total"
    /// Partitions that retention dropped as a whole.
    retention_partitions "hetuflow_retention_partitions_total"
    /// Pieces of the leader's housekeeping that failed and are tried again.
    housekeeping_failures "hetuflow_housekeeping_failures_total"
}

fn write_counter(text: &mut String, name: &str, help: &str, value: u64) {
    let help = help.trim();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}");
}

/// A value that goes up and down, for those that render one from what they hold.
pub(crate) fn write_gauge(text: &mut String, name: &str, help: &str, value: usize) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form() {
        let metrics = Metrics::default();
        metrics.hooks_accepted.add(2);
        let text = metrics.render();
        let expected = "# HELP hetuflow_hooks_accepted_total Deliveries that were committed.\n\
                        # TYPE hetuflow_hooks_accepted_total counter\n\
                        hetuflow_hooks_accepted_total 2\n";
        assert!(text.contains(expected), "{text}");
    }
}
