//! A run of a job: it answers questions, and ends cleanly (how it starts is in `start.rs`).
//!
//! ```text
//!  stop ─► sources end ─► last checkpoint ─► workers end, archives closed ─► sinks closed ─► summary
//! ```

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use connectors::alarm::Alarm;
use connectors::archive::{ArchiveError, ArchiveHandle};
use connectors::clock::{Clock, SystemClock};
use connectors::disk::{Disk, SystemDisk};
use connectors::folder::{DataFolder, FolderError};
use connectors::function::Allowance;
use connectors::on_call::{Ended, OnCall};
use connectors::store::StoreError;
use operators::entanglement::Terms;
use operators::roster::Roster;
use operators::twin::TwinType;

use crate::ask::{Asker, PartOfReply, Question, Reply};
use crate::change::FunctionChange;
use crate::checkpoint::restore::RestoreError;
use crate::cluster::{ClusterError, ClusterOptions};
use crate::control::Command;
use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::plan::FunctionPlan;
use crate::publish::SinkPort;
use crate::quota::Quota;
use crate::survey::Survey;
use crate::twins::enrolment::RosterPort;

/// How long sinks and archive may take to publish what they have when the run ends.
pub(crate) const CLOSE_WAIT: Duration = Duration::from_secs(10);

/// Where and how wide a job runs.
pub struct RunOptions {
    /// Workers of this process.
    pub workers: usize,
    /// The job's data folder.
    pub data: PathBuf,
    /// The other processes, if there are any.
    pub cluster: Option<ClusterOptions>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Where everything durable goes, but the lock of the data folder.
    pub disk: Arc<dyn Disk>,
    /// Begin with empty twins, whatever checkpoints there are; sources go on where they were.
    pub fresh: bool,
    /// Where recorded input is to stop, microseconds since 1970: what arrived from then on is left to the
    /// next run.
    pub until_us: Option<i64>,
    /// Leave the sources alone: the twins live on and answer, and hear nothing. Where the sources are to go on
    /// is kept for a later run. Live jobs only.
    pub is_parked: bool,
    /// What all jobs of its tenant may have together.
    pub tenant: Option<Arc<Quota>>,
    /// Version of the job's definition, which rows carry.
    pub definition: u64,
}

impl RunOptions {
    /// One process with so many workers, on the machine's own clock and disk.
    pub fn new(workers: usize, data: impl Into<PathBuf>) -> Self {
        Self {
            workers,
            data: data.into(),
            cluster: None,
            clock: Arc::new(SystemClock),
            disk: Arc::new(SystemDisk),
            fresh: false,
            until_us: None,
            is_parked: false,
            tenant: None,
            definition: 1,
        }
    }
}

/// Why a run could not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The other processes.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The store of checkpoints.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is kept cannot be gone on from.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The data folder is not the same for all processes.
    #[error("the data folder {} is not that of process 0, which is in generation {generation}; give all processes one folder that they all see", path.display())]
    NotShared {
        /// The folder of this process.
        path: PathBuf,
        /// The generation of the run.
        generation: u64,
    },
    /// The operating system gave no thread.
    #[error("cannot start a thread: {0}; raise the limit of threads (ulimit -u)")]
    Thread(std::io::Error),
    /// The run could not go on.
    #[error("{0}")]
    Stopped(String),
    /// A source or sink.
    #[error("connection `{name}`: {error}")]
    Connection {
        /// Name of the connection.
        name: String,
        /// What is wrong.
        error: Box<dyn Error + Send + Sync>,
    },
    /// A function outside.
    #[error("function `{name}`: {error}")]
    Function {
        /// Its name in the job.
        name: String,
        /// What is wrong.
        error: Box<dyn Error + Send + Sync>,
    },
    /// The types do not fit into one archive.
    #[error("the types do not fit into one archive: {0}")]
    Columns(String),
    /// The engine underneath.
    #[error("the dataflow could not start: {0}")]
    Dataflow(String),
}

/// A job that runs.
pub struct Run {
    pub(crate) generation: u64,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) asker: Asker,
    /// Workers of this process.
    pub(crate) workers: usize,
    /// How many of them have ended the job.
    pub(crate) ended_count: Arc<AtomicUsize>,
    /// The archive of each that has.
    pub(crate) ended: mpsc::Receiver<Option<Arc<ArchiveHandle>>>,
    pub(crate) sinks: Vec<SinkPort>,
    pub(crate) unpublished: Arc<AtomicU64>,
    pub(crate) start: Instant,
    pub(crate) alarm: Arc<Alarm>,
    pub(crate) roster: RosterPort,
    pub(crate) change: FunctionChange,
    /// What functions outside draw on.
    pub(crate) allowances: Vec<Arc<Allowance>>,
    /// Completes checkpoints, in process 0.
    pub(crate) committer: Option<OnCall>,
    /// Locked while the run lasts.
    pub(crate) folder: Option<DataFolder>,
    /// The workers, where they are this job's alone.
    pub(crate) engine: Option<Engine>,
}

/// Asks a run to end; may be kept and sent elsewhere.
#[derive(Clone)]
pub struct Stopper(Asker);

/// What a run did.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// How the twins were at the last instant of load; in process 0.
    pub survey: Option<Survey>,
    /// Accepted physical events, of all processes in process 0, else of this one.
    pub events: u64,
    /// Messages and elements that could not be taken.
    pub dead_letters: u64,
    /// Digital events made.
    pub digital_events: u64,
    /// Digital events that no sink of this process took.
    pub unpublished: u64,
    /// Rows in the archive's files, of this process.
    pub archive_rows: u64,
    /// How long the run took.
    pub seconds: f64,
}

