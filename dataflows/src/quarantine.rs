//! Records on which the process dies (rule 7.8): a worker that panics leaves a report of what it had in
//! hand; a record that is in two reports is not taken a third time, but becomes a dead letter.
//!
//! ```text
//!   <data>/crashes/<generation>-<worker>.crash    head | length u32 | crc u32 | JSON
//! ```
//! Being killed from outside leaves no report, and does not count.

use std::any::Any;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use connectors::disk::{self, Disk};
use connectors::format::Format;
use serde::{Deserialize, Serialize};
use tracing::{error, warn};

/// Where reports stand in the data folder.
pub const FOLDER: &str = "crashes";

/// Deaths by one record after which it is not taken any more.
const DEATHS_MAX: usize = 2;
/// Reports that are kept; a record dies twice in a row or not at all.
const REPORTS_MAX: usize = 64;

const FORMAT: Format = Format { magic: *b"twl-crsh", version: 1 };

/// What a worker has in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InHand {
    /// Number of the source.
    pub source: u16,
    /// Position in it.
    pub position: u64,
    /// The operator.
    pub operator: &'static str,
}

thread_local! {
    static IN_HAND: Cell<Option<InHand>> = const { Cell::new(None) };
    static ON_DUTY: Cell<u32> = const { Cell::new(0) };
}

/// Notes which job this worker works for; what it takes in hand is of that one.
pub(crate) fn go_on_duty(job: u32) {
    ON_DUTY.set(job);
}

/// The job that this worker has something in hand of, if it has.
pub(crate) fn on_duty() -> Option<u32> {
    IN_HAND.get().map(|_| ON_DUTY.get())
}

/// Notes what this worker takes in hand; none where it has put everything down.
pub fn take_in_hand(what: Option<InHand>) {
    IN_HAND.set(what);
}

/// A report of a worker's end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The job.
    pub job: String,
    /// Number of the run.
    pub generation: u64,
    /// Number of the worker.
    pub worker: usize,
    /// The operator that had something in hand; none where none had.
    pub operator: Option<String>,
    /// The source of what it had in hand, and its position there.
    pub record: Option<(String, u64)>,
    /// What the panic said.
    pub panic: String,
}

impl Report {
    fn encode(&self) -> Vec<u8> {
        FORMAT.seal(&serde_json::to_vec(self).expect("a report has text keys only"))
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(FORMAT.unseal(bytes).ok()?).ok()
    }
}

/// Leaves reports in a job's data folder.
pub(crate) struct Reporter {
    pub(crate) disk: Arc<dyn Disk>,
    /// Where reports are kept.
    pub(crate) folder: PathBuf,
    pub(crate) job: String,
    pub(crate) generation: u64,
    /// Names of the sources, by their numbers.
    pub(crate) sources: Vec<String>,
}

impl Reporter {
    /// Leaves a report of the panic of this worker.
    pub(crate) fn report(&self, worker: usize, panic: &(dyn Any + Send)) {
        let Self { disk, folder, job, generation, sources } = self;
        let in_hand = IN_HAND.get();
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let report = Report {
            job: job.clone(),
            generation: *generation,
            worker,
            operator: in_hand.map(|one| one.operator.to_owned()),
            record: in_hand
                .and_then(|one| Some((sources.get(usize::from(one.source))?.clone(), one.position))),
            panic: text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text").to_owned(),
        };
        error!(job, worker, operator = report.operator, record = ?report.record, panic = %report.panic, "crash report");
        let path = folder.join(format!("{generation:010}-{worker}.crash"));
        let written = disk.make_folder(folder).and_then(|()| disk::replace(&**disk, &path, &report.encode()));
        if let Err(error) = written {
            error!(%error, path = %path.display(), "crash report not written");
        }
    }
}

/// Positions that are not taken any more, by source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quarantine {
    positions: BTreeMap<String, Arc<BTreeSet<u64>>>,
}

