//! Functions that are put, rolled back and removed while their job runs.
//!
//! Where twins need not change for it, all workers take the new functions at one epoch. Else (a function that
//! remembers, one that is gone with calls in flight, a property that is new) the job stops at a checkpoint and
//! goes on with its twins as they were.

use std::sync::atomic::Ordering;

use connectors::clock::{Clock, SystemClock};
use dataflows::ask::Question;
use operators::functions::SHADOWING;
use serde::Serialize;
use tracing::info;
use utoipa::ToSchema;

use super::changes::How;
use super::functions::{self, FunctionVersions, Source};
use super::graft;
use super::shadow_run::ShadowRun;
use super::{Held, Service, ServiceError, job_of};
use crate::definition::functions::KindDefinition;

/// Twins up to which a change is waited for until all workers have it.
const SURVEYED_MAX: i64 = 100_000;

/// What is put in the place of a function.
#[derive(Clone, Debug)]
pub enum Putting {
    /// A function as it would stand in a job file: YAML.
    Yaml(String),
    /// The source of one in Python. What stands beside the one in force stays.
    Python(String),
    /// A module in WebAssembly: its text, or base64 of it. What stands beside the one in force stays.
    Wasm(String),
}

/// What became of a function that was put, rolled back or removed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FunctionPut {
    /// Its type.
    #[serde(rename = "type")]
    twin_type: String,
    /// Its name.
    function: String,
    /// The version that runs now; none where it was removed.
    version: Option<u32>,
    /// The version that runs beside it, in a shadow run.
    shadow: Option<u32>,
    /// Whether it came while the job ran, or at a checkpoint.
    how: How,
}

/// A function of a job.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FunctionState {
    /// Its type.
    #[serde(rename = "type")]
    pub twin_type: String,
    /// Its name.
    pub function: String,
    /// Its kind by the word of the job file; none where it was removed.
    pub kind: Option<String>,
    /// The version that runs; none where it was removed.
    pub version: Option<u32>,
    /// Whether it is not what the definition says.
    pub is_drift: bool,
    /// Versions that are kept, oldest first.
    pub versions: Vec<FunctionVersion>,
    /// Calls that went out, of a function outside.
    pub calls: u64,
    /// Updates that it gave no good answer to.
    pub failures: u64,
    /// What went wrong last.
    pub last_failure: Option<String>,
    /// Calls that are not answered yet.
    pub open: u64,
    /// Whether its circuit breaker is open: calls fail at once.
    pub is_breaker_open: bool,
    /// Another version that runs beside it, and what has come of that.
    pub shadow: Option<ShadowRun>,
    /// Time that its requests have taken since the start, of a function outside.
    pub seconds: f64,
    /// How often calls had to wait, as the functions' time of the job or its tenant was used up.
    pub held: u64,
}

impl Putting {
    /// The function as it would stand in a job file.
    fn text(self, held: &Held, twin_type: &str, function: &str) -> Result<String, ServiceError> {
        match self {
            Putting::Yaml(text) => Ok(text),
            Putting::Python(code) => of_source(held, twin_type, function, "python", &code),
            Putting::Wasm(code) => of_source(held, twin_type, function, "wasm", &code),
        }
    }
}

/// A source as the function that takes the place of the one in force.
fn of_source(
    held: &Held,
    twin_type: &str,
    function: &str,
    kind: &str,
    code: &str,
) -> Result<String, ServiceError> {
    let record = &held.record;
    let before = record.functions.in_force(&record.text, twin_type, function);
    Ok(graft::of_source(kind, before.map_err(ServiceError::Invalid)?, code))
}

fn no_trial(function: &str) -> String {
    format!("no version of `{function}` runs beside the one that runs; put one with a shadow")
}

/// A version of a function.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FunctionVersion {
    /// Its number.
    version: u32,
    /// When it came.
    at: String,
    /// Where it is from: `definition`, `put`, `removed`, or `shadow` where it has only run beside others.
    source: &'static str,
}

