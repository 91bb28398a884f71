//! The states of a task and of a task instance, their numbers, and which may follow which.
//!
//! The numbers are what `status` columns and API filters hold; a check constraint in the
//! migrations is kept equal to [`Status::ALL`] by a test of the store.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::event::ENDS;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits for an agent (or for its time).
    Pending,
    /// An attempt ended badly; the next one is planned.
    WaitingRetry,
    /// A server has leased it for one agent session.
    Locked,
    /// The agent has it in its journal.
    Dispatched,
    /// The process runs.
    Running,
    Failed,
    TimedOut,
    /// Nobody can say how the attempt ended.
    Lost,
    Cancelled,
    Succeeded,
}

impl Status {
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::WaitingRetry,
        Self::Locked,
        Self::Dispatched,
        Self::Running,
        Self::Failed,
        Self::TimedOut,
        Self::Lost,
        Self::Cancelled,
        Self::Succeeded,
    ];

    #[must_use]
    pub const fn number(self) -> i16 {
        match self {
            Self::Pending => 1,
            Self::WaitingRetry => 2,
            Self::Locked => 5,
            Self::Dispatched => 8,
            Self::Running => 10,
            Self::Failed => 90,
            Self::TimedOut => 91,
            Self::Lost => 92,
            Self::Cancelled => 99,
            Self::Succeeded => 100,
        }
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::WaitingRetry => "waiting_retry",
            Self::Locked => "locked",
            Self::Dispatched => "dispatched",
            Self::Running => "running",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Lost => "lost",
            Self::Cancelled => "cancelled",
            Self::Succeeded => "succeeded",
        }
    }

    #[must_use]
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.number() == number)
    }

    /// The type of the event that such an end is, for triggers that ask for it.
    #[must_use]
    pub const fn end_type(self) -> Option<&'static str> {
        let [succeeded, failed, cancelled] = ENDS;
        match self {
            Self::Succeeded => Some(succeeded),
            Self::Failed | Self::TimedOut | Self::Lost => Some(failed),
            Self::Cancelled => Some(cancelled),
            Self::Pending | Self::WaitingRetry | Self::Locked | Self::Dispatched | Self::Running => None,
        }
    }

    /// Nothing more happens by itself.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut | Self::Lost | Self::Cancelled | Self::Succeeded)
    }

    /// It ended badly, and for good unless somebody decides otherwise.
    #[must_use]
    pub const fn is_dead(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut | Self::Lost)
    }

    /// An agent holds it, or is about to.
    #[must_use]
    pub const fn is_leased(self) -> bool {
        matches!(self, Self::Locked | Self::Dispatched | Self::Running)
    }

    /// A claim may take it.
    #[must_use]
    pub const fn is_waiting(self) -> bool {
        matches!(self, Self::Pending | Self::WaitingRetry)
    }

    /// The transition table of a task. Only an operator leaves a final state: by a retry, or by giving up what is dead.
    #[must_use]
    pub const fn can_become(self, next: Self) -> bool {
        match self {
            Self::Pending | Self::WaitingRetry => {
                matches!(next, Self::Locked | Self::Cancelled | Self::Failed)
            }
            Self::Locked | Self::Dispatched | Self::Running => {
                next.is_final()
                    || next.is_waiting()
                    || matches!(
                        (self, next),
                        (Self::Locked, Self::Dispatched | Self::Running) | (Self::Dispatched, Self::Running)
                    )
            }
            Self::Failed | Self::TimedOut | Self::Lost => matches!(next, Self::Pending | Self::Cancelled),
            Self::Cancelled | Self::Succeeded => matches!(next, Self::Pending),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The text or number is no status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a status; one of pending (1), waiting_retry (2), locked (5), dispatched (8), running (10), \
     failed (90), timed_out (91), lost (92), cancelled (99), succeeded (100)"
)]
pub struct UnknownStatus(pub String);

impl FromStr for Status {
    type Err = UnknownStatus;

    /// Takes the name or the number.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|status| status.name() == text || status.number().to_string() == text)
            .ok_or_else(|| UnknownStatus(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_come_back() {
        for status in Status::ALL {
            assert_eq!(Status::from_number(status.number()), Some(status));
            assert_eq!(status.name().parse(), Ok(status));
            assert_eq!(status.number().to_string().parse(), Ok(status));
        }
        assert!("3".parse::<Status>().is_err());
    }

    #[test]
    fn transitions() {
        use Status::*;
        let check = |from: Status, to: Status, expected: bool| {
            assert_eq!(from.can_become(to), expected, "{from} to {to}");
        };
        check(Pending, Locked, true);
        check(Pending, Running, false);
        check(Locked, Pending, true);
        check(Running, Succeeded, true);
        check(Running, WaitingRetry, true);
        check(Running, Locked, false);
        check(Dispatched, Locked, false);
        check(Failed, Pending, true);
        check(Succeeded, Running, false);
    }
}
