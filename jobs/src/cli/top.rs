//! `twinloom top JOB`: the live screen of a job that a server runs.

use std::time::{Duration, Instant};

use clap::Args;

use super::Failure;
use super::remote::{RemoteArguments, path};
use super::values;
use crate::screen::{Screen, View};
use crate::server::FleetView;

/// Arguments of `top`.
#[derive(Debug, Args)]
pub(super) struct TopArguments {
    /// The job's name
    job: String,
    /// How often it is redrawn
    #[arg(long, default_value = "1s", value_parser = values::duration)]
    interval: Duration,
    /// Show it once and end, as where standard output is no terminal
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    remote: RemoteArguments,
}

pub(super) fn execute(arguments: &TopArguments) -> Result<(), Failure> {
    let TopArguments { job, interval, once, remote } = arguments;
    let of = path(&["jobs", job, "fleet"]);
    if remote.json {
        let shown: serde_json::Value = remote.get(&of)?;
        println!("{shown}");
        return Ok(());
    }
    let begin = Instant::now();
    let mut screen = (!once).then(Screen::open).flatten();
    loop {
        let fleet: FleetView = remote.get(&of)?;
        let survey = fleet.survey();
        let view = View {
            job: &fleet.job,
            elapsed: begin.elapsed(),
            events: fleet.events,
            events_per_second: fleet.events_per_second,
            dead_letters: fleet.dead_letters,
            survey: Some(&survey),
        };
        let Some(screen) = &mut screen else {
            view.lines().iter().for_each(|line| println!("{line}"));
            return Ok(());
        };
        screen.draw(&view).map_err(Failure::of)?;
        std::thread::sleep(*interval);
    }
}
