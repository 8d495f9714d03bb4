//! What a job says of a function beside its kind: what it reads and writes, and what becomes of an update
//! whose answer is late or none.

use std::time::Duration;

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{FunctionSettings, HostHandle};

/// Most updates of a twin that may wait for one function, whatever a job says.
pub const WAITING_MAX: usize = 1_024;

/// Most bytes that a function may keep of a twin, whatever a job says.
pub const KEEPS_MAX: usize = 64 << 10;

/// Keys of a function that stand beside its kind: `{http: {url: ...}, of: [temperature], timeout: 2s}`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CallSettings {
    /// Properties on whose updates it runs; all that streams map where none is named.
    pub of: Vec<String>,
    /// Properties and events that it writes; that of its own name where none is named.
    pub yields: Vec<String>,
    /// How long an answer is waited for.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "time"))]
    pub timeout: Duration,
    /// What becomes of an update while its answer is not there.
    pub on_late: OnLate,
    /// What becomes of an update that the function gives no good answer to.
    pub on_error: OnError,
    /// Most updates of one twin that wait for it. One more, and the oldest goes on without its answer.
    pub waiting: usize,
    /// Most bytes of what it keeps of a twin from one update to the next; it keeps nothing where none is said.
    #[schemars(with = "Option<String>", extend("format" = "size"))]
    pub keeps: Option<ByteSize>,
    /// Whether one that runs in process leaves the worker of its twin, and is called on threads beside it.
    pub spread: bool,
}

impl Default for CallSettings {
    fn default() -> Self {
        Self {
            of: Vec::new(),
            yields: Vec::new(),
            timeout: Duration::from_secs(10),
            on_late: OnLate::default(),
            on_error: OnError::default(),
            waiting: 64,
            keeps: None,
            spread: false,
        }
    }
}

/// What becomes of an update while its answer is not there (rule 6.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnLate {
    /// It waits, and later updates of the twin behind it.
    #[default]
    Wait,
    /// It goes on with what the function gave before; the answer makes a state of its own when it comes.
    Previous,
    /// The same, and while an answer is awaited, later updates of the twin do not call.
    Skip,
}

/// What becomes of an update that the function gives no good answer to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// What the function writes stays as it was.
    #[default]
    Previous,
    /// What the function writes has no value until it gives one again.
    Skip,
    /// As `previous`, and the failure is kept as a dead letter.
    DeadLetter,
}

/// A function of `augmentation`, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionSpec {
    /// What it does, or where it is called.
    pub kind: FunctionKind,
    /// What stands beside that.
    pub call: CallSettings,
    /// Which of its versions it is, from 1.
    pub version: u32,
    /// Another version that runs beside it.
    pub trial: Option<Box<TrialSpec>>,
}

/// A version of a function that runs beside the one in force, for some twins: what it gives is compared, and
/// forgotten.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialSpec {
    /// Percent of the twins, above 0 and at most 100.
    pub percent: f64,
    /// The function.
    pub function: FunctionSpec,
}

/// What a function does, or where it is called.
#[derive(Clone, Debug, PartialEq)]
pub enum FunctionKind {
    /// It is part of the twin's own step.
    Inside(FunctionSettings),
    /// It is a user's code, and part of the twin's own step.
    Hosted(HostHandle),
    /// It is called, and answers some time. The word of its kind in the job file.
    Outside(&'static str),
}

impl From<FunctionSettings> for FunctionSpec {
    fn from(settings: FunctionSettings) -> Self {
        Self { kind: FunctionKind::Inside(settings), call: CallSettings::default(), version: 1, trial: None }
    }
}
