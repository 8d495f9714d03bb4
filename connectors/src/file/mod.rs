//! Files of JSON lines: recorded input to run again, and output to look at.

pub mod sink;
pub mod source;

mod line;

use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;

/// A file of one message a line.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSettings {
    /// The file; relative to the working directory.
    pub path: PathBuf,
    /// Which time the lines of a source arrive at. A sink does not look at it.
    #[serde(default)]
    pub clock: FileClock,
}

/// Where the arrival time of a line comes from.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileClock {
    /// From the clock, when the line is read; as if it had just come.
    #[default]
    Live,
    /// From the line's `arrived_at`; the same file gives the same output every time.
    Recorded,
}

/// Why a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The source's file cannot be opened.
    #[error("{name}: cannot read {}: {error}; check that the file exists and may be read", path.display())]
    Read {
        /// The connector's name.
        name: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The sink's file cannot be made.
    #[error("{name}: cannot write {}: {error}; check that the folder exists and may be written", path.display())]
    Write {
        /// The connector's name.
        name: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The operating system gave no thread.
    #[error("{name}: cannot start its thread: {error}; raise the limit of threads (ulimit -u)")]
    Thread {
        /// The connector's name.
        name: String,
        /// What the system said.
        error: std::io::Error,
    },
}

impl FileSettings {
    /// The settings for the file at `path`, everything else by default.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), clock: FileClock::default() }
    }
}
