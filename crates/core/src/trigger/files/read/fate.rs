//! Reads what becomes of files that are complete: their order, batches, and where they go afterwards.

use std::time::Duration;

use super::{
    super::{
        After, CaptureRule, Claim, Collision, FileBatch, FileChange, FileLimits, FileSource, LoopGuard,
        NameTemplate, OnTimeout, Symlinks,
    },
    field, order, set,
};
use crate::trigger::reader::Table;

const CLAIMS: [(&str, Claim); 2] = [("none", Claim::None), ("rename", Claim::Rename)];
const COLLISIONS: [(&str, Collision); 3] =
    [("suffix", Collision::Suffix), ("overwrite", Collision::Overwrite), ("keep", Collision::Keep)];
pub(super) const ON_TIMEOUT: [(&str, OnTimeout); 2] = [("fire", OnTimeout::Fire), ("hold", OnTimeout::Hold)];
const PLAIN: [(&str, u8); 2] = [("keep", 0), ("delete", 1)];

/// Files of one batch, at most: they travel in one message.
const MAX_BATCH: i64 = 1000;

pub(super) fn read(table: &mut Table<'_>, source: &mut FileSource, capture: Option<&CaptureRule>) {
    order::read(table, source, capture);
    source.batch = table.table("batch").map(|batch| read_batch(batch, capture));
    order::check(table, source);
    if let Some(mut limits) = table.table("limits") {
        read_limits(&mut limits, &mut source.limits);
        limits.finish();
    }
    source.loop_guard = table.table("loop_guard").and_then(read_loop_guard);
    set(&mut source.claim, table.choice("claim", &CLAIMS));
    source.after_success = read_after(table, "after_success");
    source.after_failure = read_after(table, "after_failure");
    set(&mut source.collision, table.choice("collision", &COLLISIONS));
    if source.claim != Claim::None && source.events != [FileChange::Arrived] {
        let help = "events = [\"arrived\"]: what happens to it afterwards is our own doing";
        table.problem_at("events", "a file that is claimed arrives, and nothing else", help);
    }
    if source.claim != Claim::None && source.symlinks != Symlinks::Ignore {
        let help = "leave one of them out: a link that is renamed keeps a name, and not what is behind it";
        table.problem_at("symlinks", "claim does not go with symlinks", help);
    }
    let moves = source.after_success != After::Keep || source.after_failure != After::Keep;
    if moves && source.events.len() > 1 {
        let help = "events = [\"arrived\"]: the end of one task says what becomes of a file";
        table.problem_at("events", "a file that is moved or deleted afterwards starts one task", help);
    }
}

fn read_batch(mut table: Table<'_>, capture: Option<&CaptureRule>) -> FileBatch {
    let mut batch = FileBatch::default();
    let count = |number: i64| u32::try_from(number).ok();
    set(&mut batch.max_files, table.integer("max_files", 1..=MAX_BATCH).and_then(count));
    set(&mut batch.min_files, table.integer("min_files", 1..=MAX_BATCH).and_then(count));
    set(&mut batch.max_wait, table.duration("max_wait", Duration::from_millis(100)));
    batch.max_bytes = table.size("max_bytes", 1..=i64::MAX.unsigned_abs());
    if let Some(text) = table.text("group_by") {
        batch.group_by = field(&table, &text, "group_by", &["directory"], capture);
    }
    set(&mut batch.on_timeout, table.choice("on_timeout", &ON_TIMEOUT));
    if batch.min_files > batch.max_files {
        table.problem_at("min_files", "min_files is above max_files", "no batch would be complete");
    }
    table.finish();
    batch
}

fn read_limits(table: &mut Table<'_>, limits: &mut FileLimits) {
    set(&mut limits.files, table.integer("files", 1..=100_000_000).and_then(|most| most.try_into().ok()));
    let directories = table.integer("directories", 1..=10_000_000);
    set(&mut limits.directories, directories.and_then(|most| most.try_into().ok()));
    let pending = table.integer("max_pending", 1..=10_000_000);
    set(&mut limits.max_pending, pending.and_then(|most| most.try_into().ok()));
    limits.rate = table.integer("rate", 1..=100_000).and_then(|most| most.try_into().ok());
}

fn read_loop_guard(mut table: Table<'_>) -> Option<LoopGuard> {
    table.demand("events", "how many events of one path are too many: events = 20");
    table.demand("within", "in which time: within = \"60s\"");
    let events = table.integer("events", 1..=10_000).and_then(|events| events.try_into().ok());
    let within = table.duration("within", Duration::from_secs(1));
    table.finish();
    Some(LoopGuard { events: events?, within: within? })
}

fn read_after(table: &mut Table<'_>, key: &'static str) -> After {
    if !table.has_table(key) {
        return match table.choice(key, &PLAIN) {
            Some(1) => After::Delete,
            _ => After::Keep,
        };
    }
    let Some(mut after) = table.table(key) else { return After::Keep };
    let target = after.required("move", "a path below the start of the glob: { move = \"archive/{name}\" }");
    if let Some(text) = &target
        && let Err(error) = NameTemplate::path(&text.value)
    {
        after.problem(text.span.clone(), format!("move: {error}"), "such as \"archive/{date:%Y-%m}/{name}\"");
    }
    after.finish();
    target.map_or(After::Keep, |text| After::Move(text.value))
}
