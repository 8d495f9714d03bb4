//! Partitions of topics: which are a process's share, in which lane they go, and how their records are numbered.

use crate::place::Place;
use crate::source::Share;

/// Bits of an offset in a position; the bits above tell partitions apart.
const OFFSET_BITS: u32 = 48;
/// A position is stored as a signed number.
const PARTITION_MASK: u64 = (1 << (63 - OFFSET_BITS)) - 1;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Partition {
    pub topic: String,
    pub number: i32,
}

impl Partition {
    pub(super) fn new(topic: &str, number: i32) -> Self {
        Self { topic: topic.to_owned(), number }
    }

    /// Its name in a [`Place`].
    pub(super) fn key(&self) -> String {
        format!("{}/{}", self.topic, self.number)
    }

    /// The partition with this name.
    pub(super) fn of_key(key: &str) -> Option<Self> {
        let (topic, number) = key.rsplit_once('/')?;
        Some(Self { topic: topic.to_owned(), number: number.parse().ok()? })
    }

    /// A number that partitions are dealt out by: those of a topic one after the other, and different topics
    /// from different begins. It never changes, so neither does who reads what.
    fn turn(&self) -> u64 {
        u64::from(crc32fast::hash(self.topic.as_bytes())) + self.number as u64
    }

    /// The position of a record: its offset, and above it what tells the partitions of a source apart.
    pub(super) fn position(&self, offset: u64) -> u64 {
        (self.turn() & PARTITION_MASK) << OFFSET_BITS | (offset & ((1 << OFFSET_BITS) - 1))
    }
}

/// How partitions are dealt out to the lanes of all processes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deal {
    /// Which process this is.
    pub share: Share,
    /// Lanes of each process.
    pub lanes: usize,
}

impl Deal {
    /// The lane that a partition's records go into, where it is in the share of this process.
    pub(super) fn lane(self, partition: &Partition) -> Option<usize> {
        let Self { share, lanes } = self;
        let place = (partition.turn() % (share.processes * lanes) as u64) as usize;
        (place / lanes == share.process).then_some(place % lanes)
    }
}

/// Whether a filter takes a topic: levels are separated by dots, `+` is any level, a last `#` all the rest.
pub(super) fn takes(filter: &str, topic: &str) -> bool {
    // Kafka's own topics are meant by nobody who writes a wildcard.
    if topic.starts_with("__") && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('.');
    for wanted in filter.split('.') {
        match (wanted, levels.next()) {
            // `a.#` takes `a` too.
            ("#", _) => return true,
            (_, None) => return false,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// The partitions of a place that some filter takes, with the offsets at which they go on.
pub(super) fn known(place: &Place, filters: &[String]) -> Vec<(Partition, u64)> {
    let parts = place.parts().filter_map(|(key, offset)| Some((Partition::of_key(key)?, offset)));
    parts.filter(|(partition, _)| filters.iter().any(|filter| takes(filter, &partition.topic))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn filters_take_topics_by_levels() {
        for (filter, topic, expected) in [
            ("telemetry", "telemetry", true),
            ("telemetry", "telemetry2", false),
            ("plant.+.telemetry", "plant.a.telemetry", true),
            ("plant.+.telemetry", "plant.a.b.telemetry", false),
            ("plant.#", "plant.a.b", true),
            ("plant.#", "plant", true),
            ("plant.#", "plants.a", false),
            ("+", "a", true),
            ("+", "a.b", false),
            ("#", "__consumer_offsets", false),
            ("__consumer_offsets", "__consumer_offsets", true),
        ] {
            assert_eq!(takes(filter, topic), expected, "{filter} on {topic}");
        }
    }

    #[test]
    fn every_partition_has_one_reader_and_all_readers_have_some() {
        for (processes, lanes) in [(1, 1), (1, 4), (2, 2), (3, 2)] {
            let mut readers = BTreeSet::new();
            for number in 0..32 {
                let partition = Partition::new("telemetry", number);
                let takers: Vec<_> = (0..processes)
                    .filter_map(|process| {
                        let share = Share { process, processes };
                        Some((process, Deal { share, lanes }.lane(&partition)?))
                    })
                    .collect();
                assert_eq!(takers.len(), 1, "{number} on {processes} x {lanes}");
                readers.extend(takers);
            }
            assert_eq!(readers.len(), processes * lanes);
        }
    }

    #[test]
    fn positions_tell_partitions_apart_and_grow_with_the_offset() {
        let positions: BTreeSet<u64> = (0..1_000)
            .flat_map(|number| [0, 1, 1 << 40].map(|offset| Partition::new("t", number).position(offset)))
            .collect();
        assert_eq!(positions.len(), 3_000);
        assert!(positions.iter().all(|position| i64::try_from(*position).is_ok()));
        let partition = Partition::new("t", 3);
        assert!(partition.position(7) < partition.position(8));
    }

    #[test]
    fn a_place_keeps_partitions_by_name() {
        let partition = Partition::new("plant.a/b", 12);
        assert_eq!(Partition::of_key(&partition.key()), Some(partition));
        let place: Place =
            [("a.t/0".to_owned(), 5), ("b.t/1".to_owned(), 6), ("odd".to_owned(), 1)].into_iter().collect();
        assert_eq!(known(&place, &["a.+".into()]), [(Partition::new("a.t", 0), 5)]);
    }
}
