//! The archive: Arrow batches go in, Parquet files that anybody can read come out (rule 10), each
//! row exactly once (rule 7.4).
//!
//! ```text
//!   offer ───────► [ queue, 64 MB ] ──► writer thread ──► segment of (table, day): frames, append only
//!   boundary(n) ─► [ the same one ] ──► segments synced, due files planned ──► ArchivePart of checkpoint n
//!   committed(n) ► [ the same one ] ──► planned files made: segments ──► `.<name>.inprogress` ──► `<name>`
//! ```
//! Rows that are in no committed checkpoint are in no visible file: `restore` cuts them off, and the
//! engine makes them again. Rows that are committed get into a file once, by this run or the next.
//! A file is visible only when it is complete; from then on it is final. It rolls by size, by age,
//! and when too many days of a table are open, always at a boundary, but not at every one: so the
//! size of files does not depend on the interval of checkpoints.

mod error;
mod file;
mod files;
mod group;
mod history;
mod letters;
mod name;
mod part;
mod restore;
mod retention;
mod roll;
mod segment;
mod writer;

pub use error::ArchiveError;
pub use history::{Listed, Recent, Wanted, history, listed, row_at_us};
pub use letters::{KeptLetter, dead_letters};
pub use part::{ArchivePart, FilePlan, SegmentRef};
pub use restore::{Committed, restore};
pub use roll::Roll;

use crate::alarm::Alarm;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::queue::{self, Refused, Sender, Waker, Weigh};
use crate::thread::{StopSignal, Worker};
use arrow_array::RecordBatch;
use file::Place;
use files::{Files, Outcome};
use schemars::JsonSchema;
use segment::SegmentReader;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::warn;
use writer::{Progress, Writer};

/// How much may wait for the writer.
const QUEUE_BYTES_MAX: usize = 64 << 20;

/// How long a writer that was told to stop may take to do so.
const JOIN_MAX: Duration = Duration::from_secs(5);

/// Where history goes, and in what pieces.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveSettings {
    /// The archive's folder; it is made where it is missing.
    pub path: PathBuf,
    /// When a file is complete: `128MB/10m`, by size or age, whichever comes first; one of the two
    /// alone is fine.
    #[serde(default)]
    pub roll: Roll,
    /// How the columns are compressed: `snappy` or `none`.
    #[serde(default)]
    pub compression: Compression,
    /// How long history is kept: `90d`. Days that ended longer ago are removed; without it, none is.
    #[serde(default, with = "humantime_serde")]
    pub retain: Option<Duration>,
}

/// How the columns of a file are compressed.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Fast, and read by everything.
    #[default]
    Snappy,
    /// Not at all.
    None,
}

/// Rows of one table and one day.
#[derive(Clone, Debug)]
pub struct ArchiveBatch {
    /// The table, which names a folder: `state`, `physical` and so on.
    pub table: &'static str,
    /// Days since 1970-01-01 UTC.
    pub day: i32,
    /// The rows. A schema other than that of the table's open file begins a new file.
    pub rows: RecordBatch,
}

/// What a writer is started with.
pub struct ArchiveSetup {
    /// Where history goes.
    pub settings: ArchiveSettings,
    /// The job, which names a folder.
    pub job: String,
    /// The generation of the run.
    pub generation: u64,
    /// The writer's number among all workers of the run.
    pub worker: usize,
    /// The folder of segments, in the data folder: all processes of a run share it.
    pub segments: PathBuf,
    /// Its share of what `restore` gave.
    pub adopted: Vec<SegmentRef>,
    /// How many checkpoints before the newest committed one are kept for a start to fall back to.
    /// For so many commits more the segments of a visible file are kept.
    pub fallbacks: usize,
    /// The disk of archive and segments.
    pub disk: Arc<dyn Disk>,
    /// Tells the age of files.
    pub clock: Arc<dyn Clock>,
    /// Raised when rows cannot be kept.
    pub alarm: Arc<Alarm>,
}

/// Called with the archive's part of a checkpoint, by the writer's thread.
pub type Reply = Box<dyn FnOnce(ArchivePart) + Send>;

