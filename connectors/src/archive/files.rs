//! Files that were planned at boundaries, until they are visible and their segments are removed.
//!
//! ```text
//!   Waiting ──(its checkpoint is committed)──► Due ──► Making ──► Visible ──(no start needs the segments)──► over
//!                                               ^         '──► Failed ──.
//!                                               '──(the next commit)────'
//! ```
//! Every manifest lists a file until it is over: so whichever checkpoint a start goes on from, it
//! either knows the file, or finds the segments that the file was made of.

use super::file::{Making, Place};
use super::group::Group;
use super::name::{self, FileName};
use super::{ArchiveError, ArchiveStats, FilePlan};
use crate::failpoint::{self, Failpoint};
use crate::reminder::Reminder;
use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tracing::{debug, warn};

/// The least share of its segments that a file is believed to have.
const SHARE_MIN: f64 = 1.0 / 16.0;

/// The files of one writer.
pub(super) struct Files {
    place: Place,
    generation: u64,
    worker: usize,
    /// How many checkpoints before the newest a start may have to go back to.
    fallbacks: usize,
    stats: Arc<ArchiveStats>,
    planned: Vec<Planned>,
    making: Option<Making>,
    sequence: u64,
    /// Bytes of a file for each byte of its segments, as the last file of a table had it.
    shares: BTreeMap<String, f64>,
    /// The newest commits, as many as a start may choose from.
    commits: VecDeque<u64>,
    outcome: Outcome,
    failures: Reminder,
}

struct Planned {
    boundary: u64,
    plan: FilePlan,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Due,
    Making,
    Failed,
    Visible,
}

/// What a writer has done when it ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) files: u64,
    pub(super) rows: u64,
    pub(super) rows_uncommitted: u64,
    pub(super) files_unmade: u64,
    pub(super) rows_unmade: u64,
    pub(super) first_failure: Option<String>,
    pub(super) stopped: Option<String>,
}

impl Files {
    pub(super) fn new(
        place: Place,
        generation: u64,
        worker: usize,
        fallbacks: usize,
        stats: Arc<ArchiveStats>,
    ) -> Self {
        Self {
            place,
            generation,
            worker,
            fallbacks,
            stats,
            planned: Vec::new(),
            making: None,
            sequence: 0,
            shares: BTreeMap::new(),
            commits: VecDeque::new(),
            outcome: Outcome::default(),
            failures: Reminder::default(),
        }
    }

    /// Plans the file of a group, whose segments are synced.
    pub(super) fn plan(&mut self, boundary: u64, group: &Group) {
        let folder = name::folder(&group.table, &self.place.job, group.day);
        let path = loop {
            self.sequence += 1;
            let (generation, worker, sequence) = (self.generation, self.worker, self.sequence);
            let path = format!("{folder}/{}", FileName { generation, worker, sequence });
            // A visible file is never replaced: there is one where the data folder was removed, and
            // the archive was not.
            if !self.place.is_visible(&self.place.archive.join(&path)) {
                break path;
            }
        };
        let segments = group.segments();
        let rows = segments.iter().map(|segment| segment.rows).sum();
        let plan = FilePlan { path, table: group.table.clone(), day: group.day, segments, rows };
        self.planned.push(Planned { boundary, plan, stage: Stage::Waiting });
    }

    /// The last sequence number that was given to a file.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What a manifest lists.
    pub(super) fn plans(&self) -> Vec<FilePlan> {
        self.planned.iter().map(|planned| planned.plan.clone()).collect()
    }

    /// Bytes of a file for each byte of its segments.
    pub(super) fn share(&self, table: &str) -> f64 {
        self.shares.get(table).copied().unwrap_or(1.0)
    }

    /// The checkpoint of this boundary is committed, and with it those before.
    pub(super) fn committed(&mut self, number: u64) {
        self.commits.push_back(number);
        while self.commits.len() > self.fallbacks + 1 {
            self.commits.pop_front();
        }
        for planned in self.planned.iter_mut().filter(|planned| planned.boundary <= number) {
            if planned.stage == Stage::Waiting {
                planned.stage = Stage::Due;
            }
        }
        self.retry();
        self.remove_segments();
    }

    /// Tries again what failed.
    pub(super) fn retry(&mut self) {
        for planned in self.planned.iter_mut().filter(|planned| planned.stage == Stage::Failed) {
            planned.stage = Stage::Due;
        }
    }

