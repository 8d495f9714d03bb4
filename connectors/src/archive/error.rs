//! What can go wrong with the archive, each with what to do next.

use crate::format::FormatError;
use std::io;
use std::path::{Path, PathBuf};

/// Why the archive cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file system refused.
    #[error("archive: cannot {action} {}: {error}; check that the folder may be written and the disk is not full", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The rows cannot be encoded.
    #[error("archive: cannot write rows to {}: {reason}; check the disk, and the types of the table's columns", path.display())]
    Rows {
        /// The file.
        path: PathBuf,
        /// What the encoder said.
        reason: String,
    },
    /// A segment does not hold what a checkpoint says it holds.
    #[error("archive: the segment {} cannot be read: {error}; restore it from a copy, or begin anew with another data folder", path.display())]
    Segment {
        /// The segment.
        path: PathBuf,
        /// What is wrong with it.
        error: FormatError,
    },
    /// A segment that a checkpoint lists is gone.
    #[error("archive: the segment {} is missing, and the checkpoint needs its rows; restore it from a copy, or begin anew with another data folder", path.display())]
    Missing {
        /// The segment.
        path: PathBuf,
    },
    /// Committed rows are not visible yet.
    #[error(
        "archive: {files} files with {rows} rows could not be made; the rows are safe in their segments, and the next start makes the files; the first failure was: {first}"
    )]
    Unmade {
        /// How many files.
        files: u64,
        /// The rows in them.
        rows: u64,
        /// The first failure, in full.
        first: String,
    },
    /// Rows cannot be kept any longer.
    #[error("{reason}; the run ends, and the next start goes on from the last checkpoint")]
    Stopped {
        /// The failure, in full.
        reason: String,
    },
    /// The time given to `close` was not enough.
    #[error(
        "archive: not closed in time; committed rows are safe in their segments, and the next start makes their files: allow more time, or roll in smaller files"
    )]
    Timeout,
    /// The writer's thread has died.
    #[error(
        "archive: the writer has died (its panic is in the log); the next start goes on from the last checkpoint"
    )]
    Died,
    /// The operating system gave no thread.
    #[error("archive: cannot start its thread: {error}; raise the limit of threads (ulimit -u)")]
    Thread {
        /// What the system said.
        error: io::Error,
    },
}

impl ArchiveError {
    /// Whether a file was not there any more.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Io { error, .. } if error.kind() == io::ErrorKind::NotFound)
    }

    /// Turns an error of the disk into one that says what was tried with what.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { path, action, error }
    }

    pub(super) fn rows(path: &Path, reason: &dyn std::error::Error) -> Self {
        Self::Rows { path: path.to_owned(), reason: reason.to_string() }
    }

    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Segment { path: path.to_owned(), error: FormatError::Damaged(what.into()) }
    }
}
