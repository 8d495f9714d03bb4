//! What decoders remember of the messages before a cut, beside the places of their sources: what is read behind it
//! means something only with that.
//!
//! ```text
//!   lane at its boundary ─► memory ─► recorder ─► object: a bin a source, a record an edge node ─► manifest
//!   restart: all records of a source ─► each lane takes those whose topics are its own
//! ```

use std::collections::BTreeMap;
use std::io;

use connectors::parts::{self, PartInfo, PartReader, PartWriter};
use connectors::store::Store;
use operators::decode::{Decoder, Memory};
use tracing::warn;

use super::Manifest;
use super::restore::RestoreError;

/// What the lanes of a worker remember, each with the number of its source.
pub type Memories = Vec<(u16, Memory)>;

/// Records by the names of their sources.
pub(crate) type Records = BTreeMap<String, Vec<Vec<u8>>>;

/// Writes an object of this name; none where there is nothing to remember.
pub(super) fn write(store: &dyn Store, name: &str, memories: &Memories) -> io::Result<Option<PartInfo>> {
    let mut by_source: BTreeMap<u16, Vec<&Memory>> = BTreeMap::new();
    for (source, memory) in memories.iter().filter(|(_, memory)| !memory.is_empty()) {
        by_source.entry(*source).or_default().push(memory);
    }
    if by_source.is_empty() {
        return Ok(None);
    }
    let mut object = PartWriter::begin(store, name)?;
    for (source, memories) in by_source {
        let (mut count, mut records) = (0, Vec::new());
        for record in memories.into_iter().flat_map(Memory::records) {
            // A record says itself what it is of.
            parts::push_record(&mut records, "", |out| out.extend_from_slice(&record));
            count += 1;
        }
        object.block(source, count, &records)?;
    }
    object.finish().map(Some)
}

/// Reads what a checkpoint has of them.
pub(crate) fn read(store: &dyn Store, manifest: &Manifest) -> Result<Records, RestoreError> {
    let id = manifest.id;
    let mut by_source = Records::new();
    for info in &manifest.memories {
        let reader = PartReader::open(store, info).map_err(|error| RestoreError::Part { id, error })?;
        for (source, mark) in (0u16..).zip(&manifest.sources) {
            let block = reader.block(source).map_err(|error| RestoreError::Part { id, error })?;
            let records = by_source.entry(mark.name.clone()).or_default();
            for record in parts::records(block.as_deref().unwrap_or_default()) {
                let (_, record) = record.map_err(|error| RestoreError::Record {
                    id,
                    twin: String::new(),
                    reason: error.to_string(),
                })?;
                records.push(record.to_vec());
            }
        }
    }
    Ok(by_source)
}

/// Gives a decoder what it remembered, of the topics that are its own. What cannot be read is forgotten, and said: the
/// decoder learns it anew.
pub(crate) fn restore(decoder: &mut Decoder, source: &str, records: &Records, owns: impl Fn(&str) -> bool) {
    for record in records.get(source).into_iter().flatten() {
        if let Err(error) = decoder.restore(record, &owns) {
            warn!(source, %error, "not remembered");
        }
    }
}
