//! The one place where wall-clock time is read. Rules take time as an argument; loops and
//! handlers hold a [`Clock`], so that a test can set the time. Leases do not use it: they are
//! judged by the database's clock (server) or by a monotonic one (agent).

use std::{fmt, sync::Arc};

use jiff::Timestamp;

#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one permitted reading of the wall clock")]
    pub fn system() -> Self {
        Self(Arc::new(Timestamp::now))
    }

    /// A clock that a test drives.
    pub fn from_fn(read: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
