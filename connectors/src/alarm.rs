//! The way a connector says that the run cannot go on: a disk that does not keep what it was given.
//! Who hears it ends the process without a checkpoint; the next start goes on from the last one.

use std::sync::OnceLock;

use tracing::error;

/// Raised once, by the first failure; never lowered.
#[derive(Debug, Default)]
pub struct Alarm {
    reason: OnceLock<String>,
}

impl Alarm {
    /// Ends the run. The reason says what failed, and what to do.
    pub fn raise(&self, reason: impl Into<String>) {
        let reason = reason.into();
        error!(%reason, "the run cannot go on");
        // A later failure is most likely a consequence of the first.
        _ = self.reason.set(reason);
    }

    /// Why the run must end, if it must.
    pub fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }
}
