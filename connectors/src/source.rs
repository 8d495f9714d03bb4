//! What every source hands to the engine: lanes to read from, numbers to show, a way to stop it.
//!
//! A source cuts its messages into lanes by topic, so that several workers can read them and the
//! messages of one lane keep their order. `Lost` and `Restored` come on lane 0 only; `Advance` and
//! `End` come on every lane.

use crate::message::Intake;
use crate::queue::Receiver;
use crate::thread::{StopSignal, Worker};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tracing::warn;

/// Which lane a topic belongs to; messages of one lane keep their order. Given by the caller; a
/// result beyond the last lane is wrapped around.
pub type LaneOf = Arc<dyn Fn(&[u8]) -> usize + Send + Sync>;

/// How long dropping a handle waits for the source's thread.
const JOIN_MAX: Duration = Duration::from_secs(5);

/// A running source. Dropping it stops the source.
pub struct SourceHandle {
    /// The source's name in the job.
    pub name: String,
    /// One queue a lane; take them out with `std::mem::take` to move them to the workers.
    pub lanes: Vec<Receiver<Intake>>,
    /// Numbers to show.
    pub stats: Arc<SourceStats>,
    stop: Arc<StopSignal>,
    worker: Worker,
}

/// Numbers of a source since it was started.
#[derive(Debug, Default)]
pub struct SourceStats {
    /// Messages taken from the source.
    pub messages: AtomicU64,
    /// Bytes of their payloads.
    pub bytes: AtomicU64,
    /// How often a lost connection came back.
    pub reconnects: AtomicU64,
    /// Whether the source can be reached now.
    pub connected: AtomicBool,
}

impl SourceHandle {
    pub(crate) fn new(
        name: &str,
        lanes: Vec<Receiver<Intake>>,
        stats: Arc<SourceStats>,
        stop: Arc<StopSignal>,
        worker: Worker,
    ) -> Self {
        Self { name: name.to_owned(), lanes, stats, stop, worker }
    }

    /// Asks the source to end; it then closes its lanes, a file source after `End`. Returns at once.
    pub fn stop(&self) {
        self.stop.ask();
    }
}

impl Drop for SourceHandle {
    fn drop(&mut self) {
        self.stop.ask();
        self.lanes.clear();
        if !self.worker.join_within(JOIN_MAX) {
            warn!(source = %self.name, "source does not end; it is left behind");
        }
    }
}

impl SourceStats {
    pub(crate) fn add(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }
}