impl Service {
    /// The functions of a job, in the order of its definition, step 2 among them where it is one; removed ones last.
    pub fn functions(&self, name: &str) -> Result<Vec<FunctionState>, ServiceError> {
        let jobs = self.jobs();
        let held = jobs.get(name).ok_or_else(|| ServiceError::Unknown(name.to_owned()))?;
        let entries = held.run.as_ref().map(|run| run.metrics().functions()).unwrap_or_default();
        let state = |twin_type: &str, function: &str, kind: Option<&KindDefinition>| {
            let known = held.record.functions.of(twin_type, function);
            let entry = entries.iter().find(|one| one.twin_type == twin_type && one.name == function);
            let runner = entry.and_then(|one| one.runner.as_ref());
            let status = runner.map(|runner| runner.status());
            let meter = runner.and_then(|runner| runner.meter());
            let load = |read: fn(&dataflows::metrics::FunctionStats) -> &std::sync::atomic::AtomicU64| {
                entry.map_or(0, |one| read(&one.stats).load(Ordering::Relaxed))
            };
            let drifts = |(one_type, one, _): &(&str, &str, &super::Version)| {
                *one_type == twin_type && *one == function
            };
            FunctionState {
                twin_type: twin_type.to_owned(),
                function: function.to_owned(),
                kind: kind.map(|kind| kind.word().to_owned()),
                version: kind.map(|_| known.map_or(1, |(active, _)| active)),
                is_drift: held.record.functions.drift().any(|one| drifts(&one)),
                versions: known.map_or(Vec::new(), |(_, all)| all.iter().map(FunctionVersion::of).collect()),
                calls: load(|stats| &stats.calls),
                failures: load(|stats| &stats.failures),
                last_failure: entry.and_then(|one| one.stats.last_failure()),
                open: status.map_or(0, |status| status.in_flight),
                is_breaker_open: status.is_some_and(|status| status.is_open),
                shadow: held.record.functions.trial_of(twin_type, function).map(|trial| {
                    let running = entry.and_then(|entry| entry.trial.as_ref());
                    ShadowRun::new(trial, running)
                }),
                seconds: meter.map_or(0.0, |meter| meter.spent().as_secs_f64()),
                held: meter.map_or(0, |meter| meter.held()),
            }
        };
        let types = held.definition.types.iter();
        let mut all: Vec<FunctionState> = types
            .flat_map(|(twin_type, one)| {
                let functions = one.augmentation.iter().map(|(name, function)| (name.as_str(), function));
                let shadowing = one.shadow.iter().map(|function| (SHADOWING, function));
                let all = shadowing.chain(functions);
                all.map(move |(function, definition)| (twin_type, function, &definition.kind))
            })
            .map(|(twin_type, function, kind)| state(twin_type, function, Some(kind)))
            .collect();
        all.extend(
            held.record.functions.removed().map(|(twin_type, function)| state(twin_type, function, None)),
        );
        Ok(all)
    }

    /// Puts a function in the place of one that there is, or a new one; `property` is the type of the property of
    /// its name, where that is not declared. It is checked before anything changes.
    pub fn put_function(
        &self,
        name: &str,
        function: &str,
        twin_type: Option<&str>,
        putting: Putting,
        property: Option<String>,
    ) -> Result<FunctionPut, ServiceError> {
        self.change_function(name, function, twin_type, |held, twin_type| {
            let text = putting.text(held, twin_type, function)?;
            let source = Source::Put { text, property };
            let functions = held.record.functions.clone();
            Ok(functions.with(twin_type, function, source, SystemClock.wall_us()))
        })
    }

    /// Has a version of a function run beside the one that runs, for some percent of the twins: what it gives is
    /// compared. It takes the place of one that did so before.
    pub fn try_function(
        &self,
        name: &str,
        function: &str,
        twin_type: Option<&str>,
        putting: Putting,
        percent: f64,
    ) -> Result<FunctionPut, ServiceError> {
        self.change_function(name, function, twin_type, |held, twin_type| {
            if !held.definition.types[twin_type].augmentation.contains_key(function) {
                let message = format!(
                    "`{twin_type}` has no function `{function}` that another could be compared with; put it"
                );
                return Err(ServiceError::NotNow(message));
            }
            let text = putting.text(held, twin_type, function)?;
            let functions = held.record.functions.clone();
            Ok(functions.with_trial(twin_type, function, text, percent, SystemClock.wall_us()))
        })
    }

    /// Has the version that runs beside a function take its place.
    pub fn promote_function(
        &self,
        name: &str,
        function: &str,
        twin_type: Option<&str>,
    ) -> Result<FunctionPut, ServiceError> {
        self.change_version(name, function, twin_type, FunctionVersions::promoted, no_trial)
    }

