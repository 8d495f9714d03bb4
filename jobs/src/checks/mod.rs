//! What must hold in a definition beyond its form: every mistake is listed, with what to write
//! instead; what passes is compiled on the way, so that nothing is understood twice.
//!
//! ```text
//!  Definition ─► job name ─► types (model, streams, functions, terms) ─► connections ─► listeners ─► Checked
//! ```

mod connections;
#[cfg(test)]
mod decoder_tests;
pub(crate) mod functions;
mod kafka;
mod listeners;
#[cfg(test)]
mod tests;
mod types;

pub(crate) use connections::{broker, client_id};
pub(crate) use kafka::group;
pub(crate) use listeners::SinkOf;
pub(crate) use types::is_shared;

use std::sync::Arc;
use std::time::Duration;

use dataflows::plan::{ListenerPlan, TimeMode};
use operators::decode::Route;
use operators::digital::Rows;
use operators::problem::Problem;
use operators::roster::Roster;
use operators::twin::TwinType;

use crate::definition::Definition;
use crate::findings::Severity;

/// Longest name of a job, in bytes.
const JOB_BYTES_MAX: usize = 64;

/// A definition that was checked, compiled.
#[derive(Debug)]
pub struct Checked {
    /// Types of twins.
    pub types: Vec<TwinType>,
    /// Sources: name of the connection, and its streams.
    pub sources: Vec<(String, Vec<Route>)>,
    /// Sinks.
    pub sinks: Vec<SinkOf>,
    /// Who listens.
    pub listeners: Vec<ListenerPlan>,
    /// Whose clock rules.
    pub time: TimeMode,
    /// Twins that are there before they speak.
    pub roster: Arc<Roster>,
}

/// Problems and warnings as they are found.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) all: Vec<(Severity, Problem)>,
}

impl Found {
    fn error(&mut self, problem: Problem) {
        self.all.push((Severity::Error, problem));
    }

    fn warning(&mut self, problem: Problem) {
        self.all.push((Severity::Warning, problem));
    }
}

/// Checks a definition. What it answers is fit to run where nothing found is an error.
pub(crate) fn check(definition: &Definition) -> (Checked, Found) {
    let mut found = Found::default();
    if !definition.unread.contains("job") {
        check_job_name(&definition.job, &mut found);
    }
    connections::check_settings(definition, &mut found);
    for (index, name) in definition.shared.iter().enumerate() {
        if let Some(problem) = connections::unknown(definition, name) {
            found.error(problem.under(index.to_string()).under("shared"));
        }
    }
    let sources = connections::sources(definition, &mut found);
    let (types, routes) = types::compile(definition, &sources, &mut found);
    if definition.archive.is_some()
        && let Err(problem) = Rows::check(types.iter())
    {
        found.error(problem.under("types"));
    }
    let roster = roster(definition, &mut found);
    types::check_shared_topics(definition, &types, &routes, &mut found);
    let (sinks, listeners) = listeners::compile(definition, &mut found);
    connections::check_use(definition, &sources, &sinks, &mut found);
    connections::check_loops(definition, &mut found);
    kafka::check_groups(definition, &sources, &mut found);
    check_limits(definition, &mut found);
    check_checkpoint(definition, &mut found);
    let time = connections::time_mode(definition, &mut found);
    let sources = sources.into_iter().zip(routes).collect();
    (Checked { types, sources, sinks, listeners, time, roster }, found)
}

/// The roster; it is not read for types that were not read whole, as its columns would be held against them.
fn roster(definition: &Definition, found: &mut Found) -> Arc<Roster> {
    if definition.unread.contains("types") || definition.unread.contains("roster") {
        return Arc::default();
    }
    let read = crate::roster::read(definition);
    Arc::new(read.unwrap_or_else(|problem| {
        found.error(problem.under("roster"));
        Roster::default()
    }))
}

fn check_job_name(job: &str, found: &mut Found) {
    let is_known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_name = job.chars().all(is_known) && (1..=JOB_BYTES_MAX).contains(&job.len());
    // `.` and `..` would be folders.
    if !is_name || job.starts_with('.') {
        found.error(
            Problem::new(
                format!("`{job}` is no name of a job"),
                format!("write letters, digits, `-`, `_` or `.` (not first), up to {JOB_BYTES_MAX}"),
            )
            .under("job"),
        );
    }
}

fn check_limits(definition: &Definition, found: &mut Found) {
    let limits = &definition.limits;
    let bytes_min = 64 << 10;
    for (key, is_good, help) in [
        ("twins", limits.twins > 0, "write at least 1"),
        ("in_flight", limits.in_flight.as_u64() >= bytes_min, "write at least 64KiB, such as 64MB"),
    ] {
        if !is_good {
            let message = format!("the limit `{key}` is too low to run");
            found.error(Problem::new(message, help).under(key).under("limits"));
        }
    }
}

/// Shortest time between checkpoints that is no load by itself.
const INTERVAL_MIN: Duration = Duration::from_millis(50);

fn check_checkpoint(definition: &Definition, found: &mut Found) {
    let checkpoint = &definition.checkpoint;
    for (key, is_good, help) in [
        ("interval", checkpoint.interval >= INTERVAL_MIN, "write at least 50ms, such as 10s"),
        ("retain", checkpoint.retain > 0, "write at least 1, such as 3"),
    ] {
        if !is_good {
            let message = format!("`{key}` of checkpoints is too low");
            found.error(Problem::new(message, help).under(key).under("checkpoint"));
        }
    }
}
