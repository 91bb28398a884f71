//! Places at which the proof harness can make a process die, stop, or lose an answer: `failpoint!("ingest.after_commit")`.
//!
//! The macro expands to nothing unless the feature `failpoints` is on, which only the harness's own build turns on; a
//! test looks for the names in the ordinary binaries. The list of points is made from the sources, so none is
//! ever forgotten. A second argument is the error that the action `error` returns from the function around it.

#[cfg(feature = "failpoints")]
mod armed;

#[cfg(feature = "failpoints")]
pub use armed::{armed, hit};

/// Whether this process has an order for that point, so that the way that passes it is taken.
#[cfg(not(feature = "failpoints"))]
#[must_use]
pub const fn armed(_: &str) -> bool {
    false
}

#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {};
    ($name:literal, $error:expr) => {};
}

#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        let _ = $crate::hit($name);
    };
    ($name:literal, $error:expr) => {
        if $crate::hit($name) {
            return Err($error);
        }
    };
}
