//! What a complete file must be besides complete: its size, ages, names. Pure, with the times as arguments; the judge and
//! the explanation of a trigger ask it.

use std::{path::Path, time::Duration};

use hetuflow_core::{
    duration,
    schedule::zone,
    size,
    trigger::{Captures, DateRange, DateRule, FileSource, Hardlinks, Names},
};
use jiff::{Timestamp, civil::Date, fmt::strtime::BrokenDownTime, tz::TimeZone};

use crate::{
    probe::{FileFact, Way},
    rule::RuleError,
    tree,
};

#[derive(Debug, Clone)]
pub(crate) struct Gate {
    min_size: u64,
    max_size: u64,
    min_age: Duration,
    min_mtime_age: Duration,
    max_age: Duration,
    names: Names,
    hardlinks: Hardlinks,
    date: Option<(DateRule, TimeZone)>,
    /// In a directory.
    most: u64,
}

/// What is asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) path: &'a Path,
    pub(crate) captures: &'a Captures,
    pub(crate) fact: FileFact,
    /// Since it was first seen.
    pub(crate) seen_for: Duration,
    pub(crate) wall: Timestamp,
}

/// The answer, with a sentence that says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Passage {
    Take,
    /// It may become what it must be: look again after so long, or when something happens.
    Wait(String, Option<Duration>),
    /// It is none of this trigger's, but no mistake either.
    Leave(String),
    Reject(String),
}

/// What is wrong with a link that the kernel does not go through beneath a directory.
pub(crate) const LEADS_OUT: &str = "it is a link that leads out of the directory where its glob starts, or is absolute: only \
     relative links to what is below are gone through";

impl Gate {
    pub(crate) fn compile(source: &FileSource) -> Result<Self, RuleError> {
        let date = source.date.clone().map(|rule| {
            let found = zone(&rule.timezone).map_err(|error| RuleError(error.to_string()));
            found.map(|zone| (rule, zone))
        });
        Ok(Self {
            min_size: source.min_size,
            max_size: source.max_size.unwrap_or(u64::MAX),
            min_age: source.min_age,
            min_mtime_age: source.min_mtime_age,
            max_age: source.max_age.unwrap_or(Duration::MAX),
            names: source.names,
            hardlinks: source.hardlinks,
            date: date.transpose()?,
            most: tree::most(source.limits.files),
        })
    }

    pub(crate) fn pass(&self, subject: &Subject<'_>) -> Passage {
        let checks = [Self::way, Self::name, Self::links, Self::date, Self::age, Self::size];
        checks.iter().find_map(|check| check(self, subject)).unwrap_or(Passage::Take)
    }

    /// Whether nothing under this name is ever taken, whatever it is and whenever.
    pub(crate) fn bars_name(&self, path: &Path, captures: &Captures) -> bool {
        self.odd_name(path).is_some()
            || self.date.as_ref().is_some_and(|(rule, _)| dated(rule, captures).is_err())
    }

    fn way(&self, subject: &Subject<'_>) -> Option<Passage> {
        match subject.fact.way {
            Way::Itself | Way::Link => None,
            Way::Out => Some(Passage::Reject(LEADS_OUT.to_owned())),
            Way::Whole { files } => (files > self.most)
                .then(|| Passage::Reject(format!("more than {} files and directories are in it", self.most))),
        }
    }

    fn name(&self, subject: &Subject<'_>) -> Option<Passage> {
        self.odd_name(subject.path).map(|reason| Passage::Reject(reason.to_owned()))
    }

    fn odd_name(&self, path: &Path) -> Option<&'static str> {
        if self.names == Names::Any {
            return None;
        }
        let Some(text) = path.to_str() else {
            return Some("its path is not UTF-8: `names = \"any\"` takes it");
        };
        let name = text.rsplit('/').next().unwrap_or_default();
        let odd = name.starts_with('-') || name.contains(char::is_control);
        (self.names == Names::Portable && odd).then_some("its name starts with - or has control characters")
    }

    fn links(&self, subject: &Subject<'_>) -> Option<Passage> {
        let links = subject.fact.links;
        (self.hardlinks == Hardlinks::Reject && links > 1)
            .then(|| Passage::Reject(format!("it has {links} names (hard links)")))
    }

    fn date(&self, subject: &Subject<'_>) -> Option<Passage> {
        let (rule, zone) = self.date.as_ref()?;
        let date = match dated(rule, subject.captures) {
            Ok(date) => date,
            Err(why) => return Some(Passage::Leave(why)),
        };
        let today = subject.wall.to_zoned(zone.clone()).date();
        (!holds(rule.days, date, today)).then(|| Passage::Leave(format!("its date {date} is not asked for")))
    }

    fn age(&self, subject: &Subject<'_>) -> Option<Passage> {
        let mtime = subject.fact.version.mtime;
        let changed = Timestamp::from_nanosecond(i128::from(mtime)).unwrap_or(Timestamp::UNIX_EPOCH);
        // A file from the future has no age.
        let age = Duration::try_from(subject.wall.duration_since(changed)).unwrap_or_default();
        if age > self.max_age {
            return Some(Passage::Leave(format!("it is older than {}", duration::format(self.max_age))));
        }
        let left = self.min_age.saturating_sub(subject.seen_for).max(self.min_mtime_age.saturating_sub(age));
        (!left.is_zero()).then(|| Passage::Wait("it is too young".to_owned(), Some(left)))
    }

    fn size(&self, subject: &Subject<'_>) -> Option<Passage> {
        let size = subject.fact.version.size;
        if size > self.max_size {
            let most = size::format(self.max_size);
            return Some(Passage::Reject(format!("it has {size} bytes, more than {most}")));
        }
        let least = size::format(self.min_size);
        (size < self.min_size)
            .then(|| Passage::Wait(format!("it has {size} bytes, fewer than {least}"), None))
    }
}

