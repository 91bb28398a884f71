//! The environment of a process: nothing of the agent's own, a fixed base, what the job names, and
//! what the attempt is about. Later ones win, so that a job cannot lie about the attempt.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::Path,
};

use hetuflow_core::{event::FileFacts, protocol::Assignment};

use super::{MARKER, files::Manifest};
use crate::workplace::Workplace;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Names and values. Only paths may be no text.
pub(super) type Environment<'a> = BTreeMap<Cow<'a, str>, Cow<'a, OsStr>>;

pub(super) fn of<'a>(
    assignment: &'a Assignment,
    place: &Workplace,
    home: &'a Path,
    manifest: Option<&Manifest>,
) -> Environment<'a> {
    let event = &assignment.event;
    let fixed = [
        ("PATH", borrowed(PATH)),
        ("HOME", borrowed(home)),
        ("LANG", borrowed("C.UTF-8")),
        ("TZ", borrowed("UTC")),
    ];
    let named = |(name, value)| (Cow::Borrowed(name), value);
    let mut all: Environment<'_> = fixed.map(named).into();
    let job = &assignment.command.environment;
    all.extend(job.iter().map(|(name, value)| (Cow::from(name), borrowed(value))));
    let own = [
        ("HETUFLOW_EVENT_ID", owned(event.id.to_string())),
        ("HETUFLOW_EVENT_TYPE", borrowed(&event.event_type)),
        ("HETUFLOW_EVENT_SOURCE", borrowed(&event.source)),
        ("HETUFLOW_EVENT_SUBJECT", borrowed(event.subject.as_deref().unwrap_or_default())),
        ("HETUFLOW_EVENT_FILE", owned(place.event_file())),
        ("HETUFLOW_OUTPUT", owned(place.output_file())),
        ("HETUFLOW_TASK_ID", owned(assignment.lease.task_id.to_string())),
        (MARKER, owned(assignment.lease.instance_id.to_string())),
        ("HETUFLOW_ATTEMPT", owned(assignment.attempt.to_string())),
        ("TRACEPARENT", owned(traceparent(rand::random(), rand::random()))),
    ];
    all.extend(own.map(named));
    if let Some(original) = event.replay_of {
        all.insert("HETUFLOW_EVENT_REPLAY_OF".into(), owned(original.to_string()));
    }
    if let Some(file) = &event.file {
        all.extend(of_file(file).map(|(name, value)| (Cow::from(name), value)));
        let captures = file.captures.iter().map(|(name, value)| (capture(name), borrowed(value)));
        all.extend(captures);
    }
    if let Some(manifest) = manifest {
        let [lines, paths] = place.manifest_files();
        all.insert("HETUFLOW_MANIFEST".into(), owned(lines));
        all.insert("HETUFLOW_MANIFEST0".into(), owned(paths));
        all.insert("HETUFLOW_BATCH_COUNT".into(), owned(manifest.count.to_string()));
    }
    all
}

/// Paths are the very bytes, whatever the event has for them.
fn of_file(file: &FileFacts) -> impl Iterator<Item = (&'static str, Cow<'_, OsStr>)> {
    let path = file.location();
    let part = |part: Option<&OsStr>| owned(part.unwrap_or_default());
    let always = [
        ("HETUFLOW_FILE_NAME", part(path.file_name())),
        ("HETUFLOW_FILE_STEM", part(path.file_stem())),
        ("HETUFLOW_FILE_EXT", part(path.extension())),
        ("HETUFLOW_FILE", owned(path)),
        ("HETUFLOW_FILE_SIZE", owned(file.size.to_string())),
        ("HETUFLOW_FILE_MTIME", owned(file.mtime.to_string())),
        ("HETUFLOW_FILE_KIND", borrowed(file.kind.name())),
        ("HETUFLOW_FILE_CHANGE", borrowed(&file.change)),
    ];
    let count = file.count.map(|count| ("HETUFLOW_FILE_COUNT", owned(count.to_string())));
    let from = file.claimed_from.as_ref().map(|_| ("HETUFLOW_FILE_CLAIMED_FROM", owned(file.found_at())));
    let old = file.old_location().map(|path| ("HETUFLOW_FILE_OLD", owned(path)));
    let sha256 = file.sha256.as_ref().map(|digest| ("HETUFLOW_FILE_SHA256", borrowed(digest)));
    always.into_iter().chain(count).chain(from).chain(old).chain(sha256)
}

fn borrowed(text: &(impl AsRef<OsStr> + ?Sized)) -> Cow<'_, OsStr> {
    Cow::Borrowed(text.as_ref())
}

fn owned(text: impl Into<OsString>) -> Cow<'static, OsStr> {
    Cow::Owned(text.into())
}

/// `HETUFLOW_CAP_DAY` for the group `day`. Names of groups are letters, digits, `_`, `.`, `[` and `]`.
fn capture(name: &str) -> Cow<'static, str> {
    let name = name.to_ascii_uppercase();
    Cow::from(format!("HETUFLOW_CAP_{}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "_")))
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
