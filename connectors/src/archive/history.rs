//! The history of one twin read back: from the files that are visible, and from the committed segments that wait
//! for theirs.

use super::segment::SegmentReader;
use super::{ArchiveError, ArchivePart, name};
use crate::disk::Disk;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_schema::ArrowError;
use arrow_select::filter::filter_record_batch;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, ParquetRecordBatchReaderBuilder, RowFilter};
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

/// The column that says when a row was made, in whichever of its names.
const TIMES: [&str; 2] = ["digital_at", "at"];

/// The rows of a twin, newest batch first; within a batch oldest first. More rows may come than were wanted, as
/// batches come whole. `parts` are those of the job's newest checkpoint.
pub fn history(
    disk: &Arc<dyn Disk>,
    archive: &Path,
    segments: &Path,
    job: &str,
    parts: &[ArchivePart],
    wanted: &Wanted,
) -> Result<Vec<RecordBatch>, ArchiveError> {
    let mut found = Found { wanted, batches: Vec::new(), rows: 0 };
    let waiting = parts.iter().flat_map(|part| {
        let planned = part.files.iter().filter(|file| disk.len(&archive.join(&file.path)).is_err());
        planned.flat_map(|file| &file.segments).chain(&part.segments)
    });
    // A twin is one worker's, and its segments are in the order of time.
    let waiting: Vec<_> = waiting.filter(|segment| segment.table == wanted.table).collect();
    for segment in waiting.into_iter().rev() {
        let mut reader = SegmentReader::open(disk.clone(), segments.join(&segment.name), segment.bytes)?;
        let mut batches = Vec::new();
        while let Some(batch) = reader.next_batch()? {
            batches.push(batch);
        }
        found.take(batches).map_err(|error| ArchiveError::damaged(segments, error.to_string()))?;
    }
    for path in files(&**disk, archive, job, &wanted.table)? {
        if found.is_enough() {
            break;
        }
        let damaged = |error: String| ArchiveError::damaged(&path, error);
        let bytes = match disk.read(&path) {
            Ok(bytes) => bytes,
            // Its time was over, or it was joined with others, while this was read.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(ArchiveError::io("read", &path)(error)),
        };
        let batches = of_twin(Bytes::from(bytes), &wanted.twin).map_err(damaged)?;
        found.take(batches).map_err(|error| damaged(error.to_string()))?;
    }
    Ok(found.batches)
}

/// The files of a table, newest first.
fn files(disk: &dyn Disk, archive: &Path, job: &str, table: &str) -> Result<Vec<PathBuf>, ArchiveError> {
    let below = archive.join(table);
    let folders = name::day_folders(disk, archive, job).map_err(ArchiveError::io("list", archive))?;
    let mut files = Vec::new();
    for folder in folders.into_iter().filter(|folder| folder.starts_with(&below)) {
        for path in disk.list(&folder).map_err(ArchiveError::io("list", &folder))? {
            if let Some(name) = name::FileName::parse(&path) {
                files.push((folder.clone(), (name.generation, name.sequence), path));
            }
        }
    }
    files.sort_unstable();
    Ok(files.into_iter().rev().map(|(_, _, path)| path).collect())
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
    batches: Vec<RecordBatch>,
    rows: usize,
}

impl Found<'_> {
    fn is_enough(&self) -> bool {
        self.rows >= self.wanted.rows_max
    }

    /// Takes what is wanted of the batches of a file or segment, which are in the order of time.
    fn take(&mut self, batches: Vec<RecordBatch>) -> Result<(), ArrowError> {
        let Wanted { twin, from_us, to_us, .. } = self.wanted;
        for batch in batches.into_iter().rev() {
            let at = TIMES.iter().find_map(|name| batch.column_by_name(name));
            let at = at.and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
            let is_in_time = |row: usize| at.is_some_and(|at| (*from_us..*to_us).contains(&at.value(row)));
            let mine = is_of(&batch, twin);
            let keep: BooleanArray =
                (0..batch.num_rows()).map(|row| Some(mine.value(row) && is_in_time(row))).collect();
            let batch = filter_record_batch(&batch, &keep)?;
            if batch.num_rows() > 0 && !self.is_enough() {
                self.rows += batch.num_rows();
                self.batches.push(batch);
            }
        }
        Ok(())
    }
}
