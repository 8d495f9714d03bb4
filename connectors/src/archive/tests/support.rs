//! What the tests of the archive have in common: a place on a simulated disk, writers that are driven
//! by hand, and a look at everything that is visible.

use crate::alarm::Alarm;
use crate::archive::segment::SegmentReader;
use crate::archive::writer::Writer;
use crate::archive::*;
use crate::clock::ManualClock;
use crate::disk::{Disk, SimDisk};
use arrow_array::{Array, Int64Array, StringArray};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use bytesize::ByteSize;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc;

pub(super) const LONG: Duration = Duration::from_secs(60);

pub(super) const ARCHIVE: &str = "/archive";

pub(super) const SEGMENTS: &str = "/data/segments";

/// A job's archive and data folder.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) disk: SimDisk,
    pub(super) clock: ManualClock,
    pub(super) alarm: Arc<Alarm>,
    pub(super) settings: ArchiveSettings,
    pub(super) fallbacks: usize,
    pub(super) generation: u64,
}

impl Site {
    pub(super) fn new() -> Self {
        Self {
            disk: SimDisk::new(1),
            clock: ManualClock::new(1_000_000),
            alarm: Arc::default(),
            settings: ArchiveSettings {
                path: ARCHIVE.into(),
                roll: Roll::default(),
                compression: Compression::Snappy,
                retain: None,
            },
            fallbacks: 0,
            generation: 1,
        }
    }

    pub(super) fn with_roll(roll: &str) -> Self {
        let mut site = Self::new();
        site.settings.roll = roll.parse().expect("a roll");
        site
    }

    pub(super) fn setup(&self, worker: usize, adopted: Vec<SegmentRef>) -> ArchiveSetup {
        ArchiveSetup {
            settings: self.settings.clone(),
            job: "j".to_owned(),
            generation: self.generation,
            worker,
            segments: SEGMENTS.into(),
            adopted,
            fallbacks: self.fallbacks,
            disk: Arc::new(self.disk.clone()),
            clock: Arc::new(self.clock.clone()),
            alarm: self.alarm.clone(),
        }
    }

    /// A writer with its thread.
    pub(super) fn start(&self) -> ArchiveHandle {
        start(self.setup(0, Vec::new())).expect("started")
    }

    /// A writer that is driven by hand.
    pub(super) fn drive(&self, worker: usize, adopted: Vec<SegmentRef>) -> Driver {
        Driver::try_new(self.setup(worker, adopted)).expect("a writer")
    }

    pub(super) fn restore(&self, committed: Committed<'_>) -> Result<Vec<SegmentRef>, ArchiveError> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        restore(&disk, &self.settings, "j", Path::new(SEGMENTS), committed)
    }

    /// Everything below a folder, by its path below it; hidden files too.
    pub(super) fn files(&self, folder: &str) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.disk, Path::new(folder), &mut found);
        let below = found.iter().map(|path| path.strip_prefix(folder).expect("below"));
        below.map(|path| path.display().to_string()).collect()
    }

    /// The rows of all visible files, by their path.
    pub(super) fn visible(&self) -> BTreeMap<String, Vec<i64>> {
        let visible = self.files(ARCHIVE).into_iter().filter(|path| !path.contains("/."));
        visible.map(|path| (path.clone(), self.numbers(&path))).collect()
    }

    pub(super) fn reader(&self, path: &str) -> ParquetRecordBatchReaderBuilder<Bytes> {
        let bytes = self.disk.read(&Path::new(ARCHIVE).join(path)).expect("the file");
        ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).expect("Parquet")
    }

    /// The rows of a visible file.
    pub(super) fn numbers(&self, path: &str) -> Vec<i64> {
        let batches = self.reader(path).build().expect("a reader");
        batches.flat_map(|batch| numbers(&batch.expect("rows"))).collect()
    }

    /// The committed rows of a segment.
    pub(super) fn numbers_in(&self, segment: &SegmentRef) -> Vec<i64> {
        let path = Path::new(SEGMENTS).join(&segment.name);
        let mut reader =
            SegmentReader::open(Arc::new(self.disk.clone()), path, segment.bytes).expect("a segment");
        let mut found = Vec::new();
        while let Some(batch) = reader.next_batch().expect("rows") {
            found.extend(numbers(&batch));
        }
        assert_eq!(found.len() as u64, segment.rows);
        found
    }
}

