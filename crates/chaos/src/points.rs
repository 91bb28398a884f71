//! The list of failpoints, made from the sources of the product: what is in the code is walked, and nothing is kept
//! twice that could be forgotten.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::world::Database;

/// The crates that have points, and the process in which their code runs.
const CRATES: [(&str, Part); 4] =
    [("server", Part::Server), ("store", Part::Server), ("agent", Part::Agent), ("watch", Part::Agent)];

const CALL: &str = "failpoint!(\"";

/// Which process passes the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Server,
    Agent,
}

/// One point in the code, on one database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) name: String,
    pub(crate) part: Part,
    /// It can lose an answer: what came before it is done, and its caller hears an error.
    pub(crate) ambiguous: bool,
}

/// Every point that code for this database passes.
pub(crate) fn points(database: &Database) -> anyhow::Result<BTreeSet<Point>> {
    let other = match database {
        Database::Sqlite => "postgres",
        Database::Postgres(_) => "sqlite",
    };
    let mut points = BTreeSet::new();
    for (place, point) in all()? {
        if !place.components().any(|part| part.as_os_str().to_string_lossy().trim_end_matches(".rs") == other)
        {
            points.insert(point);
        }
    }
    Ok(points)
}

/// Every point with the file that it is in.
pub(crate) fn all() -> anyhow::Result<Vec<(PathBuf, Point)>> {
    let mut found = Vec::new();
    for (name, part) in CRATES {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src");
        for file in sources(&folder)? {
            let text = fs::read_to_string(&file)?;
            found.extend(read(&text, part).into_iter().map(|point| (file.clone(), point)));
        }
    }
    Ok(found)
}

fn read(text: &str, part: Part) -> Vec<Point> {
    let points = text.split(CALL).skip(1).filter_map(|rest| {
        let (name, after) = rest.split_once('"')?;
        let ambiguous = after.trim_start().starts_with(',');
        Some(Point { name: name.to_owned(), part, ambiguous })
    });
    points.collect()
}

fn sources(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("no sources in {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The steps of the walk in ARCHITECTURE.md that must have a point, and the two moments around each.
    const STEPS: [&str; 48] = [
        "verify.before",
        "verify.after",
        "match.before",
        "match.after",
        "offer.before",
        "offer.after",
        "ingest.before_insert",
        "ingest.after_commit",
        "ingest.before_answers",
        "ingest.after_answers",
        "answer.before",
        "lease.before",
        "lease.after_commit",
        "push.before",
        "push.after",
        "send.before",
        "send.after",
        "journal.before_commit",
        "journal.after_commit",
        "fork.before",
        "fork.after",
        "result.before_journal",
        "result.after_journal",
        "result.before_send",
        "result.before_store",
        "report.before",
        "report.between",
        "finish.before_commit",
        "finish.after_commit",
        "report.before_answers",
        "report.after",
        "acknowledge.before",
        "acknowledge.after",
        "fire.before_commit",
        "fire.after_commit",
        "end.before",
        "end.between",
        "end.before_commit",
        "lead.before",
        "lead.after",
        "reaper.before_commit",
        "reaper.after_commit",
        "drop.before_commit",
        "drop.after_commit",
        "share.before_commit",
        "fate.before_commit",
        "claim.before",
        "claim.after",
    ];

    #[test]
    fn every_step_has_its_points_on_both_databases() {
        let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (file, point) in all().expect("sources") {
            places.entry(point.name).or_default().push(file.display().to_string());
        }
        for step in STEPS {
            assert!(places.contains_key(step), "no failpoint {step}");
        }
        for (name, files) in &places {
            let twins = files.iter().filter(|file| file.contains("/sqlite")).count();
            let expected = if twins > 0 { 2 } else { 1 };
            // The claim, and a batch of events, are one statement on PostgreSQL: nothing lies before its commit.
            let one_statement = ["lease.before_commit", "ingest.before_commit"].contains(&name.as_str());
            assert!(files.len() == expected || one_statement, "{name} is in {files:?}");
        }
    }

    #[test]
    fn points_are_read_from_code() {
        let text = "failpoint!(\"a.before\");\nfailpoint!(\"b.after\", Error::New(1));";
        let point = |name: &str, ambiguous| Point { name: name.to_owned(), part: Part::Agent, ambiguous };
        assert_eq!(read(text, Part::Agent), [point("a.before", false), point("b.after", true)]);
    }
}
