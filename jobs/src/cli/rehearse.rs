//! `twinloom try JOB.yaml --topic T --payload FILE`: what one message would do, step by step.

use std::path::PathBuf;

use clap::Args;
use connectors::clock::{Clock, SystemClock};

use super::Failure;
use crate::job::Job;
use crate::rehearsal::{Rehearsal, Tried};

/// Arguments of `try`.
#[derive(Debug, Args)]
pub(super) struct TryArguments {
    /// The job file
    #[arg(value_name = "JOB.yaml")]
    job: PathBuf,
    /// The topic that the message comes on
    #[arg(long)]
    topic: String,
    /// The key of the record, on Kafka
    #[arg(long)]
    key: Option<String>,
    /// A file with the payload; several are messages one after the other, a second apart
    #[arg(long, value_name = "FILE", required_unless_present = "text")]
    payload: Vec<PathBuf>,
    /// The payload itself
    #[arg(long, conflicts_with = "payload")]
    text: Vec<String>,
}

pub(super) fn execute(arguments: &TryArguments) -> Result<(), Failure> {
    let TryArguments { job, topic, key, payload, text } = arguments;
    let job = Job::open(job, None).map_err(|error| Failure::of_job(error, false))?;
    job.warnings.without_notes().print();
    let read = |file: &PathBuf| {
        std::fs::read(file)
            .map_err(|error| Failure::Failed(format!("cannot read {}: {error}", file.display())))
    };
    let files = payload.iter().map(read);
    let payloads: Vec<Vec<u8>> =
        files.chain(text.iter().map(|text| Ok(text.clone().into_bytes()))).collect::<Result<_, _>>()?;
    let mut rehearsal = Rehearsal::new(job.plan());
    let begin_us = SystemClock.wall_us();
    for (payload, at_us) in payloads.iter().zip((begin_us..).step_by(1_000_000)) {
        let tried = Tried { topic, key: key.as_deref(), payload, at_us };
        print!("{}", rehearsal.take(tried));
    }
    Ok(())
}
