//! What restored memories must be like, and which of them a changed job may go on with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Augmentation, Function, Functions, Memory, Target, samples::SAMPLES_MAX};
use crate::model::Model;
use crate::snapshot::{SnapshotError, require};

/// What a function is to the memories of its twins: two functions of one target whose layouts are the
/// same can go on with each other's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionLayout {
    /// The property or event that it writes.
    pub target: String,
    /// Its kind by the word of the job file.
    pub kind: String,
    /// The property that it computes from.
    pub of: String,
    /// What it remembers; none where nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryKind>,
    /// Those of its settings that say what its memory means.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, f64>,
}

/// What a function can remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryKind {
    /// The last values with their times.
    Samples,
    /// An average, and the time of its last value.
    Average,
    /// The last value and its time.
    Last,
    /// Whether a limit is crossed.
    Raised,
    /// What a user's function keeps, as JSON.
    Kept,
}

/// Where a memory comes from when the functions have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemoryOrigin {
    /// It is the one with this number.
    Kept(usize),
    /// Nothing is remembered yet.
    Begun(MemoryKind),
}

impl Functions {
    /// What the memories of twins rely on, in the order of the functions.
    pub(crate) fn layouts(&self, model: &Model) -> Vec<FunctionLayout> {
        let layout = |entry: &super::Entry| {
            let target = match entry.target {
                Target::Property(property) => &model.properties[usize::from(property)].name,
                Target::Event(event) => &model.events[usize::from(event)],
            };
            let settings = entry.function.settings().into_iter();
            FunctionLayout {
                target: target.clone(),
                kind: entry.function.word().to_owned(),
                of: model.properties[usize::from(entry.input)].name.clone(),
                memory: entry.function.memory().as_ref().map(Memory::kind),
                settings: settings.map(|(key, value)| (key.to_owned(), value)).collect(),
            }
        };
        let kept = self.yields().filter(|one| one.kept.is_some()).map(|one| FunctionLayout {
            target: self.names[usize::from(one.function)].to_string(),
            kind: "kept".to_owned(),
            of: String::new(),
            memory: Some(MemoryKind::Kept),
            settings: BTreeMap::new(),
        });
        self.all.iter().map(layout).chain(kept).collect()
    }

    /// Names of the functions outside, by which calls in flight are known.
    pub(crate) fn called_names(&self) -> Vec<String> {
        self.outside.iter().map(|one| one.name.to_string()).collect()
    }
}

impl Function {
    fn word(&self) -> &'static str {
        match self {
            Function::Linear(_) => "linear",
            Function::Mean(_) => "mean",
            Function::Ewma(_) => "ewma",
            Function::Rate(_) => "rate",
            Function::Threshold(_) => "threshold",
            Function::Outlier(_) => "outlier",
        }
    }

    /// The settings without which the memory cannot be understood. Those that only say what is made of
    /// it (the unit of a rate, the sigma of an outlier, where a threshold clears) may change.
    fn settings(&self) -> Vec<(&'static str, f64)> {
        let of_samples = |bounds: &super::samples::Bounds| {
            vec![("window_us", bounds.window_us as f64), ("samples_max", bounds.samples_max as f64)]
        };
        match self {
            Function::Linear(_) | Function::Rate(_) => Vec::new(),
            Function::Mean(mean) => of_samples(&mean.bounds),
            Function::Outlier(outlier) => of_samples(&outlier.bounds),
            Function::Ewma(ewma) => vec![("half_life_us", ewma.half_life_us)],
            Function::Threshold(threshold) if threshold.sign > 0.0 => vec![("above", threshold.limit)],
            Function::Threshold(threshold) => vec![("below", -threshold.limit)],
        }
    }
}

impl Memory {
    fn kind(&self) -> MemoryKind {
        match self {
            Memory::Samples(_) => MemoryKind::Samples,
            Memory::Ewma(_) => MemoryKind::Average,
            Memory::Rate(_) => MemoryKind::Last,
            Memory::Threshold(_) => MemoryKind::Raised,
            Memory::Kept(_) => MemoryKind::Kept,
        }
    }

    fn new(kind: MemoryKind) -> Self {
        match kind {
            MemoryKind::Samples => Memory::Samples(Default::default()),
            MemoryKind::Average => Memory::Ewma(Default::default()),
            MemoryKind::Last => Memory::Rate(Default::default()),
            MemoryKind::Raised => Memory::Threshold(Default::default()),
            MemoryKind::Kept => Memory::Kept(String::new()),
        }
    }
}

impl Augmentation {
    /// Checks that what was decoded are the memories of functions that remember this.
    pub(crate) fn check(&self, kinds: impl Iterator<Item = MemoryKind>) -> Result<(), SnapshotError> {
        let memories = self.memories.as_deref().map_or(&[][..], Vec::as_slice);
        require(memories.iter().map(Memory::kind).eq(kinds), "it remembers what its functions do not")?;
        memories.iter().try_for_each(|memory| match memory {
            Memory::Samples(samples) => {
                require(samples.values().len() <= SAMPLES_MAX, "a function remembers too many values")
            }
            Memory::Kept(text) => super::kept::check(text),
            Memory::Ewma(_) | Memory::Rate(_) | Memory::Threshold(_) => Ok(()),
        })
    }

    /// The same twin's memories under other functions.
    pub(crate) fn adapt(self, origins: &[MemoryOrigin]) -> Self {
        if origins.is_empty() {
            return Self::default();
        }
        let mut before: Vec<Option<Memory>> =
            self.memories.map(|memories| *memories).unwrap_or_default().into_iter().map(Some).collect();
        let memory = |origin: &MemoryOrigin| match *origin {
            MemoryOrigin::Kept(from) => before.get_mut(from).and_then(Option::take),
            MemoryOrigin::Begun(kind) => Some(Memory::new(kind)),
        };
        Self { memories: Some(Box::new(origins.iter().filter_map(memory).collect())) }
    }
}
