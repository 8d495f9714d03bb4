//! `twinloom explain JOB.yaml`: steps, operators, state and promises.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::explanation::explain;
use crate::job::Job;

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(super) struct ExplainArguments {
    /// The job file
    #[arg(value_name = "JOB.yaml")]
    job: PathBuf,
}

pub(super) fn execute(arguments: &ExplainArguments) -> Result<(), Failure> {
    let job = Job::open(&arguments.job, None).map_err(|error| Failure::of_job(error, false))?;
    job.warnings.without_notes().print();
    let definition = job.definition.clone();
    let notes = job.warnings.others.clone();
    print!("{}", explain(&definition, &job.plan(), &notes));
    Ok(())
}
