//! `twinloom validate JOB.yaml`: says what is wrong, line by line.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::job::Job;

/// Arguments of `validate`.
#[derive(Debug, Args)]
pub(super) struct ValidateArguments {
    /// The job file
    #[arg(value_name = "JOB.yaml")]
    job: PathBuf,
    /// Print a JSON list of {severity, line, column, path, message, help} to standard output
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(arguments: &ValidateArguments) -> Result<(), Failure> {
    let job = Job::open(&arguments.job, None).map_err(|error| Failure::of_job(error, arguments.json))?;
    if arguments.json {
        println!("{}", job.warnings.to_json());
    } else {
        job.warnings.print();
        println!("{} is valid: {}", arguments.job.display(), job.outline());
    }
    Ok(())
}
