//! Functions in Python, in processes of their own that live on from call to call.
//!
//! ```text
//!   call ─► waiting, bounded ─► slot: a thread with a process ── frame of a batch ──► driver.py ─► f(state)
//!             │ full: refused     │    ▲                                                 │
//!             │                   │    '────────── a record for each call, in order ◄────'
//!   inbox ◄───┴─── answer ◄───────'
//! ```
//! The user writes a module with `def f(state): return {...}`, or with any one public function. `state` is a
//! dict of the call's `properties`, `state["temperature"]`, and what else the call says are its attributes,
//! `state.twin`; what is returned is a dict that can be written as JSON, or nothing.
//!
//! - The first call starts a process, which is stopped when nobody has called for `idle`. Loading the module is
//!   not the calls' time, though calls whose deadline passes meanwhile are failed.
//! - With more than one of `processes`, calls go to whichever is free, so two calls of one twin may overtake
//!   each other.
//! - Each call of a batch has an outcome of its own: an exception is [`Error`](FailureKind::Error) with the
//!   last line of its traceback and the line in the user's source. A process that ends, runs out of memory, or
//!   runs on after the deadline of the call that it works on is replaced; that call is failed, those behind it
//!   are made again, so a function must bear to be called twice.
//! - What the user's code prints goes to the log, a few lines a second. It sees an empty standard input, the
//!   variables PATH, HOME, LANG, PYTHONPATH and VIRTUAL_ENV, the folder in which the engine was started, and
//!   PYTHONHASHSEED=0, so that sets have the same order in each process. It is not shut in: it may read
//!   files and open connections as the engine may.
//! - Processes that end too often are not replaced for some seconds (`Status::is_open`).
//!
//! Measured by `examples/python_cost.rs`.

mod frame;
mod output;
mod process;
mod restarts;
mod shared;
mod slot;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::Deserialize;

#[cfg(doc)]
use super::FailureKind;
use super::{Call, FunctionRunner, Meter, Status};
use process::Process;
use shared::Shared;

/// How long the module may take to load when it is checked.
const CHECK_MAX: Duration = Duration::from_secs(20);
/// Most bytes of a source.
const SOURCE_BYTES_MAX: usize = 1 << 20;

/// How a function in Python is run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PythonSettings {
    /// The interpreter: a name that is looked for in PATH, or a path, such as that of a virtual environment,
    /// `/opt/venv/bin/python`. `python3` by default; 3.9 or newer.
    pub interpreter: String,
    /// Most processes that work side by side, 1 to 64; 1 by default.
    pub processes: u8,
    /// Most calls that a process is given at once; 256 by default.
    pub batch: u32,
    /// Most memory of a process, as the system counts its data (RLIMIT_DATA); `512MB` by default.
    #[schemars(with = "String", extend("format" = "size"))]
    pub memory: ByteSize,
    /// How long a process is kept that nobody calls; `60s` by default.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "time"))]
    pub idle: Duration,
    /// Most bytes of an answer; `1MB` by default.
    #[schemars(with = "String", extend("format" = "size"))]
    pub output_max: ByteSize,
    /// How much may wait for a process; `16MB` by default. What comes then is refused.
    #[schemars(with = "String", extend("format" = "size"))]
    pub queue: ByteSize,
}

impl Default for PythonSettings {
    fn default() -> Self {
        Self {
            interpreter: "python3".to_owned(),
            processes: 1,
            batch: 256,
            memory: ByteSize::mb(512),
            idle: Duration::from_secs(60),
            output_max: ByteSize::mb(1),
            queue: ByteSize::mb(16),
        }
    }
}

impl PythonSettings {
    /// Says what cannot work, and what to write instead.
    pub fn check(&self) -> Result<(), String> {
        let no = |text: String| Err(text);
        if self.interpreter.trim().is_empty() {
            return no("interpreter: it is empty; write python3, or the path of an interpreter".to_owned());
        }
        if !(1..=64).contains(&self.processes) {
            return no(format!("processes: {} is not possible; write 1 to 64", self.processes));
        }
        if !(1..=65_536).contains(&self.batch) {
            return no(format!("batch: {} is not possible; write 1 to 65536", self.batch));
        }
        if self.memory < ByteSize::mb(32) {
            return no(format!(
                "memory: {} is too little for Python; write 32MB or more",
                self.memory.display().si()
            ));
        }
        if !(1..=64_000_000).contains(&self.output_max.as_u64()) {
            return no(format!(
                "output_max: {} is not possible; write 1B to 64MB",
                self.output_max.display().si()
            ));
        }
        Ok(())
    }
}

