//! What every source hands to the engine: lanes to read from, numbers to show, a way to stop it.
//!
//! A source cuts its messages into lanes by topic, so that several workers can read them and the
//! messages of one lane keep their order. `Lost` and `Restored` come on lane 0 only; `Advance`,
//! `Boundary` and `End` come on every lane.
//!
//! A source is cut by checkpoints: asked for a boundary it puts one into every lane, and with it what
//! it must be started from to have again all that came after (rule 7.6). What that place means is the
//! source's own affair; the engine only keeps it.

use crate::alarm::Alarm;
use crate::clock::{Clock, SystemClock};
use crate::disk::{Disk, SystemDisk};
use crate::message::Intake;
use crate::place::Place;
use crate::queue::Receiver;
use crate::thread::{StopSignal, Worker};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::warn;

/// Which lane a topic belongs to; messages of one lane keep their order. Given by the caller; a
/// result beyond the last lane is wrapped around.
pub type LaneOf = Arc<dyn Fn(&[u8]) -> usize + Send + Sync>;

/// What every source is started with.
#[derive(Clone)]
pub struct SourceSetup {
    /// Its name in the job.
    pub name: String,
    /// Topic filters to subscribe to.
    pub filters: Vec<String>,
    /// Lanes to cut its messages into.
    pub lanes: usize,
    /// Which lane a topic belongs to.
    pub lane_of: LaneOf,
    /// What stamps arrivals.
    pub clock: Arc<dyn Clock>,
    /// Headers of records that are wanted, by name.
    pub headers: Vec<String>,
    /// Which share of a source that can be shared is this one's.
    pub share: Share,
    /// Where to go on, as its own [`Intake::Boundary`] or [`Intake::End`] said; empty at the begin.
    pub next: Place,
    /// Recorded input that arrived from this instant on, microseconds since 1970, is left to a later run.
    pub until_us: Option<i64>,
    /// A folder of its own for what it must keep.
    pub folder: PathBuf,
    /// Where that folder is.
    pub disk: Arc<dyn Disk>,
    /// What to raise where it cannot keep what it must.
    pub alarm: Arc<Alarm>,
}

/// Which share of a source a process takes, where the source can be shared (rule 7.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Number of the process.
    pub process: usize,
    /// How many there are.
    pub processes: usize,
}

/// A message to the devices behind a source, by the source's own connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where to.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
}

/// The way back from the lanes of a source to its devices. It promises nothing: a request that is lost is made again
/// by who still wants an answer.
#[derive(Clone)]
pub struct WayBack(Arc<StopSignal>);

impl WayBack {
    /// Has a request published, at once and at most once; `false` where so many wait that it is dropped. Of the
    /// sources, MQTT's publish.
    pub fn send(&self, request: Request) -> bool {
        self.0.put_request(request)
    }
}

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
    /// How often another client took the session over, where the broker knows its clients by a name.
    pub takeovers: AtomicU64,
    /// Whether the source can be reached now.
    pub connected: AtomicBool,
    /// Bytes that its journal takes on disk.
    pub journal_bytes: AtomicU64,
    /// How often its journal was synced.
    pub journal_syncs: AtomicU64,
    /// Messages that an earlier run had taken, handed over again from the journal.
    pub replayed: AtomicU64,
    /// Messages that had been taken before, and were dropped (rule 7.2).
    pub repeats: AtomicU64,
    /// Messages that the bus removed before they were taken.
    pub gone: AtomicU64,
    /// Requests to its devices that were published.
    pub requests: AtomicU64,
    /// How many records of each partition are not taken yet, where the source has partitions.
    lags: Mutex<BTreeMap<String, u64>>,
    /// Whether its journal is full, and the source waits for a checkpoint.
    pub journal_full: AtomicBool,
    /// Why it was not reached last.
    trouble: Mutex<Option<String>>,
}

impl SourceSetup {
    /// A source from its begin, with one lane and the machine's own clock and disk; what it must keep
    /// stands in `folder`.
    pub fn new(name: &str, filters: &[&str], folder: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            filters: filters.iter().map(|filter| (*filter).to_owned()).collect(),
            lanes: 1,
            lane_of: Arc::new(|_| 0),
            clock: Arc::new(SystemClock),
            headers: Vec::new(),
            share: Share { process: 0, processes: 1 },
            next: Place::default(),
            until_us: None,
            folder: folder.into(),
            disk: Arc::new(SystemDisk),
            alarm: Arc::default(),
        }
    }
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

    /// Asks the source to end; it then puts `End` into its lanes and closes them. Returns at once.
    pub fn stop(&self) {
        self.stop.ask();
    }

    /// The way back to its devices.
    pub fn way_back(&self) -> WayBack {
        WayBack(self.stop.clone())
    }

    /// Asks for a boundary in every lane, for the checkpoint with this number (from 1 on). Returns at
    /// once. A source that has ended answers nothing: its lanes have `End`.
    pub fn boundary(&self, number: u64) {
        self.stop.ask_boundary(number);
    }

    /// A checkpoint holds. What came before `next` of its boundary is in it; what came before `released`
    /// is in every checkpoint that is kept, and the source need not keep it any longer. Returns at once.
    pub fn committed(&self, next: &Place, released: &Place) {
        self.stop.tell_committed(next, released);
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
    /// How many records of each partition are not taken yet; of a source without partitions none.
    pub fn lags(&self) -> BTreeMap<String, u64> {
        self.lags.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the source was not reached the last time, in words for a person.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_trouble(&self, reason: &str) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }

    pub(crate) fn set_lags(&self, lags: BTreeMap<String, u64>) {
        *self.lags.lock().unwrap_or_else(PoisonError::into_inner) = lags;
    }

    pub(crate) fn add(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }
}
