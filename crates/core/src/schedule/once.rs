//! `[on.once]`: a single time, as RFC 3339 with an offset, or as a local time in a zone.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use super::{
    ZoneError,
    local::{self, ClockEffect},
    zone,
};

#[derive(Debug, Clone)]
pub struct OnceSchedule {
    pub at: Timestamp,
    /// As it was written.
    pub text: String,
    pub timezone: String,
    zone: TimeZone,
    /// The local time, where one was written.
    local: Option<DateTime>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OnceError {
    #[error("{text:?} is not a time")]
    Time { text: String },
    /// It says itself where it is.
    #[error("{text:?} has an offset, so that a time zone can only contradict it")]
    Both { text: String },
    #[error(transparent)]
    Zone(#[from] ZoneError),
}

impl OnceSchedule {
    /// Without a time zone a local time is UTC.
    pub fn parse(text: &str, timezone: Option<&str>) -> Result<Self, OnceError> {
        let wrong = || OnceError::Time { text: text.to_owned() };
        if let Ok(at) = text.parse::<Timestamp>() {
            if timezone.is_some() {
                return Err(OnceError::Both { text: text.to_owned() });
            }
            let (text, timezone) = (text.to_owned(), "UTC".to_owned());
            return Ok(Self { at, text, timezone, zone: TimeZone::UTC, local: None });
        }
        let name = timezone.unwrap_or("UTC");
        let zone = zone(name)?;
        let local: DateTime = text.parse().map_err(|_| wrong())?;
        let at = local::first_instant(&zone, local).ok_or_else(wrong)?;
        let (text, timezone) = (text.to_owned(), name.to_owned());
        Ok(Self { at, text, timezone, zone, local: Some(local) })
    }

    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        Some(self.at).filter(|at| *at > after)
    }

    pub const fn zone(&self) -> &TimeZone {
        &self.zone
    }

    pub fn effect(&self) -> Option<ClockEffect> {
        match self.local {
            Some(local) if self.zone.to_datetime(self.at) != local => Some(ClockEffect::ShiftedFrom(local)),
            Some(_) => local::pass(&self.zone, self.at),
            None => None,
        }
    }
}
