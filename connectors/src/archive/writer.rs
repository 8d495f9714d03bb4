//! The archive's thread: takes rows into segments, and at the boundary of a checkpoint makes them
//! durable and says which are to become files.
//!
//! ```text
//!   rows ──► Group: memory ──► segment ──(boundary n: synced)──► ArchivePart of checkpoint n
//!              '──(large, old, or one of too many)──► Files ──(committed n)──► visible
//! ```
//! Nothing here runs by time: a group is looked at when a boundary comes, so what the writer does is
//! a function of what it was given and of the wall clock at the boundaries.

use super::file::Place;
use super::files::{Files, Outcome};
use super::group::Group;
use super::history::{self, Recent};
use super::segment::SegmentWriter;
use super::{ArchiveBatch, ArchiveError, ArchivePart, ArchiveStats, Order, Roll, retention};
use crate::alarm::Alarm;
use crate::clock::Clock;
use crate::queue::{Received, Receiver, Weigh};
use crate::thread::StopSignal;
use arrow_schema::ArrowError;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tracing::error;

/// How many days of a table may have an open file, and be left growing: late rows of yesterday and
/// the day before are usual, rows of a hundred days at once are a replay, whose files are made as
/// their checkpoints come.
pub(super) const OPEN_MAX: usize = 8;

/// How many bytes of rows all groups may hold in memory: enough for those that grow at a time, too
/// little for a hundred days.
const HELD_BYTES_TOTAL: usize = 16 << 20;

/// How long the thread sleeps when there is nothing to do.
const IDLE: Duration = Duration::from_secs(3_600);

pub(super) struct Writer {
    pub(super) place: Place,
    pub(super) generation: u64,
    pub(super) worker: usize,
    pub(super) roll: Roll,
    pub(super) retain: Option<Duration>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) alarm: Arc<Alarm>,
    pub(super) stats: Arc<ArchiveStats>,
    pub(super) stop: Arc<StopSignal>,
    /// In the order in which they were begun.
    pub(super) groups: Vec<Group>,
    pub(super) files: Files,
    pub(super) progress: Progress,
}

/// How far a writer has come.
#[derive(Default)]
pub(super) struct Progress {
    segment_number: u64,
    appends: u64,
    /// A segment's file was made since the names in the folder were synced.
    has_new_names: bool,
    /// Boundaries that are not committed, and the rows taken before each.
    boundaries: VecDeque<(u64, u64)>,
    rows_taken: u64,
    rows_committed: u64,
    retained_at_us: Option<i64>,
    /// Why no more rows are taken.
    stopped: Option<String>,
    scratch: Vec<u8>,
}

impl Writer {
    /// Runs until the queue is closed and every file whose checkpoint is committed is made, or a stop
    /// is asked.
    pub(super) fn run(mut self, queue: &Receiver<Order>) -> Outcome {
        loop {
            let wait = if self.has_work() { Duration::ZERO } else { IDLE };
            match queue.recv_timeout(wait) {
                _ if self.stop.is_asked() => return self.outcome(),
                Received::Item(order) => self.take(order),
                Received::Timeout => {}
                Received::Closed => break,
            }
            self.work();
        }
        self.files.retry();
        while self.has_work() && !self.stop.is_asked() {
            self.work();
        }
        self.outcome()
    }

    /// Whether a file waits to be made.
    pub(super) fn has_work(&self) -> bool {
        self.progress.stopped.is_none() && self.files.has_work()
    }

    /// Does a piece of that work.
    pub(super) fn work(&mut self) {
        if self.has_work() {
            self.files.work();
        }
    }

    pub(super) fn take(&mut self, order: Order) {
        let weight = order.weight();
        match order {
            Order::Rows(batch) => {
                self.add(batch);
                self.stats.in_flight_bytes.fetch_sub(weight, Ordering::AcqRel);
            }
            Order::Boundary { number, last, reply } => match self.boundary(number, last) {
                Ok(Some(part)) => reply(part),
                Ok(None) => {}
                Err(error) => self.give_up(&error),
            },
            Order::Committed(number) => self.committed(number),
            Order::Look { table, twin, reply } => match self.recent(&table, &twin) {
                Ok(recent) => reply(recent),
                // Whoever asked is told by the reply that is dropped.
                Err(error) => error!(%error, "rows in memory cannot be shown"),
            },
        }
    }

