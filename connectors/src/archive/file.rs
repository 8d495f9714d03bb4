//! One Parquet file on its way from committed segments to visible and final.
//!
//! ```text
//!   segments --(read back, joined)--> `.<name>.inprogress` --(footer, sync, rename, sync)--> `<name>`
//! ```
//! It is made in steps, so that rows go on being taken meanwhile. Encoding is the archive's cost, so
//! it is kept plain: statistics a column chunk, none a page; dictionaries for texts only; small
//! batches joined before they are encoded.

use super::name::FileName;
use super::segment::SegmentReader;
use super::{ArchiveError, Compression, FilePlan, SegmentRef};
use crate::disk::{self, Disk, DiskFile};
use crate::failpoint::{self, Failpoint};
use arrow_array::RecordBatch;
use arrow_schema::{DataType, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use parquet::arrow::ArrowWriter;
use parquet::basic::Encoding;
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaDataReader};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows are encoded in pieces of at least this many.
const ENCODE_ROWS_MIN: usize = 4_096;

const ROW_GROUP_ROWS: usize = 128 << 10;

/// The key under which a file names the segments that it was made of.
const SEGMENTS_KEY: &str = "twinloom.segments";

/// The end of a Parquet file: length of the metadata, and its magic.
const FOOTER_BYTES: u64 = 8;

/// Where the files of a job are made, and out of what.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) archive: PathBuf,
    pub(super) segments: PathBuf,
    pub(super) job: String,
    pub(super) compression: Compression,
}

impl Place {
    /// Where a file stands once it is visible.
    pub(super) fn path(&self, plan: &FilePlan) -> PathBuf {
        self.archive.join(&plan.path)
    }

    pub(super) fn is_visible(&self, path: &Path) -> bool {
        self.disk.len(path).is_ok()
    }

    fn open(&self, segment: &SegmentRef) -> Result<OpenSegment, ArchiveError> {
        let path = self.segments.join(&segment.name);
        let reader = SegmentReader::open(self.disk.clone(), path.clone(), segment.bytes)?;
        Ok(OpenSegment { reader, path, rows: segment.rows })
    }

    /// Makes the names of a new file durable: its own, and those of the folders above it.
    fn sync_folders(&self, path: &Path) -> Result<(), ArchiveError> {
        for folder in path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.archive)) {
            self.disk.sync_folder(folder).map_err(ArchiveError::io("sync the folder", folder))?;
        }
        Ok(())
    }
}

/// A segment that is being read, and the rows that it must still have.
struct OpenSegment {
    reader: SegmentReader,
    path: PathBuf,
    rows: u64,
}

impl OpenSegment {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, ArchiveError> {
        let batch = self.reader.next_batch()?;
        let count = batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
        if count > self.rows || (batch.is_none() && self.rows > 0) {
            return Err(ArchiveError::damaged(
                &self.path,
                "it has another number of rows than was committed",
            ));
        }
        self.rows -= count;
        Ok(batch)
    }
}

/// A file that is being made. Dropped before it is visible, it removes what it wrote.
pub(super) struct Making {
    place: Place,
    path: PathBuf,
    hidden: PathBuf,
    schema: SchemaRef,
    /// `None` once the file is complete.
    writer: Option<ArrowWriter<Box<dyn DiskFile>>>,
    segment: Option<OpenSegment>,
    left: VecDeque<SegmentRef>,
}

