//! One Parquet file on its way from hidden and growing to visible and final.
//!
//! Encoding is the archive's cost, so it is kept plain: statistics a column chunk, none a page;
//! dictionaries for texts only; small batches joined before they are encoded.

use super::{ArchiveError, Compression, name};
use arrow_array::RecordBatch;
use arrow_schema::{DataType, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use parquet::arrow::ArrowWriter;
use parquet::basic::Encoding;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Rows are encoded in pieces of at least this many.
const ENCODE_ROWS_MIN: usize = 4_096;

const ROW_GROUP_ROWS: usize = 128 << 10;

/// What the files of one writer have in common.
pub(super) struct Origin {
    pub(super) archive: PathBuf,
    pub(super) job: String,
    pub(super) generation: u64,
    pub(super) worker: usize,
    pub(super) compression: Compression,
}

/// A file that is not complete yet. Dropped before it is finished, it removes itself.
pub(super) struct Segment {
    pub(super) table: &'static str,
    pub(super) day: i32,
    pub(super) began_at: Instant,
    /// Rows taken, encoded or held.
    pub(super) rows: u64,
    path: PathBuf,
    hidden: PathBuf,
    schema: SchemaRef,
    /// `None` once finished, or given up.
    writer: Option<ArrowWriter<File>>,
    /// Rows that are too few to be encoded yet.
    held: Vec<RecordBatch>,
    held_rows: usize,
    held_bytes: usize,
}

impl Segment {
    /// Begins a file; `sequence` is moved on to the first number that no file has, because a
    /// visible file is never replaced.
    pub(super) fn begin(
        origin: &Origin,
        table: &'static str,
        day: i32,
        schema: SchemaRef,
        sequence: &mut u64,
    ) -> Result<Self, ArchiveError> {
        let folder = name::folder(&origin.archive, table, &origin.job, day);
        fs::create_dir_all(&folder).map_err(|error| io("make the folder", &folder, error))?;
        let (path, hidden) = loop {
            *sequence += 1;
            let name = format!("{}-{}-{sequence}.parquet", origin.generation, origin.worker);
            let path = folder.join(&name);
            if !path.exists() {
                break (path, folder.join(name::unfinished_name(&name)));
            }
        };
        let file = File::create(&hidden).map_err(|error| io("make the file", &hidden, error))?;
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties(origin, &schema)));
        let writer = writer.map_err(|error| rows(&hidden, &error))?;
        Ok(Self {
            table,
            day,
            began_at: Instant::now(),
            rows: 0,
            path,
            hidden,
            schema,
            writer: Some(writer),
            held: Vec::new(),
            held_rows: 0,
            held_bytes: 0,
        })
    }

    pub(super) fn takes(&self, table: &str, day: i32, schema: &SchemaRef) -> bool {
        self.day == day
            && self.table == table
            && (std::sync::Arc::ptr_eq(&self.schema, schema) || self.schema == *schema)
    }

    /// About how large the file would be if it were finished now.
    pub(super) fn bytes(&self) -> u64 {
        let writer = self.writer.as_ref();
        let encoded = writer.map_or(0, |writer| writer.bytes_written() + writer.in_progress_size());
        (encoded + self.held_bytes) as u64
    }

    pub(super) fn add(&mut self, batch: RecordBatch) -> Result<(), ArchiveError> {
        self.rows += batch.num_rows() as u64;
        self.held_rows += batch.num_rows();
        self.held_bytes += batch.get_array_memory_size();
        self.held.push(batch);
        if self.held_rows >= ENCODE_ROWS_MIN { self.encode() } else { Ok(()) }
    }

    /// Makes the file complete and visible; gives its size.
    pub(super) fn finish(mut self) -> Result<u64, ArchiveError> {
        self.encode()?;
        let Some(mut writer) = self.writer.take() else {
            return Ok(0);
        };
        writer.finish().map_err(|error| rows(&self.hidden, &error))?;
        let file = writer.inner_mut();
        file.sync_all().map_err(|error| io("write", &self.hidden, error))?;
        let bytes = file.metadata().map_err(|error| io("look at", &self.hidden, error))?.len();
        fs::rename(&self.hidden, &self.path).map_err(|error| io("name the file", &self.path, error))?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| io("write the folder", folder, error))?;
        Ok(bytes)
    }

    fn encode(&mut self) -> Result<(), ArchiveError> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let held = std::mem::take(&mut self.held);
        (self.held_rows, self.held_bytes) = (0, 0);
        let encoded = match held.as_slice() {
            [] => Ok(()),
            [batch] => writer.write(batch),
            batches => concat_batches(&self.schema, batches)
                .map_err(ParquetError::from)
                .and_then(|batch| writer.write(&batch)),
        };
        encoded.map_err(|error| rows(&self.hidden, &error))
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // After a rename there is nothing to remove; what cannot be removed is found at the next start.
        _ = fs::remove_file(&self.hidden);
    }
}

fn properties(origin: &Origin, schema: &Schema) -> WriterProperties {
    let compression = match origin.compression {
        Compression::Snappy => parquet::basic::Compression::SNAPPY,
        Compression::None => parquet::basic::Compression::UNCOMPRESSED,
    };
    let metadata = [
        ("twinloom.format", "1".to_owned()),
        ("twinloom.job", origin.job.clone()),
        ("twinloom.generation", origin.generation.to_string()),
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

fn io(action: &'static str, path: &Path, error: std::io::Error) -> ArchiveError {
    ArchiveError::Io { path: path.to_owned(), action, error }
}

fn rows(path: &Path, error: &ParquetError) -> ArchiveError {
    ArchiveError::Rows { path: path.to_owned(), reason: error.to_string() }
}
