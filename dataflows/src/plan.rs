//! What a job is to the engine: types, sources, sinks, listeners, archive, limits. `jobs` makes it
//! from a user's file; nothing in it is text that still has to be understood.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use connectors::archive::ArchiveSettings;
use connectors::feed::{Gate, Seen};
use connectors::function::FunctionRunner;
use connectors::outbox::OutboxHandle;
use connectors::sink::{SinkHandle, SinkSetup};
use connectors::source::{SourceHandle, SourceSetup};
use operators::decode::Decoder;
use operators::digital::{DigitalKind, TopicTemplate};
use operators::roster::Roster;
use operators::twin::TwinType;

use crate::quota::{Overload, Rates};

/// A job, ready to run.
pub struct Plan {
    /// Its name.
    pub job: String,
    /// Types of twins; their index is their number.
    pub types: Vec<TwinType>,
    /// Functions outside, by type, in the order of [`Functions::outside`](operators::functions::Functions::outside).
    pub functions: Vec<Vec<FunctionPlan>>,
    /// Sources; their index is their number.
    pub sources: Vec<SourcePlan>,
    /// Sinks; their index is their number.
    pub sinks: Vec<SinkPlan>,
    /// Who listens to digital events.
    pub listeners: Vec<ListenerPlan>,
    /// Where history goes.
    pub archive: Option<ArchivePlan>,
    /// How often its state is kept, and where.
    pub checkpoint: CheckpointPlan,
    /// Whose clock rules.
    pub time: TimeMode,
    /// Twins that are there before they speak.
    pub roster: Arc<Roster>,
    /// What the job may take.
    pub limits: Limits,
}

/// Whose clock rules (rules 2.2, 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeMode {
    /// The wall clock; records are processed as they come.
    Live,
    /// The records' own arrival; they are processed in its order.
    Recorded,
}

/// A function that is called outside.
pub struct FunctionPlan {
    /// Its name in the job.
    pub name: String,
    /// Opens what runs it, in each process.
    pub open: OpenFunction,
}

/// Opens what runs a function.
pub type OpenFunction =
    Box<dyn FnOnce() -> Result<Arc<dyn FunctionRunner>, Box<dyn Error + Send + Sync>> + Send>;

/// A source of raw messages.
pub struct SourcePlan {
    /// Name of its connection.
    pub name: String,
    /// Reads its messages.
    pub decoder: Decoder,
    /// Whether every process takes a share of it; else it belongs to process 0 (rule 7.9).
    pub is_shared: bool,
    /// Opens it, or its share.
    pub open: OpenSource,
}

/// Opens a source.
pub type OpenSource =
    Box<dyn FnOnce(SourceSetup) -> Result<SourceHandle, Box<dyn Error + Send + Sync>> + Send>;

/// A sink of digital events.
pub struct SinkPlan {
    /// Name of its connection.
    pub name: String,
    /// Whether its messages have a key, the twin's id.
    pub is_keyed: bool,
    /// Opens it, in each process (rule 7.9).
    pub open: OpenSink,
}

/// Opens a sink.
pub type OpenSink = Box<dyn FnOnce(SinkSetup) -> Result<Sink, Box<dyn Error + Send + Sync>> + Send>;

/// A sink that runs.
pub enum Sink {
    /// Takes digital events as they come, and publishes them at least once.
    Direct(SinkHandle),
    /// Sends what a checkpoint holds, exactly once (rule 7.3).
    Outbox(OutboxHandle),
}

impl From<SinkHandle> for Sink {
    fn from(handle: SinkHandle) -> Self {
        Sink::Direct(handle)
    }
}

impl From<OutboxHandle> for Sink {
    fn from(handle: OutboxHandle) -> Self {
        Sink::Outbox(handle)
    }
}

/// One listener to digital events.
#[derive(Clone, Debug)]
pub struct ListenerPlan {
    /// Number of the sink.
    pub sink: usize,
    /// Where events go.
    pub topic: TopicTemplate,
    /// Which kinds.
    pub kinds: Vec<DigitalKind>,
    /// Whether the broker keeps the last; where not said, as the kind asks.
    pub retain: Option<bool>,
    /// Which are wanted now, with the kinds as classes; all are where there is no gate.
    pub gate: Option<Arc<Gate>>,
}

impl ListenerPlan {
    /// Whether it wants events of this kind and twin now. `seen` is what was wanted when this was last asked.
    pub fn wants(&self, kind: DigitalKind, twin: &str, seen: &mut Seen) -> bool {
        let is_wanted = |gate: &Arc<Gate>| gate.look(seen).wants(kind as usize, twin.as_bytes());
        self.kinds.contains(&kind) && self.gate.as_ref().is_none_or(is_wanted)
    }

    /// Whether a broker keeps the last event of a kind.
    pub fn retains(&self, kind: DigitalKind) -> bool {
        self.retain.unwrap_or_else(|| kind.is_retained() && self.topic.names_twin())
    }
}

/// Where history goes.
#[derive(Clone, Debug)]
pub struct ArchivePlan {
    /// Folder and rolls.
    pub settings: ArchiveSettings,
    /// Whether physical events are kept as they came.
    pub physical: bool,
}

/// How often state is kept, and where (rule 7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointPlan {
    /// From the begin of one checkpoint to the next; only at the end of the run where there is none.
    pub interval: Option<Duration>,
    /// How many are kept.
    pub retain: usize,
    /// Where they are kept, as a path or URL; in the data folder where it says nothing.
    pub store: Option<String>,
}

impl Default for CheckpointPlan {
    fn default() -> Self {
        Self { interval: Some(Duration::from_secs(10)), retain: 3, store: None }
    }
}

/// What a job may take (rule 8.2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Most twins.
    pub twins_max: u64,
    /// Most dead letters a second that are kept; more are counted.
    pub dead_letters_per_second_max: u32,
    /// Most bytes of one lane of a source that are under way in the engine (rule 7.5).
    pub in_flight_bytes_max: usize,
    /// Most that is worked off a second.
    pub rates: Rates,
    /// What becomes of input that is more.
    pub overload: Overload,
    /// How much of a lane is worked off in one go, beside other jobs.
    pub priority: Priority,
}

/// How much a job has worked off when it is its turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// A quarter.
    Low,
    /// As much as others.
    #[default]
    Normal,
    /// Four times as much.
    High,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            twins_max: 10_000_000,
            dead_letters_per_second_max: 1_000,
            in_flight_bytes_max: 64 << 20,
            rates: Rates::default(),
            overload: Overload::default(),
            priority: Priority::default(),
        }
    }
}
