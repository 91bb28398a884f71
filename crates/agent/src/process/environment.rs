//! The environment of a process: nothing of the agent's own, a fixed base, what the job names, and
//! what the attempt is about. Later ones win, so that a job cannot lie about the attempt.

use std::{collections::BTreeMap, path::Path};

use hetuflow_core::protocol::Assignment;

use super::MARKER;
use crate::workplace::Workplace;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn of(assignment: &Assignment, place: &Workplace, home: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        all.insert(name.to_owned(), value);
    };
    set("PATH", PATH.to_owned());
    set("HOME", home.display().to_string());
    set("LANG", "C.UTF-8".to_owned());
    set("TZ", "UTC".to_owned());
    for (name, value) in &assignment.command.environment {
        set(name, value.clone());
    }
    let event = &assignment.event;
    set("HETUFLOW_EVENT_ID", event.id.to_string());
    set("HETUFLOW_EVENT_TYPE", event.event_type.clone());
    set("HETUFLOW_EVENT_SOURCE", event.source.clone());
    set("HETUFLOW_EVENT_SUBJECT", event.subject.clone().unwrap_or_default());
    set("HETUFLOW_EVENT_FILE", place.event_file().display().to_string());
    set("HETUFLOW_OUTPUT", place.output_file().display().to_string());
    set("HETUFLOW_TASK_ID", assignment.lease.task_id.to_string());
    set(MARKER, assignment.lease.instance_id.to_string());
    set("HETUFLOW_ATTEMPT", assignment.attempt.to_string());
    set("TRACEPARENT", traceparent(rand::random(), rand::random()));
    if let Some(file) = &event.file {
        set("HETUFLOW_FILE", file.path.clone());
        set("HETUFLOW_FILE_SIZE", file.size.to_string());
        set("HETUFLOW_FILE_MTIME", file.mtime.to_string());
    }
    all
}

/// W3C Trace Context, version 00, sampled. All-zero ids are invalid there.
fn traceparent(trace: u128, span: u64) -> String {
    format!("00-{:032x}-{:016x}-01", trace.max(1), span.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_contexts_have_their_form() {
        assert_eq!(traceparent(10, 0), "00-0000000000000000000000000000000a-0000000000000001-01");
    }
}