/// Why a function cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PythonError {
    /// A setting that cannot work.
    #[error("{0}")]
    Settings(String),
    /// The interpreter cannot be run.
    #[error(
        "cannot run `{interpreter}`: {error}; install Python 3.9 or newer, or say with `interpreter` where it is"
    )]
    Interpreter {
        /// As the settings have it.
        interpreter: String,
        /// What the system said.
        error: io::Error,
    },
    /// The system has no process or descriptor to give.
    #[error(
        "cannot start a process: {0}; raise the limits of processes and open files (ulimit -u, ulimit -n)"
    )]
    System(io::Error),
    /// The source is not what it must be.
    #[error("{}{message}", place(*line, *column))]
    Source {
        /// What is wrong, and what to do.
        message: String,
        /// Line in the source, from 1.
        line: Option<u32>,
        /// Column, from 1; of syntax errors.
        column: Option<u32>,
    },
    /// The module does not come to its end.
    #[error("the module is not loaded after {0:?}; leave what takes long to the function, or to a thread")]
    Slow(Duration),
    /// The process died while it loaded the module.
    #[error("the process that should load the module is gone: {0}")]
    Died(String),
}

fn place(line: Option<u32>, column: Option<u32>) -> String {
    match (line, column) {
        (Some(line), Some(column)) => format!("line {line}, column {column}: "),
        (Some(line), None) => format!("line {line}: "),
        (None, _) => String::new(),
    }
}

impl PythonError {
    fn interpreter(settings: &PythonSettings, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => Self::System(error),
            _ => Self::Interpreter { interpreter: settings.interpreter.clone(), error },
        }
    }
}

/// A function, called in processes that come and go.
pub struct PythonFunction {
    shared: Arc<Shared>,
}

/// Makes a function of a source. No process is started before it is called; `check` says whether it will work.
/// The name is for logs and tracebacks.
pub fn start(name: &str, source: &str, settings: PythonSettings) -> Result<Arc<PythonFunction>, PythonError> {
    check_known(source, &settings)?;
    Ok(Arc::new(PythonFunction { shared: Shared::new(name, source, &settings) }))
}

/// Loads a source once in a process, and says what is wrong with it: where its syntax is, what it imports and is
/// not there, that it has no function. Takes as long as the module's own code does, 20 s at most.
pub fn check(source: &str, settings: &PythonSettings) -> Result<(), PythonError> {
    check_within(CHECK_MAX, source, settings)
}

fn check_within(time_max: Duration, source: &str, settings: &PythonSettings) -> Result<(), PythonError> {
    check_known(source, settings)?;
    let mut process = Process::start("check", source, settings)?;
    let began = Instant::now();
    loop {
        let left = time_max.saturating_sub(began.elapsed());
        // Looked at now and then, as what it prints must be taken.
        if process.is_ready(left.min(Duration::from_millis(50)), &settings.interpreter)? {
            return Ok(());
        }
        if left.is_zero() {
            return Err(PythonError::Slow(time_max));
        }
    }
}

fn check_known(source: &str, settings: &PythonSettings) -> Result<(), PythonError> {
    settings.check().map_err(PythonError::Settings)?;
    if source.len() > SOURCE_BYTES_MAX {
        let message = format!("it has {} bytes; write 1 MB at most, and import the rest", source.len());
        return Err(PythonError::Source { message, line: None, column: None });
    }
    Ok(())
}

impl PythonFunction {
    /// Stops the processes that nobody has called for `idle` at this instant. They do so by themselves, too.
    pub fn stop_unused(&self, now: Instant) {
        self.shared.no_earlier_than(now);
    }
}

impl FunctionRunner for PythonFunction {
    fn call(&self, call: Call) -> Result<(), Call> {
        self.shared.call(call, Instant::now())
    }

    fn status(&self) -> Status {
        self.shared.status(Instant::now())
    }

    fn meter(&self) -> Option<&Meter> {
        Some(&self.shared.meter)
    }
}

impl Drop for PythonFunction {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

#[cfg(test)]
mod tests;