/// A running archive writer. `close` it to make the files whose checkpoints are committed; dropped, it
/// leaves that to the next start.
pub struct ArchiveHandle {
    /// Numbers to show.
    pub stats: Arc<ArchiveStats>,
    /// `None` once closed.
    queue: Option<Sender<Order>>,
    alarm: Arc<Alarm>,
    stop: Arc<StopSignal>,
    outcome: Arc<Mutex<Option<Outcome>>>,
    worker: Worker,
}

/// What the writer's thread is told, in this order.
enum Order {
    Rows(ArchiveBatch),
    Boundary { number: u64, last: bool, reply: Reply },
    Committed(u64),
    Look { table: String, twin: String, reply: Box<dyn FnOnce(Recent) + Send> },
}

/// Numbers of an archive writer since it was started.
#[derive(Debug, Default)]
pub struct ArchiveStats {
    /// Rows taken, visible or not yet.
    pub rows: AtomicU64,
    /// Bytes of the files that became visible.
    pub bytes: AtomicU64,
    /// Files that became visible.
    pub files: AtomicU64,
    /// How often a file could not be made; it is tried again at the next commit.
    pub failures: AtomicU64,
    in_flight_bytes: AtomicUsize,
}

/// What a closed archive writer leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchiveClosed {
    /// Rows in the files that became visible, of this run and adopted ones.
    pub rows: u64,
    /// Files that became visible.
    pub files: u64,
    /// Rows of this run that are in no committed checkpoint; the next start cuts them off.
    pub rows_uncommitted: u64,
}

/// Starts a writer. Several may write for one job, each with its own `worker` number.
pub fn start(setup: ArchiveSetup) -> Result<ArchiveHandle, ArchiveError> {
    let (sender, queue) = queue::bounded(QUEUE_BYTES_MAX);
    let (alarm, worker) = (setup.alarm.clone(), setup.worker);
    let (stats, stop) = (Arc::new(ArchiveStats::default()), Arc::new(StopSignal::default()));
    let outcome = Arc::new(Mutex::new(None));
    let writer = Writer::new(setup, stats.clone(), stop.clone())?;
    let reported = outcome.clone();
    let worker = Worker::spawn(&format!("archive-{worker}"), move || {
        let outcome = writer.run(&queue);
        *reported.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    });
    let worker = worker.map_err(|error| ArchiveError::Thread { error })?;
    Ok(ArchiveHandle { stats, queue: Some(sender), alarm, stop, outcome, worker })
}

impl ArchiveHandle {
    /// Gives rows to the writer; never waits. Where they are refused as full, the waker is called
    /// when there is room.
    pub fn offer(&self, batch: ArchiveBatch) -> Result<(), Refused<ArchiveBatch>> {
        let Some(queue) = &self.queue else {
            return Err(Refused::Closed(batch));
        };
        let bytes = batch.weight();
        // Counted before the writer can see the batch and count it down again.
        self.stats.in_flight_bytes.fetch_add(bytes, Ordering::AcqRel);
        queue.try_send(Order::Rows(batch)).map_err(|refused| {
            self.stats.in_flight_bytes.fetch_sub(bytes, Ordering::AcqRel);
            match refused {
                Refused::Full(order) => order.into_rows(Refused::Full),
                Refused::Closed(order) => order.into_rows(Refused::Closed),
            }
        })
    }

    /// Asks for the archive's part of checkpoint `number`: all rows offered before, and none after.
    /// Never refused and never waits. `last` is for the clean end of a run: every open file is
    /// planned. Where the writer has failed, the alarm is raised and no reply comes.
    pub fn boundary(&self, number: u64, last: bool, reply: Reply) {
        self.order(Order::Boundary { number, last, reply });
    }

    /// Tells that checkpoint `number`, which has the part that was replied, is committed: its files
    /// may be made. Returns at once.
    pub fn committed(&self, number: u64) {
        self.order(Order::Committed(number));
    }

    /// Asks what the writer has of a twin in a table, of all rows offered before, that may be in no visible file.
    /// Never refused and never waits; where the writer has failed, no reply comes.
    pub fn look(&self, table: &str, twin: &str, reply: impl FnOnce(Recent) + Send + 'static) {
        let (table, twin) = (table.to_owned(), twin.to_owned());
        self.order(Order::Look { table, twin, reply: Box::new(reply) });
    }

