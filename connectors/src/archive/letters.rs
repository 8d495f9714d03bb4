//! Dead letters read back, for whoever looks at them: from the files that are visible, and from the
//! committed segments that wait for theirs.

use super::segment::SegmentReader;
use super::{ArchiveError, ArchivePart, name};
use crate::disk::Disk;
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// The table that they are kept in.
const TABLE: &str = "dead_letters";

/// A message, or an element of one, that could not be taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeptLetter {
    /// When it arrived, microseconds since 1970 UTC.
    pub at_us: i64,
    /// The source that it came from.
    pub source: String,
    /// Its place in the source.
    pub position: i64,
    /// The topic as sent.
    pub topic: String,
    /// What is wrong with it.
    pub reason: String,
    /// Its payload, or the begin of it.
    pub payload: String,
}

/// The newest dead letters of a job that `wanted` says yes to, at most `count_max`, newest first. `parts`
/// are those of its newest checkpoint.
pub fn dead_letters(
    disk: &Arc<dyn Disk>,
    archive: &Path,
    segments: &Path,
    job: &str,
    parts: &[ArchivePart],
    count_max: usize,
    wanted: impl Fn(&KeptLetter) -> bool,
) -> Result<Vec<KeptLetter>, ArchiveError> {
    let mut found = BTreeSet::new();
    let mut keep = |batch: &RecordBatch| {
        for letter in letters(batch).filter(|letter| wanted(letter)) {
            found.insert(letter);
            if found.len() > count_max {
                found.pop_first();
            }
        }
    };
    let waiting = parts.iter().flat_map(|part| {
        let planned = part.files.iter().filter(|file| disk.len(&archive.join(&file.path)).is_err());
        part.segments.iter().chain(planned.flat_map(|file| &file.segments))
    });
    for segment in waiting.filter(|segment| segment.table == TABLE) {
        let mut reader = SegmentReader::open(disk.clone(), segments.join(&segment.name), segment.bytes)?;
        while let Some(batch) = reader.next_batch()? {
            keep(&batch);
        }
    }
    let table = archive.join(TABLE);
    let folders = name::day_folders(&**disk, archive, job).map_err(ArchiveError::io("list", archive))?;
    for folder in folders.iter().filter(|folder| folder.starts_with(&table)) {
        for path in disk.list(folder).map_err(ArchiveError::io("list", folder))? {
            if name::FileName::parse(&path).is_none() {
                continue;
            }
            let bytes = disk.read(&path).map_err(ArchiveError::io("read", &path))?;
            let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes));
            let reader = reader.and_then(ParquetRecordBatchReaderBuilder::build);
            for batch in reader.map_err(|error| ArchiveError::damaged(&path, error.to_string()))? {
                keep(&batch.map_err(|error| ArchiveError::damaged(&path, error.to_string()))?);
            }
        }
    }
    Ok(found.into_iter().rev().collect())
}

/// The rows of a batch; none where it is no batch of dead letters.
fn letters(batch: &RecordBatch) -> impl Iterator<Item = KeptLetter> {
    let text = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
    let at =
        batch.column_by_name("at").and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    let position = batch.column_by_name("position").and_then(|column| column.as_primitive_opt::<Int64Type>());
    let columns =
        (|| Some((at?, text("source")?, position?, text("topic")?, text("reason")?, text("payload")?)))();
    columns.into_iter().flat_map(|(at, source, position, topic, reason, payload)| {
        (0..at.len()).map(move |row| KeptLetter {
            at_us: at.value(row),
            source: source.value(row).to_owned(),
            position: position.value(row),
            topic: topic.value(row).to_owned(),
            reason: reason.value(row).to_owned(),
            payload: payload.value(row).to_owned(),
        })
    })
}
