//! A job file, from its text to what the engine runs.

use std::path::Path;

use dataflows::plan::Plan;

use crate::checks::{self, Checked};
use crate::definition::secrets::{self, Lookup};
use crate::definition::webhooks;
use crate::definition::{self, Definition};
use crate::document::{self, Document};
use crate::findings::{Finding, Findings, Severity};
use crate::{foreign, plan, sources};

/// Longest job file, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A job that was read and checked, and is good.
#[derive(Debug)]
pub struct Job {
    /// What its file says.
    pub definition: Definition,
    /// What is likely not meant.
    pub warnings: Findings,
    /// Its text, whole: sources and models that stood in files beside it are in it.
    pub text: String,
    checked: Checked,
}

/// Why there is no job.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The file is not there, or not a text.
    #[error("cannot read {path}: {reason}; `twinloom init` writes a first job file")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The definition is not valid.
    #[error("{} is not valid: {} errors", .0.name, .0.errors())]
    Invalid(Findings),
}

impl Job {
    /// Reads and checks a file. Without a lookup secrets are left as they are, and not needed.
    pub fn open(path: &Path, lookup: Option<Lookup<'_>>) -> Result<Self, JobError> {
        let name = path.display().to_string();
        let unreadable = |reason: String| JobError::Unreadable { path: name.clone(), reason };
        let metadata = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
        if metadata.is_dir() || metadata.len() > FILE_BYTES_MAX {
            let reason = format!("it is a folder, or has more than {FILE_BYTES_MAX} bytes");
            return Err(unreadable(reason));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        let invalid = |findings| JobError::Invalid(Findings::new(&name, &text, findings));
        let mut document = document::parse(&name, &text).map_err(invalid)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut pieces = sources::read(&mut document, folder).map_err(invalid)?;
        let models = foreign::read(&mut document, folder).map_err(JobError::Invalid)?;
        pieces.extend(models.pieces);
        let with_notes = |findings: Findings| Findings { others: models.notes, ..findings };
        match Self::from_document(document, lookup) {
            Ok(job) => {
                let warnings = with_notes(job.warnings);
                Ok(Self { text: sources::inlined(&text, pieces), warnings, ..job })
            }
            Err(findings) => Err(JobError::Invalid(with_notes(findings))),
        }
    }

    /// Reads and checks a text; `name` is what messages call it.
    pub fn parse(name: &str, text: &str, lookup: Option<Lookup<'_>>) -> Result<Self, Findings> {
        match document::parse(name, text) {
            Ok(document) => Self::from_document(document, lookup),
            Err(all) => Err(Findings::new(name, text, all)),
        }
    }

    /// Checks a document that was read.
    pub fn from_document(mut document: Document, lookup: Option<Lookup<'_>>) -> Result<Self, Findings> {
        let mut all: Vec<Finding> = webhooks::take_out(&mut document);
        all.extend(secrets::resolve(&mut document, lookup));
        let (definition, findings) = definition::read(&document);
        all.extend(findings);
        let (checked, found) = checks::check(&definition);
        let found = found.all.into_iter();
        all.extend(found.map(|(severity, problem)| document.finding(severity, problem)));
        let is_good = all.iter().all(|finding| finding.severity != Severity::Error);
        let warnings = Findings::new(&document.name, &document.text, all);
        match is_good {
            true => Ok(Self { definition, warnings, text: document.text, checked }),
            false => Err(warnings),
        }
    }

    /// One line that says what the job is made of.
    pub fn outline(&self) -> String {
        let streams: usize = self.definition.types.values().map(|one| one.physical.len()).sum();
        let functions: usize = self.definition.types.values().map(|one| one.augmentation.len()).sum();
        let count = |number: usize, word: &str| match number {
            1 => format!("1 {word}"),
            _ => format!("{number} {word}s"),
        };
        [
            count(self.definition.types.len(), "type"),
            count(streams, "stream"),
            count(functions, "function"),
            count(self.definition.digital.len(), "listener"),
        ]
        .join(", ")
    }

    /// What the engine runs.
    pub fn plan(self) -> Plan {
        plan::plan(&self.definition, self.checked)
    }
}