    /// What of a table may be in no visible file.
    fn recent(&self, table: &str, twin: &str) -> Result<Recent, ArrowError> {
        let mut recent = Recent { generation: self.generation, ..Recent::default() };
        let (worker, sequence) = (self.worker, self.files.sequence());
        let files = self.files.plans().into_iter().filter(|file| file.table == table).collect();
        recent.part = ArchivePart { worker, sequence, segments: Vec::new(), files };
        for group in self.groups.iter().filter(|group| group.table == table) {
            recent.part.segments.extend(group.segments());
            for rows in group.held() {
                recent.memory.extend(history::encoded(rows, twin)?.map(|stream| (group.day, stream)));
            }
        }
        Ok(recent)
    }

    fn add(&mut self, batch: ArchiveBatch) {
        let count = batch.rows.num_rows() as u64;
        if count == 0 || self.progress.stopped.is_some() {
            return;
        }
        let index = self.group_for(&batch);
        self.progress.rows_taken += count;
        self.stats.rows.fetch_add(count, Ordering::Relaxed);
        let is_time = self.groups[index].hold(batch);
        let held_bytes: usize = self.groups.iter().map(Group::held_bytes).sum();
        let heaviest = || (0..self.groups.len()).max_by_key(|index| self.groups[*index].held_bytes());
        let over = if is_time { Some(index) } else { heaviest().filter(|_| held_bytes > HELD_BYTES_TOTAL) };
        if let Some(index) = over
            && let Err(error) = self.append(index)
        {
            self.give_up(&error);
        }
    }

    /// The open group for such rows; begins one where there is none.
    fn group_for(&mut self, batch: &ArchiveBatch) -> usize {
        let (table, day, schema) = (batch.table, batch.day, batch.rows.schema_ref());
        if let Some(index) = self.groups.iter().position(|group| group.takes(table, day, schema)) {
            return index;
        }
        let growing = |group: &&mut Group| group.table == table && !group.is_due;
        if self.groups.iter_mut().filter(growing).count() >= OPEN_MAX
            && let Some(oldest) = self.groups.iter_mut().find(growing)
        {
            oldest.is_due = true;
        }
        self.groups.push(Group::new(table, day, schema.clone(), self.clock.wall_us()));
        self.groups.len() - 1
    }

    /// Writes what a group holds to its segment.
    fn append(&mut self, index: usize) -> Result<(), ArchiveError> {
        if self.groups[index].held_bytes() == 0 {
            return Ok(());
        }
        self.make_room(index)?;
        let (progress, folder) = (&mut self.progress, &self.place.segments);
        let began_us = self.groups[index].began_us;
        let begin = |schema: &_| {
            progress.segment_number += 1;
            progress.has_new_names = true;
            let (generation, worker, number) = (self.generation, self.worker, progress.segment_number);
            // With its time, so that no segment of another data folder has the same name.
            let name = format!("{generation}-{worker}-{number}-{began_us:x}.segment");
            SegmentWriter::new(folder, name, schema)
        };
        let group = &mut self.groups[index];
        let mut scratch = std::mem::take(&mut progress.scratch);
        group.append(&*self.place.disk, begin, &mut scratch)?;
        self.progress.scratch = scratch;
        self.progress.appends += 1;
        group.used = self.progress.appends;
        let group = &self.groups[index];
        if self.roll.size.is_some_and(|size| self.file_bytes(group) >= size.as_u64()) {
            let group = &mut self.groups[index];
            (group.is_due, group.is_full) = (true, true);
            group.own.as_mut().map_or(Ok(()), SegmentWriter::release)?;
        }
        Ok(())
    }

