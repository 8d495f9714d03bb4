//! `twinloom job ...`: the jobs of a server.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::Failure;
use super::remote::{RemoteArguments, path};

/// What to do with jobs.
#[derive(Debug, Subcommand)]
pub(super) enum JobCommand {
    /// List them
    List(RemoteArguments),
    /// Show one
    Show(JobArguments),
    /// Stop hearing its physical twins; its twins live on, and answer
    Pause(JobArguments),
    /// Hear them again, from where it stopped
    Resume(JobArguments),
    /// End it for good: its twins are Done, and still answer
    Cancel(JobArguments),
    /// Let go of one that was cancelled; its archive stays
    Dismiss(JobArguments),
}

/// Which job.
#[derive(Debug, Args)]
pub(super) struct JobArguments {
    /// The job's name
    job: String,
    #[command(flatten)]
    remote: RemoteArguments,
}

pub(super) fn execute(command: &JobCommand) -> Result<(), Failure> {
    match command {
        JobCommand::List(remote) => {
            let all: Value = remote.get("/v1/jobs")?;
            if remote.json {
                println!("{all}");
                return Ok(());
            }
            let jobs = all["jobs"].as_array().cloned().unwrap_or_default();
            if jobs.is_empty() {
                println!("no job yet; `twinloom apply JOB.yaml` submits one");
            }
            jobs.iter().for_each(|job| println!("{}", line(job)));
        }
        JobCommand::Show(JobArguments { job, remote }) => {
            let shown: Value = remote.get(&path(&["jobs", job]))?;
            show(remote, &shown);
        }
        JobCommand::Pause(arguments) => steer(arguments, "pause")?,
        JobCommand::Resume(arguments) => steer(arguments, "resume")?,
        JobCommand::Cancel(arguments) => steer(arguments, "cancel")?,
        JobCommand::Dismiss(JobArguments { job, remote }) => {
            remote.delete(&path(&["jobs", job]))?;
            if !remote.json {
                println!("job {job} is dismissed");
            }
        }
    }
    Ok(())
}

fn steer(JobArguments { job, remote }: &JobArguments, what: &str) -> Result<(), Failure> {
    let shown: Value = remote.post(&path(&["jobs", job, what]), "")?;
    show(remote, &shown);
    Ok(())
}

fn show(remote: &RemoteArguments, job: &Value) {
    if remote.json {
        println!("{job}");
        return;
    }
    println!("{}", line(job));
    let number = |key: &str| job[key].as_f64().unwrap_or(0.0);
    println!("  version   {}, generation {}", job["version"], job["generation"]);
    println!("  odte      mean {:.3}; 95 % have at least {:.3}", number("odte_mean"), number("odte_p05"));
    println!("  events    {}, {:.0} a second", job["events"], number("events_per_second"));
    println!("  letters   {} dead", job["dead_letters"]);
    let counts = job["phases"].as_object().into_iter().flatten();
    let counts: Vec<String> = counts.map(|(phase, count)| format!("{phase} {count}")).collect();
    println!("  twins     {}", counts.join(", "));
    for cause in job["causes"].as_array().into_iter().flatten() {
        println!("  cause     {}: {} twins", cause["cause"].as_str().unwrap_or_default(), cause["twins"]);
    }
    if let Some(reason) = job["reason"].as_str() {
        println!("  reason    {reason}");
    }
}

fn line(job: &Value) -> String {
    let word = |key: &str| job[key].as_str().unwrap_or_default();
    let odte = job["odte_mean"].as_f64().map_or("-".to_owned(), |odte| format!("{odte:.3}"));
    format!("{:<24} {:<8} {:>9} twins  odte {odte}", word("job"), word("status"), job["twins"])
}
