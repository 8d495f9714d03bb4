//! What a process counts. Workers add to these; nothing of the dataflow reads them.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use connectors::archive::ArchiveStats;
use connectors::function::{Allowance, FunctionRunner};
use connectors::sink::SinkStats;
use connectors::source::SourceStats;

use crate::checkpoint::committer::CheckpointStats;
use crate::trials::TrialStats;

/// The operators whose frontiers are shown, in the order of the flow: the least that each may still put out.
/// The first of them that lags behind the one before holds the others up.
pub const OPERATORS: [&str; 3] = ["physical_event_handler", "steps", "publish"];

/// The counters and gauges of one process.
#[derive(Default)]
pub struct Metrics {
    /// Accepted physical events.
    pub events: AtomicU64,
    /// Stale ones among them (rule 3.2).
    pub stale: AtomicU64,
    /// Messages and elements that could not be taken.
    pub dead_letters: AtomicU64,
    /// Dead letters over the limit: counted and not kept.
    pub dead_letters_dropped: AtomicU64,
    /// Messages that were dropped because the job had more than it may have.
    pub shed: AtomicU64,
    /// Results of functions that were no value of their property.
    pub refused_results: AtomicU64,
    /// Calls of functions that were not made, as enough answers were awaited already.
    pub calls_skipped: AtomicU64,
    /// Updates of twins that are done (rule 5.6).
    pub done_dropped: AtomicU64,
    /// Digital events by kind, in the order of `DigitalKind::ALL`.
    pub digital_events: [AtomicU64; 4],
    /// Twins known now.
    pub twins: AtomicI64,
    /// Twins by phase, in the order of `Phase::ALL`.
    pub phases: [AtomicI64; 6],
    /// Bytes of physical events that are under way.
    pub in_flight_bytes: AtomicI64,
    /// Incidents: losses of a source.
    pub incidents: AtomicU64,
    /// How far each of [`OPERATORS`] has come on the first worker of the process: live, milliseconds since the
    /// start; recorded, microseconds since 1970.
    pub frontiers: [AtomicU64; OPERATORS.len()],
    connectors: Mutex<Connectors>,
}

/// What is counted of one function.
#[derive(Default)]
pub struct FunctionStats {
    /// Calls that were made, of a function outside.
    pub calls: AtomicU64,
    /// Updates that it gave no good answer to.
    pub failures: AtomicU64,
    /// Answers that nobody waited for any more.
    pub forgotten: AtomicU64,
    /// What went wrong last.
    last_failure: Mutex<Option<String>>,
}

impl FunctionStats {
    pub(crate) fn fail(&self, reason: &str) {
        add(&self.failures, 1);
        let mut last = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_deref() != Some(reason) {
            *last = Some(reason.to_owned());
        }
    }

