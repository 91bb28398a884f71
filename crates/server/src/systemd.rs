//! What a unit with `Type=notify` waits for. The programs that hold a server tell it.

pub use sd_notify::NotifyState;

/// Where nobody listens, nobody is told.
pub fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd was not told");
    }
}
