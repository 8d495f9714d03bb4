//! How far a source was read: what it is started from to have again all that comes after.
//!
//! Most sources are one sequence, and a number says it all. One that consists of partitions has a number for
//! each, and its places are taken together from all who read a share of it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A place in a source: a number, or one for each of its partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    parts: BTreeMap<String, u64>,
}

/// As it stands in a manifest.
#[derive(Deserialize)]
#[serde(untagged)]
enum Form {
    Number(u64),
    Parts(BTreeMap<String, u64>),
}

/// The one sequence of a source without partitions.
const WHOLE: &str = "";

impl Place {
    /// The place of a source that is one sequence.
    pub fn at(number: u64) -> Self {
        Self { parts: BTreeMap::from([(WHOLE.to_owned(), number)]) }
    }

    /// The number of a source that is one sequence; 0 where the place says nothing.
    pub fn number(&self) -> u64 {
        self.of(WHOLE).unwrap_or(0)
    }

    /// The number of a partition, where the place has it.
    pub fn of(&self, partition: &str) -> Option<u64> {
        self.parts.get(partition).copied()
    }

    /// Whether it says nothing: the source begins.
    pub fn is_begin(&self) -> bool {
        self.parts.is_empty()
    }

    /// The partitions and their numbers.
    pub fn parts(&self) -> impl Iterator<Item = (&str, u64)> {
        self.parts.iter().map(|(name, number)| (name.as_str(), *number))
    }

    /// Takes over what another share of the source has come to: of each partition the later number.
    pub fn merge(&mut self, other: &Place) {
        for (name, number) in &other.parts {
            let mine = self.parts.entry(name.clone()).or_default();
            *mine = (*number).max(*mine);
        }
    }

    /// What both places have passed: of each partition the earlier number, and 0 where one does not have it.
    pub fn earlier(&self, other: &Place) -> Place {
        let names = self.parts.keys().chain(other.parts.keys());
        let earlier = |name: &str| self.of(name).unwrap_or(0).min(other.of(name).unwrap_or(0));
        Place { parts: names.map(|name| (name.clone(), earlier(name))).collect() }
    }
}

/// As a person reads it: the number, or the partitions with theirs.
impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_begin() {
            return formatter.write_str("its begin");
        }
        for (index, (name, number)) in self.parts().enumerate() {
            let (comma, space) = (if index > 0 { ", " } else { "" }, if name.is_empty() { "" } else { " " });
            write!(formatter, "{comma}{name}{space}{number}")?;
        }
        Ok(())
    }
}

impl FromIterator<(String, u64)> for Place {
    fn from_iter<I: IntoIterator<Item = (String, u64)>>(parts: I) -> Self {
        Self { parts: parts.into_iter().collect() }
    }
}

/// For people a number or a map; between workers always a map, as their format cannot tell the two apart.
impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.of(WHOLE) {
            Some(number) if self.parts.len() == 1 && serializer.is_human_readable() => {
                serializer.serialize_u64(number)
            }
            _ => self.parts.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return Ok(Place { parts: BTreeMap::deserialize(deserializer)? });
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Number(number) => Place::at(number),
            Form::Parts(parts) => Place { parts },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(parts: &[(&str, u64)]) -> Place {
        parts.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
    }

    #[test]
    fn shares_are_put_together() {
        let mut all = place(&[("t/0", 5), ("t/1", 2)]);
        all.merge(&place(&[("t/1", 9), ("t/2", 1)]));
        assert_eq!(all, place(&[("t/0", 5), ("t/1", 9), ("t/2", 1)]));
        let mut one = Place::default();
        one.merge(&Place::at(7));
        one.merge(&Place::at(7));
        assert_eq!((one.number(), one), (7, Place::at(7)));
    }

    #[test]
    fn what_two_places_have_passed() {
        let early = place(&[("t/0", 5), ("t/1", 2)]).earlier(&place(&[("t/0", 3), ("t/2", 4)]));
        assert_eq!(early, place(&[("t/0", 3), ("t/1", 0), ("t/2", 0)]));
    }

    #[test]
    fn a_place_is_a_number_or_a_map() {
        for (value, json) in [
            (Place::at(42), "42"),
            (place(&[("t/0", 5), ("t/1", 2)]), r#"{"t/0":5,"t/1":2}"#),
            (Place::default(), "{}"),
        ] {
            assert_eq!(serde_json::to_string(&value).expect("text keys"), json);
            assert_eq!(serde_json::from_str::<Place>(json).expect("well formed"), value);
        }
        for (value, shown) in [
            (Place::at(42), "42"),
            (place(&[("t/0", 5), ("t/1", 2)]), "t/0 5, t/1 2"),
            (Place::default(), "its begin"),
        ] {
            assert_eq!(value.to_string(), shown);
        }
    }
}