/// How twins end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// They take no more updates, and still answer (rule 5.6, Done).
    Retire,
    /// They are let go of (Stopped).
    Dismiss,
}

impl Stopper {
    /// Asks all processes of the run to end cleanly. Returns at once.
    pub fn stop(&self) {
        self.0.command(Command::Stop);
    }
}

impl Run {
    /// Number of this start of the job on its data folder.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The counters of this process.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// What asks the run to end.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.asker.clone())
    }

    /// What asks it about its twins.
    pub fn asker(&self) -> Asker {
        self.asker.clone()
    }

    /// How the fleet is. None where the workers do not answer in time, or answer another process.
    pub fn survey(&self, timeout: Duration) -> Option<Survey> {
        match self.asker.ask_within(Question::Survey, timeout)? {
            Reply::Survey(survey) => Some(*survey),
            _ => None,
        }
    }

    /// Has the twins of each type go by these terms from now on; the window and what is expected must be as they
    /// were. What was counted under the old ones stays. `definition` is the version of the job's definition that
    /// they are of.
    pub fn set_terms(&self, definition: u64, terms: Vec<Terms>) {
        self.asker.command(Command::Terms { definition, terms });
    }

    /// Whether the functions of these types may take the place of those that run, while they do.
    pub fn can_change_functions(&self, types: &[TwinType]) -> bool {
        self.change.is_possible(types)
    }

    /// Has twins run the functions of these types from one epoch on, the same on all workers; they must be ones
    /// that [`Run::can_change_functions`]. What runs a function of the same version as before is kept. What is
    /// asked after this call is answered after it.
    pub fn set_functions(
        &self,
        types: Vec<TwinType>,
        functions: Vec<Vec<FunctionPlan>>,
    ) -> Result<(), RunError> {
        let number = self.change.put(types, functions, &self.metrics)?;
        self.metrics.draw_on(&self.allowances);
        self.asker.command(Command::Functions(number));
        Ok(())
    }

    /// Ends all twins that there are, at this instant (microseconds since 1970). What is asked after this call
    /// is answered after it.
    pub fn end_twins(&self, ending: Ending, at_us: i64) {
        self.asker.command(Command::EndTwins { at_us, dismiss: ending == Ending::Dismiss });
    }

    /// Ends one twin at this instant, if it is there; see [`Run::end_twins`].
    pub fn end_twin(&self, id: &str, ending: Ending, at_us: i64) {
        let dismiss = ending == Ending::Dismiss;
        self.asker.command(Command::EndTwin { id: id.to_owned(), at_us, dismiss });
    }

    /// Has all workers go by another roster: twins that are new are enrolled, those that are gone stay as they are,
    /// and attributes are those of the new one. In a run of several processes each has to be told.
    pub fn set_roster(&self, roster: Arc<Roster>) {
        *lock(&self.roster) = roster;
        self.asker.command(Command::Roster);
    }

    /// Whether all workers of this process have ended the job.
    pub fn is_finished(&self) -> bool {
        self.ended_count.load(Ordering::Acquire) >= self.workers
    }

    /// Why the run cannot go on, where it cannot. It then ends by itself, without a checkpoint.
    pub fn failure(&self) -> Option<&str> {
        self.alarm.reason()
    }

    /// Waits for the end: all that is under way is published, archived and closed, and a last checkpoint
    /// says so.
    pub fn wait(self) -> Result<Summary, RunError> {
        // Each worker tells once; a worker that died has ended the process.
        let archives: Vec<_> = (0..self.workers).map_while(|_| self.ended.recv().ok()).flatten().collect();
        if let Some(reason) = self.alarm.reason() {
            // What is not committed is not to be seen.
            return Err(RunError::Stopped(reason.to_owned()));
        }
        let mut archive_rows = 0;
        // The graph is gone, and with it the only other holder of each.
        for archive in archives.into_iter().filter_map(Arc::into_inner) {
            archive_rows += archive.close(CLOSE_WAIT)?.rows;
        }
        let committed = self.committer.and_then(|committer| committer.wait_over(Duration::MAX));
        if committed == Some(Ended::Panicked) {
            return Err(RunError::Dataflow("the committer of checkpoints has panicked".into()));
        }
        let seconds = self.start.elapsed().as_secs_f64();
        let mut unpublished = self.unpublished.load(Ordering::Relaxed);
        for sink in self.sinks {
            // The workers have let go of them.
            let closed = match sink {
                SinkPort::Direct(handle) => Arc::into_inner(handle).map(|handle| handle.close(CLOSE_WAIT)),
                SinkPort::Outbox(handle) => Arc::into_inner(handle).map(|handle| handle.close(CLOSE_WAIT)),
            };
            unpublished += closed.map_or(0, |closed| closed.unpublished);
        }
        let last = match self.asker.last() {
            Some(PartOfReply::Survey(answer)) => Some(answer),
            _ => None,
        };
        drop((self.engine, self.folder));
        let here = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(Summary {
            events: last.as_ref().map_or(here(&self.metrics.events), |last| last.events),
            dead_letters: last.as_ref().map_or(here(&self.metrics.dead_letters), |last| last.dead_letters),
            digital_events: last.as_ref().map_or_else(
                || self.metrics.digital_events.iter().map(here).sum(),
                |last| last.digital_events,
            ),
            survey: last.map(|last| last.survey()),
            unpublished,
            archive_rows,
            seconds,
        })
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing that can panic runs while these are locked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
