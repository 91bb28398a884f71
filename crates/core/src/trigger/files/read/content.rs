//! Reads what a file must be: sizes, ages, a marker beside it, its content.

use std::time::Duration;

use super::{
    super::{FileSource, MarkerAfter, NameTemplate, OnReject, Verify},
    set,
};
use crate::trigger::{reader::Table, text::Text};

const MARKER_AFTER: [(&str, MarkerAfter); 2] = [("remove", MarkerAfter::Remove), ("keep", MarkerAfter::Keep)];
const ON_REJECT: [(&str, OnReject); 3] =
    [("report", OnReject::Report), ("ignore", OnReject::Ignore), ("quarantine", OnReject::Quarantine)];

/// Larger files than any file system has.
const LARGEST: u64 = i64::MAX.unsigned_abs();

/// Bytes of a last line or of first bytes, at most.
const MAX_EXPECTED: usize = 1024;

pub(super) fn read(table: &mut Table<'_>, source: &mut FileSource) {
    set(&mut source.min_size, table.size("min_size", 0..=LARGEST));
    source.max_size = table.size("max_size", 0..=LARGEST);
    if source.max_size.is_some_and(|most| most < source.min_size) {
        table.problem_at("max_size", "max_size is smaller than min_size", "no file would fit");
    }
    set(&mut source.min_age, table.duration("min_age", Duration::ZERO));
    set(&mut source.min_mtime_age, table.duration("min_mtime_age", Duration::ZERO));
    source.max_age = table.duration("max_age", Duration::from_secs(1));
    if source.max_age.is_some_and(|most| most <= source.min_mtime_age) {
        table.problem_at("max_age", "max_age is not above min_mtime_age", "no file would fit");
    }
    source.done_marker = table.text("done_marker").map(|text| beside(table, text, "done_marker"));
    set(&mut source.done_marker_after, table.choice("done_marker_after", &MARKER_AFTER));
    source.verify = table.table("verify").and_then(read_verify);
    set(&mut source.on_reject, table.choice("on_reject", &ON_REJECT));
}

/// The name of another file beside the file.
fn beside(table: &Table<'_>, text: Text, key: &str) -> String {
    if let Err(error) = NameTemplate::name(&text.value) {
        table.problem(text.span, format!("{key}: {error}"), "such as \"{name}.done\"");
    }
    text.value
}

fn read_verify(mut table: Table<'_>) -> Option<Verify> {
    let sha256 = table.text("sha256").map(|text| Verify::Sha256(beside(&table, text, "sha256")));
    let last_line = expected(&mut table, "last_line").map(Verify::LastLine);
    let magic = expected(&mut table, "magic").map(Verify::Magic);
    let mut found = [sha256, last_line, magic].into_iter().flatten();
    let (first, second) = (found.next(), found.next());
    if first.is_none() || second.is_some() {
        let help = "sha256 = \"{name}.sha256\", last_line = \"EOF\" or magic = \"PK\"";
        table.problem(table.span.clone(), "verify takes exactly one check", help);
    }
    table.finish();
    first
}

fn expected(table: &mut Table<'_>, key: &'static str) -> Option<String> {
    let text = table.text(key)?;
    if text.value.is_empty() || text.value.len() > MAX_EXPECTED || text.value.contains('\n') {
        table.problem(text.span, format!("{key} has 1 to {MAX_EXPECTED} bytes in one line"), "");
        return None;
    }
    Some(text.value)
}
