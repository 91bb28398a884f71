//! What links lead to, for the explanation: the same answers as in force, found out at once.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use hetuflow_core::{path_text, trigger::Symlinks};

use super::Fate;
use crate::{
    ground::Ground,
    links::{Lead, Links},
    listing::Listing,
    probe::{FileFact, Seen, Way},
    rule::Rule,
};

/// All links below the start that are gone through. A directory that was walked before a link to it was found is walked
/// again, because it may have more to say under another name.
pub(super) fn links(rule: &Rule, ground: &Ground, limit: usize) -> Links {
    let mut links = Links::default();
    if ground.symlinks() == Symlinks::Ignore {
        return links;
    }
    while find(rule, ground, limit, &mut links) {}
    links
}

/// Whether there was a link that was not known.
fn find(rule: &Rule, ground: &Ground, limit: usize, links: &mut Links) -> bool {
    let (mut queue, mut walked, mut news) = (vec![ground.dir().to_owned()], BTreeSet::new(), false);
    while let Some(directory) = queue.pop() {
        if walked.len() >= limit || !walked.insert(directory.clone()) {
            continue;
        }
        let Some(listing) = ground.directory(&directory).ok().and_then(|open| Listing::read(open).ok())
        else {
            continue;
        };
        let below = listing.directories.iter().map(|name| directory.join(name));
        queue.extend(below.filter(|directory| links.enters(rule, directory)));
        for name in listing.others.iter().filter(|name| listing.may_be_link(name)) {
            let path = directory.join(name);
            match look(rule, ground, links, &path) {
                Lead::New(target) => {
                    news = true;
                    queue.push(target);
                }
                Lead::Known(target) => queue.push(target),
                Lead::Nowhere | Lead::Gone(_) | Lead::Out => {}
            }
        }
    }
    news
}

fn look(rule: &Rule, ground: &Ground, links: &mut Links, path: &Path) -> Lead {
    if let Seen::File(FileFact { way: Way::Link, .. }) = ground.see(path) {
        if links.covers(rule, path)
            && let Ok(target) = ground.path_behind(path)
        {
            links.lead_to_file(path, target);
        }
        return Lead::Nowhere;
    }
    if ground.symlinks() == Symlinks::Follow { links.lead(rule, ground, path) } else { Lead::Nowhere }
}

/// What becomes of a link that is not taken for a file; `None`: it is, or it is no link.
pub(super) fn of_link(rule: &Rule, links: &Links, ground: &Ground, path: &Path) -> Option<(Fate, String)> {
    let left = |reason: String| Some((Fate::Left, reason));
    if !ground.is_link(path) {
        return None;
    }
    if ground.symlinks() == Symlinks::Ignore {
        return left("a link: `symlinks` says which are gone through".to_owned());
    }
    match ground.see(path) {
        Seen::File(FileFact { way: Way::Link, .. }) => {
            told_as(rule, links, path).map(|other| (Fate::Left, told(&other)))
        }
        Seen::File(_) if !links.covers(rule, path) && links.enters(rule, path) => {
            Some((Fate::Rejected, crate::gate::LEADS_OUT.to_owned()))
        }
        Seen::File(_) | Seen::Unknown(_) | Seen::Absent => None,
        Seen::Directory(_) => match links.directory(path) {
            Some(target) => left(format!("a link to `{}`, which is looked into", path_text::show(target))),
            None => left(
                "a link to a directory that no glob reaches by it, that is above it, or that is excluded"
                    .to_owned(),
            ),
        },
        Seen::Other => left(match ground.directory_behind(path) {
            Ok(Some(_)) => "a link to a directory: `symlinks = \"follow\"` goes through it".to_owned(),
            _ => "a link that leads to no file".to_owned(),
        }),
    }
}

/// Another path under which the file that a link leads to is told.
fn told_as(rule: &Rule, links: &Links, path: &Path) -> Option<PathBuf> {
    let target = links.target(path)?;
    if links.covers(rule, target) {
        return Some(target.to_owned());
    }
    links.to(target).find(|other| *other < path).map(Path::to_owned)
}

fn told(other: &Path) -> String {
    format!("it leads to the same file as `{}`, which is told", path_text::show(other))
}
