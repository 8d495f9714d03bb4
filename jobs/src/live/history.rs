//! Rows of a twin's history, out of the archive of its job: its files, and what its writers have that is in none yet.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use connectors::archive::{self, ArchiveError, Listed, Recent, Wanted};
use connectors::disk::{Disk, SystemDisk};
use connectors::store::{self, StoreError};
use dataflows::checkpoint::inspect;
use serde_json::{Map, Value};

use crate::definition::Definition;
use crate::summary::instant;

/// Where the history of a job is.
#[derive(Clone, Debug)]
pub struct History {
    job: String,
    archive: PathBuf,
    data: PathBuf,
    store: String,
}

/// Why there are no rows.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The archive cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The checkpoints cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoints cannot be listed.
    #[error("checkpoints cannot be listed: {0}")]
    Checkpoints(String),
}

impl HistoryError {
    /// Whether it took too long, and is to be begun again.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Archive(error) if error.is_gone())
    }
}

/// From when to when, microseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Period {
    /// Rows of this instant or later.
    pub from_us: i64,
    /// Rows before this instant.
    pub to_us: i64,
}

/// Rows as JSON objects, oldest first.
pub type Rows = Vec<Map<String, Value>>;

impl History {
    /// That of a job with its data in this folder; none where it has no archive.
    pub fn of(definition: &Definition, data: PathBuf) -> Option<Self> {
        let archive = definition.archive.as_ref()?.path.clone();
        let default = data.join(dataflows::CHECKPOINTS).to_string_lossy().into_owned();
        let store = definition.checkpoint.store.clone().unwrap_or(default);
        Some(Self { job: definition.job.clone(), archive, data, store })
    }

    /// Lists the files of a table: to be done before its writers are asked what they have.
    pub fn listed(&self, table: &str) -> Result<Listed, HistoryError> {
        Ok(archive::listed(&SystemDisk, &self.archive, &self.job, table)?)
    }

    /// What the newest checkpoint has, for a job of which no writer answers.
    pub fn of_checkpoint(&self) -> Result<Vec<Recent>, HistoryError> {
        let store = store::open(&self.store, Arc::new(SystemDisk))?;
        let all = inspect::list(&*store).map_err(|error| HistoryError::Checkpoints(error.to_string()))?;
        let newest = all.into_iter().rev().find_map(|(_, manifest)| manifest.ok());
        let parts = newest.into_iter().flat_map(|manifest| {
            let generation = manifest.id.generation;
            manifest.archive.into_iter().map(move |part| Recent { generation, part, memory: Vec::new() })
        });
        Ok(parts.collect())
    }

    /// The newest rows of a twin in a table, at most `rows_max`. Reads files: not for a thread that must not wait.
    pub fn rows(
        &self,
        listed: &Listed,
        recent: &[Recent],
        table: &str,
        twin: &str,
        period: Period,
        rows_max: usize,
    ) -> Result<Rows, HistoryError> {
        let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
        let Period { from_us, to_us } = period;
        let wanted = Wanted { table: table.to_owned(), twin: twin.to_owned(), from_us, to_us, rows_max };
        let segments = self.data.join(dataflows::SEGMENTS);
        let batches = archive::history(&disk, &self.archive, &segments, &self.job, listed, recent, &wanted)?;
        let mut rows: Vec<(i64, Map<String, Value>)> = batches.iter().flat_map(of_batch).collect();
        // Rows of a twin that waited on several workers, as their number was changed.
        rows.sort_by_key(|(at_us, _)| *at_us);
        rows.drain(..rows.len().saturating_sub(rows_max));
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }
}

/// The rows of a batch as JSON objects, with when they were made; what has no value is left out.
fn of_batch(batch: &RecordBatch) -> impl Iterator<Item = (i64, Map<String, Value>)> {
    let schema = batch.schema();
    (0..batch.num_rows()).map(move |row| {
        let cells = schema.fields().iter().zip(batch.columns());
        let cells = cells.filter(|(field, _)| !matches!(field.name().as_str(), "twin" | "type"));
        let cells = cells
            .filter(|(_, column)| column.is_valid(row))
            .map(|(field, column)| (field.name().clone(), cell(column, row)));
        (archive::row_at_us(batch, row).unwrap_or_default(), cells.collect())
    })
}

fn cell(column: &dyn Array, row: usize) -> Value {
    match column.data_type() {
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
        DataType::UInt32 => column.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row).into(),
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            instant(column.as_primitive::<TimestampMicrosecondType>().value(row)).into()
        }
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            (0..items.len()).map(|item| cell(&items, item)).collect()
        }
        // The archive has no others; one of a later version is shown by what it is called.
        other => other.to_string().into(),
    }
}