    /// Whether a file waits to be made.
    pub(super) fn has_work(&self) -> bool {
        self.next().is_some()
    }

    fn next(&self) -> Option<usize> {
        let at = |stage| self.planned.iter().position(|planned| planned.stage == stage);
        at(Stage::Making).or_else(|| at(Stage::Due))
    }

    /// Makes a piece of the next file.
    pub(super) fn work(&mut self) {
        let Some(index) = self.next() else { return };
        let made = self.work_on(index);
        let planned = &mut self.planned[index];
        match made {
            Ok(None) => {
                planned.stage = Stage::Making;
                return;
            }
            Ok(Some(bytes)) => {
                let FilePlan { table, rows, segments, .. } = &planned.plan;
                debug!(table, rows, bytes, "archive file visible");
                planned.stage = Stage::Visible;
                let segment_bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
                let share = (bytes as f64 / segment_bytes as f64).clamp(SHARE_MIN, 1.0);
                self.shares.insert(table.clone(), share);
                self.outcome.files += 1;
                self.outcome.rows += rows;
                self.stats.bytes.fetch_add(bytes, Ordering::Relaxed);
                self.stats.files.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                planned.stage = Stage::Failed;
                self.stats.failures.fetch_add(1, Ordering::Relaxed);
                if let Some(times) = self.failures.due() {
                    warn!(times, %error, "archive file not made; its rows stay in their segments until it is");
                }
                self.outcome.first_failure.get_or_insert_with(|| error.to_string());
            }
        }
        self.making = None;
        self.remove_segments();
    }

    fn work_on(&mut self, index: usize) -> Result<Option<u64>, ArchiveError> {
        match &mut self.making {
            Some(making) => making.step(),
            none => {
                *none = Some(Making::begin(&self.place, &self.planned[index].plan)?);
                Ok(None)
            }
        }
    }

    /// Removes the segments of visible files, once every checkpoint that a start may choose knows of
    /// the file: an older one needs the segments.
    fn remove_segments(&mut self) {
        let oldest = self.commits.front().filter(|_| self.commits.len() > self.fallbacks);
        let Some(oldest) = oldest.copied() else { return };
        let is_over = |planned: &Planned| planned.stage == Stage::Visible && planned.boundary <= oldest;
        let over = self.planned.iter().filter(|planned| is_over(planned));
        let names: Vec<&str> =
            over.flat_map(|planned| &planned.plan.segments).map(|segment| segment.name.as_str()).collect();
        if names.is_empty() {
            return;
        }
        match remove(&self.place, &names) {
            // Not before: what the folder may show again after a crash has to be listed.
            Ok(()) => self.planned.retain(|planned| !is_over(planned)),
            Err(error) => {
                if let Some(times) = self.failures.due() {
                    warn!(times, %error, "archive segments not removed; tried again later");
                }
            }
        }
    }

    /// Gives up the file that is being made.
    pub(super) fn abandon(&mut self) {
        self.making = None;
    }

    /// What was done, and what was not.
    pub(super) fn outcome(self) -> Outcome {
        let committed = self.commits.back().copied();
        let is_unmade =
            |planned: &&Planned| Some(planned.boundary) <= committed && planned.stage != Stage::Visible;
        let unmade: Vec<u64> =
            self.planned.iter().filter(is_unmade).map(|planned| planned.plan.rows).collect();
        Outcome { files_unmade: unmade.len() as u64, rows_unmade: unmade.iter().sum(), ..self.outcome }
    }
}

/// Removes these segments, durably; those that are gone already are fine.
pub(super) fn remove(place: &Place, names: &[&str]) -> Result<(), ArchiveError> {
    let folder = &place.segments;
    failpoint::hit(Failpoint::ParquetRemove).map_err(ArchiveError::io("remove segments from", folder))?;
    names.iter().try_for_each(|name| remove_file(place, &folder.join(name)))?;
    place.disk.sync_folder(folder).map_err(ArchiveError::io("sync the folder", folder))
}

/// Removes a file that may be gone already.
pub(super) fn remove_file(place: &Place, path: &Path) -> Result<(), ArchiveError> {
    match place.disk.remove(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(ArchiveError::io("remove the file", path)(error))
        }
        _ => Ok(()),
    }
}
