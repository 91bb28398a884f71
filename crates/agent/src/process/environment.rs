//! The environment of a process: nothing of the agent's own, a fixed base, what the job names, and
//! what the attempt is about. Later ones win, so that a job cannot lie about the attempt.

use std::{borrow::Cow, collections::BTreeMap, ffi::OsStr, path::Path};

use hetuflow_core::{event::FileFacts, protocol::Assignment};

use super::{MARKER, files::Manifest};
use crate::workplace::Workplace;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Names and values.
pub(super) type Environment<'a> = BTreeMap<Cow<'a, str>, Cow<'a, str>>;

pub(super) fn of<'a>(
    assignment: &'a Assignment,
    place: &Workplace,
    home: &'a Path,
    manifest: Option<&Manifest>,
) -> Environment<'a> {
    let event = &assignment.event;
    let fixed = [
        ("PATH", Cow::from(PATH)),
        ("HOME", home.to_string_lossy()),
        ("LANG", "C.UTF-8".into()),
        ("TZ", "UTC".into()),
    ];
    let named = |(name, value)| (Cow::Borrowed(name), value);
    let mut all: Environment<'_> = fixed.map(named).into();
    let job = &assignment.command.environment;
    all.extend(job.iter().map(|(name, value)| (Cow::from(name), Cow::from(value))));
    let own = [
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
    ];
    all.extend(own.map(named));
    if let Some(original) = event.replay_of {
        all.insert("HETUFLOW_EVENT_REPLAY_OF".into(), original.to_string().into());
    }
    if let Some(file) = &event.file {
        all.extend(of_file(file).map(|(name, value)| (Cow::from(name), value)));
        let captures = file.captures.iter().map(|(name, value)| (capture(name), Cow::from(value)));
        all.extend(captures);
    }
    if let Some(manifest) = manifest {
        let [lines, paths] = place.manifest_files();
        all.insert("HETUFLOW_MANIFEST".into(), lines.display().to_string().into());
        all.insert("HETUFLOW_MANIFEST0".into(), paths.display().to_string().into());
        all.insert("HETUFLOW_BATCH_COUNT".into(), manifest.count.to_string().into());
    }
    all
}

fn of_file(file: &FileFacts) -> impl Iterator<Item = (&'static str, Cow<'_, str>)> {
    let path = Path::new(&file.path);
    let part = |part: Option<&OsStr>| part.map(OsStr::to_string_lossy).unwrap_or_default().into_owned();
    let always = [
        ("HETUFLOW_FILE", Cow::from(&file.path)),
        ("HETUFLOW_FILE_NAME", part(path.file_name()).into()),
        ("HETUFLOW_FILE_STEM", part(path.file_stem()).into()),
        ("HETUFLOW_FILE_EXT", part(path.extension()).into()),
        ("HETUFLOW_FILE_SIZE", file.size.to_string().into()),
        ("HETUFLOW_FILE_MTIME", file.mtime.to_string().into()),
        ("HETUFLOW_FILE_CHANGE", Cow::from(&file.change)),
    ];
    let old = file.old_path.as_ref().map(|path| ("HETUFLOW_FILE_OLD", Cow::from(path)));
    let sha256 = file.sha256.as_ref().map(|digest| ("HETUFLOW_FILE_SHA256", Cow::from(digest)));
    always.into_iter().chain(old).chain(sha256)
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
