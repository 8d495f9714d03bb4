//! The archive's thread: takes batches, keeps a file open for each table and day, and decides when
//! a file is complete.

use super::segment::{Origin, Segment};
use super::{ArchiveBatch, ArchiveClosed, ArchiveError, ArchiveSettings, ArchiveStats, Roll};
use crate::queue::{Received, Receiver, Weigh};
use crate::reminder::Reminder;
use crate::thread::StopSignal;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tracing::{debug, error};

/// How many files of one table may be open: late rows of yesterday and the day before are usual,
/// rows of a hundred days at once are a replay, whose files are closed as they come.
const OPEN_FILES_MAX: usize = 8;

/// How long the thread sleeps when no file is open.
const IDLE: Duration = Duration::from_secs(3_600);

pub(super) struct Writer {
    origin: Origin,
    roll: Roll,
    stats: Arc<ArchiveStats>,
    stop: Arc<StopSignal>,
    /// The oldest first.
    open: Vec<Segment>,
    sequences: BTreeMap<&'static str, u64>,
    outcome: Outcome,
    failures: Reminder,
}

/// What the writer has done when it ends.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) closed: ArchiveClosed,
    pub(super) rows_lost: u64,
    pub(super) first_failure: Option<String>,
}

impl Writer {
    pub(super) fn new(
        settings: &ArchiveSettings,
        job: &str,
        generation: u64,
        worker: usize,
        stats: Arc<ArchiveStats>,
        stop: Arc<StopSignal>,
    ) -> Self {
        let (archive, compression) = (settings.path.clone(), settings.compression);
        Self {
            origin: Origin { archive, job: job.to_owned(), generation, worker, compression },
            roll: settings.roll,
            stats,
            stop,
            open: Vec::new(),
            sequences: BTreeMap::new(),
            outcome: Outcome::default(),
            failures: Reminder::default(),
        }
    }

    /// Runs until the queue is closed and everything in it is in complete files, or a stop is asked.
    pub(super) fn run(mut self, queue: &Receiver<ArchiveBatch>) -> Outcome {
        loop {
            match queue.recv_timeout(self.time_to_roll()) {
                Received::Item(batch) if !self.stop.is_asked() => self.take(batch),
                Received::Timeout if !self.stop.is_asked() => {}
                Received::Closed if !self.stop.is_asked() => break,
                _ => return self.outcome,
            }
            self.roll_by_age();
        }
        while !self.open.is_empty() && !self.stop.is_asked() {
            self.complete(0);
        }
        self.outcome
    }

    fn take(&mut self, batch: ArchiveBatch) {
        let weight = batch.weight();
        self.add(batch);
        self.stats.in_flight_bytes.fetch_sub(weight, Ordering::AcqRel);
    }

    fn add(&mut self, batch: ArchiveBatch) {
        let ArchiveBatch { table, day, rows } = batch;
        let count = rows.num_rows() as u64;
        if count == 0 {
            return;
        }
        let index = match self.open_for(table, day, &rows) {
            Ok(index) => index,
            Err(error) => return self.lost(count, &error),
        };
        let segment = &mut self.open[index];
        if let Err(error) = segment.add(rows) {
            // What is in a file that cannot be written on cannot be made visible either.
            let segment = self.open.remove(index);
            return self.lost(segment.rows, &error);
        }
        self.stats.rows.fetch_add(count, Ordering::Relaxed);
        if self.roll.size.is_some_and(|size| segment.bytes() >= size.as_u64()) {
            self.complete(index);
        }
    }

    /// The open file for such rows; begins one where there is none.
    fn open_for(
        &mut self,
        table: &'static str,
        day: i32,
        rows: &arrow_array::RecordBatch,
    ) -> Result<usize, ArchiveError> {
        let schema = rows.schema_ref();
        if let Some(index) = self.open.iter().position(|segment| segment.takes(table, day, schema)) {
            return Ok(index);
        }
        let same_table = |segment: &Segment| segment.table == table;
        if self.open.iter().filter(|segment| same_table(segment)).count() >= OPEN_FILES_MAX
            && let Some(oldest) = self.open.iter().position(same_table)
        {
            self.complete(oldest);
        }
        let sequence = self.sequences.entry(table).or_default();
        self.open.push(Segment::begin(&self.origin, table, day, schema.clone(), sequence)?);
        Ok(self.open.len() - 1)
    }

    fn time_to_roll(&self) -> Duration {
        // Files are in the order in which they were begun, so the first is due first.
        match (self.roll.age, self.open.first()) {
            (Some(age), Some(oldest)) => age.saturating_sub(oldest.began_at.elapsed()),
            _ => IDLE,
        }
    }

    fn roll_by_age(&mut self) {
        let Some(age) = self.roll.age else { return };
        let now = Instant::now();
        while self.open.first().is_some_and(|oldest| now.saturating_duration_since(oldest.began_at) >= age) {
            self.complete(0);
        }
    }

    fn complete(&mut self, index: usize) {
        let segment = self.open.remove(index);
        let (table, rows) = (segment.table, segment.rows);
        match segment.finish() {
            Ok(bytes) => {
                debug!(table, rows, bytes, "archive file complete");
                self.outcome.closed.rows += rows;
                self.outcome.closed.files += 1;
                self.stats.bytes.fetch_add(bytes, Ordering::Relaxed);
                self.stats.files.fetch_add(1, Ordering::Relaxed);
                self.failures.reset();
            }
            Err(error) => self.lost(rows, &error),
        }
    }

    fn lost(&mut self, rows: u64, cause: &ArchiveError) {
        self.stats.failures.fetch_add(rows, Ordering::Relaxed);
        self.outcome.rows_lost += rows;
        if let Some(times) = self.failures.due() {
            error!(rows, times, error = %cause, "archive rows lost");
        }
        self.outcome.first_failure.get_or_insert_with(|| cause.to_string());
    }
}