    /// Takes the handle of the group of this table that was not used for the longest time, where
    /// there would be too many.
    fn make_room(&mut self, index: usize) -> Result<(), ArchiveError> {
        if self.groups[index].has_handle() {
            return Ok(());
        }
        let table = &self.groups[index].table;
        let open = |group: &&Group| group.table == *table && group.has_handle();
        if self.groups.iter().filter(open).count() < OPEN_MAX {
            return Ok(());
        }
        let longest = (0..self.groups.len())
            .filter(|other| open(&&self.groups[*other]))
            .min_by_key(|other| self.groups[*other].used);
        let own = longest.and_then(|longest| self.groups[longest].own.as_mut());
        own.map_or(Ok(()), SegmentWriter::release)
    }

    /// About how large the file of a group would be.
    fn file_bytes(&self, group: &Group) -> u64 {
        (group.bytes() as f64 * self.files.share(&group.table)) as u64
    }

    /// Makes every row taken so far durable and plans the files that are due; `None` after a failure,
    /// as a part without the rows that could not be written would lose them.
    fn boundary(&mut self, number: u64, last: bool) -> Result<Option<ArchivePart>, ArchiveError> {
        if self.progress.stopped.is_some() {
            return Ok(None);
        }
        for index in 0..self.groups.len() {
            self.append(index)?;
        }
        for own in self.groups.iter_mut().filter_map(|group| group.own.as_mut()) {
            own.sync()?;
        }
        if self.progress.has_new_names {
            let folder = &self.place.segments;
            self.place.disk.sync_folder(folder).map_err(ArchiveError::io("sync the folder", folder))?;
            self.progress.has_new_names = false;
        }
        let now_us = self.clock.wall_us();
        for mut group in std::mem::take(&mut self.groups) {
            // A clock that was set back must not keep a file open for as long.
            group.began_us = group.began_us.min(now_us);
            match last || self.is_due(&group, now_us) {
                true => self.files.plan(number, &group),
                false => self.groups.push(group),
            }
        }
        self.progress.boundaries.push_back((number, self.progress.rows_taken));
        Ok(Some(ArchivePart {
            worker: self.worker,
            sequence: self.files.sequence(),
            segments: self.groups.iter().flat_map(Group::segments).collect(),
            files: self.files.plans(),
        }))
    }

    fn is_due(&self, group: &Group, now_us: i64) -> bool {
        let age_us = u128::try_from(now_us.saturating_sub(group.began_us)).unwrap_or(0);
        group.is_due
            || self.roll.age.is_some_and(|age| age_us >= age.as_micros())
            || self.roll.size.is_some_and(|size| self.file_bytes(group) >= size.as_u64())
    }

    fn committed(&mut self, number: u64) {
        if self.progress.stopped.is_some() {
            return;
        }
        let progress = &mut self.progress;
        while let Some((_, rows)) = progress.boundaries.pop_front_if(|(boundary, _)| *boundary <= number) {
            progress.rows_committed = rows;
        }
        self.files.committed(number);
        if let Some(retain) = self.retain.filter(|_| self.worker == 0) {
            let now_us = self.clock.wall_us();
            if retention::is_due(progress.retained_at_us, now_us) {
                progress.retained_at_us = Some(now_us);
                retention::remove_old(&self.place, retain, now_us);
            }
        }
    }

    /// After a failed write nothing is known of what the disk has: what is in no checkpoint is given
    /// up, and the run with it.
    fn give_up(&mut self, error: &ArchiveError) {
        let reason = error.to_string();
        error!(
            rows = self.rows_uncommitted(),
            "archive takes no more rows; those in no checkpoint are cut off"
        );
        self.alarm.raise(format!("{reason}; the next start goes on from the last checkpoint"));
        self.files.abandon();
        self.progress.stopped.get_or_insert(reason);
    }

    fn rows_uncommitted(&self) -> u64 {
        self.progress.rows_taken - self.progress.rows_committed
    }

    fn outcome(self) -> Outcome {
        let rows_uncommitted = self.rows_uncommitted();
        Outcome { rows_uncommitted, stopped: self.progress.stopped, ..self.files.outcome() }
    }
}
