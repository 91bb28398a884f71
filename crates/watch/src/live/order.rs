//! In which order files are told that are complete together.

use hetuflow_core::trigger::{Captures, FileField};

/// Where a file stands among others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// Only its arrival counts.
    Same,
    Number(i128),
    Runs(Vec<Run>),
    Text(String),
}

/// A text or a number, so that `2` comes before `10`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Run {
    Text(String),
    Number(u128),
}

/// What is known of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) path: &'a str,
    pub(super) size: u64,
    /// Nanoseconds since 1970.
    pub(super) mtime: i128,
    pub(super) captures: &'a Captures,
}

pub(super) fn place(order: &FileField, file: Known<'_>) -> Place {
    match order {
        FileField::Path => Place::Text(file.path.to_owned()),
        FileField::Natural => Place::Runs(natural(file.path)),
        FileField::Mtime => Place::Number(file.mtime),
        FileField::Size => Place::Number(i128::from(file.size)),
        FileField::Capture(name) => {
            Place::Runs(file.captures.get(name).map(|value| natural(value)).unwrap_or_default())
        }
        FileField::Arrival
        | FileField::Name
        | FileField::Directory
        | FileField::Identity
        | FileField::Sha256 => Place::Same,
    }
}

fn natural(text: &str) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (text, tail) = rest.split_at(rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len()));
        runs.push(Run::Text(text.to_owned()));
        let (number, tail) = tail.split_at(tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len()));
        if !number.is_empty() {
            runs.push(Run::Number(number.parse().unwrap_or(u128::MAX)));
        }
        rest = tail;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_as_numbers() {
        let mut names = ["a10", "a2b10", "a2b9", "b1", "a", "a02"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["a", "a02", "a2b9", "a2b10", "a10", "b1"]);
    }
}