    /// What went wrong last.
    pub fn last_failure(&self) -> Option<String> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A function of a type.
#[derive(Clone)]
pub struct FunctionEntry {
    /// The type's name.
    pub twin_type: String,
    /// The function's name.
    pub name: String,
    /// Which of its versions runs.
    pub version: u32,
    /// What is counted.
    pub stats: Arc<FunctionStats>,
    /// What runs it, outside.
    pub runner: Option<Arc<dyn FunctionRunner>>,
    /// Another version that runs beside it.
    pub trial: Option<TrialEntry>,
}

impl FunctionEntry {
    /// What runs a version of it, be it the one in force or the one beside it.
    pub(crate) fn runner_of(&self, version: u32) -> Option<Arc<dyn FunctionRunner>> {
        let trial = self.trial.as_ref().filter(|trial| trial.version == version);
        match self.version == version {
            true => self.runner.clone(),
            false => trial?.runner.clone(),
        }
    }
}

/// A version that runs beside the one in force.
#[derive(Clone)]
pub struct TrialEntry {
    /// Which it is.
    pub version: u32,
    /// What has come of it.
    pub stats: Arc<TrialStats>,
    /// What runs it, outside.
    pub runner: Option<Arc<dyn FunctionRunner>>,
}

#[derive(Default)]
struct Connectors {
    functions: Vec<FunctionEntry>,
    sources: Vec<(String, Arc<SourceStats>)>,
    sinks: Vec<(String, Arc<SinkStats>)>,
    archives: Vec<Arc<ArchiveStats>>,
    checkpoints: Option<Arc<CheckpointStats>>,
}

/// Adds to a counter; order between counters does not matter.
pub(crate) fn add(counter: &AtomicU64, number: u64) {
    if number > 0 {
        counter.fetch_add(number, Ordering::Relaxed);
    }
}

impl Metrics {
    /// A number that is another one whenever something has happened that a checkpoint would keep.
    pub(crate) fn happened(&self) -> u64 {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = [&self.events, &self.dead_letters, &self.incidents, &self.done_dropped, &self.shed];
        let counted = counters.into_iter().chain(&self.digital_events).map(load);
        let connectors = self.connectors();
        let taken = connectors.sources.iter().map(|(_, stats)| load(&stats.messages) + load(&stats.repeats));
        // An update that waits for an answer is accepted only with it, and is kept before.
        let called = connectors.functions.iter().map(|entry| load(&entry.stats.calls));
        counted.chain(taken).chain(called).fold(0, u64::wrapping_add)
    }

    /// The functions of each type, in the order of the job.
    pub fn functions(&self) -> Vec<FunctionEntry> {
        self.connectors().functions.clone()
    }

    pub(crate) fn set_functions(&self, functions: Vec<FunctionEntry>) {
        self.connectors().functions = functions;
    }

    /// Has all functions outside draw on these.
    pub(crate) fn draw_on(&self, allowances: &[Arc<Allowance>]) {
        let connectors = self.connectors();
        let runners = connectors.functions.iter().flat_map(|entry| {
            let trial = entry.trial.as_ref().and_then(|trial| trial.runner.as_ref());
            entry.runner.iter().chain(trial)
        });
        runners.filter_map(|runner| runner.meter()).for_each(|meter| meter.draw_on(allowances));
    }

    /// The sources of this process, by name.
    pub fn sources(&self) -> Vec<(String, Arc<SourceStats>)> {
        self.connectors().sources.clone()
    }

    /// The sinks of this process, by name.
    pub fn sinks(&self) -> Vec<(String, Arc<SinkStats>)> {
        self.connectors().sinks.clone()
    }

    /// The archive writers of this process, one a worker.
    pub fn archives(&self) -> Vec<Arc<ArchiveStats>> {
        self.connectors().archives.clone()
    }

    /// The checkpoints of the run, in process 0.
    pub fn checkpoints(&self) -> Option<Arc<CheckpointStats>> {
        self.connectors().checkpoints.clone()
    }

    pub(crate) fn set_checkpoints(&self, stats: Arc<CheckpointStats>) {
        self.connectors().checkpoints = Some(stats);
    }

    pub(crate) fn add_source(&self, name: &str, stats: Arc<SourceStats>) {
        self.connectors().sources.push((name.to_owned(), stats));
    }

    pub(crate) fn add_sink(&self, name: &str, stats: Arc<SinkStats>) {
        self.connectors().sinks.push((name.to_owned(), stats));
    }

    pub(crate) fn add_archive(&self, stats: Arc<ArchiveStats>) {
        self.connectors().archives.push(stats);
    }

    fn connectors(&self) -> std::sync::MutexGuard<'_, Connectors> {
        self.connectors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_went_out_has_happened() {
        let (metrics, stats) = (Metrics::default(), Arc::new(FunctionStats::default()));
        let (twin_type, name) = ("press".to_owned(), "q".to_owned());
        let of = FunctionEntry { twin_type, name, version: 1, stats, runner: None, trial: None };
        metrics.set_functions(vec![of.clone()]);
        let before = metrics.happened();
        add(&of.stats.calls, 1);
        assert_ne!(metrics.happened(), before);
    }
}
