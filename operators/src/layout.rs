//! What of a job the records of its twins rely on. A record says neither names nor kinds: it has the
//! second property, the memory of the third function, an observation of the first stream. A checkpoint
//! keeps this beside the records, as JSON, so that they are understood under a job that has changed:
//! see [`Adaptation`](crate::adaptation::Adaptation).

use serde::{Deserialize, Serialize};

use crate::entanglement::WINDOW_US;
pub use crate::functions::{FunctionLayout, MemoryKind};
use crate::model::{Kind, KindName, Property};
use crate::shadowing::restore::Bits;
use crate::snapshot::{SnapshotError, VERSION, require};
use crate::twin::{Twin, TwinType};
use crate::waiting::Sizes;

/// The types of a job, as far as the records of its twins rely on them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Version of the records.
    #[serde(default = "first_version", skip_serializing_if = "is_first_version")]
    pub records: u16,
    /// By their numbers.
    pub types: Vec<TypeLayout>,
}

/// What the record of a twin relies on of its type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TypeLayout {
    /// Its name in the job.
    pub name: String,
    /// By their numbers.
    pub properties: Vec<PropertyLayout>,
    /// Names, by their numbers.
    pub events: Vec<String>,
    /// In the order of their memories.
    pub functions: Vec<FunctionLayout>,
    /// Names of the functions outside, by their places.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub called: Vec<String>,
    /// Names, by their numbers.
    pub streams: Vec<String>,
    /// The window of entanglement, on which the times of observations depend.
    pub window_us: i64,
    /// Names of profiles, by their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
}

/// What the value of a property is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PropertyLayout {
    /// Its name.
    pub name: String,
    /// Kind of its values, by the word of the job file.
    #[serde(rename = "type")]
    pub kind: KindName,
    /// The words of an enum, by their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// Kind of the elements of an array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<KindName>,
}

/// Layouts of version 1 did not say it.
fn first_version() -> u16 {
    1
}

fn is_first_version(version: &u16) -> bool {
    *version == first_version()
}

impl Layout {
    /// The layout of a job's types.
    pub fn of(types: &[TwinType]) -> Self {
        Self { records: VERSION, types: types.iter().map(TypeLayout::of).collect() }
    }

    /// Checks that a decoded twin is one that this layout's job could have written: with any other, a
    /// later update or tick might not end, or end in a panic.
    pub fn check(&self, twin: &Twin) -> Result<(), SnapshotError> {
        let of_type = self.types.get(usize::from(twin.twin_type));
        of_type.ok_or(SnapshotError::Contradiction("its type is not in the job"))?.check(twin)
    }
}

impl TypeLayout {
    fn of(definition: &TwinType) -> Self {
        Self {
            name: definition.name.clone(),
            properties: definition.model.properties.iter().map(PropertyLayout::of).collect(),
            events: definition.model.events.clone(),
            functions: definition.functions.layouts(&definition.model),
            called: definition.functions.called_names(),
            streams: definition.streams.iter().map(|stream| stream.name.clone()).collect(),
            window_us: definition.terms.window_us,
            profiles: definition.terms.profiles.iter().map(|profile| profile.name.clone()).collect(),
        }
    }

    fn check(&self, twin: &Twin) -> Result<(), SnapshotError> {
        require(WINDOW_US.contains(&self.window_us), "its type has no window")?;
        twin.shadow.check(self.properties.iter().map(PropertyLayout::bits))?;
        twin.augmentation.check(self.functions.iter().filter_map(|function| function.memory))?;
        twin.waiting.check(self.sizes())?;
        twin.entanglement.check(self.streams.len(), self.window_us, twin.handled.digital_at.0)?;
        let is_bound = twin.life_cycle.phase().is_bound();
        require(twin.entanglement.was_bound() || !is_bound, "it is bound, and never was")?;
        twin.life_cycle.check()?;
        twin.handled.check(twin.shadow.update())
    }
}

impl TypeLayout {
    fn sizes(&self) -> Sizes {
        Sizes {
            properties: self.properties.len(),
            events: self.events.len(),
            // Presence has the number behind them.
            streams: self.streams.len() + 1,
            outside: self.called.len(),
        }
    }
}

impl PropertyLayout {
    fn of(property: &Property) -> Self {
        let (kind, values, items) = match &property.kind {
            Kind::Double => (KindName::Double, Vec::new(), None),
            Kind::Integer => (KindName::Integer, Vec::new(), None),
            Kind::Boolean => (KindName::Boolean, Vec::new(), None),
            Kind::String => (KindName::String, Vec::new(), None),
            Kind::Object => (KindName::Object, Vec::new(), None),
            Kind::Enum(words) => (KindName::Enum, words.clone(), None),
            Kind::Array { items, .. } => (KindName::Array, Vec::new(), Some(*items)),
        };
        Self { name: property.name.clone(), kind, values, items }
    }

    pub(crate) fn bits(&self) -> Bits {
        match self.kind {
            KindName::Double => Bits::Double,
            KindName::Integer => Bits::Integer,
            KindName::Boolean => Bits::Flag,
            KindName::Enum => Bits::Word(self.values.len()),
            KindName::String | KindName::Array | KindName::Object => Bits::Text,
        }
    }

    /// The kind in words, without those of an enum: `array of double`.
    pub(crate) fn kind_text(&self) -> String {
        match (self.kind, self.items) {
            (KindName::Array, Some(items)) => format!("array of {}", items.word()),
            (kind, _) => kind.word().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
