//! What will be one Parquet file: rows of one table, day and schema, in the segments of earlier runs
//! that were adopted, in the segment of this run, and, while they are few, in memory.

use super::segment::{SegmentReader, SegmentWriter};
use super::{ArchiveBatch, ArchiveError, SegmentRef};
use crate::disk::Disk;
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use std::sync::Arc;

/// Rows are joined in memory until there are this many bytes of them. Measured: pieces that need not
/// be joined again when they are read back save a tenth of the archive's time, against 64 KB.
const HELD_BYTES_MAX: usize = 512 << 10;

/// An open group. It takes rows until its file is planned.
pub(super) struct Group {
    pub(super) table: String,
    pub(super) day: i32,
    pub(super) schema: SchemaRef,
    /// Segments of earlier runs, which are only read.
    pub(super) adopted: Vec<SegmentRef>,
    /// The segment of this run, once there are rows.
    pub(super) own: Option<SegmentWriter>,
    /// The wall clock at its first row.
    pub(super) began_us: i64,
    /// Its file is planned at the next boundary, whatever its size and age.
    pub(super) is_due: bool,
    /// It takes no more rows.
    pub(super) is_full: bool,
    /// When its handle was used last, in appends of the writer.
    pub(super) used: u64,
    held: Vec<RecordBatch>,
    held_bytes: usize,
}

impl Group {
    pub(super) fn new(table: &str, day: i32, schema: SchemaRef, began_us: i64) -> Self {
        Self {
            table: table.to_owned(),
            day,
            schema,
            adopted: Vec::new(),
            own: None,
            began_us,
            is_due: false,
            is_full: false,
            used: 0,
            held: Vec::new(),
            held_bytes: 0,
        }
    }

    pub(super) fn takes(&self, table: &str, day: i32, schema: &SchemaRef) -> bool {
        !self.is_full
            && self.day == day
            && self.table == table
            && (Arc::ptr_eq(&self.schema, schema) || self.schema == *schema)
    }

    /// Takes rows into memory; tells whether it is time to write them.
    pub(super) fn hold(&mut self, batch: ArchiveBatch) -> bool {
        self.held_bytes += batch.rows.get_array_memory_size();
        self.held.push(batch.rows);
        self.held_bytes >= HELD_BYTES_MAX
    }

    /// The weight of the rows in memory.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The rows in memory, oldest first.
    pub(super) fn held(&self) -> &[RecordBatch] {
        &self.held
    }

    /// Writes what is held to the segment.
    pub(super) fn append(
        &mut self,
        disk: &dyn Disk,
        own: impl FnOnce(&SchemaRef) -> Result<SegmentWriter, ArchiveError>,
        scratch: &mut Vec<u8>,
    ) -> Result<(), ArchiveError> {
        let held = std::mem::take(&mut self.held);
        self.held_bytes = 0;
        let segment = match &mut self.own {
            Some(segment) => segment,
            none => none.insert(own(&self.schema)?),
        };
        match held.as_slice() {
            [] => Ok(()),
            [batch] => segment.append(disk, batch, scratch),
            batches => {
                let joined = concat_batches(&self.schema, batches);
                let joined = joined.map_err(|error| segment.unfit(&error))?;
                segment.append(disk, &joined, scratch)
            }
        }
    }

    /// Bytes in its segments.
    pub(super) fn bytes(&self) -> u64 {
        let own = self.own.as_ref().map_or(0, |segment| segment.bytes);
        self.adopted.iter().map(|segment| segment.bytes).sum::<u64>() + own
    }

    pub(super) fn has_handle(&self) -> bool {
        self.own.as_ref().is_some_and(SegmentWriter::has_handle)
    }

    /// Its segments as they are written now.
    pub(super) fn segments(&self) -> Vec<SegmentRef> {
        let own = self.own.iter().map(|segment| SegmentRef {
            name: segment.name.clone(),
            table: self.table.clone(),
            day: self.day,
            bytes: segment.bytes,
            rows: segment.rows,
            began_us: self.began_us,
        });
        self.adopted.iter().cloned().chain(own).collect()
    }
}

/// Groups of the segments that an earlier run left: those of one table, day and schema together.
pub(super) fn adopt(
    adopted: Vec<SegmentRef>,
    open: impl Fn(&SegmentRef) -> Result<SegmentReader, ArchiveError>,
) -> Result<Vec<Group>, ArchiveError> {
    let mut groups: Vec<Group> = Vec::new();
    for segment in adopted.into_iter().filter(|segment| segment.rows > 0) {
        let schema = open(&segment)?.schema().clone();
        let index = groups.iter().position(|group| group.takes(&segment.table, segment.day, &schema));
        let index = index.unwrap_or_else(|| {
            groups.push(Group::new(&segment.table, segment.day, schema, segment.began_us));
            groups.len() - 1
        });
        groups[index].began_us = groups[index].began_us.min(segment.began_us);
        groups[index].adopted.push(segment);
    }
    groups.sort_by_key(|group| group.began_us);
    Ok(groups)
}
