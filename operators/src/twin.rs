//! A twin: its type, compiled, and its record, in which each step owns its named part.

use crate::entanglement::{Entanglement, Terms};
use crate::functions::{Augmentation, Functions};
use crate::handler::Handled;
use crate::life_cycle::LifeCycle;
use crate::model::Model;
use crate::shadowing::{ClockLimits, Shadow};
use crate::waiting::Waiting;

/// A type of twin, compiled: everything that all twins of the type share.
#[derive(Clone, Debug)]
pub struct TwinType {
    /// Its name in the job.
    pub name: String,
    /// Properties and events.
    pub model: Model,
    /// What of a device time is believed (rule 3.3).
    pub clock: ClockLimits,
    /// Augmentation functions, in the order of the job.
    pub functions: Functions,
    /// Parameters of entanglement and life cycle.
    pub terms: Terms,
    /// Numbers of the sources that its streams come from, each once.
    pub sources: Vec<u16>,
    /// For each stream, its name and the number of its source.
    pub streams: Vec<StreamOf>,
    /// Where its presence comes from; its number is the one behind those of the streams.
    pub presence: Option<StreamOf>,
}

impl TwinType {
    /// The terms of a twin of this type.
    pub fn terms_of(&self, twin: &Twin) -> &Terms {
        self.terms.of_class(twin.class)
    }

    /// Whether its functions see what the roster says of a twin.
    pub fn sees_facts(&self) -> bool {
        !self.model.attributes.is_empty() && self.functions.see_facts()
    }

    /// The stream with this number, presence included.
    pub fn stream(&self, number: u16) -> Option<&StreamOf> {
        let number = usize::from(number);
        self.streams.get(number).or(self.presence.as_ref().filter(|_| number == self.streams.len()))
    }
}

/// What is known of a stream after decoding.
#[derive(Clone, Debug)]
pub struct StreamOf {
    /// Its name in the job.
    pub name: String,
    /// Number of its source.
    pub source: u16,
}

/// The live record of one twin. One owner: the bin that it stands in.
#[derive(Clone, Debug)]
pub struct Twin {
    /// Number of its type.
    pub twin_type: u16,
    /// Which terms of its type are its own ([`Terms::of_class`]); the roster says so at each start.
    pub class: u8,
    /// Step 2: numbers updates, holds the properties.
    pub shadow: Shadow,
    /// Step 3: what functions remember.
    pub augmentation: Augmentation,
    /// Step 4a: observations.
    pub entanglement: Entanglement,
    /// Step 4b: where in its life it is.
    pub life_cycle: LifeCycle,
    /// Step 4c: revision and times of the consolidated state.
    pub handled: Handled,
    /// Step 3, outside: updates that wait for answers.
    pub waiting: Waiting,
}

impl Twin {
    /// A twin that is known and was not heard yet.
    pub fn new(twin_type: u16, definition: &TwinType) -> Self {
        Self {
            twin_type,
            class: 0,
            shadow: Shadow::new(&definition.model),
            augmentation: Augmentation::new(&definition.functions),
            entanglement: Entanglement::default(),
            life_cycle: LifeCycle::default(),
            handled: Handled::default(),
            waiting: Waiting::default(),
        }
    }

    /// Reads a word of each part that an update will touch outside of the record, and answers
    /// something made of them. For a caller that wants them in the cache before it needs them.
    pub fn warm(&self) -> u64 {
        self.shadow.warm() ^ self.augmentation.warm() ^ self.entanglement.warm()
    }
}
