//! Reads `order`: by what files are sorted, whether they count, and whether they go one at a time.

use std::time::Duration;

use super::{
    super::{CaptureRule, FileChange, FileField, FileSequence, FileSource, FileStrict, OnFailure},
    SECOND,
    fate::ON_TIMEOUT,
    field, set,
};
use crate::trigger::reader::Table;

const ON_FAILURE: [(&str, OnFailure); 2] = [("hold", OnFailure::Hold), ("continue", OnFailure::Continue)];

/// What files can be sorted by, beside captures.
const SORTED_BY: [&str; 5] = ["arrival", "path", "natural", "mtime", "size"];

pub(super) fn read(table: &mut Table<'_>, source: &mut FileSource, capture: Option<&CaptureRule>) {
    if table.has_table("order") {
        if let Some(order) = table.table("order") {
            read_groups(order, source, capture);
        }
    } else if let Some(text) = table.text("order") {
        set(&mut source.order, field(table, &text, "order", &SORTED_BY, capture));
    }
}

/// Files that count, that go one at a time, or both.
fn read_groups(mut table: Table<'_>, source: &mut FileSource, capture: Option<&CaptureRule>) {
    let strict = table.flag("strict").unwrap_or_default();
    let by = if strict {
        table.text("by")
    } else {
        let help = "what counts the files: order = { by = \"capture:seq\", gap_timeout = \"10m\" }";
        table.required("by", help)
    };
    let allowed: &[&str] = if strict { &SORTED_BY } else { &[] };
    let by = by.and_then(|text| field(&table, &text, "by", allowed, capture));
    set(&mut source.order, by);
    let group_by = table.text("group_by");
    let group_by = group_by.and_then(|text| field(&table, &text, "group_by", &["directory"], capture));
    source.sequence = read_sequence(&mut table, strict, &source.order, group_by.clone());
    source.strict = read_strict(&mut table, strict, group_by);
    table.finish();
}

fn read_sequence(
    table: &mut Table<'_>,
    strict: bool,
    by: &FileField,
    group_by: Option<FileField>,
) -> Option<FileSequence> {
    let gap_timeout = table.duration("gap_timeout", SECOND);
    let on_timeout = table.choice("on_timeout", &ON_TIMEOUT);
    // One at a time, they count only where a gap is spoken of: what they are sorted by may be a day.
    if strict && gap_timeout.is_none() {
        if on_timeout.is_some() {
            table.problem_at("on_timeout", "on_timeout needs gap_timeout", "gap_timeout = \"10m\"");
        }
        return None;
    }
    if strict && !matches!(by, FileField::Capture(_)) {
        table.problem_at("gap_timeout", "only a number in the name has gaps", "by = \"capture:seq\"");
    }
    let mut sequence = FileSequence { group_by, ..FileSequence::default() };
    set(&mut sequence.gap_timeout, gap_timeout);
    set(&mut sequence.on_timeout, on_timeout);
    Some(sequence)
}

fn read_strict(table: &mut Table<'_>, strict: bool, group_by: Option<FileField>) -> Option<FileStrict> {
    let on_failure = table.choice("on_failure", &ON_FAILURE);
    let stuck_after = table.duration("stuck_after", Duration::from_secs(1));
    if !strict {
        for (key, given) in [("on_failure", on_failure.is_some()), ("stuck_after", stuck_after.is_some())] {
            if given {
                table.problem_at(key, format!("{key} needs strict"), "strict = true: one file at a time");
            }
        }
        return None;
    }
    let mut rule = FileStrict { group_by, ..FileStrict::default() };
    set(&mut rule.on_failure, on_failure);
    set(&mut rule.stuck_after, stuck_after);
    Some(rule)
}

/// What a strict order cannot be together with.
pub(super) fn check(table: &mut Table<'_>, source: &FileSource) {
    let Some(strict) = &source.strict else { return };
    if source.share.is_some() {
        let help = "watch on one agent without share: each agent knows only of the files that it has told";
        table.problem_at("share", "a strict order cannot be kept by several agents", help);
    }
    if source.events.len() > 1 || source.events.contains(&FileChange::Deleted) {
        let help = "events = [\"arrived\"]: the end of its task lets the next one go";
        table.problem_at("events", "in a strict order a file starts one task, and is there", help);
    }
    if source.batch.as_ref().is_some_and(|batch| batch.group_by != strict.group_by) {
        let help = "give both the same group_by: one batch of a group goes at a time";
        table.problem_at("batch", "the groups of batch are not those of the strict order", help);
    }
}
