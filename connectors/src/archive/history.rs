//! The history of one twin read back: from the files that are visible, from the segments that wait for theirs, and
//! from what a writer has in memory; each row once.
//!
//! ```text
//!   listed(..) ──► writers are asked ──► Recent: segments as they are written, rows in memory ──► history(..)
//! ```
//! Files go on becoming visible meanwhile. What was listed before is there whole; of what came since, the writers'
//! own numbers tell what they had made when they answered.

use super::segment::SegmentReader;
use super::{ArchiveError, ArchivePart, SegmentRef, name};
use crate::disk::Disk;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::ArrowError;
use arrow_select::filter::filter_record_batch;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, ParquetRecordBatchReaderBuilder, RowFilter};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The table.
    pub table: String,
    /// The twin.
    pub twin: String,
    /// Rows of this instant or later, microseconds since 1970.
    pub from_us: i64,
    /// Rows before this instant.
    pub to_us: i64,
    /// At most so many, the newest.
    pub rows_max: usize,
}

/// What a writer had of a table at an instant that may be in no visible file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recent {
    /// Generation of its run.
    pub generation: u64,
    /// Segments as they were written then, and files that were not over.
    pub part: ArchivePart,
    /// Rows of the twin that were in memory, by day: an Arrow IPC stream each, oldest first.
    pub memory: Vec<(i32, Vec<u8>)>,
}

/// The files of a table that were visible at an instant.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    paths: BTreeSet<PathBuf>,
}

/// The column that says when a row was made, in whichever of its names.
const TIMES: [&str; 2] = ["digital_at", "at"];

/// Lists the visible files of a table: to be done before writers are asked what they have.
pub fn listed(disk: &dyn Disk, archive: &Path, job: &str, table: &str) -> Result<Listed, ArchiveError> {
    let files = files(disk, archive, job, table)?;
    Ok(Listed { paths: files.into_iter().map(|(path, _)| path).collect() })
}

/// When a row was made, microseconds since 1970.
pub fn row_at_us(batch: &RecordBatch, row: usize) -> Option<i64> {
    let at = TIMES.iter().find_map(|name| batch.column_by_name(name))?;
    Some(at.as_primitive_opt::<TimestampMicrosecondType>()?.value(row))
}

/// The rows of a twin, oldest batch first. More rows may come than were wanted, as batches come whole. `recent` is
/// what the writers answered after the files were `listed`, or what the newest checkpoint has where there is no
/// writer. [`ArchiveError::is_gone`] says that it took too long, and is to be begun again.
pub fn history(
    disk: &Arc<dyn Disk>,
    archive: &Path,
    segments: &Path,
    job: &str,
    listed: &Listed,
    recent: &[Recent],
    wanted: &Wanted,
) -> Result<Vec<RecordBatch>, ArchiveError> {
    let mut found = Found { wanted, batches: Vec::new() };
    let open =
        |segment: &SegmentRef| SegmentReader::open(disk.clone(), segments.join(&segment.name), segment.bytes);
    let visible = files(&**disk, archive, job, &wanted.table)?;
    for Recent { part, memory, .. } in recent {
        let mut waiting: Vec<&SegmentRef> = Vec::new();
        for file in part.files.iter().filter(|file| file.table == wanted.table) {
            let path = archive.join(&file.path);
            if visible.iter().all(|(other, _)| *other != path) {
                waiting.extend(&file.segments);
            }
        }
        waiting.extend(part.segments.iter().filter(|segment| segment.table == wanted.table));
        for segment in waiting.into_iter().filter(|segment| segment.rows > 0) {
            let mut reader = open(segment)?;
            while let Some(batch) = reader.next_batch()? {
                let taken = found.take(segment.day, batch);
                taken.map_err(|error| ArchiveError::damaged(segments, error.to_string()))?;
            }
        }
        for (day, stream) in memory {
            let read = StreamReader::try_new(stream.as_slice(), None)
                .and_then(|mut batches| batches.try_for_each(|batch| found.take(*day, batch?)));
            read.map_err(|error| ArchiveError::damaged(segments, error.to_string()))?;
        }
    }
    // Its rows are in the segments that the writer has told of, or were offered later.
    let is_later = |path: &Path| {
        let name = name::FileName::parse(path);
        let by = |one: &Recent, name: name::FileName| {
            (one.generation, one.part.worker) == (name.generation, name.worker)
                && name.sequence > one.part.sequence
        };
        !listed.paths.contains(path) && name.is_some_and(|name| recent.iter().any(|one| by(one, name)))
    };
    // Newest first, until there are enough: the rows of a day that wait for their file are newer than those of its
    // files.
    let mut of_files = Vec::new();
    for (path, day) in visible {
        if is_later(&path) {
            continue;
        }
        if found.rows_since(day) >= wanted.rows_max {
            break;
        }
        let damaged = |error: String| ArchiveError::damaged(&path, error);
        let bytes = match disk.read(&path) {
            Ok(bytes) => bytes,
            // Its time was over while this was read.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(ArchiveError::io("read", &path)(error)),
        };
        let before = found.batches.len();
        for batch in of_twin(Bytes::from(bytes), &wanted.twin).map_err(damaged)? {
            found.take(day, batch).map_err(|error| damaged(error.to_string()))?;
        }
        of_files.push(before..found.batches.len());
    }
    let first_of_files = of_files.first().map_or(found.batches.len(), |first| first.start);
    // Those of files from the oldest on, and within a day before what waits.
    let order = of_files.iter().rev().cloned().flatten().chain(0..first_of_files);
    let mut batches: Vec<(i32, RecordBatch)> = order.map(|index| found.batches[index].clone()).collect();
    batches.sort_by_key(|(day, _)| *day);
    Ok(batches.into_iter().map(|(_, batch)| batch).collect())
}

