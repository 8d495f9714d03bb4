//! `twinloom run JOB.yaml`: runs a job until its input ends, its time is over, or Ctrl-C.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use dataflows::{ClusterOptions, RunOptions};
use tracing::info;

use super::{Failure, values};
use crate::definition::secrets::from_environment;
use crate::job::Job;
use crate::live::{Board, History, LiveJob, LiveParts, Running, Status};
use crate::roster::{self, Watch};
use crate::server::{self, Server};
use crate::session::until_end;
use crate::signals::Signals;
use crate::summary::Report;

/// Where data folders are by default.
pub(super) const DATA_ROOT: &str = ".twinloom";

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// The job file
    #[arg(value_name = "JOB.yaml")]
    job: PathBuf,
    /// Workers of this process [default: all cores, at most 8]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
    /// The job's data folder [default: .twinloom/<job>]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// End after this time, such as 30s
    #[arg(long, value_parser = values::duration)]
    duration: Option<Duration>,
    /// Stop when recorded time comes here, with a checkpoint: what arrived from then on is left to the next
    /// run (milliseconds since 1970, or an RFC 3339 text)
    #[arg(long, value_name = "TIME", value_parser = values::instant_us)]
    until: Option<i64>,
    /// Begin with empty twins, whatever checkpoints there are
    #[arg(long)]
    fresh: bool,
    /// Print one JSON object at the end, to standard output
    #[arg(long)]
    json: bool,
    /// Answer over HTTP on this loopback address: /v1 (see /openapi.json), a page at /, /metrics, /health
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// The processes of the run: a file with one host:port a line, the same for all
    #[arg(long, value_name = "FILE", requires = "process")]
    hosts: Option<PathBuf>,
    /// Which line of the file this process is, from 0
    #[arg(long, value_name = "K", requires = "hosts")]
    process: Option<usize>,
}

pub(super) fn execute(arguments: &RunArguments) -> Result<(), Failure> {
    if let Some(address) = arguments.listen {
        server::check(address).map_err(|error| Failure::Usage(error.to_string()))?;
    }
    let cluster = match (&arguments.hosts, arguments.process) {
        (Some(hosts), Some(process)) => Some(cluster(hosts, process)?),
        _ => None,
    };
    let job = Job::open(&arguments.job, Some(&from_environment))
        .map_err(|error| Failure::of_job(error, arguments.json))?;
    job.warnings.without_notes().print();
    let name = job.definition.job.clone();
    let archive = job.definition.archive.as_ref().map(|history| history.path.clone());
    let workers = arguments.workers.map_or_else(values::workers_default, usize::from);
    let data = arguments.data.clone().unwrap_or_else(|| Path::new(DATA_ROOT).join(&name));
    let options = RunOptions {
        cluster,
        fresh: arguments.fresh,
        until_us: arguments.until,
        ..RunOptions::new(workers, data)
    };
    let signals = Signals::listen().map_err(Failure::of)?;
    let definition = job.definition.clone();
    let history = History::of(&definition, options.data.clone());
    let parts = |running| LiveParts {
        status: Status::Running,
        reason: None,
        version: 1,
        running,
        history: history.clone(),
    };
    let live = LiveJob::new(&definition, parts(None), None);
    let mut plan = job.plan();
    // Processes of one run have one plan, whichever of them is looked at.
    if arguments.listen.is_some() && options.cluster.is_none() {
        live.tap(&mut plan);
    }
    let run = dataflows::start(plan, options).map_err(Failure::of)?;
    let generation = run.generation();
    let server = match arguments.listen {
        Some(address) => {
            let board = Arc::new(Board::default());
            let running = Some(Running::from(&run));
            board.put(Arc::new(LiveJob::new(&definition, parts(running), Some(&live))));
            Some(Server::start(address, board, None).map_err(Failure::of)?)
        }
        None => None,
    };
    let start = Instant::now();
    let mut roster = Watch::new(&definition);
    let end = until_end(&run, &signals, arguments.duration, roster::LOOK, |run| {
        if let Some(roster) = roster.as_mut().and_then(Watch::look) {
            run.set_roster(roster);
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    info!(job = %name, ?end, "job ends");
    if let Some(server) = &server {
        server.ending();
    }
    run.stopper().stop();
    let summary = run.wait().map_err(Failure::of)?;
    // A short input is over before anybody looks.
    let seconds = seconds.min(summary.seconds);
    let survey = summary.survey.as_ref();
    let report = Report::new(&name, generation, &summary, survey, seconds, archive.as_deref());
    match arguments.json {
        true => println!("{}", report.to_json()),
        false => print!("{}", report.text()),
    }
    Ok(())
}

/// Reads the processes of a run; lines that are empty or begin with `#` say nothing.
fn cluster(path: &Path, process: usize) -> Result<ClusterOptions, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let path = path.display();
        Failure::Usage(format!("cannot read {path}: {error}; write a file with one host:port a line"))
    })?;
    let hosts = hosts(&text);
    if process >= hosts.len() {
        let message = format!(
            "--process {process} is not in {}, which names {} processes; they count from 0",
            path.display(),
            hosts.len()
        );
        return Err(Failure::Usage(message));
    }
    Ok(ClusterOptions { hosts, process })
}

fn hosts(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_lines() {
        assert_eq!(hosts("# two\na:1\n\n  b:2  \n"), ["a:1", "b:2"]);
    }
}