impl Making {
    /// Begins a file. Where it is visible already, because a try failed after its last step but one,
    /// it is replaced by the same rows: what a failed sync left is not known.
    pub(super) fn begin(place: &Place, plan: &FilePlan) -> Result<Self, ArchiveError> {
        let path = place.path(plan);
        let mut left: VecDeque<_> = plan.segments.iter().cloned().collect();
        let Some(first) = left.pop_front() else {
            return Err(ArchiveError::damaged(&path, "it was planned without segments"));
        };
        let segment = place.open(&first)?;
        let schema = segment.reader.schema().clone();
        let folder = path.parent().unwrap_or(&place.archive);
        place.disk.make_folder(folder).map_err(ArchiveError::io("make the folder", folder))?;
        let hidden = disk::unfinished(&path);
        let file = failpoint::hit(Failpoint::ParquetWrite).and_then(|()| place.disk.create(&hidden));
        let file = file.map_err(ArchiveError::io("make the file", &hidden))?;
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties(place, plan, &schema)));
        let writer = Some(writer.map_err(|error| ArchiveError::rows(&hidden, &error))?);
        Ok(Self { place: place.clone(), path, hidden, schema, writer, segment: Some(segment), left })
    }

    /// Encodes some more rows, or completes the file; gives its size when it is visible.
    pub(super) fn step(&mut self) -> Result<Option<u64>, ArchiveError> {
        let batches = self.read_some()?;
        if batches.is_empty() {
            return self.complete().map(Some);
        }
        let Some(writer) = &mut self.writer else {
            return Ok(None);
        };
        let encoded = match batches.as_slice() {
            [batch] => writer.write(batch),
            batches => concat_batches(&self.schema, batches)
                .map_err(ParquetError::from)
                .and_then(|batch| writer.write(&batch)),
        };
        encoded.map_err(|error| ArchiveError::rows(&self.hidden, &error))?;
        Ok(None)
    }

    /// The next rows, enough to be worth encoding; none behind the last.
    fn read_some(&mut self) -> Result<Vec<RecordBatch>, ArchiveError> {
        let (mut batches, mut rows) = (Vec::new(), 0);
        while rows < ENCODE_ROWS_MIN {
            let Some(segment) = &mut self.segment else { break };
            if let Some(batch) = segment.next_batch()? {
                rows += batch.num_rows();
                batches.push(batch);
                continue;
            }
            self.segment = self.left.pop_front().map(|next| self.place.open(&next)).transpose()?;
            if let Some(next) = self.segment.as_ref().filter(|next| *next.reader.schema() != self.schema) {
                return Err(ArchiveError::damaged(&next.path, "its columns are not those of its file"));
            }
        }
        Ok(batches)
    }

    fn complete(&mut self) -> Result<u64, ArchiveError> {
        let Some(mut writer) = self.writer.take() else {
            return Ok(0);
        };
        writer.finish().map_err(|error| ArchiveError::rows(&self.hidden, &error))?;
        writer.inner_mut().sync().map_err(ArchiveError::io("sync the file", &self.hidden))?;
        drop(writer);
        let disk = &self.place.disk;
        let bytes = disk.len(&self.hidden).map_err(ArchiveError::io("look at the file", &self.hidden))?;
        let renamed =
            failpoint::hit(Failpoint::ParquetRename).and_then(|()| disk.rename(&self.hidden, &self.path));
        renamed.map_err(ArchiveError::io("name the file", &self.path))?;
        self.place.sync_folders(&self.path)?;
        Ok(bytes)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        // After a rename there is nothing to remove; what cannot be removed is found at the next start.
        _ = self.place.disk.remove(&self.hidden);
    }
}

/// Makes a file in one go.
pub(super) fn make(place: &Place, plan: &FilePlan) -> Result<(), ArchiveError> {
    let mut making = Making::begin(place, plan)?;
    while making.step()?.is_none() {}
    Ok(())
}

/// Makes sure that a visible file stays visible: a run may have ended just before it did.
pub(super) fn confirm(place: &Place, path: &Path) -> Result<(), ArchiveError> {
    place.sync_folders(path)
}

/// The names of the segments that a visible file was made of; none where it does not say.
pub(super) fn origin(disk: &dyn Disk, path: &Path) -> Result<Vec<String>, ArchiveError> {
    let io = || ArchiveError::io("read the end of the file", path);
    let bytes = disk.len(path).map_err(io())?;
    let Some(footer_at) = bytes.checked_sub(FOOTER_BYTES) else {
        return Ok(Vec::new());
    };
    let footer = disk.read_range(path, footer_at..bytes).map_err(io())?;
    let length = footer.first_chunk().map_or(0, |length| u64::from(u32::from_le_bytes(*length)));
    let Some(metadata_at) = footer_at.checked_sub(length) else {
        return Ok(Vec::new());
    };
    let metadata = disk.read_range(path, metadata_at..footer_at).map_err(io())?;
    // A file that cannot be read is not one that we made and synced.
    let Ok(metadata) = ParquetMetaDataReader::decode_metadata(&metadata) else {
        return Ok(Vec::new());
    };
    let pairs = metadata.file_metadata().key_value_metadata();
    let value = pairs.into_iter().flatten().find(|pair| pair.key == SEGMENTS_KEY);
    let names = value.and_then(|pair| pair.value.as_deref()).unwrap_or_default();
    Ok(names.split_terminator(',').map(str::to_owned).collect())
}

fn properties(place: &Place, plan: &FilePlan, schema: &Schema) -> WriterProperties {
    let compression = match place.compression {
        Compression::Snappy => parquet::basic::Compression::SNAPPY,
        Compression::None => parquet::basic::Compression::UNCOMPRESSED,
    };
    let generation = FileName::parse(Path::new(&plan.path)).map_or(0, |name| name.generation);
    let segments: Vec<&str> = plan.segments.iter().map(|segment| segment.name.as_str()).collect();
    let metadata = [
        ("twinloom.format", "1".to_owned()),
        ("twinloom.job", place.job.clone()),
        ("twinloom.generation", generation.to_string()),
        (SEGMENTS_KEY, segments.join(",")),
    ];
    let metadata = metadata.map(|(key, value)| KeyValue::new(key.to_owned(), value)).into();
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("twinloom version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata(Some(metadata))
        .set_compression(compression)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS));
    for field in schema.fields() {
        let column = ColumnPath::new(vec![field.name().clone()]);
        builder = match field.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                builder.set_column_dictionary_enabled(column, true)
            }
            DataType::Int64 | DataType::UInt64 | DataType::Timestamp(_, _) => {
                builder.set_column_encoding(column, Encoding::DELTA_BINARY_PACKED)
            }
            _ => builder,
        };
    }
    builder.build()
}