impl Quarantine {
    /// Reads the reports of a job. What cannot be read counts for nothing: at worst a record dies once
    /// more.
    pub fn read(disk: &dyn Disk, folder: &Path, job: &str) -> Self {
        let files = disk.list(folder).unwrap_or_default();
        let reports: Vec<Report> = files
            .iter()
            .filter_map(|path| Report::decode(&disk.read(path).ok()?))
            .filter(|report| report.job == job)
            .collect();
        // The oldest have had their time.
        for path in files.iter().take(files.len().saturating_sub(REPORTS_MAX)) {
            let _ = disk.remove(path);
        }
        let quarantine = Self::of_reports(&reports);
        for (source, positions) in &quarantine.positions {
            warn!(
                source,
                ?positions,
                "quarantined: the process died on these records twice; they are dead letters"
            );
        }
        quarantine
    }

    fn of_reports(reports: &[Report]) -> Self {
        let mut deaths: BTreeMap<&(String, u64), usize> = BTreeMap::new();
        for record in reports.iter().filter_map(|report| report.record.as_ref()) {
            *deaths.entry(record).or_default() += 1;
        }
        let mut positions: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for ((source, position), _) in deaths.into_iter().filter(|(_, number)| *number >= DEATHS_MAX) {
            positions.entry(source.clone()).or_default().insert(*position);
        }
        Self { positions: positions.into_iter().map(|(source, all)| (source, Arc::new(all))).collect() }
    }

    /// Positions of a source that are not taken any more.
    pub fn of(&self, source: &str) -> Arc<BTreeSet<u64>> {
        self.positions.get(source).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use connectors::disk::SimDisk;

    use super::*;

    fn report_of(generation: u64, record: Option<(&str, u64)>) -> Report {
        Report {
            job: "line".into(),
            generation,
            worker: 0,
            operator: Some("shadowing".into()),
            record: record.map(|(source, position)| (source.to_owned(), position)),
            panic: "oh".into(),
        }
    }

    #[test]
    fn a_record_that_killed_twice_is_quarantined() {
        let records =
            [Some(("plant", 7)), None, Some(("plant", 8)), Some(("yard", 7)), Some(("plant", 7)), None];
        let reports: Vec<Report> = (1..).zip(records).map(|(one, record)| report_of(one, record)).collect();
        let quarantine = Quarantine::of_reports(&reports);
        assert_eq!(*quarantine.of("plant"), BTreeSet::from([7]));
        assert!(quarantine.of("yard").is_empty());
    }

    #[test]
    fn reports_are_left_and_read() {
        let (disk, folder) = (Arc::new(SimDisk::new(1)), Path::new("data/crashes"));
        for generation in 1..=2 {
            take_in_hand(Some(InHand { source: 1, position: 42, operator: "decode" }));
            let reporter = Reporter {
                disk: disk.clone(),
                folder: folder.to_owned(),
                job: "line".to_owned(),
                generation,
                sources: vec!["plant".to_owned(), "yard".to_owned()],
            };
            reporter.report(3, &"oh".to_owned());
        }
        take_in_hand(None);
        assert_eq!(*Quarantine::read(&*disk, folder, "line").of("yard"), BTreeSet::from([42]));
        assert_eq!(Quarantine::read(&*disk, folder, "other"), Quarantine::default());
    }

    #[test]
    fn a_report_is_a_format() {
        let whole = report_of(3, Some(("plant", 7))).encode();
        let golden = "twl-crsh\u{1}\0\0\0\u{61}\0\0\0";
        assert!(whole.starts_with(golden.as_bytes()), "{:?}", String::from_utf8_lossy(&whole));
        assert_eq!(Report::decode(&whole), Some(report_of(3, Some(("plant", 7)))));
        for length in 0..whole.len() {
            assert_eq!(Report::decode(&whole[..length]), None, "cut to {length}");
        }
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Report::decode(&bytes), None, "bit {bit}");
        }
    }
}