    /// Lets go of the version that runs beside a function.
    pub fn drop_trial(
        &self,
        name: &str,
        function: &str,
        twin_type: Option<&str>,
    ) -> Result<FunctionPut, ServiceError> {
        self.change_version(name, function, twin_type, FunctionVersions::dropped, no_trial)
    }

    /// Goes back to the version of a function before the one that runs.
    pub fn roll_back_function(
        &self,
        name: &str,
        function: &str,
        twin_type: Option<&str>,
    ) -> Result<FunctionPut, ServiceError> {
        self.change_version(name, function, twin_type, FunctionVersions::rolled_back, |function| {
            format!("`{function}` has no version before the one that runs")
        })
    }

    /// Goes over to another of the versions that there are; `otherwise` says why there is none.
    fn change_version(
        &self,
        name: &str,
        function: &str,
        twin_type: Option<&str>,
        change: fn(FunctionVersions, &str, &str) -> Option<FunctionVersions>,
        otherwise: fn(&str) -> String,
    ) -> Result<FunctionPut, ServiceError> {
        self.change_function(name, function, twin_type, |held, twin_type| {
            let functions = change(held.record.functions.clone(), twin_type, function);
            functions.ok_or_else(|| ServiceError::NotNow(otherwise(function)))
        })
    }

    /// Takes a function away. Its property keeps its last value.
    pub fn remove_function(
        &self,
        name: &str,
        function: &str,
        twin_type: Option<&str>,
    ) -> Result<FunctionPut, ServiceError> {
        self.change_function(name, function, twin_type, |held, twin_type| {
            let is_there = held.definition.types[twin_type].augmentation.contains_key(function);
            if !is_there {
                return Err(ServiceError::NotNow(format!("`{twin_type}` has no function `{function}`")));
            }
            let functions = held.record.functions.clone();
            Ok(functions.with(twin_type, function, Source::Removed, SystemClock.wall_us()))
        })
    }

    fn change_function(
        &self,
        name: &str,
        function: &str,
        twin_type: Option<&str>,
        change: impl FnOnce(&Held, &str) -> Result<FunctionVersions, ServiceError>,
    ) -> Result<FunctionPut, ServiceError> {
        let mut jobs = self.jobs();
        let Some(held) = jobs.get_mut(name) else { return Err(ServiceError::Unknown(name.to_owned())) };
        let before = job_of(&held.record)?;
        let twin_type = functions::type_of(&before, function, twin_type).map_err(|message| {
            let help = "say of which type, with --type";
            ServiceError::Invalid(functions::finding(function, "", message, help))
        })?;
        let record = held.record.with_functions(change(held, &twin_type)?);
        let version = record.functions.of(&twin_type, function).map(|(active, _)| active);
        let job = job_of(&record)?;
        let is_there = job.definition.types[&twin_type].augmentation.contains_key(function);
        let shadow = record.functions.trial_of(&twin_type, function).map(|trial| trial.version);
        let put = |how| FunctionPut {
            twin_type: twin_type.clone(),
            function: function.to_owned(),
            version: version.filter(|_| is_there),
            shadow,
            how,
        };
        let types = job.plan().types;
        let put = match &held.run {
            Some(run) if run.can_change_functions(&types) => {
                let (asker, metrics) = (run.asker(), run.metrics());
                self.change_live(held, record)?;
                // What is asked after the change is answered after it, by all workers. A large fleet would take
                // long to answer, and hears of the change no later.
                if metrics.twins.load(Ordering::Relaxed) <= SURVEYED_MAX {
                    asker.ask_within(Question::Survey, super::ENDING_MAX);
                }
                put(How::Live)
            }
            _ => {
                self.replace(&mut jobs, record)?;
                put(How::Checkpoint)
            }
        };
        info!(job = name, function, version, how = ?put.how, "function changed");
        Ok(put)
    }
}

impl FunctionVersion {
    fn of(version: &super::Version) -> Self {
        let source = match version.source {
            Source::Definition => "definition",
            Source::Put { .. } if version.is_trial => "shadow",
            Source::Put { .. } => "put",
            Source::Removed => "removed",
        };
        Self { version: version.version, at: crate::summary::instant(version.at_us), source }
    }
}
