//! `twinloom plan JOB.yaml` and `twinloom apply JOB.yaml`: what would change on a server, and the change.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::Failure;
use super::remote::{RemoteArguments, path};
use crate::job::Job;
use crate::service::Changes;

/// Arguments of `plan` and `apply`.
#[derive(Debug, Args)]
pub(super) struct ApplyArguments {
    /// The job file
    #[arg(value_name = "JOB.yaml")]
    job: PathBuf,
    #[command(flatten)]
    remote: RemoteArguments,
}

impl ApplyArguments {
    /// The job's name and its text; mistakes are shown here, where the file is. Its secrets are the server's.
    fn read(&self) -> Result<(String, String), Failure> {
        let job = Job::open(&self.job, None).map_err(|error| Failure::of_job(error, self.remote.json))?;
        job.warnings.without_notes().print();
        Ok((job.definition.job, job.text))
    }
}

pub(super) fn plan(arguments: &ApplyArguments) -> Result<(), Failure> {
    let (job, text) = arguments.read()?;
    let changes: Value = arguments.remote.post("/v1/plan", &text)?;
    match arguments.remote.json {
        true => println!("{changes}"),
        false => print!("{}", shown(&job, changes)?),
    }
    Ok(())
}

pub(super) fn apply(arguments: &ApplyArguments) -> Result<(), Failure> {
    let (job, text) = arguments.read()?;
    let applied: Value = arguments.remote.put(&path(&["jobs", &job]), text.as_bytes())?;
    if arguments.remote.json {
        println!("{applied}");
        return Ok(());
    }
    let version = applied["version"].clone();
    print!("{}", shown(&job, applied)?);
    println!("job {job} is at version {version}");
    Ok(())
}

fn shown(job: &str, changes: Value) -> Result<String, Failure> {
    let changes: Changes = serde_json::from_value(changes).map_err(Failure::of)?;
    Ok(changes.text(job))
}
