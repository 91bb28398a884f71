//! What cannot be had of a directory that is told as one piece.

use super::super::{After, Claim, FileField, FileSource, Symlinks};
use crate::trigger::reader::Table;

pub(super) fn check(table: &Table<'_>, source: &FileSource) {
    if !source.tells_directories() {
        return;
    }
    let refuse = |key: &str, why: &str, help: &str| {
        table.problem_at(key, format!("{key} does not go with kinds = [\"directory\"]: {why}"), help);
    };
    if source.verify.is_some() {
        refuse("verify", "a directory has no bytes of its own", "a done_marker in it says that it is whole");
    }
    if source.dedupe.key.contains(&FileField::Sha256) {
        refuse("dedupe", "a directory has no checksum", "leave sha256 out");
    }
    if source.share.is_some() {
        refuse("share", "agents cannot tell whether they see the same directory", "watch on one agent");
    }
    if source.claim != Claim::None {
        refuse("claim", "only files are claimed", "leave it out");
    }
    if source.symlinks != Symlinks::Ignore {
        refuse("symlinks", "links in a directory are not gone through", "leave it out");
    }
    for (key, after) in [("after_success", &source.after_success), ("after_failure", &source.after_failure)] {
        if *after == After::Delete {
            refuse(key, "what came into it since would be lost", "move it: { move = \"done/{name}\" }");
        }
    }
}
