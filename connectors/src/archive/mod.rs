//! The archive: Arrow batches go in, Parquet files that anybody can read come out (rule 10).
//!
//! ```text
//!   offer --> [ queue, 64 MB ] --> writer thread --> table and day --> `.<name>.inprogress` --(roll)--> `<name>`
//! ```
//! A file is visible only when it is complete: footer, fsync, rename, fsync of the folder; from
//! then on it is final. It rolls by size, by age, and when too many days of a table are open.

mod name;
mod roll;
mod segment;
mod writer;

pub use roll::Roll;

use crate::queue::{self, Refused, Sender, Waker, Weigh};
use crate::thread::{StopSignal, Worker};
use arrow_array::RecordBatch;
use serde::Deserialize;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::{info, warn};
use writer::{Outcome, Writer};

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
}

/// How the columns of a file are compressed.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
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

/// Why the archive cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file system refused.
    #[error("archive: cannot {action} {}: {error}; check that the folder may be written and the disk is not full", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
    /// The rows cannot be written as Parquet.
    #[error("archive: cannot write rows to {}: {reason}; check the disk, and the types of the table's columns", path.display())]
    Rows {
        /// The file.
        path: PathBuf,
        /// What the Parquet writer said.
        reason: String,
    },
    /// Everything else is written, some rows are not.
    #[error("archive: {rows} rows are lost; the first failure was: {first}")]
    Lost {
        /// How many.
        rows: u64,
        /// The first failure, in full.
        first: String,
    },
    /// The time given to `close` was not enough.
    #[error(
        "archive: not closed in time; what was not in a complete file is lost: allow more time, or roll in smaller files"
    )]
    Timeout,
    /// The writer's thread has died.
    #[error(
        "archive: the writer has died (its panic is in the log); what was not in a complete file is lost"
    )]
    Died,
    /// The operating system gave no thread.
    #[error("archive: cannot start its thread: {error}; raise the limit of threads (ulimit -u)")]
    Thread {
        /// What the system said.
        error: std::io::Error,
    },
}

/// A running archive writer. `close` it to finish its files; dropping it gives up what is open.
pub struct ArchiveHandle {
    /// Numbers to show.
    pub stats: Arc<ArchiveStats>,
    /// `None` once closed.
    queue: Option<Sender<ArchiveBatch>>,
    stop: Arc<StopSignal>,
    outcome: Arc<Mutex<Option<Outcome>>>,
    worker: Worker,
}

/// Numbers of an archive writer since it was started.
#[derive(Debug, Default)]
pub struct ArchiveStats {
    /// Rows taken by a file, visible or not yet.
    pub rows: AtomicU64,
    /// Bytes of the files that are visible.
    pub bytes: AtomicU64,
    /// Files that are visible.
    pub files: AtomicU64,
    /// Rows that were lost because they could not be written.
    pub failures: AtomicU64,
    in_flight_bytes: AtomicUsize,
}

/// What a closed archive writer leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchiveClosed {
    /// Rows in visible files.
    pub rows: u64,
    /// Visible files.
    pub files: u64,
}

/// Makes the folder, proves that it can be written, and removes what an earlier run of `job` left
/// unfinished. Called once, before the first writer of the job is started.
pub fn prepare(path: &Path, job: &str) -> Result<(), ArchiveError> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |error| ArchiveError::Io { path, action, error }
    };
    fs::create_dir_all(path).map_err(failed("make the folder", path))?;
    let probe = path.join(format!(".probe-{}", std::process::id()));
    let prove = || {
        let mut file = File::create(&probe)?;
        file.write_all(b"twinloom")?;
        file.sync_all()?;
        fs::remove_file(&probe)
    };
    prove().map_err(failed("write to the folder", path))?;
    let removed = name::unfinished(path, job).and_then(|leftovers| {
        leftovers.iter().try_for_each(fs::remove_file)?;
        Ok(leftovers.len())
    });
    let removed = removed.map_err(failed("remove unfinished files from", path))?;
    if removed > 0 {
        info!(job, files = removed, "unfinished archive files of an earlier run removed");
    }
    Ok(())
}

/// Starts a writer. Several may write for one job, each with its own `worker` number.
pub fn start(
    settings: &ArchiveSettings,
    job: &str,
    generation: u64,
    worker: usize,
) -> Result<ArchiveHandle, ArchiveError> {
    let (sender, queue) = queue::bounded(QUEUE_BYTES_MAX);
    let (stats, stop) = (Arc::new(ArchiveStats::default()), Arc::new(StopSignal::default()));
    let outcome = Arc::new(Mutex::new(None));
    let writer = Writer::new(settings, job, generation, worker, stats.clone(), stop.clone());
    let reported = outcome.clone();
    let worker = Worker::spawn(&format!("archive-{worker}"), move || {
        let outcome = writer.run(&queue);
        *reported.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    });
    let worker = worker.map_err(|error| ArchiveError::Thread { error })?;
    Ok(ArchiveHandle { stats, queue: Some(sender), stop, outcome, worker })
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
        queue.try_send(batch).inspect_err(|_| {
            self.stats.in_flight_bytes.fetch_sub(bytes, Ordering::AcqRel);
        })
    }

    /// Called when room appears after a refusal, or when the writer's thread has ended.
    pub fn set_waker(&self, waker: Waker) {
        if let Some(queue) = &self.queue {
            queue.set_waker(waker);
        }
    }

    /// Offered and not yet taken by a file, in bytes.
    pub fn in_flight_bytes(&self) -> usize {
        self.stats.in_flight_bytes.load(Ordering::Acquire)
    }

    /// Writes what is queued and makes every file complete, no longer than `timeout`.
    pub fn close(mut self, timeout: Duration) -> Result<ArchiveClosed, ArchiveError> {
        self.queue = None;
        if !self.worker.join_within(timeout) {
            return Err(ArchiveError::Timeout);
        }
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        let outcome = outcome.ok_or(ArchiveError::Died)?;
        match outcome.first_failure {
            Some(first) => Err(ArchiveError::Lost { rows: outcome.rows_lost, first }),
            None => Ok(outcome.closed),
        }
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

impl Weigh for ArchiveBatch {
    fn weight(&self) -> usize {
        size_of::<Self>() + self.rows.get_array_memory_size()
    }
}

#[cfg(test)]
mod tests;