fn dated(rule: &DateRule, captures: &Captures) -> Result<Date, String> {
    let text = captures.get(&rule.capture).map(String::as_str).unwrap_or_default();
    let found = BrokenDownTime::parse(&rule.format, text).and_then(|time| time.to_date());
    found.map_err(|_| format!("{text:?} is no date of the form {:?}", rule.format))
}

fn holds(range: DateRange, date: Date, today: Date) -> bool {
    let ago = date.until(today).map_or(i32::MIN, |span| span.get_days());
    match range {
        DateRange::Today => ago == 0,
        DateRange::Yesterday => ago == 1,
        DateRange::Last(days) => ago >= 0 && u32::try_from(ago).is_ok_and(|ago| ago <= days),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Version;

    /// A file of 100 bytes that was last changed an hour ago, and seen ten seconds ago.
    fn ask(source: &str, name: &str, links: u32) -> Passage {
        let source: FileSource = toml::from_str(source).expect("a source");
        let wall: Timestamp = "2026-03-02T01:30:00Z".parse().expect("a time");
        let mtime = i64::try_from(wall.as_nanosecond()).expect("now") - 3_600_000_000_000;
        let version = Version { ino: 1, btime: None, size: 100, mtime };
        let capture = hetuflow_core::trigger::CaptureRule::compile(r"(?<day>\d{8})").expect("sound");
        let subject = Subject {
            path: Path::new(name),
            captures: &capture.captures(name).unwrap_or_default(),
            fact: FileFact { version, changed: mtime, device: 1, links, way: Way::Itself },
            seen_for: Duration::from_secs(10),
            wall,
        };
        Gate::compile(&source).expect("sound").pass(&subject)
    }

    #[test]
    fn each_rule() {
        let check = |source: &str, name: &str, expected: &str| {
            let passage = format!("{:?}", ask(source, name, 2));
            assert!(passage.starts_with(expected), "{source} {name}: {passage}");
        };
        check("", "-x\n", "Take");
        check("names = 'utf8'", "-x\n", "Take");
        check("names = 'portable'", "-x", "Reject(\"its name");
        check("names = 'portable'", "x y", "Take");
        check("hardlinks = 'reject'", "x", "Reject(\"it has 2 names");
        check("min_size = '100B'", "x", "Take");
        check("min_size = 101", "x", "Wait(\"it has 100 bytes, fewer than 101\", None");
        check("max_size = 99", "x", "Reject(\"it has 100 bytes, more than 99");
        check("min_age = '10s'", "x", "Take");
        check("min_age = '12s'", "x", "Wait(\"it is too young\", Some(2s");
        check("min_mtime_age = '2h'", "x", "Wait(\"it is too young\", Some(3600s");
        check("max_age = '1h'", "x", "Take");
        check("max_age = '59m'", "x", "Leave(\"it is older than 59m");
    }

    #[test]
    fn dates_are_of_the_zone() {
        let check = |days: &str, zone: &str, name: &str, taken: bool| {
            let source =
                format!("date = {{ capture = 'day', format = '%Y%m%d', in = {days}, timezone = '{zone}' }}");
            assert_eq!(ask(&source, name, 1) == Passage::Take, taken, "{source} {name}");
        };
        check("'today'", "UTC", "a-20260302.csv", true);
        check("'today'", "America/New_York", "a-20260301.csv", true);
        check("'yesterday'", "UTC", "a-20260301.csv", true);
        check("'yesterday'", "UTC", "a-20260302.csv", false);
        check("{ last = 31 }", "UTC", "a-20260130.csv", true);
        check("{ last = 30 }", "UTC", "a-20260130.csv", false);
        check("{ last = 3 }", "UTC", "a-20260303.csv", false);
        check("'today'", "UTC", "a-20269999.csv", false);
    }
}
