//! What workers tell each other beside events. It travels through the dataflow like events do, so
//! that one process or several are the same (rule 7.9).

use operators::entanglement::Terms;
use serde::{Deserialize, Serialize};

use crate::ask::Question;

/// News for every worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Control {
    /// A source cannot be reached any more: one incident.
    SourceLost {
        /// Number of the source.
        source: u16,
        /// When that was noticed, microseconds since 1970.
        at_us: i64,
        /// Number of the incident, unique in the job's generation.
        incident: u64,
    },
    /// A source is back.
    SourceRestored {
        /// Number of the source.
        source: u16,
        /// When that was noticed, microseconds since 1970.
        at_us: i64,
    },
    /// The question with this number is to be answered, by so many workers.
    Ask(u64, u32, Question),
    /// All twins end: they are retired, or dismissed.
    EndTwins {
        /// When, microseconds since 1970.
        at_us: i64,
        /// Whether they are let go of.
        dismiss: bool,
    },
    /// One twin ends, on the worker that owns it.
    EndTwin {
        /// The twin.
        id: String,
        /// When, microseconds since 1970.
        at_us: i64,
        /// Whether it is let go of.
        dismiss: bool,
    },
    /// The newest roster of each process holds.
    Roster,
    /// The terms of each type from now on. What was counted under the old ones stays.
    Terms {
        /// Version of the job's definition that they are of.
        definition: u64,
        /// By type.
        terms: Vec<Terms>,
    },
    /// The functions of each type from now on: those that the process has put there under this number.
    Functions(u64),
    /// The run is to end: sources stop, what is under way is finished.
    Stop,
    /// A worker's lanes have ended; `newest_us` is the newest arrival of its recorded input.
    Drained {
        /// Newest arrival, microseconds since 1970.
        newest_us: Option<i64>,
    },
}

/// A checkpoint cuts the run here (rule 7.6): what came before is in it, what comes after is not.
/// Worker 0 commands it, every worker obeys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boundary {
    /// Number of the checkpoint in its generation, from 1.
    pub number: u64,
    /// Recorded input is cut at an instant of its arrival: what arrived before it is in the
    /// checkpoint. Live input is cut where the sources say.
    pub at_us: Option<i64>,
    /// The run ends here; what comes after is left to the next one.
    pub last: bool,
}

/// News on its way to one worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Addressed<T> {
    /// Number of the worker.
    pub to: u32,
    /// The news.
    pub what: T,
}

impl<T> Addressed<T> {
    /// What the exchange goes by.
    pub(crate) fn address(&self) -> u64 {
        u64::from(self.to)
    }
}

/// What a process asks of its first worker.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A question, with its number.
    Ask(u64, Question),
    /// See [`Control::EndTwins`].
    EndTwins {
        /// When, microseconds since 1970.
        at_us: i64,
        /// Whether they are let go of.
        dismiss: bool,
    },
    /// See [`Control::EndTwin`].
    EndTwin {
        /// The twin.
        id: String,
        /// When, microseconds since 1970.
        at_us: i64,
        /// Whether it is let go of.
        dismiss: bool,
    },
    /// See [`Control::Roster`].
    Roster,
    /// See [`Control::Terms`].
    Terms {
        /// Version of the job's definition that they are of.
        definition: u64,
        /// By type.
        terms: Vec<Terms>,
    },
    /// See [`Control::Functions`].
    Functions(u64),
    /// See [`Control::Stop`].
    Stop,
}
