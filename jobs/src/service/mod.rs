//! The job server's heart: keeps jobs on disk and runs them on one engine, and changes them as it is asked to.
//!
//! ```text
//!   apply ─ job file ─► checks, also against the other jobs ─► changes ─► record (disk) ─► run
//!   pause, cancel ─ the run ends with a checkpoint ─► a run without sources: its twins answer
//!   start of the process ─► records ─► runs as they were
//! ```
//! One thing is changed at a time. What is asked of a job's twins meanwhile goes past this, through the board.

mod changes;
mod conflicts;
mod endings;
mod functions;
mod graft;
mod putting;
mod record;
mod shadow_run;
mod tenants;

pub use changes::{Change, Changes, How};
pub use conflicts::Conflict;
pub use functions::{Source, Version};
pub use putting::{FunctionPut, FunctionState, Putting};
pub use tenants::{Tenants, TenantsError};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use connectors::clock::{Clock, SystemClock};
use dataflows::plan::TimeMode;
use dataflows::{Ending, Engine, Run, RunError, RunOptions};
use serde::Serialize;
use tracing::{error, info, warn};
use utoipa::ToSchema;

use crate::causes::with_causes;
use crate::definition::Definition;
use crate::definition::secrets::from_environment;
use crate::findings::Findings;
use crate::job::Job;
use crate::live::{Board, History, LiveJob, LiveParts, Running, Status};
use crate::roster::Watch;
use endings::end_twins;
use record::{Record, Wanted};

/// Jobs of one server.
const JOBS_MAX: usize = 10_000;
/// How often runs are looked at that may have ended by themselves.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How long twins may take to end.
const ENDING_MAX: Duration = Duration::from_secs(60);

/// Keeps and runs jobs.
pub struct Service {
    folder: PathBuf,
    engine: Engine,
    board: Arc<Board>,
    tenants: Tenants,
    jobs: Mutex<BTreeMap<String, Held>>,
}

/// A job that is kept.
struct Held {
    record: Record,
    /// What its record's text says; nothing where that cannot be read any more.
    definition: Definition,
    run: Option<Run>,
    /// Looks whether the file of its roster has changed.
    roster: Option<Watch>,
    live: Arc<LiveJob>,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// There is no such job.
    #[error("there is no job `{0}`; `twinloom job list` shows them")]
    Unknown(String),
    /// The definition is not valid.
    #[error("the job file is not valid: {} errors", .0.errors())]
    Invalid(Findings),
    /// The definition is that of another job.
    #[error("the job file is that of `{found}`, not of `{asked}`")]
    OtherName {
        /// The name in the file.
        found: String,
        /// The name that was asked for.
        asked: String,
    },
    /// A change cannot be made.
    #[error("refused: {0}")]
    Refused(String),
    /// It would be in the way of other jobs.
    #[error("refused: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Conflicts(Vec<Conflict>),
    /// It did not start; what was before goes on.
    #[error("the job did not start: {0}")]
    NotStarted(String),
    /// Not in this state.
    #[error("{0}")]
    NotNow(String),
    /// The folder of the jobs.
    #[error("{}: {error}", path.display())]
    Disk {
        /// What was written or read.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
}

/// What was applied.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Applied {
    /// The job.
    job: String,
    /// Its version now.
    version: u64,
    /// What was changed.
    #[serde(flatten)]
    changes: Changes,
}

impl Applied {
    /// Whether the job was not there before.
    pub fn is_new(&self) -> bool {
        self.changes.is_new
    }
}

