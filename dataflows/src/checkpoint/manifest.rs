//! The manifest of a checkpoint: what it consists of. It is written last, so a checkpoint whose manifest is
//! there is complete.
//!
//! ```text
//!   manifests/<generation>-<number>.manifest    head | length u32 | crc u32 | JSON
//!   parts/<generation>-<number>-<worker>.part   records of twins (connectors::parts)
//!   parts/..-<worker>-outbox-<sink>.part        messages to send (connectors::outbox)
//!   parts/..-<worker>-memory.part               what decoders remember (checkpoint::memory)
//! ```
//! Names sort in the order of the checkpoints.

use std::fmt;
use std::str::FromStr;

use connectors::archive::ArchivePart;
use connectors::format::{Format, FormatError};
use connectors::parts::PartInfo;
use connectors::place::Place;
use operators::layout::Layout;
use serde::{Deserialize, Serialize};

const FORMAT: Format = Format { magic: *b"twl-mani", version: 1 };

/// Where manifests stand in the store.
pub const MANIFESTS: &str = "manifests/";
/// Where objects stand in the store.
pub const PARTS: &str = "parts/";

/// Which checkpoint of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CheckpointId {
    /// Generation of the run that made it.
    pub generation: u64,
    /// Its number in the run.
    pub number: u64,
}

impl fmt::Display for CheckpointId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.generation, self.number)
    }
}

impl FromStr for CheckpointId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('-').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let (generation, number) = parts.ok_or_else(|| {
            format!(
                "`{text}` names no checkpoint; `checkpoint list` shows those that are there, such as 3-17"
            )
        })?;
        Ok(Self { generation, number })
    }
}

/// What a checkpoint consists of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The job.
    pub job: String,
    /// Which checkpoint of it.
    pub id: CheckpointId,
    /// When it was cut, microseconds since 1970.
    pub at_us: i64,
    /// The program that wrote it.
    pub program: String,
    /// Workers of the run, in all processes.
    pub workers: u32,
    /// Bins of the job, and the version of the hash that sorts twins into them.
    pub bins: u32,
    /// Twins, in all objects together.
    pub twins: u64,
    /// Whether recorded time rules: `next` of the sources is then an instant.
    pub recorded: bool,
    /// Where each source goes on.
    pub sources: Vec<SourceMark>,
    /// What of the job the records of twins rely on.
    pub layout: Layout,
    /// Objects with records of twins, oldest first: a later record of a twin replaces earlier ones.
    pub parts: Vec<PartInfo>,
    /// The archive of each worker.
    pub archive: Vec<ArchivePart>,
    /// What goes out exactly once and was not known to be sent, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outboxes: Vec<OutboxPart>,
    /// Objects with what decoders remember, by the numbers of the sources; none in older checkpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memories: Vec<PartInfo>,
}

/// Messages of a checkpoint that go out through a sink once it holds (rule 7.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutboxPart {
    /// Name of the sink.
    pub sink: String,
    /// Number of the process that sends them.
    pub process: u32,
    /// The checkpoint that they belong to.
    pub id: CheckpointId,
    /// The messages.
    pub part: PartInfo,
}

/// Where a source goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceMark {
    /// Name of its connection.
    pub name: String,
    /// What it is started from to have again all that came after the checkpoint.
    pub next: Place,
    /// When it was last lost, microseconds since 1970.
    pub lost_us: Option<i64>,
}

impl Manifest {
    /// As it stands in the store.
    pub fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).expect("a manifest has text keys and finite numbers only");
        FORMAT.seal(&json)
    }

    /// Reads one.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let json = FORMAT.unseal(bytes)?;
        serde_json::from_slice(json).map_err(|error| FormatError::Damaged(error.to_string()))
    }

    /// All its objects: those with twins, those with messages, and those with what decoders remember.
    pub fn objects(&self) -> impl Iterator<Item = &PartInfo> {
        let outboxes = self.outboxes.iter().map(|outbox| &outbox.part);
        self.parts.iter().chain(outboxes).chain(&self.memories)
    }

    /// Bytes of its objects.
    pub fn bytes(&self) -> u64 {
        self.objects().map(|part| part.bytes).sum()
    }
}

/// The manifest's name in the store.
pub fn manifest_name(id: CheckpointId) -> String {
    format!("{MANIFESTS}{:010}-{:010}.manifest", id.generation, id.number)
}

/// The checkpoint that a name in the store is the manifest of.
pub fn id_of(name: &str) -> Option<CheckpointId> {
    name.strip_prefix(MANIFESTS)?.strip_suffix(".manifest")?.parse().ok()
}

/// The name of a worker's object.
pub fn part_name(id: CheckpointId, worker: usize) -> String {
    format!("{PARTS}{:010}-{:010}-{worker}.part", id.generation, id.number)
}

/// The name of the object with a worker's messages for a sink.
pub fn outbox_name(id: CheckpointId, worker: usize, sink: u16) -> String {
    format!("{PARTS}{:010}-{:010}-{worker}-outbox-{sink}.part", id.generation, id.number)
}

/// The name of the object with what the decoders of a worker remember.
pub fn memory_name(id: CheckpointId, worker: usize) -> String {
    format!("{PARTS}{:010}-{:010}-{worker}-memory.part", id.generation, id.number)
}

/// The name of the object that all before a checkpoint, and itself, are merged into.
pub fn merged_name(id: CheckpointId) -> String {
    format!("{PARTS}{:010}-{:010}-merged.part", id.generation, id.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            job: "press-line".into(),
            id: CheckpointId { generation: 3, number: 17 },
            at_us: 1_646_847_376_104_000,
            program: "0.1.0".into(),
            workers: 2,
            bins: 1_024,
            twins: 5,
            recorded: false,
            sources: vec![SourceMark { name: "plant".into(), next: Place::at(42), lost_us: Some(7) }],
            layout: Layout { records: 1, types: Vec::new() },
            parts: vec![PartInfo {
                name: part_name(CheckpointId { generation: 3, number: 17 }, 1),
                bytes: 100,
                records: 5,
                checksum: 9,
            }],
            archive: Vec::new(),
            outboxes: Vec::new(),
            memories: Vec::new(),
        }
    }

    /// It must be read for ever.
    const GOLDEN: &str = "twl-mani\u{1}\0\0\0";

    #[test]
    fn a_manifest_is_read_back() {
        let bytes = manifest().encode();
        assert!(bytes.starts_with(GOLDEN.as_bytes()));
        assert_eq!(Manifest::decode(&bytes), Ok(manifest()));
        expect_test::expect_file!["golden/manifest.json"]
            .assert_eq(std::str::from_utf8(&bytes[20..]).expect("JSON"));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let whole = manifest().encode();
        for length in 0..whole.len() {
            assert!(Manifest::decode(&whole[..length]).is_err(), "cut to {length}");
        }
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&bytes).is_err(), "bit {bit}");
        }
        assert!(Manifest::decode(&[whole, vec![0]].concat()).is_err(), "one byte more");
    }

    #[test]
    fn names_sort_and_are_read_back() {
        let ids = [(1, 2), (1, 10), (2, 1), (10, 1)]
            .map(|(generation, number)| CheckpointId { generation, number });
        let names = ids.map(manifest_name);
        assert!(names.is_sorted());
        assert_eq!(names.each_ref().map(|name| id_of(name)), ids.map(Some));
        assert_eq!(id_of("manifests/nonsense"), None);
        assert_eq!("3-17".parse(), Ok(CheckpointId { generation: 3, number: 17 }));
        assert!("17".parse::<CheckpointId>().is_err());
    }
}
