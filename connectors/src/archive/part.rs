//! What of the archive stands in a checkpoint's manifest: which rows are committed, and where they
//! are until they are in a visible file (rule 7.4).
//!
//! ```text
//!   ArchivePart of a worker --> segments  SegmentRef: rows that wait for their file
//!                           '-> files     FilePlan:   segments that are to become one file
//! ```

use serde::{Deserialize, Serialize};

/// The archive of one worker, as of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArchivePart {
    /// The writer's number among all workers of the run.
    pub worker: usize,
    /// The last sequence number that it gave to a file.
    pub sequence: u64,
    /// Segments that no file was planned for yet: whoever goes on adopts them.
    pub segments: Vec<SegmentRef>,
    /// Files that are to be made, or are there and still have their segments.
    pub files: Vec<FilePlan>,
}

/// The committed beginning of a segment file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SegmentRef {
    /// Its file in the folder of segments.
    pub name: String,
    /// The table that its rows belong to.
    pub table: String,
    /// Their day, since 1970-01-01 UTC.
    pub day: i32,
    /// How much of the file is committed.
    pub bytes: u64,
    /// The rows in that.
    pub rows: u64,
    /// The wall clock at its first row, so that its age survives a restart.
    pub began_us: i64,
}

/// A Parquet file, and what it is made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FilePlan {
    /// Where it stands, below the archive's folder.
    pub path: String,
    /// The table that its rows belong to.
    pub table: String,
    /// Their day, since 1970-01-01 UTC.
    pub day: i32,
    /// What it is made of, in the order of its rows.
    pub segments: Vec<SegmentRef>,
    /// The rows in all of them.
    pub rows: u64,
}