impl Service {
    /// Starts the jobs that are kept in this folder, on so many workers. A job that does not start is shown as
    /// failed, and the others run.
    pub fn start(
        folder: &Path,
        workers: usize,
        tenants: Tenants,
        board: Arc<Board>,
    ) -> Result<Arc<Self>, StartError> {
        let engine = Engine::start(workers).map_err(StartError::Engine)?;
        let records = record::all(folder)?;
        let service =
            Arc::new(Self { folder: folder.to_owned(), engine, board, tenants, jobs: Mutex::default() });
        for record in records {
            let name = record.job.clone();
            let held = service.begin_or_fail(record, None);
            service.jobs().insert(name, held);
        }
        let watched = Arc::downgrade(&service);
        let watch = move || {
            while let Some(service) = watched.upgrade() {
                service.look();
                drop(service);
                std::thread::sleep(LOOK_INTERVAL);
            }
        };
        std::thread::Builder::new().name("service".into()).spawn(watch).map_err(StartError::Thread)?;
        Ok(service)
    }

    /// What applying a definition would change.
    pub fn plan(&self, text: &str) -> Result<Changes, ServiceError> {
        let job = read(text)?;
        let jobs = self.jobs();
        self.changes(&jobs, &job, text)
    }

    /// Applies a definition. The same one again changes nothing.
    pub fn apply(&self, name: &str, text: &str) -> Result<Applied, ServiceError> {
        let job = read(text)?;
        let found = job.definition.job.clone();
        if found != name {
            return Err(ServiceError::OtherName { found, asked: name.to_owned() });
        }
        let mut jobs = self.jobs();
        let changes = self.changes(&jobs, &job, text)?;
        changes.check()?;
        let before = jobs.get(name);
        if before.is_none() && jobs.len() >= JOBS_MAX {
            return Err(ServiceError::NotNow(format!("the server has {JOBS_MAX} jobs, and takes no more")));
        }
        let version = before.map_or(0, |held| held.record.version);
        if !changes.is_new && changes.changes.is_empty() {
            return Ok(Applied { job: found, version, changes });
        }
        let record = match before {
            Some(held) if held.record.wanted == Wanted::Done => {
                let detail = format!("`{name}` was cancelled; dismiss it first, or choose another name");
                return Err(ServiceError::NotNow(detail));
            }
            Some(held) => {
                let now_us = SystemClock.wall_us();
                let functions = held.record.functions.clone();
                let functions = functions.applied(&changes::functions_of(&changes), now_us);
                held.record.changed(text, now_us).with_functions(functions)
            }
            None => Record::new(&self.folder, name, text, SystemClock.wall_us()),
        };
        let version = record.version;
        match jobs.get_mut(name) {
            None => {
                let started = self.begin(record, None)?;
                started.record.write()?;
                jobs.insert(found.clone(), started);
            }
            Some(held) if changes.are_live() && held.run.is_some() => self.change_live(held, record)?,
            Some(_) => self.replace(&mut jobs, record)?,
        }
        info!(job = name, version, changes = changes.changes.len(), "job applied");
        Ok(Applied { job: found, version, changes })
    }

    /// Stops hearing the physical twins of a job.
    pub fn pause(&self, name: &str) -> Result<(), ServiceError> {
        self.steer(name, Wanted::Paused)
    }

    /// Hears them again.
    pub fn resume(&self, name: &str) -> Result<(), ServiceError> {
        self.steer(name, Wanted::Running)
    }

    /// The text of a job's definition.
    pub fn definition(&self, name: &str) -> Result<String, ServiceError> {
        let jobs = self.jobs();
        let held = jobs.get(name).ok_or_else(|| ServiceError::Unknown(name.to_owned()))?;
        Ok(held.record.text.clone())
    }

