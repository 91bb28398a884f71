//! The environment of a process: nothing of the agent's own, a fixed base, what the job names, and
//! what the attempt is about. Later ones win, so that a job cannot lie about the attempt.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use hetuflow_core::protocol::Assignment;

use super::MARKER;
use crate::workplace::Workplace;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Names and values.
pub(super) type Environment<'a> = BTreeMap<&'a str, Cow<'a, str>>;

pub(super) fn of<'a>(assignment: &'a Assignment, place: &Workplace, home: &'a Path) -> Environment<'a> {
    let event = &assignment.event;
    let mut all = Environment::from([
        ("PATH", Cow::from(PATH)),
        ("HOME", home.to_string_lossy()),
        ("LANG", "C.UTF-8".into()),
        ("TZ", "UTC".into()),
    ]);
    let job = &assignment.command.environment;
    all.extend(job.iter().map(|(name, value)| (name.as_str(), Cow::from(value))));
    all.extend([
        ("HETUFLOW_EVENT_ID", Cow::from(event.id.to_string())),
        ("HETUFLOW_EVENT_TYPE", Cow::from(&event.event_type)),
        ("HETUFLOW_EVENT_SOURCE", Cow::from(&event.source)),
        ("HETUFLOW_EVENT_SUBJECT", event.subject.as_deref().unwrap_or_default().into()),
        ("HETUFLOW_EVENT_FILE", place.event_file().display().to_string().into()),
        ("HETUFLOW_OUTPUT", place.output_file().display().to_string().into()),
        ("HETUFLOW_TASK_ID", assignment.lease.task_id.to_string().into()),
        (MARKER, assignment.lease.instance_id.to_string().into()),
        ("HETUFLOW_ATTEMPT", assignment.attempt.to_string().into()),
        ("TRACEPARENT", traceparent(rand::random(), rand::random()).into()),
    ]);
    if let Some(original) = event.replay_of {
        all.insert("HETUFLOW_EVENT_REPLAY_OF", original.to_string().into());
    }
    if let Some(file) = &event.file {
        all.extend([
            ("HETUFLOW_FILE", Cow::from(&file.path)),
            ("HETUFLOW_FILE_SIZE", file.size.to_string().into()),
            ("HETUFLOW_FILE_MTIME", file.mtime.to_string().into()),
        ]);
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