/// The files of a table with their days, newest first.
fn files(
    disk: &dyn Disk,
    archive: &Path,
    job: &str,
    table: &str,
) -> Result<Vec<(PathBuf, i32)>, ArchiveError> {
    let below = archive.join(table);
    let folders = name::day_folders(disk, archive, job).map_err(ArchiveError::io("list", archive))?;
    let mut files = Vec::new();
    for folder in folders.into_iter().filter(|folder| folder.starts_with(&below)) {
        let Some(day) = name::day_of(&folder) else { continue };
        for path in disk.list(&folder).map_err(ArchiveError::io("list", &folder))? {
            if let Some(name) = name::FileName::parse(&path) {
                files.push((day, (name.generation, name.sequence), path));
            }
        }
    }
    files.sort_unstable();
    Ok(files.into_iter().rev().map(|(day, _, path)| (path, day)).collect())
}

/// The rows of a twin among these, in a form that can be sent to whoever asked; none where there are none.
pub(super) fn encoded(rows: &RecordBatch, twin: &str) -> Result<Option<Vec<u8>>, ArrowError> {
    let mine = filter_record_batch(rows, &is_of(rows, twin))?;
    if mine.num_rows() == 0 {
        return Ok(None);
    }
    let mut stream = Vec::new();
    let mut writer = StreamWriter::try_new(&mut stream, mine.schema_ref())?;
    writer.write(&mine)?;
    writer.finish()?;
    drop(writer);
    Ok(Some(stream))
}

/// The rows of one twin in a file: its id is looked at first, and the other columns where it is found only.
fn of_twin(bytes: Bytes, twin: &str) -> Result<Vec<RecordBatch>, String> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| error.to_string())?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["twin"]);
    let id = twin.to_owned();
    let is_it = ArrowPredicateFn::new(mask, move |batch| Ok(is_of(&batch, &id)));
    let reader = builder.with_row_filter(RowFilter::new(vec![Box::new(is_it)])).build();
    let reader = reader.map_err(|error| error.to_string())?;
    reader.collect::<Result<_, _>>().map_err(|error| error.to_string())
}

fn is_of(batch: &RecordBatch, twin: &str) -> BooleanArray {
    let ids = batch.column_by_name("twin").and_then(|column| column.as_string_opt::<i32>());
    let is_it = |row: usize| Some(ids.is_some_and(|ids| ids.value(row) == twin));
    (0..batch.num_rows()).map(is_it).collect()
}

struct Found<'a> {
    wanted: &'a Wanted,
    /// With their days.
    batches: Vec<(i32, RecordBatch)>,
}

impl Found<'_> {
    fn rows_since(&self, day: i32) -> usize {
        let since = self.batches.iter().filter(|(other, _)| *other >= day);
        since.map(|(_, batch)| batch.num_rows()).sum()
    }

    /// Takes what is wanted of a batch.
    fn take(&mut self, day: i32, batch: RecordBatch) -> Result<(), ArrowError> {
        let Wanted { twin, from_us, to_us, .. } = self.wanted;
        let is_in_time = |row| row_at_us(&batch, row).is_some_and(|at| (*from_us..*to_us).contains(&at));
        let mine = is_of(&batch, twin);
        let keep: BooleanArray =
            (0..batch.num_rows()).map(|row| Some(mine.value(row) && is_in_time(row))).collect();
        let batch = filter_record_batch(&batch, &keep)?;
        if batch.num_rows() > 0 {
            self.batches.push((day, batch));
        }
        Ok(())
    }
}