/// A writer without a thread: every order is done when its function returns.
pub(super) struct Driver {
    pub(super) writer: Writer,
    pub(super) stats: Arc<ArchiveStats>,
}

impl Driver {
    pub(super) fn try_new(setup: ArchiveSetup) -> Result<Self, ArchiveError> {
        let stats = Arc::new(ArchiveStats::default());
        Ok(Self { writer: Writer::new(setup, stats.clone(), Arc::default())?, stats })
    }

    pub(super) fn offer(&mut self, batch: ArchiveBatch) {
        self.stats.in_flight_bytes.fetch_add(batch.weight(), Ordering::AcqRel);
        self.writer.take(Order::Rows(batch));
    }

    /// A boundary; `None` where the writer has failed.
    pub(super) fn boundary(&mut self, number: u64, last: bool) -> Option<ArchivePart> {
        let (sent, replied) = mpsc::channel();
        let reply: Reply = Box::new(move |part| sent.send(part).expect("it is waited for"));
        self.writer.take(Order::Boundary { number, last, reply });
        replied.recv().ok()
    }

    /// A commit, and all the work that it makes.
    pub(super) fn commit(&mut self, number: u64) {
        self.writer.take(Order::Committed(number));
        while self.writer.has_work() {
            self.writer.work();
        }
    }

    pub(super) fn checkpoint(&mut self, number: u64, last: bool) -> ArchivePart {
        let part = self.boundary(number, last).expect("a part");
        self.commit(number);
        part
    }

    pub(super) fn handles(&self) -> usize {
        self.writer.groups.iter().filter(|group| group.has_handle()).count()
    }
}

/// A boundary of a writer with a thread, and its commit.
pub(super) fn checkpoint(archive: &ArchiveHandle, number: u64, last: bool) -> ArchivePart {
    let (sent, replied) = mpsc::channel();
    archive.boundary(number, last, Box::new(move |part| sent.send(part).expect("it is waited for")));
    let part = replied.recv_timeout(LONG).expect("a part");
    archive.committed(number);
    part
}

pub(super) fn batch(table: &'static str, day: i32, numbers: Range<i64>) -> ArchiveBatch {
    batch_of(table, day, numbers)
}

pub(super) fn batch_of(
    table: &'static str,
    day: i32,
    numbers: impl Iterator<Item = i64> + Clone,
) -> ArchiveBatch {
    let fields = vec![Field::new("twin", DataType::Utf8, false), Field::new("n", DataType::Int64, false)];
    let twins: StringArray = numbers.clone().map(|number| Some(format!("p-{}", number % 100))).collect();
    let numbers = Int64Array::from_iter_values(numbers);
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(twins), Arc::new(numbers)]);
    ArchiveBatch { table, day, rows: rows.expect("columns that fit the schema") }
}

pub(super) fn numbers(batch: &RecordBatch) -> Vec<i64> {
    let column = batch.column_by_name("n").expect("the column").clone();
    column.as_any().downcast_ref::<Int64Array>().expect("integers").values().to_vec()
}

pub(super) fn kilobytes(size: u64) -> Roll {
    Roll { size: Some(ByteSize::kb(size)), age: None }
}

fn walk(disk: &SimDisk, folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for path in disk.list(folder).expect("a folder") {
        match disk.read(&path) {
            Ok(_) => found.push(path),
            Err(_) => walk(disk, &path, found),
        }
    }
}