    /// Ends all runs, each with a checkpoint; the next start of the server goes on with them.
    pub fn end(&self) {
        let mut jobs = self.jobs();
        let runs: Vec<(String, Run)> =
            jobs.iter_mut().filter_map(|(name, held)| Some((name.clone(), held.run.take()?))).collect();
        // All at once, as each waits for its disk.
        runs.iter().for_each(|(_, run)| run.stopper().stop());
        runs.into_iter().for_each(|(name, run)| finish(&name, run));
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changes(&self, jobs: &BTreeMap<String, Held>, job: &Job, text: &str) -> Result<Changes, ServiceError> {
        let name = &job.definition.job;
        let others = jobs.iter().filter(|(other, held)| *other != name && held.record.wanted != Wanted::Done);
        let others = others.map(|(_, held)| &held.definition);
        self.tenants.check(&job.definition, others.clone())?;
        let conflicts: Vec<Conflict> =
            others.flat_map(|other| conflicts::between(&job.definition, other)).collect();
        if !conflicts.is_empty() {
            return Err(ServiceError::Conflicts(conflicts));
        }
        changes::of(jobs.get(name).map(|held| &held.record), text)
    }

    /// Brings a job into another state.
    fn steer(&self, name: &str, wanted: Wanted) -> Result<(), ServiceError> {
        let mut jobs = self.jobs();
        let Some(held) = jobs.get(name) else { return Err(ServiceError::Unknown(name.to_owned())) };
        let is_failed = matches!(held.live.status, Status::Failed | Status::Ended);
        if held.record.wanted == wanted && !is_failed {
            return Ok(());
        }
        if held.record.wanted == Wanted::Done {
            return Err(ServiceError::NotNow(format!("`{name}` was cancelled, which is for good")));
        }
        let record = held.record.wanting(wanted);
        if wanted == Wanted::Done
            && let Some(run) = &held.run
        {
            end_twins(run, Ending::Retire);
        }
        self.replace(&mut jobs, record)?;
        info!(job = name, state = wanted.word(), "job changed");
        Ok(())
    }

    /// Changes a job while it runs.
    fn change_live(&self, held: &mut Held, record: Record) -> Result<(), ServiceError> {
        let job = job_of(&record)?;
        let definition = job.definition.clone();
        if let Some(run) = &held.run {
            let plan = job.plan();
            let terms = plan.types.iter().map(|one| one.terms.clone()).collect();
            if record.functions != held.record.functions {
                let set = run.set_functions(plan.types, plan.functions);
                set.map_err(|error| ServiceError::NotStarted(with_causes(&error)))?;
            }
            record.write()?;
            run.set_terms(record.version, terms);
        }
        let before = &held.live;
        let parts = LiveParts {
            status: before.status,
            reason: before.reason.clone(),
            version: record.version,
            running: before.running.clone(),
            history: before.history.clone(),
        };
        held.live = Arc::new(LiveJob::new(&definition, parts, Some(before)));
        (held.record, held.definition) = (record, definition);
        self.board.put(held.live.clone());
        Ok(())
    }

    /// Ends what runs of a job, and starts it as its new record says. Where that does not start, what was before
    /// goes on.
    fn replace(&self, jobs: &mut BTreeMap<String, Held>, record: Record) -> Result<(), ServiceError> {
        let name = record.job.clone();
        let Some(mut held) = jobs.remove(&name) else { return Err(ServiceError::Unknown(name)) };
        if let Some(run) = held.run.take() {
            finish(&name, run);
        }
        let outcome = self.begin(record, Some(&held.live)).and_then(|started| {
            started.record.write()?;
            Ok(started)
        });
        match outcome {
            Ok(started) => {
                jobs.insert(name, started);
                Ok(())
            }
            Err(error) => {
                warn!(job = %name, %error, "job not changed; it goes on as it was");
                let before = self.begin_or_fail(held.record, Some(&held.live));
                jobs.insert(name, before);
                Err(error)
            }
        }
    }

    /// Starts a job as its record says.
    fn begin(&self, record: Record, before: Option<&LiveJob>) -> Result<Held, ServiceError> {
        let job = job_of(&record)?;
        let definition = job.definition.clone();
        let history = History::of(&definition, record.data());
        let parts = |status, running| LiveParts {
            status,
            reason: None,
            version: record.version,
            running,
            history: history.clone(),
        };
        // It is made before the run, as the run writes into its feed.
        let live = LiveJob::new(&definition, parts(Status::Running, None), before);
        let mut plan = job.plan();
        let is_parked = record.wanted != Wanted::Running;
        if is_parked && plan.time == TimeMode::Recorded {
            let detail = format!("`{}` has recorded input, which ends by itself", record.job);
            return Err(ServiceError::NotNow(detail));
        }
        live.tap(&mut plan);
        let tenant = self.tenants.quota(definition.tenant.as_deref());
        let definition_version = record.version;
        let options = RunOptions {
            is_parked,
            tenant,
            definition: definition_version,
            ..RunOptions::new(1, record.data())
        };
        let run =
            self.engine.run(plan, options).map_err(|error| ServiceError::NotStarted(with_causes(&error)))?;
        if record.wanted == Wanted::Done {
            end_twins(&run, Ending::Retire);
        }
        let running = Running::from(&run);
        let status = match record.wanted {
            Wanted::Running => Status::Running,
            Wanted::Paused => Status::Paused,
            Wanted::Done => Status::Done,
        };
        let live = Arc::new(LiveJob::new(&definition, parts(status, Some(running)), Some(&live)));
        self.board.put(live.clone());
        let roster = Watch::new(&definition);
        Ok(Held { record, definition, run: Some(run), roster, live })
    }

    /// Starts a job; where that fails, it is shown as failed.
    fn begin_or_fail(&self, record: Record, before: Option<&LiveJob>) -> Held {
        let error = match self.begin(record.clone(), before) {
            Ok(held) => return held,
            Err(error) => error,
        };
        error!(job = %record.job, %error, "job does not run");
        let definition = read(&record.text).map(|job| job.definition).unwrap_or_default();
        let live = self.show_ended(&record, &definition, Status::Failed, Some(error.to_string()), before);
        Held { record, definition, run: None, roster: None, live }
    }

    /// Shows a job that does not run.
    fn show_ended(
        &self,
        record: &Record,
        definition: &Definition,
        status: Status,
        reason: Option<String>,
        before: Option<&LiveJob>,
    ) -> Arc<LiveJob> {
        let history = History::of(definition, record.data());
        let parts = LiveParts { status, reason, version: record.version, running: None, history };
        let mut live = LiveJob::new(definition, parts, before);
        // A definition that cannot be read names nobody.
        live.name.clone_from(&record.job);
        let live = Arc::new(live);
        self.board.put(live.clone());
        live
    }

    /// Looks for runs that have ended by themselves.
    fn look(&self) {
        let mut jobs = self.jobs();
        for (name, held) in jobs.iter_mut() {
            if let (Some(run), Some(roster)) = (&held.run, held.roster.as_mut().and_then(Watch::look)) {
                run.set_roster(roster);
            }
            let has_ended = |run: &Run| run.is_finished() || run.failure().is_some();
            if !held.run.as_ref().is_some_and(has_ended) {
                continue;
            }
            let Some(run) = held.run.take() else { continue };
            let (status, reason) = match run.wait() {
                Ok(_) => (Status::Ended, None),
                Err(error) => (Status::Failed, Some(error.to_string())),
            };
            match &reason {
                None => info!(job = %name, "input is over"),
                Some(reason) => error!(job = %name, reason, "job ended"),
            }
            held.live = self.show_ended(&held.record, &held.definition, status, reason, Some(&held.live));
        }
    }
}

/// Why a service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The workers.
    #[error(transparent)]
    Engine(RunError),
    /// The folder of the jobs.
    #[error(transparent)]
    Records(#[from] ServiceError),
    /// No thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// Reads and checks a definition, with the secrets of this process.
fn read(text: &str) -> Result<Job, ServiceError> {
    Job::parse("job.yaml", text, Some(&from_environment)).map_err(ServiceError::Invalid)
}

/// The job that a record is of: its definition, and what was put in the place of functions since.
fn job_of(record: &Record) -> Result<Job, ServiceError> {
    record.functions.job(&record.text).map_err(ServiceError::Invalid)
}

/// Ends a run with a checkpoint.
fn finish(name: &str, run: Run) {
    run.stopper().stop();
    if let Err(error) = run.wait() {
        error!(job = name, %error, "run did not end well; the next one goes on from its last checkpoint");
    }
}

#[cfg(test)]
mod tests;
