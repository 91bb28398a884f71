//! The time at which a sender signed, and how far from now it may be.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    Rejection,
    place::{At, Place},
};

#[derive(Debug, Clone)]
pub(crate) struct TimestampRule {
    /// The first that is there counts.
    pub(crate) places: Vec<Place>,
    pub(crate) unit: Unit,
    /// Into the past.
    pub(crate) tolerance: Duration,
    /// Into the future.
    pub(crate) ahead: Duration,
    /// Whether a request may lack it.
    pub(crate) presence: Presence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    Milliseconds,
    Rfc3339,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Required,
    Optional,
}

impl TimestampRule {
    /// For messages: there is always one.
    pub(crate) fn at(&self) -> &Place {
        &self.places[0]
    }

    /// Claims can be read only when their token is proven.
    pub(crate) fn is_claim(&self) -> bool {
        matches!(self.at().at, At::Claim(_))
    }

    pub(crate) fn judge(&self, value: Option<&str>, now: Option<Timestamp>) -> Result<(), Rejection> {
        let Some(value) = value else {
            return match self.presence {
                Presence::Required => Err(Rejection::Missing(self.at().to_string())),
                Presence::Optional => Ok(()),
            };
        };
        let sent = self.unit.read(value).ok_or_else(|| {
            Rejection::Malformed(self.at().to_string(), format!("it is not a time {}", self.unit.form()))
        })?;
        let Some(now) = now else { return Ok(()) };
        let age = i128::from(now.as_millisecond()) - sent;
        let allowed = if age >= 0 { self.tolerance } else { self.ahead };
        if age.unsigned_abs() > allowed.as_millis() {
            let seconds = |amount: u128| i64::try_from(amount).unwrap_or(i64::MAX);
            let away = seconds(age.unsigned_abs() / 1000);
            return Err(Rejection::Timestamp(away, seconds(u128::from(allowed.as_secs()))));
        }
        Ok(())
    }
}

impl Unit {
    pub(crate) const NAMES: [&str; 3] = ["s", "ms", "rfc3339"];

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "s" => Some(Self::Seconds),
            "ms" => Some(Self::Milliseconds),
            "rfc3339" => Some(Self::Rfc3339),
            _ => None,
        }
    }

    const fn form(self) -> &'static str {
        match self {
            Self::Seconds => "in whole seconds since 1970",
            Self::Milliseconds => "in whole milliseconds since 1970",
            Self::Rfc3339 => "like 2026-01-15T10:20:41Z",
        }
    }

    /// In milliseconds since 1970. No sign, no fraction: one time is written in one way.
    fn read(self, value: &str) -> Option<i128> {
        let whole = || {
            let digits = value.bytes().all(|byte| byte.is_ascii_digit());
            value.parse::<i64>().ok().filter(|_| digits).map(i128::from)
        };
        match self {
            Self::Seconds => whole().map(|seconds| seconds * 1000),
            Self::Milliseconds => whole(),
            Self::Rfc3339 => {
                let time: Timestamp = value.parse().ok()?;
                (time >= Timestamp::UNIX_EPOCH).then(|| i128::from(time.as_millisecond()))
            }
        }
    }

    pub(crate) fn write(self, time: Timestamp) -> String {
        match self {
            Self::Seconds => time.as_second().to_string(),
            Self::Milliseconds => time.as_millisecond().to_string(),
            Self::Rfc3339 => time.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let check = |unit: Unit, value: &str, expected: Option<i128>| {
            assert_eq!(unit.read(value), expected, "{unit:?} {value:?}");
        };
        check(Unit::Seconds, "17", Some(17_000));
        check(Unit::Milliseconds, "17", Some(17));
        check(Unit::Rfc3339, "1970-01-01T00:00:17.5Z", Some(17_500));
        check(Unit::Rfc3339, "1970-01-01T01:00:17+01:00", Some(17_000));
        for unit in [Unit::Seconds, Unit::Milliseconds, Unit::Rfc3339] {
            for value in [
                "",
                "-1",
                "+1",
                "1.5",
                "1e3",
                " 1",
                "0x1",
                "now",
                "99999999999999999999",
                "1969-12-31T23:59:59Z",
            ] {
                check(unit, value, None);
            }
        }
        // What no clock ever says is far away, not an overflow.
        let rule = TimestampRule {
            places: vec![Place::header("x-time".to_owned())],
            unit: Unit::Seconds,
            tolerance: Duration::from_mins(5),
            ahead: Duration::from_mins(1),
            presence: Presence::Required,
        };
        let judge = |value: &str| rule.judge(Some(value), Timestamp::from_second(1_000_000).ok());
        assert_eq!(judge("9223372036854775807"), Err(Rejection::Timestamp(9_223_372_036_853_775_807, 60)));
        assert_eq!(judge("999700"), Ok(()));
        assert_eq!(judge("999699"), Err(Rejection::Timestamp(301, 300)));
        assert_eq!(judge("1000060"), Ok(()));
        assert_eq!(judge("1000061"), Err(Rejection::Timestamp(61, 60)));
    }
}
