//! Cases beside a job: what devices say, and what its twins are to be then (`twinloom test`).
//!
//! ```text
//!  JOB.test.yaml ─ file ─► Case ─ messages ─► run: the job on the engine, on recorded time ─► what there was
//!                            └─── expect, with lines ────────────────────────────► compare ─► Difference
//! ```
//! A case runs the job's own plan, with its sources fed from the case and its listeners in memory: so decoders,
//! functions, timers and order are those of a run on recorded input (rule 2.3), and nothing outside is touched.

mod answers;
mod compare;
mod file;
mod run;

use std::path::Path;

use serde::Serialize;

pub use self::compare::Difference;
pub use self::file::{Case, Given, read};
pub use self::run::{CaseError, Seen, run};

use crate::job::{Job, JobError};

/// Longest file of cases, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What became of a case.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Its name.
    pub case: String,
    /// How many messages it gave.
    pub messages: usize,
    /// What was not as expected; nothing where it passed.
    pub differences: Vec<Difference>,
}

/// Why cases could not be run.
#[derive(Debug, thiserror::Error)]
pub enum CasesError {
    /// The job, or a file that cannot be read.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The cases are not there.
    #[error(
        "cannot read {path}: {reason}; write cases beside the job (docs/testing-a-job.md), or name others with --cases"
    )]
    Unreadable {
        /// Their file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The engine.
    #[error("the case `{case}` could not be run: {error}")]
    Case {
        /// Its name.
        case: String,
        /// Why.
        error: Box<CaseError>,
    },
}

/// Runs all cases of a file on a job, or those whose name has this text.
pub fn run_all(job: &Path, cases: &Path, filter: Option<&str>) -> Result<Vec<Verdict>, CasesError> {
    let job = Job::open(job, None)?;
    let name = cases.display().to_string();
    let text = text_of(cases)?;
    let all = read(&name, &text).map_err(JobError::Invalid)?;
    let is_wanted = |case: &&Case| filter.is_none_or(|filter| case.name.contains(filter));
    let verdict = |case: &Case| -> Result<Verdict, CasesError> {
        let again = Job::parse(&job.warnings.name, &job.text, None).map_err(JobError::Invalid)?;
        let seen = run(again, case)
            .map_err(|error| CasesError::Case { case: case.name.clone(), error: error.into() })?;
        let differences = compare::compare(case, &seen);
        Ok(Verdict { case: case.name.clone(), messages: case.messages.len(), differences })
    };
    all.iter().filter(is_wanted).map(verdict).collect()
}

fn text_of(path: &Path) -> Result<String, CasesError> {
    let unreadable = |reason: String| CasesError::Unreadable { path: path.display().to_string(), reason };
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
    if metadata.is_dir() || metadata.len() > FILE_BYTES_MAX {
        return Err(unreadable(format!("it is a folder, or has more than {FILE_BYTES_MAX} bytes")));
    }
    std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))
}
