//! What is kept of a job on disk, in a folder of its own:
//!
//! ```text
//!   <data>/jobs/<job>/job.yaml      its definition, as it was applied
//!   <data>/jobs/<job>/record.json   version, when it was applied, what is wanted of it
//!   <data>/jobs/<job>/functions.json  versions of its functions, where some have had more than one
//!   <data>/jobs/<job>/data/         its data folder: journal, checkpoints, segments
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use connectors::disk::{self, SystemDisk};
use serde::{Deserialize, Serialize};

use super::ServiceError;
use super::functions::FunctionVersions;

/// Version of the file `record.json`.
const FORMAT: u32 = 1;
const DEFINITION: &str = "job.yaml";
const RECORD: &str = "record.json";
const FUNCTIONS: &str = "functions.json";

/// What is wanted of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Wanted {
    /// It is to hear its physical twins.
    Running,
    /// Its twins are to live on and hear nothing.
    Paused,
    /// Its twins are to be Done.
    Done,
}

impl Wanted {
    pub(super) fn word(self) -> &'static str {
        match self {
            Wanted::Running => "running",
            Wanted::Paused => "paused",
            Wanted::Done => "done",
        }
    }
}

/// A job that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    folder: PathBuf,
    /// Its name.
    pub(super) job: String,
    /// Its definition.
    pub(super) text: String,
    /// How often it was changed; 1 is the first.
    pub(super) version: u64,
    /// When it was applied, microseconds since 1970.
    applied_us: i64,
    /// What is wanted of it.
    pub(super) wanted: Wanted,
    /// Versions of its functions.
    pub(super) functions: FunctionVersions,
}

/// The file `record.json`.
#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    version: u64,
    applied_us: i64,
    wanted: Wanted,
}

impl Record {
    /// A job that was not there before.
    pub(super) fn new(data: &Path, job: &str, text: &str, applied_us: i64) -> Self {
        let folder = data.join("jobs").join(job);
        let (job, text) = (job.to_owned(), text.to_owned());
        Self {
            folder,
            job,
            text,
            version: 1,
            applied_us,
            wanted: Wanted::Running,
            functions: FunctionVersions::default(),
        }
    }

    /// The job with another definition.
    pub(super) fn changed(&self, text: &str, applied_us: i64) -> Self {
        Self { text: text.to_owned(), version: self.version + 1, applied_us, ..self.clone() }
    }

    /// The job with other versions of functions.
    pub(super) fn with_functions(&self, functions: FunctionVersions) -> Self {
        Self { functions, ..self.clone() }
    }

    /// The job in another state.
    pub(super) fn wanting(&self, wanted: Wanted) -> Self {
        Self { wanted, ..self.clone() }
    }

    /// The data folder of its runs.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Writes it down, so that it is whole after a crash: the definition first, which the record makes count.
    pub(super) fn write(&self) -> Result<(), ServiceError> {
        let Self { version, applied_us, wanted, .. } = *self;
        let file = File { format: FORMAT, version, applied_us, wanted };
        let json = serde_json::to_vec_pretty(&file).expect("numbers and words are always JSON");
        fs::create_dir_all(&self.folder).map_err(|error| failed(&self.folder, error))?;
        let functions =
            serde_json::to_vec_pretty(&self.functions).expect("texts and numbers are always JSON");
        for (name, bytes) in [(DEFINITION, self.text.as_bytes()), (FUNCTIONS, &functions), (RECORD, &json)] {
            let path = self.folder.join(name);
            disk::replace(&SystemDisk, &path, bytes).map_err(|error| failed(&path, error))?;
        }
        Ok(())
    }

    /// Removes all that is kept of it.
    pub(super) fn remove(&self) -> Result<(), ServiceError> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&self.folder, error)),
            _ => Ok(()),
        }
    }
}

/// All jobs that are kept, by name.
pub(super) fn all(data: &Path) -> Result<Vec<Record>, ServiceError> {
    let folder = data.join("jobs");
    fs::create_dir_all(&folder).map_err(|error| failed(&folder, error))?;
    let entries = fs::read_dir(&folder).map_err(|error| failed(&folder, error))?;
    let mut records = Vec::new();
    for entry in entries {
        let folder = entry.map_err(|error| failed(&folder, error))?.path();
        // One that was never written down whole did not start.
        if folder.join(RECORD).exists() {
            records.push(read(folder)?);
        }
    }
    records.sort_by(|a, b| a.job.cmp(&b.job));
    Ok(records)
}

fn read(folder: PathBuf) -> Result<Record, ServiceError> {
    let job = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let path = folder.join(RECORD);
    let bytes = fs::read(&path).map_err(|error| failed(&path, error))?;
    let file: File = serde_json::from_slice(&bytes).map_err(|error| failed(&path, error.into()))?;
    if file.format != FORMAT {
        let reason = format!("format {} is of another version of twinloom, not {FORMAT}", file.format);
        return Err(failed(&path, io::Error::other(reason)));
    }
    let path = folder.join(DEFINITION);
    let text = fs::read_to_string(&path).map_err(|error| failed(&path, error))?;
    let path = folder.join(FUNCTIONS);
    let functions = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(&path, error.into()))?,
        // A record of before there were versions.
        Err(error) if error.kind() == io::ErrorKind::NotFound => FunctionVersions::default(),
        Err(error) => return Err(failed(&path, error)),
    };
    let File { version, applied_us, wanted, .. } = file;
    Ok(Record { folder, job, text, version, applied_us, wanted, functions })
}

fn failed(path: &Path, error: io::Error) -> ServiceError {
    ServiceError::Disk { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_read_as_it_was_written() {
        let data = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(all(data.path()).expect("there are none"), []);
        let first = Record::new(data.path(), "b", "job: b", 7);
        first.write().expect("it is written");
        let changed = Record { wanted: Wanted::Paused, ..first.changed("job: b # new", 8) };
        changed.write().expect("it is written");
        let other = Record::new(data.path(), "a", "job: a", 9);
        other.write().expect("it is written");
        assert_eq!(changed.version, 2);
        assert_eq!(all(data.path()).expect("they are read"), [other.clone(), changed]);
        other.remove().expect("it is removed");
        other.remove().expect("there is nothing more to remove");
        assert_eq!(all(data.path()).expect("they are read").len(), 1);
    }

    #[test]
    fn a_file_of_another_version_is_refused() {
        let data = tempfile::tempdir().expect("a temporary folder");
        let record = Record::new(data.path(), "a", "job: a", 7);
        record.write().expect("it is written");
        let path = data.path().join("jobs/a/record.json");
        let text = fs::read_to_string(&path).expect("it is there").replace("\"format\": 1", "\"format\": 9");
        fs::write(&path, text).expect("it is written");
        let error = all(data.path()).expect_err("it is of another version").to_string();
        assert!(error.contains("format 9 is of another version"), "{error}");
    }
}