    fn order(&self, order: Order) {
        let sent = self.queue.as_ref().map(|queue| queue.send_over_bound(order));
        if sent.is_none_or(|sent| sent.is_err()) {
            self.alarm.raise(ArchiveError::Died.to_string());
        }
    }

    /// Called when room appears after a refusal, or when the writer's thread has ended.
    pub fn set_waker(&self, waker: Waker) {
        if let Some(queue) = &self.queue {
            queue.set_waker(waker);
        }
    }

    /// Offered and not yet taken by the writer, in bytes.
    pub fn in_flight_bytes(&self) -> usize {
        self.stats.in_flight_bytes.load(Ordering::Acquire)
    }

    /// Does what is queued and makes every file whose checkpoint is committed, no longer than
    /// `timeout`.
    pub fn close(mut self, timeout: Duration) -> Result<ArchiveClosed, ArchiveError> {
        self.queue = None;
        if !self.worker.join_within(timeout) {
            return Err(ArchiveError::Timeout);
        }
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Outcome { files, rows, rows_uncommitted, files_unmade, rows_unmade, first_failure, stopped } =
            outcome.ok_or(ArchiveError::Died)?;
        if let Some(reason) = stopped {
            return Err(ArchiveError::Stopped { reason });
        }
        if files_unmade > 0 {
            let first = first_failure.unwrap_or_default();
            return Err(ArchiveError::Unmade { files: files_unmade, rows: rows_unmade, first });
        }
        if rows_uncommitted > 0 {
            warn!(rows = rows_uncommitted, "archive rows in no checkpoint; the next start cuts them off");
        }
        Ok(ArchiveClosed { rows, files, rows_uncommitted })
    }
}

impl Drop for ArchiveHandle {
    fn drop(&mut self) {
        self.stop.ask();
        self.queue = None;
        if !self.worker.join_within(JOIN_MAX) {
            warn!("archive writer does not end; it is left behind");
        }
    }
}

impl Writer {
    fn new(
        setup: ArchiveSetup,
        stats: Arc<ArchiveStats>,
        stop: Arc<StopSignal>,
    ) -> Result<Self, ArchiveError> {
        let ArchiveSetup {
            settings, job, generation, worker, segments, fallbacks, disk, clock, alarm, ..
        } = setup;
        let ArchiveSettings { path: archive, roll, compression, retain } = settings;
        disk.make_folder(&segments).map_err(ArchiveError::io("make the folder", &segments))?;
        let place = Place { disk, archive, segments, job, compression };
        let open = |segment: &SegmentRef| {
            let path = place.segments.join(&segment.name);
            SegmentReader::open(place.disk.clone(), path, segment.bytes)
        };
        let groups = group::adopt(setup.adopted, open)?;
        let files = Files::new(place.clone(), generation, worker, fallbacks, stats.clone());
        let progress = Progress::default();
        Ok(Self {
            place,
            generation,
            worker,
            roll,
            retain,
            clock,
            alarm,
            stats,
            stop,
            groups,
            files,
            progress,
        })
    }
}

impl Order {
    /// The batch of an order that was refused; only rows ever are.
    fn into_rows(self, refused: fn(ArchiveBatch) -> Refused<ArchiveBatch>) -> Refused<ArchiveBatch> {
        match self {
            Self::Rows(batch) => refused(batch),
            Self::Boundary { .. } | Self::Committed(_) | Self::Look { .. } => {
                unreachable!("only rows are sent within the bound")
            }
        }
    }
}

impl Weigh for Order {
    fn weight(&self) -> usize {
        match self {
            Self::Rows(batch) => batch.weight(),
            Self::Boundary { .. } | Self::Committed(_) | Self::Look { .. } => size_of::<Self>(),
        }
    }
}

impl Weigh for ArchiveBatch {
    fn weight(&self) -> usize {
        size_of::<Self>() + self.rows.get_array_memory_size()
    }
}

#[cfg(test)]
mod tests;
