//! What a job keeps, as the commands that look at it find it: its file says the types, the store and the
//! archive, its data folder holds the rest.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use connectors::disk::{Disk, SystemDisk};
use connectors::store::{self, Store};
use dataflows::checkpoint::inspect;
use dataflows::checkpoint::{CheckpointId, Manifest};

use super::Failure;
use super::run::DATA_ROOT;
use crate::job::Job;

/// Which job.
#[derive(Debug, Args)]
pub(super) struct KeptArguments {
    /// The job file
    #[arg(value_name = "JOB.yaml")]
    job: PathBuf,
    /// The job's data folder [default: .twinloom/<job>]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print JSON to standard output
    #[arg(long)]
    pub(super) json: bool,
}

/// A job, and where it keeps what it keeps.
pub(super) struct Kept {
    pub(super) job: Job,
    pub(super) data: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) store: Arc<dyn Store>,
}

impl KeptArguments {
    /// Opens what is kept; secrets of the job are not needed.
    pub(super) fn open(&self) -> Result<Kept, Failure> {
        let job = Job::open(&self.job, None).map_err(|error| Failure::of_job(error, self.json))?;
        let data = self.data.clone().unwrap_or_else(|| Path::new(DATA_ROOT).join(&job.definition.job));
        let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
        let default = data.join(dataflows::CHECKPOINTS).to_string_lossy().into_owned();
        let url = job.definition.checkpoint.store.as_ref().unwrap_or(&default);
        let store = store::open(url, disk.clone()).map_err(Failure::of)?;
        Ok(Kept { job, data, disk, store })
    }
}

impl Kept {
    /// The checkpoint that is asked for, or the newest that can be read.
    pub(super) fn manifest(&self, asked: Option<CheckpointId>) -> Result<Manifest, Failure> {
        let all = inspect::list(&*self.store).map_err(Failure::of)?;
        let found = match asked {
            Some(id) => all.into_iter().find(|(one, _)| *one == id),
            None => all.into_iter().rev().find(|(_, manifest)| manifest.is_ok()),
        };
        match found {
            Some((_, Ok(manifest))) => Ok(manifest),
            Some((id, Err(error))) => Err(Failure::Failed(format!("checkpoint {id}: {error}"))),
            None => Err(Failure::Failed(format!(
                "no such checkpoint in {}; `twinloom checkpoint list` shows those that are there",
                self.data.display()
            ))),
        }
    }
}
